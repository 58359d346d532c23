"""Signals in every phase of a run: `python -m benchmarks.reliability.signals [--phases=saving,…] [--processes=1,2]`.

Prints a table of the exit codes, the seconds from the signal to the end of the last process, and the checkpoints before
and after it. A run of several processes gets the signals in its last process. A second signal follows after a moment.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.reliability.slowed_main import PHASES

SIGNALS = ("SIGTERM", "SIGTERM SIGTERM", "SIGINT SIGINT")
_LINGERS = 3.0  # Seconds that a phase is slowed down for.
_BETWEEN_SIGNALS = 1.0
_RESUMED = ("restoring",)
# A process that ends before it has met the others cannot tell them; they wait for it so long.
_START_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of signals in one phase.

    Attributes:
      codes: exit code of each process.
      seconds: from the first signal to the end of the last process.
      before, after: steps of the checkpoints at the signal and at the end.
      printed: output of each process.
    """

    codes: list[int]
    seconds: float
    before: list[int]
    after: list[int]
    printed: list[str]

    def reason(self) -> str:
        """The line that says why the first process stopped."""
        found = [line for text in self.printed for line in text.splitlines() if "topped" in line]
        return found[0] if found else self.printed[-1].strip()[-200:]


class Runs:
    """Runs of a tiny model that share a dataset and compiled programs.

    Attributes:
      place: a directory of their own.
    """

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        self._count = 0

    def flags(self, workdir: pathlib.Path, *more: str) -> list[str]:
        """Flags of a run of 30 steps."""
        return [
            "--config=small:quicktest", f"--workdir={workdir}", f"--config.data.directory={self.place / 'data'}",
            f"--config.compile_cache={self.place / 'compiled'}", "--config.model.layers=1", "--config.steps=30",
            f"--start_timeout={_START_SECONDS}", *more,
        ]  # fmt: skip

    def started(self, program: Sequence[str], flags: Sequence[str], processes: int, **quick: str) -> list:
        """The processes of a run, one of them or several on this machine."""
        place = _place() if processes > 1 else ()
        environment = os.environ | {"JAX_PLATFORMS": "cpu"} | quick
        return [
            subprocess.Popen(
                [sys.executable, "-m", *program, *flags, *place, *([f"--process_id={index}"] if place else [])],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for index in range(processes)
        ]  # fmt: skip

    def interrupted(self, phase: str, processes: int, names: Sequence[str]) -> Outcome:
        """Starts a run, sends signals to its last process in a phase, and waits for its end."""
        self._count += 1
        workdir, file = self.place / f"run_{self._count}", self.place / f"phase_{self._count}"
        flags = self.flags(workdir)
        if phase in _RESUMED:
            first = self.place / f"first_{processes}"
            if not first.exists():
                for process in self.started(["electra_jax.main"], self.flags(first), processes):
                    assert process.wait(300) == 0
                shutil.rmtree(first / "checkpoints" / "30")
            shutil.copytree(first, workdir)
        if phase == "preparing":
            flags.append(f"--config.data.directory={self.place / f'data_{self._count}'}")
        if phase == "compiling":
            flags.append(f"--config.compile_cache={self.place / f'compiled_{self._count}'}")
        if phase == "probe":
            flags = self._probed(workdir)
        # All of them linger, so that all are in the phase.
        program = ["benchmarks.reliability.slowed_main", phase, str(file), str(_LINGERS)]
        running = self.started(program, flags, processes)
        try:
            _await(file, running)
            time.sleep(0.5)
            before, began = checkpoints(workdir), time.monotonic()
            for name in names:
                running[-1].send_signal(signal.Signals[name])
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running[-1].wait(_BETWEEN_SIGNALS)
            printed = [process.communicate(timeout=2 * _START_SECONDS)[0] for process in running]
        finally:
            for process in running:
                process.kill()
        seconds = time.monotonic() - began
        return Outcome([process.returncode for process in running], seconds, before, checkpoints(workdir), printed)

    def _probed(self, workdir: pathlib.Path) -> list[str]:
        labelled = self.place / "labelled"
        labelled.mkdir(exist_ok=True)
        line = "the/DT king/NN gives/VB a/DT crown/NN\n"
        (labelled / "train.txt").write_text(line * 64)
        (labelled / "dev.txt").write_text(line * 4)
        return [
            "--config=tests/finetuning/probed_preset.py", f"--config.probe.data.directory={labelled}",
            f"--workdir={workdir}", f"--config.data.directory={self.place / 'probed_data'}",
            f"--config.compile_cache={self.place / 'compiled'}",
        ]  # fmt: skip


def checkpoints(workdir: pathlib.Path) -> list[int]:
    """Steps of the complete checkpoints of a run."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def _await(file: pathlib.Path, running: Sequence[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 240
    while not file.exists():
        ended = [process for process in running if process.poll() is not None]
        assert not ended, ended[0].communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _place() -> tuple[str, ...]:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    return f"--coordinator=127.0.0.1:{port}", "--num_processes=2"


def main() -> None:
    """Prints a row for each phase, number of processes and sequence of signals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--signals", default=",".join(SIGNALS))
    given = parser.parse_args()
    print("| phase | processes | signals | exit codes | seconds | checkpoints before → after | message |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        runs = Runs(pathlib.Path(place))
        for phase in given.phases.split(","):
            for processes in map(int, given.processes.split(",")):
                for names in given.signals.split(","):
                    outcome = runs.interrupted(phase, processes, names.split())
                    codes = ", ".join(map(str, outcome.codes))
                    kept = f"{outcome.before} → {outcome.after}"
                    row = phase, processes, names, codes, f"{outcome.seconds:.1f}", kept, outcome.reason()
                    print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
