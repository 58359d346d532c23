"""Twenty steps of a small ELECTRA with dropout, DATA FSDP TENSOR SHARDING; prints the loss of each as JSON."""

import json
import sys

import numpy as np

from electra_jax.configs import hybrid_small
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.training import partitioning
from electra_jax.training.trainer import make_trainer
from tests.configs import typed


def main():
    *sizes, sharding = sys.argv[1:]
    config = hybrid_small.get_config("quicktest")  # All of ELECTRA, and one more head.
    config.data.tokenizer.vocabulary_size = 100  # Divisible by no mesh of eight, so its axis must be replicated.
    config.mesh.sharding = sharding
    mesh = partitioning.make_mesh(tuple(map(int, sizes)))
    trainer = make_trainer(typed(config), pretraining_job(typed(config), None, "cpu"), mesh, lambda text: None)
    random = np.random.default_rng(0)
    steps = []
    with trainer.placed():
        state, step = trainer.initial_state(), trainer.compile()
        for _ in range(20):
            batch = random.integers(5, 100, (8, 32), dtype=np.int32)
            batch[:, 0], batch[:, 20], batch[:, -1] = 2, 3, 3
            batch[0, 24:] = 0
            state, metrics = step(state, trainer.put(batch), trainer.root_key)
            steps.append(metrics)
    names = "generator_loss", "discriminator_loss", "corrective_loss"
    print(json.dumps([float(metrics[name][0] / metrics[name][1]) for name in names for metrics in steps]))


if __name__ == "__main__":
    main()
