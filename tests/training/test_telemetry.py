import io
import json

from electra_jax.training.telemetry import JsonLines, ProgressLine, verdict_lines


def test_resuming_drops_later_lines_and_one_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "a": 1}\n{"step": 20, "a": 2}\n{"step": 30, "a": 3}\n{"step": 40, "a')
    lines = JsonLines(path, resumed_at=20)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]
    lines.append({"step": 30, "a": 4})
    assert json.loads(path.read_text().splitlines()[-1]) == {"step": 30, "a": 4}
    assert lines.holds(20, "a")
    assert not lines.holds(20, "b")
    assert not lines.holds(30, "a")


def test_a_log_file_gets_whole_lines_and_few():
    stream = io.StringIO()
    line = ProgressLine(stream, seconds_between_lines=10.0)
    for now in range(0, 35):
        line.update(f"second {now}", now=float(now))
    line.print("done")
    assert stream.getvalue() == "second 0\nsecond 10\nsecond 20\nsecond 30\ndone\n"


def test_a_terminal_gets_one_line_that_rewrites_itself_and_gives_way_to_lines_that_stay(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    stream.isatty = lambda: True
    line = ProgressLine(stream)
    line.update("step 1", now=0.0)
    line.update("too soon to be seen", now=0.1)
    line.update("step 2, wider than the terminal is", now=1.0)
    line.print("stays")
    assert stream.getvalue() == "\r\033[Kstep 1\r\033[Kstep 2, wider than \r\033[Kstays\n"


def test_verdicts_stand_below_their_words():
    original, corrupted, verdict = verdict_lines(
        {"tokens": ["the", "dog", "sat"], "original": ["the", "cat", "sat"], "probability": [0.01, 0.8, 0.6]}
    )
    column = corrupted.index("[dog]")
    assert original[column:].startswith("cat")
    assert verdict[column:].startswith("80%")
    assert verdict.rstrip().endswith("60%")
