import os
import pathlib
import subprocess
import sys

import jax
import numpy as np


def run(trainer, state, steps):
    """The state after some steps, and the metrics of each."""
    seen = []
    with trainer.placed():
        step = trainer.compile()
        batches = trainer.job.training_batches(int(state.step))
        for _ in range(steps):
            state, metrics = step(state, trainer.put(next(batches)), trainer.root_key)
            seen.append(jax.device_get(metrics))
    return jax.device_get(state), seen


def test_a_step_is_a_function_of_state_batch_and_key(make_trainer):
    trainer = make_trainer()
    first, _ = run(trainer, trainer.initial_state(), 6)
    second, _ = run(trainer, trainer.initial_state(), 6)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert int(first.step) == 6


def test_the_seed_changes_the_draws(make_trainer):
    first, _ = run(make_trainer(seed=1), make_trainer().initial_state(), 1)
    second, _ = run(make_trainer(seed=2), make_trainer().initial_state(), 1)
    assert first.metrics["parity_loss"][0] != second.metrics["parity_loss"][0]


def test_metrics_add_up_between_logged_steps_and_begin_anew_after_them(make_trainer):
    trainer = make_trainer(log_every_steps=3)
    _, seen = run(trainer, trainer.initial_state(), 5)
    assert [metrics["loss"][1] for metrics in seen] == [1, 2, 3, 1, 2]
    assert [metrics["parity_loss"][1] for metrics in seen] == [32, 64, 96, 32, 64]


def test_with_googles_schedule_the_first_update_has_the_rate_of_step_1(make_trainer):
    trainer = make_trainer(schedule="warmup_times_decay")
    before = jax.device_get(trainer.initial_state())
    after, _ = run(trainer, trainer.initial_state(), 1)
    # Step 1 of 20, of which 2 are warm-up; biases do not decay; 0.1 / sqrt(0.001) without bias correction.
    expected = 0.01 * (19 / 20) * (1 / 2) * 3.1622777
    np.testing.assert_allclose(np.abs(after.params["bias"] - before.params["bias"]), expected, rtol=1e-3)


def test_the_loss_falls(make_trainer):
    trainer = make_trainer(steps=200, log_every_steps=1, learning_rate=0.05)
    _, seen = run(trainer, trainer.initial_state(), 150)
    assert seen[-1]["loss"][0] < 0.5 * seen[0]["loss"][0]


# One update on two devices, gradients normalised and clipped on each; against the same worked out row by row.
_PER_DEVICE = """
import dataclasses, sys
import jax, jax.numpy as jnp, numpy as np
sys.path.insert(0, "tests/training")
from stand_in import ParityJob
from configs import small
from electra_jax.pretraining.pretraining_job import pretraining_job
from electra_jax.training import partitioning, trainer as trainers

class Padded(ParityJob):
    # Losses of tokens above 0 only, so that devices have different normalisers.
    def loss(self, params, batch, key):
        losses = (params["kernel"][batch].sum(-1) + 3.0 + jax.random.uniform(key)) ** 2 * (batch > 0)
        total, weight = losses.sum(), (batch > 0).sum().astype(jnp.float32)
        return total / weight, {"parity_loss": jnp.stack([total, weight])}

config = small.get_config("quicktest")
config.optimizer.gradient_scope = "per_device"
config.optimizer.schedule = "warmup_times_decay"
config.optimizer.clip_norm = 0.5
mesh = partitioning.make_mesh((2, 1, 1))
trainer = trainers.make_trainer(config, Padded(), mesh, print)
batch = np.arange(32, dtype=np.int32).reshape(8, 4) % 16
batch[6:] = 0
with trainer.placed():
    state, step = trainer.initial_state(), trainer.compile()
    params = jax.device_get(state.params)
    after, metrics = step(state, trainer.put(batch), trainer.root_key)
key = jax.random.fold_in(trainer.root_key, 0)
gradients = []
for device, rows in enumerate((batch[:4], batch[4:])):
    loss = lambda params: Padded().loss(params, rows, jax.random.fold_in(key, device))[0]
    gradient = jax.grad(loss)(params)["kernel"]
    norm = np.sqrt((gradient ** 2).sum())
    assert norm > 0.5
    gradients.append(gradient * 0.5 / norm)
np.testing.assert_allclose(after.optimizer[1].first["kernel"], 0.1 * np.mean(gradients, 0), rtol=1e-5)
assert float(metrics["parity_loss"][1]) == (batch > 0).sum()

# The whole model, whose own constraints must not get in the way.
trainer = trainers.make_trainer(config, pretraining_job(config, None, "cpu"), mesh, print)
rows = np.random.default_rng(0).integers(5, 512, (8, 32), dtype=np.int32)
rows[:, 0], rows[:, -1] = 2, 3
with trainer.placed():
    state, step = trainer.initial_state(), trainer.compile()
    for _ in range(2):
        state, metrics = step(state, trainer.put(rows), trainer.root_key)
assert np.isfinite(float(metrics["loss"][0]))
print("as expected")
"""


def test_gradients_may_be_normalised_and_clipped_on_each_device():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
        " --xla_llvm_disable_expensive_passes=true",
    }
    finished = subprocess.run(
        [sys.executable, "-c", _PER_DEVICE],
        cwd=pathlib.Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stdout.endswith("as expected\n"), finished.stderr
