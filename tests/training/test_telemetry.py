import gc
import itertools
import json
import pathlib
import random
import sys
import types

import pytest

from electra_jax import storage
from electra_jax.progress import QuietLine
from electra_jax.training import appended_file, event_files, loop
from electra_jax.training.event_files import EventFiles
from electra_jax.training.run_context import RunContext
from electra_jax.training.telemetry import JsonLines, sample_lines


def test_resuming_drops_later_and_truncated_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 10, "eval/a": 1}\n{"step": 20, "eval/a": 2}\n{"step": 30, "eval/a": 3}\n{"step": 40, "eva'
    )
    lines = JsonLines(str(path), resumed_at=20)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]
    lines.append({"step": 30, "eval/a": 4})
    assert json.loads(path.read_text().splitlines()[-1]) == {"step": 30, "eval/a": 4}
    assert lines.holds(20, "eval/a")
    assert not lines.holds(20, "eval/b")
    assert lines.holds(30, "eval/a")


def test_best_step_is_the_earliest_of_ties(tmp_path):
    lines = JsonLines(str(tmp_path / "metrics.jsonl"), resumed_at=0)
    assert lines.best_step("eval/f1") is None
    for step, score in ((0, 0.9), (10, 0.5), (20, 0.75), (30, 0.75), (40, 0.25)):
        lines.append({"step": step, "eval/f1": score})
        lines.append({"step": step, "train/loss": 1.0})
    assert lines.best_step("eval/f1") == 20


def test_best_step_is_never_one_without_a_score(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl", resumed_at=0)
    for step, score in ((10, 0.4), (20, None), (30, 0.3)):
        lines.append({"step": step, "eval/score": score})
    assert lines.best_step("eval/score") == 10


def test_process_without_a_file_keeps_scores_alone(tmp_path):
    lines = JsonLines(str(tmp_path / "metrics.jsonl"), resumed_at=9)
    lines.append({"step": 5, "train/loss": 2.0})
    lines.append({"step": 5, "eval/loss": 1.0})
    elsewhere = JsonLines(None, resumed_at=9)
    for line in lines.scores():
        elsewhere.append(line)
    assert elsewhere.scores() == [{"step": 5, "eval/loss": 1.0}]
    assert elsewhere.holds(5, "eval/loss")
    assert not elsewhere.holds(5, "train/loss")


def test_probabilities_are_aligned_with_their_words():
    original, corrupted, verdict = sample_lines(
        {"tokens": ["the", "dog", "sat"], "original": ["the", "cat", "sat"], "probability": [0.01, 0.8, 0.6]}
    )
    column = corrupted.index("[dog]")
    assert original[column:].startswith("cat")
    assert verdict[column:].startswith("80%")
    assert verdict.rstrip().endswith("60%")


def test_a_sample_may_hold_any_character(tmp_path):
    path = tmp_path / "samples.jsonl"
    JsonLines(str(path), resumed_at=0).append({"step": 1, "tokens": ["a\u2028b", "\x85"], "eval/x": 1.0})
    assert JsonLines(str(path), resumed_at=5).holds(1, "eval/x")
    assert json.loads(path.read_text().split("\n")[0])["tokens"] == ["a\u2028b", "\x85"]


@pytest.mark.parametrize(
    "foreign", [b"5", b"[1]", b'{"a": 1}', b'{"step": "1"}', b"\xff\xfe", b"[" * 100_000, b'{"step": tr']
)
def test_foreign_lines_are_left_out_with_a_warning(tmp_path, caplog, foreign):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "eval/a": 1}\n' + foreign + b'\n{"step": 2, "eval/a": 2}\n')
    lines = JsonLines(str(path), resumed_at=9)
    assert lines.holds(1, "eval/a")
    assert lines.holds(2, "eval/a")
    assert path.read_bytes() == b'{"step": 1, "eval/a": 1}\n{"step": 2, "eval/a": 2}\n'
    assert "lines 2: expected a JSON object" in caplog.text


def test_scores_alone_stay_in_memory(tmp_path):
    lines = JsonLines(str(tmp_path / "metrics.jsonl"), resumed_at=0)
    for step in range(1000):
        lines.append({"step": step, "train/loss": 1.0, "tokens": ["x"] * 100})
    lines.append({"step": 1000, "eval/loss": 1.0, "time/evaluation_seconds": 2.0})
    assert lines.scores() == [{"step": 1000, "eval/loss": 1.0}]
    assert sum(map(len, lines._scores.values())) == 1


def test_the_best_step_is_sought_once_per_score(tmp_path):
    lines = JsonLines(str(tmp_path / "metrics.jsonl"), resumed_at=0)

    class Counted(dict):
        reads = 0

        def items(self):
            Counted.reads += 1
            return super().items()

    lines._scores = Counted()
    for step in range(1, 100):
        if step % 10 == 0:
            lines.append({"step": step, "eval/f1": 1 / step})
        lines.append({"step": step, "train/loss": 1.0})
        assert lines.best_step("eval/f1") == (10 if step >= 10 else None)
    assert Counted.reads == 10


# --- An object store -------------------------------------------------------------------------------------------------

METRICS = "gs://bucket/run/metrics.jsonl"


def uploads(store):
    return sum(method == "POST" for method, _ in store.requests)


def test_lines_in_a_bucket_are_durable_when_published(object_store):
    lines = JsonLines(METRICS, resumed_at=0)
    for step in range(1, 501):
        lines.append({"step": step, "train/loss": 1.0})
    assert uploads(object_store) == 0
    lines.publish()
    assert storage.read(METRICS).count(b"\n") == 500
    lines.publish()
    assert uploads(object_store) == 1


def test_a_killed_run_continues_from_what_was_published(object_store):
    lines = JsonLines(METRICS, resumed_at=0)
    lines.append({"step": 1, "eval/a": 1})
    lines.append({"step": 2, "eval/a": 2})
    lines.publish()
    lines.append({"step": 3, "eval/a": 3})  # Never published.
    again = JsonLines(METRICS, resumed_at=1)
    assert again.holds(1, "eval/a")
    assert not again.holds(2, "eval/a")
    again.append({"step": 2, "eval/a": 4})
    again.publish()
    assert storage.read(METRICS) == b'{"step": 1, "eval/a": 1}\n{"step": 2, "eval/a": 4}\n'


def test_a_bucket_is_written_to_at_a_bounded_rate(object_store, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(appended_file, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(
        storage, "upload", lambda local, _: written.append((now[0], pathlib.Path(local).stat().st_size))
    )
    lines = JsonLines(METRICS, resumed_at=0)
    for step in range(10_000):  # A million steps, a line every hundred, in ten hours.
        now[0] += 3.6
        lines.append({"step": step, **{f"train/{n}": 0.123456789 for n in range(40)}})
    pauses = [later[0] - earlier[0] for earlier, later in itertools.pairwise(written)]
    assert min(pauses) >= 30
    assert sum(size for _, size in written) <= 50_000 * now[0]
    assert max(pauses) < 300


def test_metrics_are_durable_before_a_checkpoint(object_store, make_trainer):
    loop.train(make_trainer(steps=4), RunContext("gs://bucket/run", QuietLine()))
    assert [json.loads(line)["step"] for line in storage.read(METRICS).splitlines()][-1] == 4
    assert any(name.startswith("run/events.out.tfevents") for name in object_store.names("bucket"))
    # Generations count all writes.
    (_, metrics), (_, committed) = (
        object_store.objects["bucket", f"run/{name}"] for name in ("metrics.jsonl", "checkpoints/4/commit_success.txt")
    )
    assert metrics < committed


def test_events_leave_nothing_in_memory(tmp_path):
    events, draw = EventFiles(str(tmp_path)), random.Random(0)

    def write(steps):
        for step in steps:
            events.write(step, {f"train/{n}": draw.random() for n in range(10)})
        gc.collect()
        return sys.getallocatedblocks()

    before = write(range(100))
    # One object for each value would be 5,000; other threads of the process allocate some hundreds.
    assert write(range(100, 600)) - before < 1000
    events.close()


def test_events_in_a_bucket_are_one_file_for_each_upload(object_store, monkeypatch, tmp_path):
    now = [0.0]
    monkeypatch.setattr(event_files, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    events = EventFiles("gs://bucket/run")
    counts = []
    for step in range(100):
        now[0] += 20.0
        events.write(step, {"train/loss": 1.0})
        counts.append(len(object_store.names("bucket")))
    events.close()
    # After 30, 60, 120, 240, 480, 600 seconds, rounded up to the next write.
    assert [20 * (counts.index(n) + 1) for n in range(1, 7)] == [40, 100, 220, 460, 940, 1540]
    names = object_store.names("bucket")
    assert len(names) == 7
    from tensorflow.python.summary.summary_iterator import summary_iterator

    steps = []
    for name in names:
        path = tmp_path / "events"
        path.write_bytes(object_store.content("bucket", name))
        steps += [event.step for event in summary_iterator(str(path)) if event.summary.value]
    assert sorted(steps) == list(range(100))
