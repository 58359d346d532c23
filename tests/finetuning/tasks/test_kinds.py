"""Each kind of task has a class of that kind, and a reader that knows its formats; no list of kinds starts JAX."""

import subprocess
import sys

import pytest

from electra_jax.finetuning.tasks.kinds import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_each_entry_names_a_class_and_formats_that_exist(kind):
    entry = KINDS[kind]
    task = entry.task_class()
    assert getattr(task, "kind", kind) == kind
    assert all(callable(getattr(task, method)) for method in ("head", "loss", "score", "records", "description"))
    assert set(entry.suffixes.values()) <= set(entry.formats)
    assert all(callable(getattr(entry.reader, name)) for name in ("read", "examples", "field_problems"))


def test_looking_up_a_kind_does_not_start_jax():
    code = "import sys; from electra_jax.finetuning.tasks import kinds; print('jax' in sys.modules, len(kinds.KINDS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(KINDS))]
