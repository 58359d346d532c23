"""Readers of a run's files: a truncated file gives a note, a damaged one an `InputError`."""

import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from electra_jax.errors import InputError

Json = dict[str, Any]
Histories = dict[str, dict[int, float]]  # Metric name → step → value.


def read_json(path: pathlib.Path) -> Json:
    """Returns the JSON object of a file; empty if there is no such file.

    Raises:
      InputError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: found {error}, expected one JSON object; restore or delete the file") from error
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: found a {type(value).__name__}, expected one JSON object; restore or delete the file"
        )
    return value


def read_json_lines(
    path: pathlib.Path, notes: list[str], accepts: Callable[[Json], bool], expected: str
) -> Iterator[tuple[str, Json]]:
    """Yields ("file:line", object), one line after the other; files may be large.

    Args:
      path: an existing file.
      notes: receives a note if the last line is broken, as after a killed run.
      accepts: returns whether an object is a record of this kind of file.
      expected: description of such a record: "a step".

    Raises:
      InputError: a line before the last one is broken or not accepted.
    """
    with path.open("rb") as file:
        for line_number, line in enumerate(file, start=1):
            place = f"{path}:{line_number}"
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or not accepts(record):
                    raise ValueError(f"no object with {expected}")
            except ValueError as error:
                if not any(rest.strip() for rest in file):
                    notes.append(f"The last line of {path.name} is cut off, as after a killed run; it is left out.")
                    return
                raise InputError(
                    f"{place}: found {error}, expected one JSON object with {expected}; fix or delete the line"
                ) from error
            yield place, record


def has_step(record: Json) -> bool:
    """Returns whether a record has a step, as those of metrics.jsonl do."""
    return isinstance(record.get("step"), int)


def read_histories(path: pathlib.Path, notes: list[str]) -> Histories:
    """Returns the metrics of a run, by name and in the order of their steps.

    A resumed run may write a step twice; the later line counts.
    """
    histories: Histories = {}
    endless, unreadable = set(), set()
    for _, record in read_json_lines(path, notes, has_step, "an integer `step`"):
        for name, value in record.items():
            if name == "step":
                continue
            if value is None:
                value = math.nan  # A run writes null where a score is not finite.
            if isinstance(value, bool) or not isinstance(value, int | float):
                unreadable.add(name)
                continue
            if not math.isfinite(value):
                endless.add(f"{name} at step {record['step']}")
            histories.setdefault(name, {})[record["step"]] = float(value) if math.isfinite(value) else math.nan
    if endless:
        notes.append("Not finite: " + ", ".join(sorted(endless)[:5]) + (" and more." if len(endless) > 5 else "."))
    if unreadable:
        notes.append("Not drawn, because not numbers: " + ", ".join(sorted(unreadable)) + ".")
    return {name: dict(sorted(history.items())) for name, history in histories.items()}
