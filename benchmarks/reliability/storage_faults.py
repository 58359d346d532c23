"""Whole runs on storage that fails: `python -m benchmarks.reliability.storage_faults [--only=NAME]`.

Trains a tiny model as a user would, once undisturbed, then on a disk that fills up, without permission to write, twice
at the same time, under odd names, with a clock that is set back, with damaged checkpoints and without any. Prints for
each the exit codes and what the user reads; ends with an error if one is not as expected. Mounting needs root.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

_STEPS = 20  # With checkpoints at 10 and 20.
# What differs between two runs of the same numbers.
_MEASURED = ("time/", "performance/", "goodput/")
_NAMES = ("lr[1e-4]", "a\\b", "two words", "ünï日", "a#b", "50%20", "what?", "a*b", "x{y}")
_CLOCK = """
import time
_now, _began = time.time, time.monotonic()
time.time = lambda: _now() - (86400.0 if time.monotonic() - _began > 5 else 0.0)
"""


class Trials:
    """The runs, which share a dataset and compiled programs."""

    def __init__(self, place: pathlib.Path) -> None:
        """Keeps all files in `place`."""
        self.place = place

    def flags(self, workdir: pathlib.Path, *more: str) -> list[str]:
        """The command line of a run."""
        return [
            sys.executable, "-m", "electra_jax.main", "--config=quickstart:quicktest", f"--workdir={workdir}",
            f"--config.data.directory={self.place / 'data'}", f"--config.compile_cache={self.place / 'compiled'}",
            f"--config.steps={_STEPS}", "--config.checkpoint.every_steps=10", "--config.checkpoint.keep_last=2",
            "--config.evaluation.every_steps=10", "--config.log.every_steps=5", *more,
        ]  # fmt: skip

    def run(self, workdir: pathlib.Path, *more: str, expected: int = 0, **environment: str) -> str:
        """Runs to the end and returns what was printed."""
        finished = subprocess.run(
            self.flags(workdir, *more),
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert finished.returncode == expected, finished.stdout
        assert "Traceback" not in finished.stdout, finished.stdout
        return finished.stdout

    @property
    def straight(self) -> pathlib.Path:
        """The undisturbed run."""
        return self.place / "straight"

    def assert_equal(self, workdir: pathlib.Path) -> None:
        """Fails unless a run has the numbers of the undisturbed one: metrics, samples and digests of all arrays."""
        assert _numbers(workdir) == _numbers(self.straight)
        assert (workdir / "samples.jsonl").read_bytes() == (self.straight / "samples.jsonl").read_bytes()
        assert _arrays(workdir) == _arrays(self.straight)


def _numbers(workdir: pathlib.Path) -> list[dict[str, float]]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if not name.startswith(_MEASURED)} for line in lines]


def _arrays(workdir: pathlib.Path) -> dict[str, list[object]]:
    return json.loads((workdir / "checkpoints" / str(_STEPS) / "progress" / "metadata").read_text())["arrays"]


def _line(printed: str, text: str) -> str:
    """The printed line with that text."""
    (found, *_) = [line for line in printed.splitlines() if text in line] or [""]
    assert found, printed
    return found


@contextlib.contextmanager
def _mounted(folder: pathlib.Path, options: str) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def full_disk(trials: Trials) -> str:
    """A disk with room for one checkpoint and a half; then for all."""
    size = sum(path.stat().st_size for path in (trials.straight / "checkpoints" / "10").rglob("*") if path.is_file())
    rest = sum(path.stat().st_size for path in trials.straight.rglob("*") if path.is_file()) - 2 * size
    disk = trials.place / "disk"
    with _mounted(disk, f"size={rest + int(1.5 * size)}"):
        stopped = trials.run(disk / "run", expected=75)
        subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
        resumed = trials.run(disk / "run")
        trials.assert_equal(disk / "run")
    return (
        f"75: {_line(stopped, 'newest complete checkpoint')}; then 0: {_line(resumed, 'Resumed from')} Numbers equal."
    )


def read_only(trials: Trials) -> str:
    """A workdir on a file system that is mounted read-only."""
    disk = trials.place / "read_only"
    with _mounted(disk, "ro"):
        return f"64: {_line(trials.run(disk / 'run', expected=64), '--workdir')}"


def two_runs(trials: Trials) -> str:
    """A second run in the workdir of one that trains, then after its kill."""
    workdir = trials.place / "shared"
    with subprocess.Popen(trials.flags(workdir), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        while not (workdir / "samples.jsonl").exists():
            assert first.poll() is None
            time.sleep(0.05)
        refused = trials.run(workdir, expected=64)
        first.send_signal(signal.SIGKILL)
        first.communicate()
    trials.run(workdir)
    trials.assert_equal(workdir)
    return f"64: {_line(refused, 'another run works there')} After a kill of the first: 0. Numbers equal."


def odd_names(trials: Trials) -> str:
    """Workdirs whose names are patterns, or hold what is special elsewhere; stopped at 10 and resumed."""
    for name in _NAMES:
        workdir = trials.place / name
        shutil.copytree(trials.straight, workdir)
        shutil.rmtree(workdir / "checkpoints" / "20")
        assert "Resumed from checkpoint 10" in trials.run(workdir), name
        trials.assert_equal(workdir)
        exported = trials.place / f"exported {_NAMES.index(name)}"
        command = [sys.executable, "-m", "electra_jax.convert", f"--source={workdir}", f"--target={exported}"]
        subprocess.run([*command, "--to=electra_jax"], check=True, stdout=subprocess.DEVNULL)
    return f"0 each, resumed at 10 and exported, numbers equal: {', '.join(_NAMES)}"


def clock_set_back(trials: Trials) -> str:
    """The clock goes back by a day five seconds after the start."""
    patch = trials.place / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(_CLOCK)
    workdir = trials.place / "clock"
    trials.run(workdir, "--config.checkpoint.every_minutes=0.01", PYTHONPATH=f"{patch}:{os.getcwd()}")
    trials.assert_equal(workdir)
    return "0. Numbers equal."


def flipped_bit(trials: Trials) -> str:
    """One bit of the largest file of the newest checkpoint."""
    workdir = _copy(trials, "flipped")
    _flip(workdir / "checkpoints" / "20")
    printed = trials.run(workdir)
    trials.assert_equal(workdir)
    return f"0: {_line(printed, 'set aside')} {_line(printed, 'Resumed')} Numbers equal."


def all_damaged(trials: Trials) -> str:
    """One bit of each checkpoint; then the same command, then with --restart."""
    workdir = _copy(trials, "all_damaged")
    for step in ("10", "20"):
        _flip(workdir / "checkpoints" / step)
    first, second = trials.run(workdir, expected=77), trials.run(workdir, expected=77)
    trials.run(workdir, "--restart")
    trials.assert_equal(workdir)
    return f"77: {_line(first, '20: ')}; again 77: {_line(second, 'had checkpoints')}; with --restart 0."


def no_checkpoints(trials: Trials) -> str:
    """The folder of checkpoints deleted; then with --restart."""
    workdir = _copy(trials, "gone")
    shutil.rmtree(workdir / "checkpoints")
    before = (workdir / "metrics.jsonl").read_bytes()
    refused = trials.run(workdir, expected=77)
    trials.run(workdir, "--restart")
    trials.assert_equal(workdir)
    assert (workdir / "metrics.before_restart.jsonl").read_bytes() == before
    return f"77: {_line(refused, 'had checkpoints')}; with --restart 0, the old metrics kept."


def no_card(trials: Trials) -> str:
    """A dataset without its card, as if a kill had come between."""
    (trials.place / "data" / "card.html").unlink()
    trials.run(_copy(trials, "card"))
    assert (trials.place / "data" / "card.html").exists()
    return "0, the card is written."


def _copy(trials: Trials, name: str) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(trials.straight, trials.place / name))


def _flip(checkpoint: pathlib.Path) -> None:
    path = max(filter(pathlib.Path.is_file, checkpoint.rglob("*")), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


_FAULTS: tuple[Callable[[Trials], str], ...] = (
    flipped_bit, all_damaged, no_checkpoints, two_runs, full_disk, read_only, clock_set_back, no_card, odd_names,
)  # fmt: skip


def main() -> None:
    """Runs all, or the one that --only names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", choices=["", *(fault.__name__ for fault in _FAULTS)])
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(pathlib.Path(folder))
        began = time.monotonic()
        trials.run(trials.straight)
        print(f"undisturbed: 0 ({time.monotonic() - began:.0f} s)", flush=True)
        for fault in _FAULTS:
            if only in ("", fault.__name__):
                began = time.monotonic()
                answer = fault(trials).replace(folder, "…")
                print(f"{fault.__name__}: {answer} ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
