"""Process 1 killed around saves: `python -m benchmarks.reliability.lost_process [--count=20] [--victim=0]`.

Each run of two processes saves every few updates; its victim is killed with SIGKILL at a moment that the next run
shifts by a little, through an update, the beginning of a save, its writing and its commit. Prints how each of the
others ended: exit code, seconds, and whether the message names the victim.
"""

import argparse
import pathlib
import re
import signal
import sys
import tempfile
import time

from benchmarks.reliability.signals import Runs, checkpoints

_SHIFT_SECONDS = 0.07
_STARTS = 3  # Processes that share cores may meet too late for Gloo, and end with 75 before there is a checkpoint.


class EndedBefore(Exception):
    """A run ended by itself before its first checkpoint; its argument is the output of the processes."""


def killed(runs: Runs, victim: int, delay: float) -> tuple[int, float, list[int], str]:
    """Kills a process some time after the first checkpoint appears.

    Args:
      runs: makes the runs.
      victim: number of the process.
      delay: seconds from the first sight of a save to the kill.

    Returns:
      The other process's exit code, its seconds to the end, the complete checkpoints, and its message.
    """
    workdir = pathlib.Path(tempfile.mkdtemp(dir=runs.place)) / "run"
    flags = runs.flags(
        workdir, "--config.steps=4000", "--config.checkpoint.every_steps=4", "--config.log.every_steps=50"
    )
    running = runs.started(["electra_jax.main"], flags, 2)
    try:
        deadline = time.monotonic() + 240
        while not checkpoints(workdir):
            if any(process.poll() is not None for process in running):
                raise EndedBefore([process.communicate()[0] for process in running])
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
        running[victim].send_signal(signal.SIGKILL)
        began = time.monotonic()
        printed = running[1 - victim].communicate(timeout=180)[0]
    finally:
        for process in running:
            process.kill()
    return running[1 - victim].returncode, time.monotonic() - began, checkpoints(workdir), printed


def killed_in_some_start(runs: Runs, victim: int, delay: float) -> tuple[int, float, list[int], str]:
    """See `killed`; a run that ends by itself before is repeated, and said."""
    for _ in range(_STARTS - 1):
        try:
            return killed(runs, victim, delay)
        except EndedBefore as error:
            print("ended by itself:", " ".join(error.args[0][0].split())[-300:], file=sys.stderr, flush=True)
    return killed(runs, victim, delay)


def main() -> None:
    """Prints a row for each kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--victim", type=int, default=1, choices=(0, 1))
    given = parser.parse_args()
    print("| kill | after the first save | exit code | seconds | named | newest checkpoint | message |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        runs = Runs(pathlib.Path(place))
        for number in range(given.count):
            delay = number * _SHIFT_SECONDS
            code, seconds, kept, printed = killed_in_some_start(runs, given.victim, delay)
            named = re.search(rf"process {given.victim} (on|at) \S+ is lost.*", printed)
            message = named[0][:80] if named else " ".join(printed.split())[-200:]
            row = number + 1, f"{delay:.2f} s", code, f"{seconds:.1f}", "yes" if named else "NO", kept[-1], message
            print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
