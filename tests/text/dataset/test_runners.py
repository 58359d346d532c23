"""Units are worked on here, in a pool or by Beam, and their failures come back as messages."""

import io
import os
import signal

import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.progress import ProgressLine
from electra_jax.text.dataset.runners import Runner
from electra_jax.text.dataset.units import Settings, Unit
from electra_jax.text.sources.text_sources import Piece


def record(settings, unit, read):
    """Writes which process did it."""
    read(unit.size)
    storage.write(storage.join(settings.directory, f"done-{unit.number}"), str(os.getpid()).encode())


def fail_on_odd(settings, unit, read):
    if unit.number % 2:
        raise InputError(f"unit {unit.number} is odd")
    record(settings, unit, read)


def die(settings, unit, read):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def settings(tmp_path):
    return Settings(str(tmp_path), "", {}, ())


@pytest.fixture
def todo():
    """Six units of five megabytes: enough for a pool."""
    return [Unit(number, 0, (Piece("s", "p", 0, 1, 5_000_000),)) for number in range(6)]


def done(settings):
    names = [name for name in storage.names(settings.directory) if name.startswith("done-")]
    return {name: int(storage.read(storage.join(settings.directory, name))) for name in names}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_unit_is_done_and_progress_reaches_the_end(settings, todo, workers):
    stream = io.StringIO()
    Runner(workers=workers).run("reading", record, settings, todo, ProgressLine(stream, seconds_between_lines=0))
    assert len(done(settings)) == 6
    assert (set(done(settings).values()) == {os.getpid()}) == (workers == 1)
    assert "reading  100% of 30.0 MB" in stream.getvalue()
    assert " MB/s  " in stream.getvalue()


@pytest.mark.parametrize("workers", [1, 2])
def test_all_failures_come_back_and_the_other_units_are_done(settings, todo, workers):
    with pytest.raises(InputError) as error:
        Runner(workers=workers).run("reading", fail_on_odd, settings, todo, ProgressLine(io.StringIO()))
    assert str(error.value).splitlines() == ["unit 1 is odd", "unit 3 is odd", "unit 5 is odd"]
    assert sorted(done(settings)) == ["done-0", "done-2", "done-4"]


def test_a_killed_worker_is_reported(settings, todo):
    with pytest.raises(InputError, match=r"One of 2 workers was killed, most often for lack of memory. .*--workers"):
        Runner(workers=2).run("reading", die, settings, todo, ProgressLine(io.StringIO()))


@pytest.mark.beam
@pytest.mark.parametrize("options", [(), ("--direct_num_workers=2", "--direct_running_mode=multi_processing")])
def test_beam_does_every_unit_and_brings_failures_back(settings, todo, options):
    runner = Runner(beam="DirectRunner", beam_options=options)
    runner.run("reading", record, settings, todo, ProgressLine(io.StringIO()))
    assert len(done(settings)) == 6
    with pytest.raises(InputError) as error:
        runner.run("reading", fail_on_odd, settings, todo, ProgressLine(io.StringIO()))
    assert str(error.value).splitlines() == ["unit 1 is odd", "unit 3 is odd", "unit 5 is odd"]
    runner.run("reading", record, settings, todo, ProgressLine(io.StringIO()))  # Old failures are forgotten.


@pytest.mark.beam
def test_an_unknown_beam_runner_is_reported(settings, todo):
    with pytest.raises(InputError, match=r"--runner=NoSuchRunner"):
        Runner(beam="NoSuchRunner").run("reading", record, settings, todo, ProgressLine(io.StringIO()))
