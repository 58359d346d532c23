"""Reads damaged variants of every format that others write, and counts what is neither read nor refused cleanly.

    python -m benchmarks.reliability.fuzz --count=100000
    python -m benchmarks.reliability.fuzz --count=2000 --format=wheel --keep=failures

Each format is read by a child process with a limited address space; an input on which it raises anything but an error
of ours, dies, takes longer than --seconds, or takes more memory than `_FREE_BYTES` and `_MOST_FACTOR` times the input
counts as a failure, and is kept in --keep. Equal flags give equal inputs.
"""

import json
import os
import pathlib
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from typing import Any

from absl import app, flags

from benchmarks.reliability.mutations import mutate

_COUNT = flags.DEFINE_integer("count", 100_000, "Inputs in all.", lower_bound=1)
_FORMAT = flags.DEFINE_multi_string("format", [], "Formats; all by default.")
_SECONDS = flags.DEFINE_float("seconds", 60.0, "Longest time for one input.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the inputs.")
_KEEP = flags.DEFINE_string("keep", "", "Folder for inputs that fail; none are kept by default.")
_READ = flags.DEFINE_string("read", "", "Used by this program itself: the format that a child reads.")
_FIRST = flags.DEFINE_integer("first", 0, "Used by this program itself: number of the child's first input.")

# Decompression may give 64 MiB whatever the input, and short lines of it take twenty times their length.
_FREE_BYTES = 3 << 29
_MOST_FACTOR = 200
_ADDRESS_SPACE = 16 << 30


def main(argv: list[str]) -> None:
    """Runs the campaign, or reads one format as its child."""
    if _READ.value:
        _read_inputs(_READ.value)
        return
    from benchmarks.reliability.foreign_files import FORMATS

    chosen = [form for form in FORMATS if not _FORMAT.value or form.name in _FORMAT.value]
    weights = sum(form.weight for form in chosen)
    columns = ["format", "inputs", "read", "refused", "foreign exceptions", "aborts", "hangs", "too much memory", "MB"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    totals: Counter[str] = Counter()
    started = time.monotonic()
    for form in chosen:
        count = max(1, round(_COUNT.value * form.weight / weights))
        found, most = _campaign(form.name, count)
        totals += found
        figures = [count, *(found[name] for name in _OUTCOMES), round(most / 1e6)]
        print(f"| {form.name} | {' | '.join(map(str, figures))} |", flush=True)
    print(f"| all | {totals.total()} | {' | '.join(str(totals[name]) for name in _OUTCOMES)} | |")
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(any(totals[name] for name in _OUTCOMES[2:]))


_OUTCOMES = ("read", "refused", "foreign", "abort", "hang", "memory")


def _campaign(name: str, count: int) -> tuple[Counter[str], int]:
    """Outcomes of a format's inputs, and the most memory that one of them took, in bytes."""
    found: Counter[str] = Counter()
    most, number = 0, 0
    while number < count:
        command = [sys.executable, "-m", "benchmarks.reliability.fuzz", f"--read={name}", f"--first={number}"]
        command += [f"--count={count}", f"--seed={_SEED.value}", f"--keep={_KEEP.value}"]
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as child,
        ):
            assert child.stdout
            while number < count:
                # Starting takes longer than an input.
                ready, _, _ = select.select([child.stdout], [], [], _SECONDS.value * 5)
                line = child.stdout.readline() if ready else b""
                if not line.endswith(b"\n"):
                    child.kill()
                    errors.seek(0)
                    outcome = "abort" if ready else "hang"
                    _report(name, number, f"{outcome} ({child.wait()}): {errors.read()[-300:]!r}")
                    found[outcome] += 1
                    number += 1
                    break
                answer = json.loads(line)
                most = max(most, answer["peak"])
                outcome = answer["outcome"]
                if outcome not in ("read", "refused"):
                    _report(name, number, f"{outcome}: {answer['about']}")
                found[outcome] += 1
                number += 1
    return found, most


def _report(name: str, number: int, about: str) -> None:
    print(f"{name}, input {number}: {about}", file=sys.stderr, flush=True)


def _read_inputs(name: str) -> None:
    """Reads the inputs of a format from `--first` on, and prints a line of JSON for each."""
    from benchmarks.reliability.foreign_files import FORMATS
    from electra_jax.errors import RunError

    form = next(form for form in FORMATS if form.name == name)
    answers = os.fdopen(os.dup(1), "w", 1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        folder = pathlib.Path(directory)
        form.make(folder)
        path = folder / form.file
        valid = path.read_bytes()
        form.read(folder)  # Imports and compiles what the first input would.
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        for number in range(_FIRST.value, _COUNT.value):
            content = mutate(random.Random(f"{name} {_SEED.value} {number}"), valid, form.kind)
            path.write_bytes(content)
            before, started = _peak_memory(), time.monotonic()
            about = ""
            try:
                form.read(folder)
                outcome = "read"
            except RunError as error:
                outcome = "refused"
                str(error).encode("utf-8")
            except BaseException as error:  # Also PanicException of libraries in Rust.
                place = traceback.extract_tb(error.__traceback__)[-1]
                outcome, about = (
                    "foreign",
                    f"{type(error).__name__}: {str(error)[:150]} ({place.filename}:{place.lineno})",
                )
            peak = max(0, _peak_memory(reset=False) - before)
            seconds = time.monotonic() - started
            if outcome != "foreign" and peak > _FREE_BYTES + _MOST_FACTOR * len(content):
                outcome, about = "memory", f"{peak / 1e6:.0f} MB for {len(content)} bytes"
            if outcome != "foreign" and seconds > _SECONDS.value:
                outcome, about = "hang", f"{seconds:.0f} s"
            if about and _KEEP.value:
                kept = pathlib.Path(_KEEP.value)
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f"{name.replace('/', '_')}-{number}").write_bytes(content)
            answer: dict[str, Any] = {"outcome": outcome, "peak": peak, "about": about}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _peak_memory(reset: bool = True) -> int:
    """Most resident memory since the last reset, in bytes; on Linux only."""
    if reset:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    status = pathlib.Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    app.run(main)
