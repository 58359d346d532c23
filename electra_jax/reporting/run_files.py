"""Readers of a run's files: a truncated file gives a note, a damaged one an `InputError`."""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError

Json = dict[str, Any]
Histories = dict[str, dict[int, float]]  # Metric name → step → value.

_LONGEST_LINE = 1 << 26


def run_name(directory: str) -> str:
    """The name of a run's directory, of what it leads to if it is a link."""
    return storage.name(directory if storage.is_remote(directory) else os.path.realpath(directory))


def read_json(path: str) -> Json:
    """Returns the JSON object of a file; empty if there is no such file.

    Raises:
      InputError: the file holds something else.
    """
    if not storage.is_file(path):
        return {}
    # Scores of a model that diverged are NaN.
    return foreign_json.read_as(dict[str, Any], path, "restore or delete the file", finite=False)


def read_json_lines(
    path: str, notes: list[str], accepts: Callable[[Json], bool], expected: str
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
    with storage.open_to_read(path) as file:
        line_number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            line_number += 1
            place = f"{path}:{line_number}"
            if len(line) > _LONGEST_LINE:
                raise InputError(f"{place}: the line is longer than {_LONGEST_LINE >> 20} MiB; fix or delete the line")
            if not line.strip():
                continue
            try:
                record = foreign_json.parse(line, finite=False)
                if not isinstance(record, dict) or not accepts(record):
                    raise ValueError(f"no object with {expected}")
            except (ValueError, RecursionError) as error:
                if not any(rest.strip() for rest in file):
                    notes.append(
                        f"The last line of {storage.name(path)} is cut off, as after a killed run; it is left out."
                    )
                    return
                raise InputError(
                    f"{place}: found {error}, expected one JSON object with {expected}; fix or delete the line"
                ) from error
            yield place, record


def has_step(record: Json) -> bool:
    """Returns whether a record has a step, as those of metrics.jsonl do."""
    step = record.get("step")
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 1 << 53


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # A whole number that no float can hold.
        return False


def read_histories(path: str, notes: list[str]) -> Histories:
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
            if not _is_finite(value):
                endless.add(f"{name} at step {record['step']}")
            histories.setdefault(name, {})[record["step"]] = float(value) if _is_finite(value) else math.nan
    if endless:
        notes.append("Not finite: " + ", ".join(sorted(endless)[:5]) + (" and more." if len(endless) > 5 else "."))
    if unreadable:
        notes.append("Not drawn, because not numbers: " + ", ".join(sorted(unreadable)) + ".")
    return {name: dict(sorted(history.items())) for name, history in histories.items()}
