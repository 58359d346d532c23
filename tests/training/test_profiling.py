import gzip
import io
import json

import pytest

from electra_jax.errors import InputError
from electra_jax.progress import ProgressLine
from electra_jax.training import loop
from electra_jax.training.profiling import ProfiledSteps
from electra_jax.training.run_context import RunContext


@pytest.mark.parametrize("text", ["3", "a:b", "3:", "0:2", "5:4", "-1:2", "1:2:3", "1.5:2"])
def test_invalid_range_of_updates_is_refused(text):
    with pytest.raises(InputError, match=f"--profile_steps={text}: expected A:B"):
        ProfiledSteps.parse(text)


def test_steps_beyond_the_run_are_refused():
    ProfiledSteps.parse("3:20").check(20)
    with pytest.raises(InputError, match="--profile_steps=3:21: the run has 20 updates"):
        ProfiledSteps.parse("3:21").check(20)


def test_a_trace_holds_the_chosen_updates_and_no_others(make_trainer, tmp_path):
    printed = io.StringIO()
    loop.train(make_trainer(steps=8), RunContext(str(tmp_path), ProgressLine(printed)), ProfiledSteps(3, 5))
    (path,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    traced = {event["args"]["step_num"] for event in events if event.get("name") == "train"}
    # The annotation counts updates before the step, and the flag's numbers those after it.
    assert traced == {"2", "3", "4"}
    assert str(tmp_path / "profile") in printed.getvalue()


def test_run_past_the_chosen_updates_prints_a_note(make_trainer, tmp_path):
    printed = io.StringIO()
    loop.train(make_trainer(steps=4), RunContext(str(tmp_path), ProgressLine(printed)))
    loop.train(make_trainer(steps=6), RunContext(str(tmp_path), ProgressLine(printed)), ProfiledSteps(2, 3))
    assert "nothing is traced, as the run already has 4 updates" in printed.getvalue()
    assert not (tmp_path / "profile").exists()
