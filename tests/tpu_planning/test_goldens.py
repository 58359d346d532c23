"""Small, Base and Large for several slices: the TPU compiler's memory and collectives must not change unnoticed.

Layers are compiled as a loop, in a tenth of the time that a run's unrolled ones take. Where a change is meant:
`UPDATE_GOLDENS=1 ./launch/test.sh --tpu_all tests/tpu_planning`, and look at the difference.
"""

import importlib
import json
import os
import pathlib

import pytest

from electra_jax.tpu_planning.step_plan import make_plan
from electra_jax.tpu_planning.topologies import make_slice
from tests.configs import typed

pytestmark = pytest.mark.tpu_compiler

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "tpu_plans"


PRESETS_AND_SLICES = [
    ("small", "v5e:4x4", 1),
    ("base", "v5e:4x4", 1),
    ("base", "v5e:2x2", 2),
    ("base", "v5p:2x2x2", 1),
    ("base", "v6e:4x4", 1),
    ("large", "v5e:4x4", 1),
    ("large", "v5e:2x2", 2),
    ("large", "v5p:2x2x2", 1),
    ("large", "v6e:4x4", 1),
]


@pytest.mark.parametrize(
    ("preset", "topology", "slices"),
    # Base and Large take minutes of a processor each; Small stands for them, until a release.
    [PRESETS_AND_SLICES[0], *(pytest.param(*one, marks=pytest.mark.tpu_all) for one in PRESETS_AND_SLICES[1:])],
)
def test_memory_and_collectives_of_presets_are_as_they_were(preset, topology, slices):
    config = importlib.import_module(f"electra_jax.configs.{preset}").get_config()
    config.model.unrolled_layers = 1
    config.mesh.slices = slices
    slice_ = make_slice(topology, slices)
    # Eight rows a chip: the compiler's time does not grow with them, and no chip here is too small for that.
    config.batch_size = 8 * len(slice_.devices)
    plan = make_plan(typed(config), slice_, print)
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
