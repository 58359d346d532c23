import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.training import partitioning


@pytest.mark.parametrize(
    ("sizes", "devices", "expected"),
    [((-1, 1, 1), 8, (8, 1, 1)), ((2, -1, 2), 8, (2, 2, 2)), ((1, 1, 1), 1, (1, 1, 1))],
)
def test_minus_one_takes_the_devices_that_are_left(sizes, devices, expected):
    assert partitioning.mesh_shape(sizes, devices) == expected


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (2, 2, 1)])
def test_a_mesh_that_does_not_fit_the_devices_is_refused(sizes):
    with pytest.raises(InputError, match="does not make use of exactly 8 devices"):
        partitioning.mesh_shape(sizes, 8)


def test_constraints_are_real_in_the_traced_step(make_trainer):
    trainer = make_trainer()
    with trainer.placed():
        text = trainer.lower().as_text()
    assert text.count("sharding_constraint") >= 1


def test_a_batch_arrives_whole(make_trainer):
    trainer = make_trainer()
    batch = np.arange(32, dtype=np.int32).reshape(8, 4)
    np.testing.assert_array_equal(jax.device_get(trainer.put(batch)), batch)


# The real thing, with dropout: 20 steps of a small ELECTRA on so many devices, the loss of each.
_LOSSES = """
import json, sys, types
import numpy as np
from configs import small
from electra_jax.pretraining.job import pretraining_job
from electra_jax.training import partitioning
from electra_jax.training.trainer import make_trainer

data, fsdp, tensor, sharding = *map(int, sys.argv[1:4]), sys.argv[4]
config = small.get_config("quicktest")
config.data.tokenizer.vocabulary_size = 100  # Divisible by no mesh of eight: its axis must be replicated, and said.
config.mesh.sharding = sharding
trainer = make_trainer(
    config, pretraining_job(config, None, "cpu"), partitioning.make_mesh((data, fsdp, tensor)), lambda text: None
)
random = np.random.default_rng(0)
losses = []
with trainer.placed():
    state, step = trainer.initial_state(), trainer.compile()
    for _ in range(20):
        batch = random.integers(5, 100, (8, 32), dtype=np.int32)
        batch[:, 0], batch[:, 20], batch[:, -1] = 2, 3, 3
        batch[0, 24:] = 0
        state, metrics = step(state, trainer.put(batch), trainer.root_key)
        losses.append(metrics)
totals = [float(m["generator_loss"][0] / m["generator_loss"][1]) for m in losses]
totals += [float(m["discriminator_loss"][0] / m["discriminator_loss"][1]) for m in losses]
print(json.dumps(totals))
"""


def losses(devices, *mesh_and_sharding):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-c", _LOSSES, *mesh_and_sharding]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.slow
def test_twenty_steps_have_equal_losses_on_one_device_and_on_eight():
    alone = losses(1, "1", "1", "1", "dp")
    np.testing.assert_allclose(losses(8, "8", "1", "1", "dp"), alone, atol=1e-5)
    np.testing.assert_allclose(losses(8, "2", "2", "2", "fsdp_tp"), alone, atol=1e-5)
