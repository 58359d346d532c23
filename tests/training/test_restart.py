"""A run without checkpoints: begun anew only if it never had one, or if that is asked for."""

import json

import pytest

from electra_jax import storage
from electra_jax.errors import MismatchError
from electra_jax.training import restart


def run_of(workdir, steps=(), checkpoints=(), folder=True, marked=False):
    """A workdir whose metrics reach those steps, with those names in its folder of checkpoints."""
    lines = [json.dumps({"step": step, "train/loss": 1.0}) for step in steps]
    if lines:
        (workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        (workdir / "samples.jsonl").write_text('{"step": 0}\n')
        (workdir / "divergence").mkdir()
    if folder:
        (workdir / "checkpoints").mkdir()
    for name in checkpoints:
        (workdir / "checkpoints" / name).mkdir()
    if marked:
        (workdir / "checkpoints.json").write_text('{"checkpoint": 10, "read_back": true}')
    return workdir


def check(workdir, allowed=False):
    notes = []
    restart.check(workdir, 100, allowed, notes.append)
    return notes


def test_new_run_begins(tmp_path):
    assert check(run_of(tmp_path, folder=False)) == []


def test_run_with_checkpoints_resumes(tmp_path):
    assert check(run_of(tmp_path, [0, 300], ["100", "200"], marked=True)) == []


def test_run_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path):
    assert check(run_of(tmp_path, [0, 50])) == [
        "The run ended at step 50, before its first checkpoint; training from the beginning."
    ]
    assert (tmp_path / "metrics.jsonl").exists()


def test_run_in_a_bucket_that_was_killed_before_its_first_checkpoint_begins_again(object_store):
    storage.write("gs://bucket/run/metrics.jsonl", b'{"step": 100}\n')
    assert "training from the beginning" in check("gs://bucket/run")[0]
    storage.write("gs://bucket/run/metrics.jsonl", b'{"step": 101}\n')
    with pytest.raises(
        MismatchError, match=r"checkpoints are due every 100 steps, and gs://bucket/run/checkpoints has"
    ):
        check("gs://bucket/run")


def test_run_whose_first_save_was_due_after_a_skipped_update_begins_again(tmp_path):
    run_of(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 101, "train/skipped": 3.0}) + "\n")
    assert "training from the beginning" in check(tmp_path)[0]


LOST = {
    "emptied": dict(steps=[0, 50], marked=True),
    "set aside": dict(steps=[0, 50], checkpoints=["10.damaged", "20.damaged-2"], marked=True),
    "deleted": dict(steps=[0, 50], folder=False),
    "emptied, of an earlier version": dict(steps=[0, 101]),
    "emptied, and the metrics too": dict(marked=True),
    "followed by a truncated line": dict(steps=[0, 50], folder=False),
}


@pytest.mark.parametrize("name", LOST)
def test_run_whose_checkpoints_are_gone_is_refused(tmp_path, name):
    run_of(tmp_path, **LOST[name])
    if "truncated" in name:
        (tmp_path / "metrics.jsonl").write_text('{"step": 50}\n{"st')
    with pytest.raises(MismatchError, match=r"--restart") as error:
        check(tmp_path)
    assert error.value.exit_code == 77
    if name == "set aside":
        assert "found 10.damaged, 20.damaged-2 alone" in str(error.value)


@pytest.mark.parametrize("name", LOST)
def test_restart_begins_again_and_keeps_the_metrics(tmp_path, name):
    run_of(tmp_path, **LOST[name])
    before = (tmp_path / "metrics.jsonl").read_text() if (tmp_path / "metrics.jsonl").exists() else None
    (note,) = check(tmp_path, allowed=True)
    assert note.startswith("Training from the beginning, as --restart says; kept: ")
    assert not (tmp_path / "metrics.jsonl").exists()
    if before:
        assert (tmp_path / "metrics.before_restart.jsonl").read_text() == before
        assert (tmp_path / "samples.before_restart.jsonl").exists()
        assert (tmp_path / "divergence.before_restart").exists()
        assert not (tmp_path / "divergence").exists()
    assert check(tmp_path) == []


def test_second_restart_overwrites_nothing(tmp_path):
    for number in (1, 2):
        run_of(tmp_path, [0, number], folder=False)
        check(tmp_path, allowed=True)
    assert "1" in (tmp_path / "metrics.before_restart.jsonl").read_text()
    assert "2" in (tmp_path / "metrics.before_restart-2.jsonl").read_text()


def test_restart_has_no_effect_while_there_is_a_checkpoint(tmp_path):
    notes = check(run_of(tmp_path, [0, 300], ["100"], marked=True), allowed=True)
    assert notes == ["--restart has no effect: there is a checkpoint 100 to resume from."]
    assert (tmp_path / "metrics.jsonl").exists()
