import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

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


class Chip:
    """As much of a device as the mesh asks for."""

    def __init__(self, slice_index, platform="tpu"):
        self.slice_index, self.platform, self.device_kind = slice_index, platform, "a chip"


def test_a_config_s_slices_must_be_those_of_the_devices():
    two = [Chip(0), Chip(0), Chip(1), Chip(1)]
    with pytest.raises(InputError, match=r"config\.mesh\.slices: 1, but the devices are of 2 slices; set --config"):
        partitioning.make_mesh((-1, 1, 1), two, slices=1)
    with pytest.raises(InputError, match=r"config\.mesh\.slices: 2, but the devices are of 1 slice; set --config"):
        partitioning.make_mesh((-1, 1, 1), slices=2)


def test_what_gpus_call_slices_are_none():
    assert partitioning.slice_count([Chip(0, "gpu"), Chip(1, "gpu")]) == 1


@pytest.mark.parametrize("sizes", [(1, 4, 1), (1, 2, 2), (1, -1, 1)])
def test_fsdp_and_tensor_do_not_run_over_slices(sizes):
    with pytest.raises(InputError, match=r"must lie within one slice, and 2 slices of 2 devices do not split data=1"):
        partitioning.make_mesh(sizes, [Chip(0), Chip(0), Chip(1), Chip(1)])


def test_moments_are_cut_along_their_largest_axis_that_can_be():
    mesh = jax.sharding.AbstractMesh((2, 3, 2), partitioning.AXES)
    said = []

    def dealt(shape, *spec):
        leaf = jax.ShapeDtypeStruct(shape, np.float32)
        [sharding] = partitioning.dealt_out([leaf], [NamedSharding(mesh, PartitionSpec(*spec))], said.append)
        return tuple(sharding.spec)

    assert dealt((12, 768, 100)) == (None, ("data", "fsdp"), None)
    assert dealt((12, 767, 100)) == (("data", "fsdp"), None, None)
    # What is cut already stays so, and the devices that hold copies share these.
    assert dealt((64, 512), "fsdp", "tensor") == ("fsdp", "tensor")
    assert dealt((768, 512), "fsdp") == ("fsdp", "data")
    assert dealt((5,)) == ()
    assert not said
    assert dealt((30523, 769)) == ()
    assert said == ["config.mesh.shard_optimizer: moments that no axis divides evenly stay whole: [30523, 769] by 6"]


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
from electra_jax.configs import hybrid_small
from electra_jax.pretraining.job import pretraining_job
from electra_jax.training import partitioning
from electra_jax.training.trainer import make_trainer

data, fsdp, tensor, sharding = *map(int, sys.argv[1:4]), sys.argv[4]
config = hybrid_small.get_config("quicktest")  # All that ELECTRA has, and a head more.
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
names = "generator_loss", "discriminator_loss", "corrective_loss"
totals = [float(m[name][0] / m[name][1]) for name in names for m in losses]
print(json.dumps(totals))
"""


def losses(devices, *mesh_and_sharding):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
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


# Three updates of a small ELECTRA, dropout on: the first one's gradients, the parameters after the last, the losses.
_UPDATES = """
import json, sys
import jax, numpy as np
from electra_jax.configs import hybrid_small
from electra_jax.pretraining.job import pretraining_job
from electra_jax.training import partitioning
from electra_jax.training.trainer import make_trainer

path, changes = sys.argv[1], json.loads(sys.argv[2])
config = hybrid_small.get_config("quicktest")
config.objective.schedules.discriminator_weight = "0:10,3:5"
config.objective.schedules.mask_fraction = "0:0.25,3:0.15"
config.batch_size = 16
if "gradient_scope" not in sys.argv[2]:
    config.optimizer.clip_norm = 1e9  # Not active, so that the first moments are the gradients.
config.update_from_flattened_dict(changes)
mesh = partitioning.make_mesh((config.mesh.data, config.mesh.fsdp, config.mesh.tensor), slices=1)
trainer = make_trainer(config, pretraining_job(config, None, "cpu"), mesh, print)
random = np.random.default_rng(0)
kept = {}
with trainer.placed():
    constraints = trainer.lower().as_text().count("sdy.sharding_constraint")
    state, step = trainer.initial_state(), trainer.compile()
    for number in range(3):
        batch = random.integers(5, 512, (16, 32), dtype=np.int32)
        batch[:, 0] = 2
        for row, end in enumerate(random.integers(7, 32, 16)):  # Parts and devices have different weights.
            batch[row, end], batch[row, end + 1 :] = 3, 0
        state, metrics = step(state, trainer.put(batch), trainer.root_key)
        if number == 0:
            moments = state.optimizer[1]
            moments = moments.first if config.optimizer.name == "adam" else moments.inner_states["others"].inner_state.first
            for name, leaf in jax.tree_util.tree_leaves_with_path(moments):
                kept["gradient" + jax.tree_util.keystr(name)] = np.asarray(leaf) / (1 - config.optimizer.beta1)
            leaves = jax.tree.leaves(moments)
            here = sum(leaf.addressable_shards[0].data.size for leaf in leaves) / sum(leaf.size for leaf in leaves)
for name, leaf in jax.tree_util.tree_leaves_with_path(state.params):
    kept["parameter" + jax.tree_util.keystr(name)] = np.asarray(leaf)
kept |= {"metric" + name: np.asarray(pair) for name, pair in metrics.items()}
np.savez(path, **kept)
print(json.dumps({"constraints": constraints, "share": here}))
"""


def updates(path, devices, **changes):
    """What three updates came to by name; the step's constraints; and the share of the moments on a device."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    flags += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    finished = subprocess.run(
        [sys.executable, "-c", _UPDATES, str(path), json.dumps(changes)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    said = json.loads(finished.stdout.splitlines()[-1])
    with np.load(path) as arrays:
        return dict(arrays), said["constraints"], said["share"]


def assert_equal_updates(one, other):
    assert one.keys() == other.keys()
    for name in one:
        # Metrics are sums over some hundred tokens.
        atol, rtol = (0, 1e-5) if name.startswith("metric") else (1e-5, 0)
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One device, whole batches, all activations kept."""
    return updates(tmp_path_factory.mktemp("plain") / "updates.npz", 1)[0]


FSDP_TP = {"mesh__sharding": "fsdp_tp", "mesh__data": 1, "mesh__fsdp": 2, "mesh__tensor": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "share"),
    [
        pytest.param({}, 1.0, id="dp"),
        pytest.param({"mesh__shard_optimizer": True}, 0.26, id="dp, moments dealt out"),
        pytest.param({"mesh__sharding": "fsdp", "mesh__data": 1, "mesh__fsdp": 4}, 0.4, id="fsdp"),
        pytest.param(FSDP_TP, 0.4, id="fsdp_tp"),
        pytest.param(FSDP_TP | {"mesh__rules": "embed:none,mlp:fsdp+tensor,vocab:fsdp"}, 0.5, id="table of one's own"),
        pytest.param({"accumulation": 2}, 1.0, id="two parts"),
        pytest.param({"accumulation": 4, "mesh__shard_optimizer": True}, 0.26, id="four parts, moments dealt out"),
        pytest.param(FSDP_TP | {"accumulation": 4, "mesh__shard_optimizer": True}, 0.4, id="fsdp_tp, four parts"),
        pytest.param({"model__saved_activations": "products"}, 1.0, id="products"),
        pytest.param({"model__saved_activations": "layer_inputs"}, 1.0, id="layer_inputs"),
    ],
)
def test_gradients_and_updates_are_equal_however_they_are_computed(plain, tmp_path, changes, share):
    found, constraints, here = updates(tmp_path / "updates.npz", 4, **changes)
    assert_equal_updates(found, plain)
    # Both networks, ahead of their layers and behind each of them, and again on the way back; with moments dealt out
    # or parts, each parameter's gradient, and its update, too.
    assert constraints >= (100 if {"accumulation", "mesh__shard_optimizer"} & changes.keys() else 6)
    assert share - 0.15 < here <= share


@pytest.mark.slow
def test_muons_updates_are_equal_however_its_matrices_are_cut(tmp_path):
    muon = {"optimizer__name": "muon"}
    whole, _, _ = updates(tmp_path / "whole.npz", 1, **muon)
    cut, _, here = updates(tmp_path / "cut.npz", 4, **muon, **FSDP_TP, mesh__shard_optimizer=True)
    assert_equal_updates(cut, whole)
    assert here < 0.4


@pytest.mark.slow
def test_gradients_of_each_device_are_equal_in_parts_and_with_moments_dealt_out(tmp_path):
    google = {
        "optimizer__gradient_scope": "per_device",
        "objective__masking": "with_replacement",
        "objective__sampling": "google_gumbel",
    }
    whole, _, _ = updates(tmp_path / "whole.npz", 4, **google)
    parts, _, here = updates(tmp_path / "parts.npz", 4, **google, accumulation=2, mesh__shard_optimizer=True)
    assert_equal_updates(parts, whole)
    assert here < 0.26
