"""Files of a run: metrics.jsonl, TensorBoard events, samples.jsonl, environment.json; and a sample as text."""

import hashlib
import importlib.metadata
import json
import logging
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from electra_jax import storage
from electra_jax.nested import json_ready
from electra_jax.training.appended_file import AppendedFile
from electra_jax.training.event_files import EventFiles
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
    """An append-only file of one JSON object per line, each with its `step`; of these it remembers the scores alone."""

    def __init__(self, path: str | None, resumed_at: int) -> None:
        """Opens `path`, dropping lines of steps after `resumed_at` and a truncated line of a killed process.

        Without a path, nothing is written.
        """
        self._file: AppendedFile | None = None
        self._scores: dict[int, dict[str, Any]] = {}  # Values under eval/ by step.
        self._best: dict[str, int | None] = {}  # What `best_step` found since the last score.
        if path is None:
            return
        kept = None
        if storage.exists(path):
            lines = [value for value in _parsed_lines(storage.read(path), path) if value["step"] <= resumed_at]
            kept = b"".join(map(_encoded, lines))
            for value in lines:
                self._remember(value)
        self._file = AppendedFile(path, kept)

    def holds(self, step: int, name: str) -> bool:
        """Whether there is a score of that name, such as eval/loss, at that step."""
        return name in self._scores.get(step, {})

    def best_step(self, name: str) -> int | None:
        """The step after the start with the highest score of that name, the earliest of ties; None without any."""
        if name not in self._best:
            # Scores that were not finite are None.
            values = {
                step: scores[name] for step, scores in self._scores.items() if scores.get(name) is not None and step
            }
            self._best[name] = max(sorted(values), key=values.__getitem__) if values else None
        return self._best[name]

    def scores(self) -> list[dict[str, Any]]:
        """The scores of evaluations by step, as lines; the decisions of a resumed run depend on them."""
        return [{"step": step, **scores} for step, scores in self._scores.items()]

    def append(self, values: Mapping[str, Any]) -> None:
        """Appends one line; see `AppendedFile` for when it is durable."""
        self._remember(values)
        if self._file is not None:
            self._file.append(_encoded(values))

    def publish(self) -> None:
        """Returns when every line is durable."""
        if self._file is not None:
            self._file.publish()

    def _remember(self, values: Mapping[str, Any]) -> None:
        if scores := {name: value for name, value in values.items() if name.startswith("eval/")}:
            self._scores.setdefault(values["step"], {}).update(scores)
            self._best.clear()


def last_elapsed(path: str) -> float:
    """The last `time/elapsed_seconds` of metrics.jsonl, also of steps that a resumed run repeats; 0 without any."""
    lines = storage.read(path).split(b"\n") if storage.exists(path) else []
    values = [line.get("time/elapsed_seconds") for line in map(_parsed, lines) if line is not None]
    return max((float(value) for value in values if isinstance(value, int | float)), default=0.0)


def values_at(path: str, step: int) -> dict[str, Any]:
    """What metrics.jsonl has of a step, by name, the latest where a resumed run repeated it; empty without any."""
    lines = storage.read(path).split(b"\n") if storage.exists(path) else []
    found: dict[str, Any] = {}
    for line in map(_parsed, lines):
        if line is not None and line.get("step") == step:
            found |= line
    return found


def _encoded(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False) + "\n").encode()


def _parsed_lines(content: bytes, path: str) -> list[dict[str, Any]]:
    """The objects that have a step; a truncated last line is left out, and so is, with a warning, any other line."""
    # At "\n" alone: JSON may hold other characters that end a line, such as U+2028.
    lines = content.split(b"\n")
    parsed = [_parsed(line) for line in lines]
    if foreign := [
        number for number, value in enumerate(parsed[:-1], 1) if value is None and lines[number - 1].strip()
    ]:
        logging.getLogger(__name__).warning(
            "%s: lines %s: expected a JSON object with an integer `step`; they are left out",
            path,
            ", ".join(map(str, foreign[:5])) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""),
        )
    return [value for value in parsed if value is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line's object; None if it is something else."""
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and type(value.get("step")) is int else None


class MetricsWriter:
    """metrics.jsonl and TensorBoard events, written by process 0; the others keep scores in memory."""

    def __init__(self, workdir: str, cluster: Cluster, resumed_at: int) -> None:
        self._lines = JsonLines(storage.join(workdir, "metrics.jsonl") if cluster.is_first else None, resumed_at)
        scores = cluster.from_first(self._lines.scores)
        self.holds, self.best_step, self.publish = self._lines.holds, self._lines.best_step, self._lines.publish
        self._events = EventFiles(workdir) if cluster.is_first else None
        if not cluster.is_first:
            for line in scores:
                self._lines.append(line)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records the values of a step under their slash names; null where they are not finite."""
        self._lines.append({"step": step, **json_ready(values)})
        if self._events:
            self._events.write(step, values)

    def close(self) -> None:
        """Makes all that was written durable, and closes the event file."""
        self.publish()
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
