import dataclasses
import io
import json
import time

import pytest

from electra_jax.progress import ProgressLine
from electra_jax.training import loop
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.goodput import Ledger, seconds_after_going_back
from electra_jax.training.run_context import RunContext


def sums(progress):
    return {"step": progress.productive_seconds, **progress.seconds}


def test_every_second_belongs_to_one_activity():
    began = time.time()
    progress = Progress(next_batch=0, started_at=began)
    ledger = Ledger(progress, began - 0.0, restoring=0.0, last_seen=0.0)
    with ledger.timed("compile"):
        time.sleep(0.05)
    time.sleep(0.05)
    with ledger.timed("save"):
        pass
    ledger.settle()
    assert sum(sums(progress).values()) == pytest.approx(time.time() - began, abs=0.02)
    assert progress.seconds["compile"] == pytest.approx(0.05, abs=0.03)
    assert progress.productive_seconds == pytest.approx(0.05, abs=0.03)
    assert "goodput/compile_seconds" in ledger.values()


def test_time_between_two_processes_is_lost_or_down():
    # Saved after 100 s, last heard of after 130 s, and started again after 1,000 s.
    now = time.time()
    before = Progress(next_batch=7, started_at=now - 1010, productive_seconds=90.0, seconds={"start": 10.0})
    progress = Progress(**dataclasses.asdict(before))
    Ledger(progress, now - 10, restoring=4.0, last_seen=130.0)
    assert progress.seconds == pytest.approx({"start": 16.0, "lost": 30.0, "down": 870.0, "restore": 4.0}, abs=0.5)
    assert sum(sums(progress).values()) == pytest.approx(1010, abs=0.5)


def test_checkpoint_from_before_the_ledger_is_accepted():
    now = time.time()
    progress = Progress(**{"next_batch": 7, "started_at": now - 100, "productive_seconds": 60.0})
    Ledger(progress, now - 10, restoring=0.0, last_seen=80.0)
    assert progress.seconds == pytest.approx({"unrecorded": 30.0, "start": 10.0}, abs=0.5)


def test_steps_of_a_run_that_goes_back_are_lost_and_nothing_else():
    started_at = time.time() - 100
    before = Progress(20, started_at, productive_seconds=30.0, seconds={"start": 10.0})
    progress = Progress(30, started_at, productive_seconds=70.0, seconds={"start": 10.0, "save": 20.0})
    after = dataclasses.replace(before, seconds=seconds_after_going_back(progress, before))
    assert sums(after) == {"step": 30.0, "start": 10.0, "save": 20.0, "lost": 40.0}
    Ledger(after, time.time(), restoring=0.0, last_seen=100.0)
    assert after.seconds["lost"] == pytest.approx(40.0, abs=0.5)
    assert sum(sums(after).values()) == pytest.approx(100.0, abs=0.5)


def test_clock_that_was_set_back_loses_nothing():
    now = time.time()
    progress = Progress(next_batch=7, started_at=now + 50, productive_seconds=60.0, seconds={"start": 1.0})
    Ledger(progress, now, restoring=0.0, last_seen=61.0)
    assert all(seconds >= 0 for seconds in progress.seconds.values())
    assert "down" not in progress.seconds


def test_ledger_of_a_run_is_kept_over_restarts_and_adds_up(make_trainer, tmp_path):
    def last_line(steps):
        loop.train(make_trainer(steps=steps, log_every_steps=1), RunContext(str(tmp_path), ProgressLine(io.StringIO())))
        lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        return [line for line in lines if "time/elapsed_seconds" in line][-1]

    first = last_line(3)
    second = last_line(5)
    assert "goodput/restore_seconds" not in first
    assert second["goodput/restore_seconds"] > 0
    assert second["goodput/compile_seconds"] > first["goodput/compile_seconds"]
    for line in (first, second):
        sums = sum(seconds for name, seconds in line.items() if name.startswith("goodput/"))
        assert sums == pytest.approx(line["time/elapsed_seconds"], abs=0.2)
