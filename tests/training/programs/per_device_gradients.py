"""One update on two devices, gradients normalised and clipped on each, against the same computed row by row."""

import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.configs import small
from electra_jax.training import partitioning
from electra_jax.training.trainer import make_trainer
from tests.configs import typed
from tests.training.stand_in import ParityJob


class Padded(ParityJob):
    """Losses of tokens above 0 only, so that devices have different normalisers."""

    def loss(self, params, batch, key):
        losses = (params["kernel"][batch].sum(-1) + 3.0 + jax.random.uniform(key)) ** 2 * (batch > 0)
        total, weight = losses.sum(), (batch > 0).sum().astype(jnp.float32)
        return total / weight, {"parity_loss": jnp.stack([total, weight])}


def main():
    config = small.get_config("quicktest")
    config.optimizer.gradient_scope = "per_device"
    config.optimizer.schedule = "warmup_times_decay"
    config.optimizer.clip_norm = 0.5
    trainer = make_trainer(typed(config), Padded(), partitioning.make_mesh((2, 1, 1)), print)
    batch = np.arange(32, dtype=np.int32).reshape(8, 4) % 16
    batch[6:] = 0
    with trainer.placed():
        state, step = trainer.initial_state(), trainer.compile()
        params = jax.device_get(state.params)
        after, metrics = step(state, trainer.put(batch), trainer.root_key)
    key = jax.random.fold_in(trainer.root_key, 0)
    gradients = []
    for device, rows in enumerate((batch[:4], batch[4:])):
        own_key = jax.random.fold_in(key, device)
        gradient = jax.grad(lambda params, rows, key: Padded().loss(params, rows, key)[0])(params, rows, own_key)
        norm = np.sqrt((gradient["kernel"] ** 2).sum())
        assert norm > 0.5
        gradients.append(gradient["kernel"] * 0.5 / norm)
    np.testing.assert_allclose(after.optimizer[1].first["kernel"], 0.1 * np.mean(gradients, 0), rtol=1e-5)
    assert float(metrics["parity_loss"][1]) == (batch > 0).sum()
    print("as expected")


if __name__ == "__main__":
    main()
