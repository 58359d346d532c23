"""The real train step, compiled by the TPU's compiler for four chips, without a TPU.

A run on a pod fails late and dearly; what can be known without one is whether the step compiles, fits in memory,
and talks between chips as the sharding means it to.
"""

import re

import pytest

from electra_jax.configs import base, camembert_base, small
from electra_jax.errors import InputError
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.tpu_planning.topologies import make_slice
from electra_jax.training import partitioning
from electra_jax.training.trainer import make_trainer
from tests.configs import typed

pytestmark = pytest.mark.tpu_compiler

V5E_MEMORY = 16 * 2**30  # Bytes on one chip.


def trainer_for(v5e_devices, config, sizes=(-1, 1, 1), sharding="dp"):
    config.mesh.sharding = sharding
    config.model.unrolled_layers = 1  # As a loop, Small compiles in a tenth of the time.
    replaced = []
    mesh = partitioning.make_mesh(sizes, devices=v5e_devices)
    trainer = make_trainer(typed(config), pretraining_job(typed(config), None, "tpu"), mesh, replaced.append)
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
    assert len(constraints) >= 4  # Both networks, before their layers and after each of them.
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


def test_full_small_fits_a_chip_and_donates_its_state(v5e_devices):
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


def test_sharded_moments_take_less_memory(v5e_devices):
    def memory_of(shard_optimizer):
        config = base.get_config("quicktest")
        config.model.hidden_size = config.model.embedding_size = 384  # Lanes of 128 are full when four chips share.
        config.model.feed_forward_size = 1536
        config.mesh.shard_optimizer = shard_optimizer
        trainer = trainer_for(v5e_devices, config)
        executable = compiled(trainer)
        memory, operations = executable.memory_analysis(), collectives(executable)
        assert memory.alias_size_in_bytes == pytest.approx(memory.argument_size_in_bytes, rel=0.01)
        return memory.argument_size_in_bytes, operations

    replicated, all_reduce = memory_of(False)
    sharded, gathered = memory_of(True)
    assert all_reduce == {"all-reduce"}
    assert "all-gather" in gathered
    # Parameters and a quarter of two moments, where all were replicated; rows that do not fill a register take some more.
    assert (1 + 2 / 4) / 3 - 0.01 < sharded / replicated < (1 + 2 / 4) / 3 + 0.12


@pytest.fixture(scope="module")
def two_slices():
    """Two slices of four chips each, to compile for."""
    return make_slice("v5e:2x2", 2).devices


@pytest.mark.parametrize(("sizes", "shape"), [((-1, 1, 1), (8, 1, 1)), ((4, 2, 1), (4, 2, 1)), ((2, 2, 2), (2, 2, 2))])
def test_the_outer_part_of_the_data_axis_runs_over_slices(two_slices, sizes, shape):
    mesh = partitioning.make_mesh(sizes, two_slices, slices=2)
    assert mesh.devices.shape == shape
    halves = mesh.devices.reshape(2, -1)
    for number, half in enumerate(halves):
        assert {device.slice_index for device in half} == {number}
        # Neighbours on the mesh are one link apart, the last and the first of the square included.
        places = [device.coords for device in half]
        steps = zip(places, places[1:] + places[:1], strict=True)
        if shape[1] == shape[2] == 1:
            assert all(sum(abs(a - b) for a, b in zip(one, other, strict=True)) == 1 for one, other in steps)


def test_mesh_over_slices_must_be_configured_and_fit(two_slices):
    with pytest.raises(InputError, match=r"config\.mesh\.slices: 1, but the devices belong to 2 slices"):
        partitioning.make_mesh((-1, 1, 1), two_slices, slices=1)
    with pytest.raises(InputError, match="fsdp=8 × tensor=1 devices must lie within one slice"):
        partitioning.make_mesh((1, 8, 1), two_slices, slices=2)
    config = base.get_config("quicktest")
    with pytest.raises(InputError, match=r"config\.mesh\.slices: 1, but"):
        make_trainer(
            typed(config),
            pretraining_job(typed(config), None, "tpu"),
            partitioning.make_mesh((-1, 1, 1), two_slices),
            print,
        )


def test_the_step_compiles_for_two_slices(two_slices):
    config = base.get_config("quicktest")
    config.mesh.slices = 2
    config.accumulation = 2
    config.batch_size = 16
    config.mesh.shard_optimizer = True
    assert "all-reduce" in collectives(compiled(trainer_for(two_slices, config)))


def test_mesh_axes_that_split_the_torus_are_laid_out():
    mesh = partitioning.make_mesh((2, 4, 2), make_slice("v5e:4x4").devices)
    assert mesh.devices.shape == (2, 4, 2)
    assert len(set(mesh.devices.flat)) == 16
