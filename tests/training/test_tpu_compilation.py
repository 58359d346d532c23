"""The real train step, compiled by the TPU's compiler for four chips that are not there.

A run on a pod fails late and dearly; what can be known without one is whether the step compiles, fits in memory,
and talks between chips as the sharding means it to.
"""

import re

import pytest

from configs import base, camembert_base, small
from electra_jax.pretraining.job import pretraining_job
from electra_jax.training import partitioning
from electra_jax.training.trainer import make_trainer

pytestmark = pytest.mark.tpu_compiler

V5E_MEMORY = 16 * 2**30  # Bytes on one chip.


def trainer_for(v5e_devices, config, sizes=(-1, 1, 1), sharding="dp"):
    config.mesh.sharding = sharding
    replaced = []
    mesh = partitioning.make_mesh(sizes, devices=v5e_devices)
    trainer = make_trainer(config, pretraining_job(config, None, "tpu"), mesh, replaced.append)
    assert not replaced, "the mesh does not divide these axes"
    return trainer


def compiled(trainer):
    with trainer.placed():
        return trainer.lower().compile()


def collectives(executable):
    return set(re.findall(r" (all-reduce|all-gather)(?:-start)?\(", executable.as_text()))


def test_hidden_states_are_constrained_to_the_mesh(v5e_devices):
    trainer = trainer_for(v5e_devices, base.get_config("quicktest"))
    with trainer.placed():
        constraints = re.findall(r"sdy\.sharding_constraint .*", trainer.lower().as_text())
    assert len(constraints) >= 4  # Both networks, ahead of their layers and behind each of them.
    assert all('[{"data", "fsdp"}' in constraint for constraint in constraints)


@pytest.mark.parametrize(
    ("preset", "variant"),
    [(base, "quicktest"), (camembert_base, "quicktest"), (base, "google_compat+quicktest")],
    ids=["segment_pairs", "packed", "google_compat"],
)
def test_replicated_weights_are_kept_equal_by_all_reduce(v5e_devices, preset, variant):
    executable = compiled(trainer_for(v5e_devices, preset.get_config(variant)))
    assert collectives(executable) == {"all-reduce"}


def test_sharded_weights_are_gathered(v5e_devices):
    executable = compiled(trainer_for(v5e_devices, base.get_config("quicktest"), (1, 2, 2), "fsdp_tp"))
    assert collectives(executable) == {"all-reduce", "all-gather"}


def test_full_small_fits_a_chip_and_gives_its_state_away(v5e_devices):
    executable = compiled(trainer_for(v5e_devices, small.get_config()))
    memory = executable.memory_analysis()
    state = memory.argument_size_in_bytes
    needed = state + memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes
    print(f"{state / 2**20:.0f} MiB of state, {needed / 2**20:.0f} MiB in all")
    assert needed < V5E_MEMORY
    # 13.5 M weights of the discriminator and 0.8 M of the generator, each with two moments, in float32.
    assert state == pytest.approx(14.4e6 * 3 * 4, rel=0.01)
    assert memory.alias_size_in_bytes == pytest.approx(state, rel=0.01)
    assert collectives(executable) == {"all-reduce"}
