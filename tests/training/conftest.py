import pytest

from electra_jax.training import partitioning
from electra_jax.training.optimizer import OptimizerConfig
from electra_jax.training.trainer import LoopConfig, Trainer
from tests.training.stand_in import ParityJob


@pytest.fixture
def make_trainer():
    """Trainers of the stand-in job, on one device."""

    def make(job=None, learning_rate=0.01, schedule="linear", **changes):
        loop = {
            "seed": 3,
            "log_every_steps": 5,
            "evaluate_every_steps": 10,
            "save_every_steps": 10,
            "keep_last": 2,
            "keep_every_steps": 0,
            "sharding": "dp",
        } | changes
        optimizer = OptimizerConfig(
            steps=loop.pop("steps", 20),
            learning_rate=learning_rate,
            warmup_steps=2,
            decay_power=1.0,
            weight_decay=0.01,
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-6,
            clip_norm=1.0,
            schedule=schedule,
        )
        mesh = partitioning.make_mesh((-1, 1, 1))
        return Trainer(job or ParityJob(), optimizer, LoopConfig(**loop), mesh, note=print)

    return make
