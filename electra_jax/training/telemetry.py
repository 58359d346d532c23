"""Files of a run: metrics.jsonl, TensorBoard events, samples.jsonl, environment.json; and a sample as text."""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from electra_jax import storage
from electra_jax.nested import json_ready
from electra_jax.training.multihost.cluster import Cluster

_PACKAGE = pathlib.Path(__file__).parents[1]
_VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow", "tensorflow-cpu", "numpy", "libtpu")


def environment() -> dict[str, Any]:
    """Versions, devices and the git revision that this process runs with."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "git_revision": _git_revision(),
    }


def versions() -> dict[str, str]:
    """Versions of the installed libraries that affect a run's numbers."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def program_facts() -> dict[str, str]:
    """Facts that must agree between the processes of a run: Python, libraries, and a hash of each source file."""
    facts = {"python": platform.python_version()}
    facts |= {f"version of {name}": version for name, version in versions().items()}
    for path in sorted(_PACKAGE.rglob("*.py")):
        facts[f"code of {path.relative_to(_PACKAGE.parent)}"] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return facts


def _git_revision() -> str | None:
    """The commit of the source tree, with "+changes" if files differ from it; None outside a checkout."""
    here = pathlib.Path(__file__).parent
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changed else "")


class JsonLines:
    """An append-only file of one JSON object per line, each with its `step`."""

    def __init__(self, path: pathlib.Path | None, resumed_at: int) -> None:
        """Opens `path`, dropping lines of steps after `resumed_at` and a truncated line of a killed process.

        Without a path, lines are kept in memory alone.
        """
        self._path = path
        self._lines: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self._lines = [
                value for value in map(_parsed, path.read_text().splitlines()) if value["step"] <= resumed_at
            ]
            lines = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in self._lines)
            storage.write(path, lines.encode())

    def holds(self, step: int, name: str) -> bool:
        """Whether there is a value of that name at that step."""
        return any(value["step"] == step and name in value for value in self._lines)

    def best_step(self, name: str) -> int | None:
        """The step after the start with the highest value of that name, the earliest of ties; None without any."""
        # Scores that were not finite are None.
        values = {value["step"]: value[name] for value in self._lines if value.get(name) is not None and value["step"]}
        return max(sorted(values), key=values.__getitem__) if values else None

    def scores(self) -> list[dict[str, Any]]:
        """The lines of evaluations, on which the decisions of a resumed run depend."""
        return [value for value in self._lines if any(name.startswith("eval/") for name in value)]

    def append(self, values: Mapping[str, Any]) -> None:
        """Appends one line; it is on disk when this returns."""
        self._lines.append(dict(values))
        if self._path is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _parsed(line: str) -> dict[str, Any]:
    """The line's object; a step of infinity if the line was truncated."""
    try:
        return json.loads(line)
    except ValueError:
        return {"step": float("inf")}


class MetricsWriter:
    """metrics.jsonl and TensorBoard events, written by process 0; the others keep scores in memory."""

    def __init__(self, workdir: pathlib.Path, cluster: Cluster, resumed_at: int) -> None:
        self._lines = JsonLines(workdir / "metrics.jsonl" if cluster.is_first else None, resumed_at)
        scores = cluster.from_first(self._lines.scores)
        self.holds, self.best_step = self._lines.holds, self._lines.best_step
        self._events = None
        if not cluster.is_first:
            for line in scores:
                self._lines.append(line)
            return
        # Imported here: it imports TensorFlow, which compiling and prediction do not need.
        from clu import metric_writers

        self._events = metric_writers.SummaryWriter(str(workdir))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records the values of a step under their slash names; null where they are not finite."""
        self._lines.append({"step": step, **json_ready(values)})
        if self._events:
            self._events.write_scalars(step, values)
            self._events.flush()

    def close(self) -> None:
        """Closes the event file."""
        if self._events:
            self._events.close()


def sample_lines(sample: Mapping[str, Sequence[Any]], width: int = 110) -> list[str]:
    """A sample row as text: original, corrupted, and the predicted probability of replacement.

    Args:
      sample: one object of samples.jsonl.
      width: characters in a line; the row is cut there.
    """
    columns: list[tuple[str, str, str]] = []
    for token, original, probability in zip(sample["tokens"], sample["original"], sample["probability"], strict=True):
        mark = f"{probability:.0%}" if token != original or probability >= 0.5 else ""
        read = f"[{token}]" if token != original else token
        columns.append((original, read, mark))
    lines = ["", "", ""]
    for column in columns:
        cell = max(map(len, column))
        if len(lines[0]) + cell >= width:
            break
        lines = [line + part.ljust(cell) + " " for line, part in zip(lines, column, strict=True)]
    labels = ("original ", "corrupted", "replaced?")
    return [f"  {label}  {line.rstrip()}" for label, line in zip(labels, lines, strict=True)]
