import io

from electra_jax.progress import ProgressLine


def test_a_log_file_gets_few_and_complete_lines():
    stream = io.StringIO()
    line = ProgressLine(stream, seconds_between_lines=10.0)
    for now in range(0, 35):
        line.update(f"second {now}", now=float(now))
    line.print("done")
    assert stream.getvalue() == "second 0\nsecond 10\nsecond 20\nsecond 30\ndone\n"


def test_warnings_are_yellow_on_a_terminal_alone():
    stream, terminal = io.StringIO(), io.StringIO()
    terminal.isatty = lambda: True
    ProgressLine(stream).warn("much is unknown")
    ProgressLine(terminal).warn("much is unknown")
    assert stream.getvalue() == "Warning: much is unknown\n"
    assert terminal.getvalue() == "\033[33mWarning: much is unknown\033[0m\n"


def test_a_terminal_gets_one_live_line_below_lines_that_stay(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    stream.isatty = lambda: True
    line = ProgressLine(stream)
    line.update("step 1", now=0.0)
    line.update("too soon to be seen", now=0.1)
    line.update("step 2, wider than the terminal is", now=1.0)
    line.print("stays")
    assert stream.getvalue() == "\r\033[Kstep 1\r\033[Kstep 2, wider than \r\033[Kstays\n"
