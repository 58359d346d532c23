import io

import pytest

from benchmarks.objectives import schedule
from benchmarks.objectives.schedule import Executor, Forecast, worded_forecast
from benchmarks.objectives.work import Piece, Store
from electra_jax.errors import Diverged, Preempted
from electra_jax.progress import ProgressLine


def pieces(count, kind="scoring trec", amount=1.0):
    return [Piece(f"{kind}/{n}", {"n": n}, "finetuning", None, kind, amount) for n in range(count)]


@pytest.fixture
def performed(monkeypatch):
    """The names of pieces that were worked on; `fails` says what happens to some."""

    class Performed(list):
        fails = {}  # noqa: RUF012

    done = Performed()
    done.fails = {}

    def perform(piece, store, line, finetuner):
        done.append(piece.name)
        if piece.name in done.fails:
            raise done.fails[piece.name]
        return {"scores": piece.name}

    monkeypatch.setattr(schedule, "_perform", perform)
    return done


def executor(directory):
    stream = io.StringIO()
    return Executor(Store(directory), 1, ProgressLine(stream)), stream


def test_a_second_run_does_what_is_missing(tmp_path, performed):
    todo = pieces(3)
    performed.fails = {todo[1].name: Preempted("SIGTERM")}
    first, _ = executor(tmp_path)
    first.expect(todo)
    with pytest.raises(Preempted, match="scoring trec/1: SIGTERM"):
        first.run(todo)
    assert performed == [todo[0].name, todo[1].name]
    performed.clear()
    performed.fails = {}
    second, printed = executor(tmp_path)
    second.expect(todo)
    second.run(todo)
    assert performed == [todo[1].name, todo[2].name]
    assert printed.getvalue().startswith("[2/3] scoring trec/1 (")


def test_a_failed_piece_is_reported_and_the_others_go_on(tmp_path, performed):
    todo = pieces(3)
    performed.fails = {todo[0].name: Diverged("loss is nan"), todo[1].name: ValueError("a bug")}
    runner, printed = executor(tmp_path)
    runner.expect(todo)
    runner.run(todo)
    assert runner.failures == ["loss is nan", "ValueError: a bug"]
    assert "failed: scoring trec/0: loss is nan" in printed.getvalue()
    assert "log: " in printed.getvalue()
    assert "a bug" in runner._store.log(todo[1]).read_text()
    assert runner._store.result(todo[2]) == {"scores": todo[2].name}


def test_durations_follow_from_pieces_of_the_same_kind():
    forecast = Forecast()
    small, large = pieces(1, "pretraining mlm", 10.0)[0], pieces(1, "pretraining mlm", 40.0)[0]
    (other,) = pieces(1, "scoring trec")
    assert worded_forecast(forecast, [large], 1) == "duration not known yet"
    forecast.note(small, 30.0)
    assert forecast.seconds(large) == 120.0
    assert worded_forecast(forecast, [large, small], 1) == "2 min 30 s left"
    assert worded_forecast(forecast, [large, small], 2) == "1 min 15 s left"
    assert worded_forecast(forecast, [large, other], 1) == "at least 2 min 00 s left"
