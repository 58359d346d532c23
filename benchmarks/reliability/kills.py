"""Kills a run at random moments until it has ended in spite of it, and compares it with one that nobody disturbed.

    python -m benchmarks.reliability.kills --place=local --count=50
    python -m benchmarks.reliability.kills --place=store --count=50

`store` is gs:// in the object store of `object_store.py`: checkpoints, metrics and all other files of the run. Every
start is killed with SIGKILL at a random moment: one in four before its first update, the others within some seconds of
training, in which several checkpoints are due. A start that ends before is not counted. A run that ends before all
kills are done is compared, and another one begins.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.reliability.object_store import object_store
from electra_jax import storage

# From the end of the training step's compilation to the latest kill. The evaluation is compiled first, which takes some
# of them; a save is due every 50 updates, or every second.
_TRAINING_SECONDS = 15.0
_EARLY = 0.25  # Share of the kills before that.
_QUICK_COMPILER = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
_MEASURED = ("time/", "performance/", "goodput/")  # Of metrics.jsonl; these measure the machine.


@dataclasses.dataclass(frozen=True)
class Campaign:
    """Where the runs lie, and what they train.

    Attributes:
      root: path or address of the runs.
      shared: local directory of the dataset and of compiled programs, which are not disturbed.
      environment: variables of the runs.
      steps: updates of a run; it saves after every twentieth part.
    """

    root: str
    shared: str
    environment: Mapping[str, str]
    steps: int

    def start(self, workdir: str, log: pathlib.Path) -> subprocess.Popen[bytes]:
        """Starts the run of a workdir, or continues it."""
        every = self.steps // 20
        command = [
            *(sys.executable, "-m", "electra_jax.main", "--config=quickstart:quicktest", f"--workdir={workdir}"),
            *(f"--config.steps={self.steps}", f"--config.checkpoint.every_steps={every}"),
            *(f"--config.evaluation.every_steps={2 * every}", f"--config.log.every_steps={max(every // 5, 1)}"),
            *(f"--config.data.directory={self.shared}/data", f"--config.compile_cache={self.shared}/compiled"),
            "--config.checkpoint.keep_last=2",
        ]
        with log.open("wb") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | dict(self.environment)
            )

    def undisturbed(self) -> tuple[str, float]:
        """Trains without a kill; returns the workdir, and the seconds from a start to the first update."""
        workdir, log = storage.join(self.root, "undisturbed"), pathlib.Path(self.shared, "undisturbed.log")
        process, begun, first = self.start(workdir, log), time.monotonic(), 0.0
        while process.poll() is None:
            first = first or (time.monotonic() - begun if b"Compiled in" in log.read_bytes() else 0.0)
            time.sleep(0.02)
        if process.returncode:
            raise RuntimeError(f"the undisturbed run ended with {process.returncode}:\n{log.read_text()}")
        return workdir, first

    def disturbed(self, workdir: str, kills: int, seconds: float, draw: random.Random) -> "collections.Counter[str]":
        """Kills the run of a workdir up to so many times, until it ends; returns how often in which phase."""
        log = pathlib.Path(self.shared, "disturbed.log")
        phases: collections.Counter[str] = collections.Counter()
        while True:
            process = self.start(workdir, log)
            if phases.total() < kills:
                _wait(process, log, draw, seconds)
            else:
                process.wait()
            if process.poll() is None:
                process.kill()
                process.wait()
                phase = _phase(log.read_text("utf-8", "replace"))
                phases["saving" if phase == "training" and _is_saving(workdir) else phase] += 1
                print(f"  kill {phases.total()}: {dict(phases)}", flush=True)
                continue
            if process.returncode:
                raise RuntimeError(f"{workdir}: ended with {process.returncode}:\n{log.read_text()}")
            return phases


def _wait(process: subprocess.Popen[bytes], log: pathlib.Path, draw: random.Random, seconds: float) -> None:
    """Waits for the moment of a kill, or for the end of the process if that comes first."""
    is_early, share = draw.random() < _EARLY, draw.random()
    while not is_early and process.poll() is None and b"Compiled in" not in log.read_bytes():
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(share * (seconds if is_early else _TRAINING_SECONDS))


def _is_saving(workdir: str) -> bool:
    """Whether the killed process left an unfinished checkpoint."""
    folder = storage.join(workdir, "checkpoints")
    names = storage.names(folder)
    if storage.is_remote(folder):
        marks = {name: storage.names(storage.join(folder, name)) for name in names if name.isdigit()}
        return any("commit_success.txt" not in found for found in marks.values())
    return any(not name.isdigit() for name in names)


def _phase(output: str) -> str:
    for sign, phase in (("Compiled in", "training"), ("Compiling", "compiling"), ("at best", "restoring")):
        if sign in output:
            return phase
    return "starting"


def differences(one: str, other: str) -> list[str]:
    """Names of the arrays of the last checkpoint, and of the metrics, that two runs do not have in common."""
    (first, arrays), (second, others) = _last_state(one), _last_state(other)
    found = [] if first == second else [f"last checkpoint: {first} and {second}"]
    if arrays.keys() != others.keys():
        return [*found, f"arrays: {sorted(arrays.keys() ^ others.keys())}"]
    found += [name for name in arrays if arrays[name].tobytes() != others[name].tobytes()]
    before, after = _metrics(one), _metrics(other)
    if before != after:
        found.append(f"metrics: {len(before)} and {len(after)} values, {len(before ^ after)} differ")
    return found


def _last_state(workdir: str) -> tuple[int, dict[str, np.ndarray]]:
    """The step of the last checkpoint, and every array in it by name: parameters, optimizer state, metric sums."""
    import jax
    import orbax.checkpoint as ocp

    checkpoints = storage.join(workdir, "checkpoints")
    step = max(int(name) for name in storage.names(checkpoints) if name.isdigit())
    handler = ocp.PyTreeCheckpointHandler()
    path = storage.for_orbax(storage.join(checkpoints, str(step), "state"))
    present = handler.metadata(path).tree
    as_numpy = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), present)
    restored = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    leaves, _ = jax.tree.flatten_with_path(restored)
    return step, {jax.tree_util.keystr(place): np.asarray(leaf) for place, leaf in leaves}


def _metrics(workdir: str) -> set[tuple[int, str, Any]]:
    lines = storage.read(storage.join(workdir, "metrics.jsonl")).decode().splitlines()
    return {
        (values["step"], name, value)
        for values in map(json.loads, lines)
        for name, value in values.items()
        if not name.startswith(_MEASURED)
    }


@contextlib.contextmanager
def place_of(kind: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The root of the runs, "local" or "store", and variables of theirs; this process reaches it, too."""
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": _QUICK_COMPILER}
    if kind == "local":
        with tempfile.TemporaryDirectory() as directory:
            yield directory, environment
        return
    with object_store("bucket") as store:
        os.environ.update(store.environment)
        yield "gs://bucket/runs", environment | store.environment


def campaign(kind: str, count: int, steps: int, seed: int) -> dict[str, Any]:
    """Kills `count` times; returns the number of runs, kills by phase, and what differs."""
    draw, phases, found, runs = random.Random(seed), collections.Counter[str](), list[str](), 0
    begun = time.monotonic()
    with place_of(kind) as (root, environment), tempfile.TemporaryDirectory() as shared:
        made = Campaign(root, shared, environment, steps)
        reference, seconds = made.undisturbed()
        while phases.total() < count:
            runs += 1
            workdir = storage.join(root, f"disturbed_{runs}")
            phases += made.disturbed(workdir, count - phases.total(), seconds, draw)
            found += differences(reference, workdir)
    return {
        "place": kind,
        "kills": phases.total(),
        "runs": runs,
        "steps": steps,
        "phases": dict(phases),
        "seconds_to_first_step": round(seconds, 1),
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "differences": found,
    }


def main() -> None:
    """Runs a campaign and prints its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", choices=("local", "store"), default="local")
    parser.add_argument("--count", type=int, default=50, help="kills")
    parser.add_argument("--steps", type=int, default=1000, help="updates of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    figures = campaign(given.place, given.count, given.steps, given.seed)
    print(json.dumps(figures, indent=2))
    sys.exit(bool(figures["differences"]))


if __name__ == "__main__":
    main()
