"""Plans, made by the real TPU compiler for slices without the hardware."""

import json
import os
import re
import subprocess
import sys

import pytest

from electra_jax.configs import base
from electra_jax.errors import InputError
from electra_jax.tpu_planning.plan_text import plan_lines
from electra_jax.tpu_planning.step_plan import make_plan
from electra_jax.tpu_planning.topologies import make_slice
from tests.configs import typed

pytestmark = pytest.mark.tpu_compiler


def plan_command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "electra_jax.plan", *flags],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_and_writes_the_plan(tmp_path):
    target = tmp_path / "plan.json"
    run = plan_command("--config=configs/base.py:quicktest", "--topology=v5e:2x2", f"--json={target}")
    assert run.returncode == 0, run.stderr
    for text in ("Fits on v5e:2x2: 4 devices", "optimizer", "all-reduce", "MFU", "tokens a day", "20 steps"):
        assert text in run.stdout
    # Every estimate is marked as one.
    estimated = re.findall(r"^.*(?:\d ms|\d%|a day).*$", run.stdout, flags=re.MULTILINE)
    unmarked = [
        line for line in estimated if "modelled by the TPU compiler" not in line and "published rate" not in line
    ]
    assert all(re.fullmatch(r"\s+\d+\.\d%  .+", line) for line in unmarked)  # Rows of the table, marked in its head.
    plan = json.loads(target.read_text())
    assert plan["fits"] is True
    assert plan["rows"] == 2
    modelled = plan["modelled_by_the_tpu_compiler"]
    assert 0 < modelled["mfu"] < 1
    assert modelled["mfu"] == pytest.approx(plan["flops"] / modelled["step_seconds"] / 197e12)
    assert sum(modelled["scopes"].values()) == pytest.approx(1)
    assert plan["collectives"]["all-reduce"]["count"] > 0


def test_memory_is_that_of_the_state_and_of_temporaries():
    plan = make_plan(typed(base.get_config("quicktest")), make_slice("v5e:2x2"), print)
    assert plan.memory.optimizer == 2 * plan.memory.parameters
    assert 0 < plan.memory.activations < 2**25
    assert any(line.startswith("Memory per device") for line in plan_lines(plan))


@pytest.mark.tpu_all
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does():
    run = plan_command("--config=configs/base.py:quicktest", "--topology=v5e:2x2", "--config.batch_size=160000")
    assert run.returncode == 64
    needed, available = map(float, re.search(r"need ([\d.]+) GiB or more; there are ([\d.]+) GiB", run.stderr).groups())
    assert needed > available == 15.75
    fitting = int(re.search(r"found to fit: --config.batch_size=(\d+)", run.stderr).group(1))
    assert 40_000 < fitting < 160_000
    assert fitting % 4 == 0
    assert "--config.model.saved_activations=products" in run.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v9:2x2"], "kinds: v4, v5e, v5p, v6e, tpu7x"),
        (["--topology=v5e:3x5"], "--topology=v5e:3x5: the TPU compiler knows no such slice"),
        (["--topology=v5e:2x2", "--config.batch_size=9"], "use a multiple of 4"),
        (["--topology=v5e:2x2", "--config.mesh.data=3"], "does not use exactly the 4 devices"),
        (["--topology=v5e:2x2", "--config.model.attention=cudnn"], "cudnn runs only on gpu, found tpu"),
        (["--topology=v5e:2x2", "--json=/nowhere/plan.json"], "there is no directory /nowhere"),
        ([], "--topology=v5e:4x4"),
    ],
)
def test_bad_input_is_one_clear_message(flags, message):
    run = plan_command("--config=configs/base.py:quicktest", *flags)
    assert run.returncode == 64
    assert message in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.tpu_all
def test_every_kind_of_chip_can_be_planned_for():
    for name in ("v4:2x2x1", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1"):
        plan = make_plan(typed(base.get_config("quicktest")), make_slice(name), print)
        assert (plan.mfu is None) == name.startswith("tpu7x")


def test_an_unknown_slice_is_refused():
    with pytest.raises(InputError, match="expected a kind of chip and a shape"):
        make_slice("v5e")
