"""Base and Large for slices of three kinds and for two slices: what the TPU compiler makes of them must not change unseen.

Layers are compiled as a loop, in a tenth of the time that a run's unrolled ones take. Where a change is meant:
`UPDATE_GOLDENS=1 ./launch/test.sh --tpu_all tests/planning`, and look at the difference.
"""

import importlib
import json
import os
import pathlib

import pytest

from electra_jax.planning.plan import make_plan
from electra_jax.planning.topologies import make_slice

pytestmark = pytest.mark.tpu_compiler

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "tpu_plans"


SLICES = [("v5e:4x4", 1), ("v5e:2x2", 2), ("v5p:2x2x2", 1), ("v6e:4x4", 1)]
ALL = [(preset, *slices) for preset in ("base", "large") for slices in SLICES]


@pytest.mark.parametrize(
    ("preset", "topology", "slices"),
    # Each takes minutes of a processor; two speak for all, until a release.
    [*ALL[:2], *(pytest.param(*one, marks=pytest.mark.tpu_all) for one in ALL[2:])],
)
def test_memory_and_collectives_of_presets_are_as_they_were(preset, topology, slices):
    config = importlib.import_module(f"configs.{preset}").get_config()
    config.model.unrolled_layers = 1
    config.mesh.slices = slices
    slice_ = make_slice(topology, slices)
    # Eight rows a chip: the compiler's time does not grow with them, and no chip here is too small for that.
    config.batch_size = 8 * len(slice_.devices)
    plan = make_plan(config, slice_, print)
    found = {
        "memory": {
            "parameters": plan.memory.parameters,
            "optimizer": plan.memory.optimizer,
            "activations": plan.memory.activations,
        },
        "collectives": {kind: value.count for kind, value in plan.collectives.items()},
    }
    path = GOLDEN / f"{preset}.{topology.replace(':', '_')}.{slices}.json"
    if os.environ.get("UPDATE_GOLDENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=2) + "\n")
    golden = json.loads(path.read_text())
    assert found["memory"] == pytest.approx(golden["memory"], rel=0.02)
    assert found["collectives"] == golden["collectives"]
