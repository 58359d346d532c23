"""Memory and step time of a long run: `python -m benchmarks.reliability.endurance --minutes=60`.

Trains a tiny model as a user would, with a line of metrics every 100 updates and an evaluation and a checkpoint every
1,000, and reads the process's resident memory from outside. Prints the slope of both over the updates, by least
squares, without the first tenth of the time, in which caches fill.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

_SECONDS_BETWEEN_LOOKS = 5.0
_WARM_UP = 0.1  # Share of the time that is left out.
_PER_UPDATES = 10_000

Look = tuple[float, float, float]  # Step, resident memory in MB, seconds of a step.


def main() -> None:
    """Runs it and prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    seconds = 60 * parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as place:
        looks = observe(pathlib.Path(place), seconds)
    print(json.dumps(figures(looks), indent=2))


def observe(place: pathlib.Path, seconds: float) -> list[Look]:
    """Trains for so many seconds; a look at each new line of metrics."""
    workdir = place / "run"
    command = [
        sys.executable, "-m", "electra_jax.main", "--config=quickstart:quicktest", f"--workdir={workdir}",
        f"--config.data.directory={place / 'data'}", "--config.steps=100000000", "--config.log.every_steps=100",
        "--config.evaluation.every_steps=1000", "--config.checkpoint.every_steps=1000",
    ]  # fmt: skip
    looks: list[Look] = []
    with (place / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if process.poll() is not None:
                raise SystemExit((place / "log").read_text())
            if (line := _last_timed(workdir / "metrics.jsonl")) and (not looks or line["step"] > looks[-1][0]):
                looks.append((line["step"], _resident_megabytes(process.pid), line["time/step_seconds"]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75, (place / "log").read_text()
    return looks


def _last_timed(path: pathlib.Path) -> dict[str, float] | None:
    """The last line with a step time within the last of the file."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - 20_000, 0))
        lines = file.read().decode().split("\n")[1:-1]
    timed = [line for line in map(json.loads, lines) if "time/step_seconds" in line]
    return timed[-1] if timed else None


def _resident_megabytes(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    return int(kilobytes) / 1024


def figures(looks: list[Look]) -> dict[str, float]:
    """Slopes and levels after the warm-up."""
    kept = looks[int(len(looks) * _WARM_UP) :]
    steps = [step for step, _, _ in kept]
    memory = statistics.linear_regression(steps, [size for _, size, _ in kept])
    half = len(kept) // 2
    first, second = (statistics.median(seconds for _, _, seconds in part) for part in (kept[:half], kept[half:]))
    return {
        "updates": steps[-1],
        "looks": len(kept),
        "resident_megabytes_at_first": round(kept[0][1], 1),
        "resident_megabytes_at_last": round(kept[-1][1], 1),
        "megabytes_per_10000_updates": round(memory.slope * _PER_UPDATES, 3),
        "median_step_milliseconds_first_half": round(1000 * first, 3),
        "median_step_milliseconds_second_half": round(1000 * second, 3),
    }


if __name__ == "__main__":
    main()
