"""Three updates of a small ELECTRA with dropout: FILE.npz CHANGES, the latter fields of the config as JSON.

Writes the first update's gradients, the parameters after the last and its metrics to the file. Prints as JSON how many
sharding constraints the step has and which share of the moments a device holds.
"""

import json
import sys

import jax
import numpy as np

from electra_jax.configs import hybrid_small
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.training import partitioning
from electra_jax.training.trainer import make_trainer
from tests.configs import typed


def named(prefix, tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(name): np.array(leaf) for name, leaf in leaves}


def batches():
    random = np.random.default_rng(0)
    for _ in range(3):
        batch = random.integers(5, 512, (16, 32), dtype=np.int32)
        batch[:, 0] = 2
        for row, end in enumerate(random.integers(7, 32, 16)):  # Microbatches and devices have different weights.
            batch[row, end], batch[row, end + 1 :] = 3, 0
        yield batch


def main():
    path, changes = sys.argv[1], json.loads(sys.argv[2])
    config = hybrid_small.get_config("quicktest")
    config.objective.schedules.discriminator_weight = "0:10,3:5"
    config.objective.schedules.mask_fraction = "0:0.25,3:0.15"
    config.batch_size = 16
    if "optimizer.gradient_scope" not in changes:
        config.optimizer.clip_norm = 1e9  # Not active, so that the first moments are the gradients.
    config.update_from_flattened_dict(changes)
    mesh = partitioning.make_mesh((config.mesh.data, config.mesh.fsdp, config.mesh.tensor), slices=1)
    trainer = make_trainer(typed(config), pretraining_job(typed(config), None, "cpu"), mesh, print)
    with trainer.placed():
        constraints = trainer.lower().as_text().count("sdy.sharding_constraint")
        state, step = trainer.initial_state(), trainer.compile()
        first = None
        for batch in batches():
            state, metrics = step(state, trainer.put(batch), trainer.root_key)
            if first is None:
                first = state.optimizer[1]
                is_adam = config.optimizer.name == "adam"
                first = (first if is_adam else first.inner_states["others"].inner_state).first
                leaves = jax.tree.leaves(first)
                here = sum(leaf.addressable_shards[0].data.size for leaf in leaves) / sum(leaf.size for leaf in leaves)
                kept = named("gradient", first)
    kept = {name: leaf / (1 - config.optimizer.beta1) for name, leaf in kept.items()}
    np.savez(path, **kept, **named("parameter", state.params), **named("metric", metrics))
    print(json.dumps({"constraints": constraints, "share": here}))


if __name__ == "__main__":
    main()
