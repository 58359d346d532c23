import json

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from electra_jax.errors import InputError
from electra_jax.training import partitioning
from tests.running import result_of


@pytest.mark.parametrize(
    ("sizes", "devices", "expected"),
    [((-1, 1, 1), 8, (8, 1, 1)), ((2, -1, 2), 8, (2, 2, 2)), ((1, 1, 1), 1, (1, 1, 1))],
)
def test_minus_one_takes_the_remaining_devices(sizes, devices, expected):
    assert partitioning.mesh_shape(sizes, devices) == expected


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (2, 2, 1)])
def test_a_mesh_that_does_not_fit_the_devices_is_refused(sizes):
    with pytest.raises(InputError, match="does not use exactly 8 devices"):
        partitioning.mesh_shape(sizes, 8)


class Chip:
    """The attributes of a device that a mesh reads."""

    def __init__(self, slice_index, platform="tpu"):
        self.slice_index, self.platform, self.device_kind = slice_index, platform, "a chip"


def test_number_of_slices_must_match_the_devices():
    two = [Chip(0), Chip(0), Chip(1), Chip(1)]
    with pytest.raises(InputError, match=r"config\.mesh\.slices: 1, but the devices belong to 2 slices; set --config"):
        partitioning.make_mesh((-1, 1, 1), two, slices=1)
    with pytest.raises(InputError, match=r"config\.mesh\.slices: 2, but the devices belong to 1 slice; set --config"):
        partitioning.make_mesh((-1, 1, 1), slices=2)


def test_slice_indices_of_gpus_are_ignored():
    assert partitioning.slice_count([Chip(0, "gpu"), Chip(1, "gpu")]) == 1


@pytest.mark.parametrize("sizes", [(1, 4, 1), (1, 2, 2), (1, -1, 1)])
def test_fsdp_and_tensor_do_not_run_over_slices(sizes):
    with pytest.raises(InputError, match=r"must lie within one slice, and 2 slices of 2 devices do not split data=1"):
        partitioning.make_mesh(sizes, [Chip(0), Chip(0), Chip(1), Chip(1)])


def test_moments_are_sharded_along_the_largest_divisible_axis():
    mesh = jax.sharding.AbstractMesh((2, 3, 2), partitioning.AXES)
    notes = []

    def sharded(shape, *spec):
        leaf = jax.ShapeDtypeStruct(shape, np.float32)
        [sharding] = partitioning.sharded_further([leaf], [NamedSharding(mesh, PartitionSpec(*spec))], notes.append)
        return tuple(sharding.spec)

    assert sharded((12, 768, 100)) == (None, ("data", "fsdp"), None)
    assert sharded((12, 767, 100)) == (("data", "fsdp"), None, None)
    # Axes that are sharded already stay so, and the devices that hold replicas share these.
    assert sharded((64, 512), "fsdp", "tensor") == ("fsdp", "tensor")
    assert sharded((768, 512), "fsdp") == ("fsdp", "data")
    assert sharded((5,)) == ()
    assert not notes
    assert sharded((30523, 769)) == ()
    assert notes == [
        "config.mesh.shard_optimizer: moments without an evenly divisible axis are not sharded further: [30523, 769] by 6"
    ]


def test_constraints_are_in_the_traced_step(make_trainer):
    trainer = make_trainer()
    with trainer.placed():
        text = trainer.lower().as_text()
    assert text.count("sharding_constraint") >= 1


def test_put_batch_keeps_all_rows(make_trainer):
    trainer = make_trainer()
    batch = np.arange(32, dtype=np.int32).reshape(8, 4)
    np.testing.assert_array_equal(jax.device_get(trainer.put(batch)), batch)


def losses(devices, *mesh_and_sharding):
    """The losses of twenty steps of a small ELECTRA on the given number of devices."""
    return result_of("tests.training.programs.losses", *mesh_and_sharding, devices=devices)


# Restarts on eight, four and one devices compare the same losses.
@pytest.mark.slow
@pytest.mark.release
def test_twenty_losses_are_equal_on_one_device_and_on_eight():
    alone = losses(1, "1", "1", "1", "dp")
    np.testing.assert_allclose(losses(8, "2", "2", "2", "fsdp_tp"), alone, atol=1e-5)


@pytest.mark.slow
def test_restarts_on_8_then_4_then_1_device_read_and_learn_the_same(tmp_path):
    def read(name, devices, stop):
        return result_of("tests.training.programs.stopped_loop", tmp_path / name, stop, devices=devices)

    def losses(name):
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}

    assert read("straight", 8, -1) == list(range(15))
    assert read("moved", 8, 4) == list(range(5))
    assert read("moved", 4, 9) == list(range(5, 10))
    assert read("moved", 1, -1) == list(range(10, 15))
    assert losses("moved") == pytest.approx(losses("straight"), rel=0, abs=1e-5)
    assert len(losses("moved")) == 15


def updates(path, devices, **changes):
    """Arrays after three updates by name; the step's constraints; and the share of the moments on a device."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    result = result_of("tests.training.programs.updates", path, json.dumps(changes), devices=devices)
    with np.load(path) as arrays:
        return dict(arrays), result["constraints"], result["share"]


def assert_equal_updates(one, other):
    assert one.keys() == other.keys()
    for name in one:
        # Metrics are sums over some hundred tokens.
        atol, rtol = (0, 1e-5) if name.startswith("metric") else (1e-5, 0)
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Updates on one device, full batches, all activations kept."""
    return updates(tmp_path_factory.mktemp("plain") / "updates.npz", 1)[0]


FSDP_TP = {"mesh__sharding": "fsdp_tp", "mesh__data": 1, "mesh__fsdp": 2, "mesh__tensor": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "share"),
    [
        # Each sharding and each memory option at least once; independent ones share a run.
        pytest.param({"model__saved_activations": "layer_inputs"}, 1.0, id="dp, layer_inputs"),
        pytest.param({"accumulation": 4, "mesh__shard_optimizer": True}, 0.26, id="dp, four microbatches, ZeRO-1"),
        pytest.param(
            {"mesh__sharding": "fsdp", "mesh__data": 1, "mesh__fsdp": 4, "model__saved_activations": "products"},
            0.4,
            id="fsdp, products",
        ),
        pytest.param(FSDP_TP | {"mesh__rules": "embed:none,mlp:fsdp+tensor,vocab:fsdp"}, 0.5, id="table of one's own"),
        pytest.param(
            FSDP_TP | {"accumulation": 4, "mesh__shard_optimizer": True}, 0.4, id="fsdp_tp, four microbatches, ZeRO-1"
        ),
    ],
)
def test_updates_are_equal_for_all_shardings_and_memory_options(plain, tmp_path, changes, share):
    found, constraints, here = updates(tmp_path / "updates.npz", 4, **changes)
    assert_equal_updates(found, plain)
    # Both networks, before their layers and after each of them, and again in the backward pass; with sharded moments or
    # accumulation, each parameter's gradient, and its update, too.
    assert constraints >= (100 if {"accumulation", "mesh__shard_optimizer"} & changes.keys() else 6)
    assert share - 0.15 < here <= share


@pytest.mark.release
@pytest.mark.slow
def test_muon_updates_are_equal_for_all_shardings(tmp_path):
    muon = {"optimizer__name": "muon"}
    full, _, _ = updates(tmp_path / "full.npz", 1, **muon)
    sharded, _, here = updates(tmp_path / "sharded.npz", 4, **muon, **FSDP_TP, mesh__shard_optimizer=True)
    assert_equal_updates(sharded, full)
    assert here < 0.4


@pytest.mark.slow
def test_per_device_gradients_are_equal_with_accumulation_and_zero(tmp_path):
    google = {
        "optimizer__gradient_scope": "per_device",
        "objective__masking": "with_replacement",
        "objective__sampling": "google_gumbel",
    }
    full, _, _ = updates(tmp_path / "full.npz", 4, **google)
    accumulated, _, here = updates(
        tmp_path / "accumulated.npz", 4, **google, accumulation=2, mesh__shard_optimizer=True
    )
    assert_equal_updates(accumulated, full)
    assert here < 0.26
