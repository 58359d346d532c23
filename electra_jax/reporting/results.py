"""Results of fine-tuning: `result.json` of one run and `results.json` of several trials, as checked values."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from electra_jax.errors import InputError
from electra_jax.reporting.run_files import Json

Scores = Mapping[str, Mapping[str, float]]  # Split, or task/split → metric → value; NaN where it is not defined.


@dataclasses.dataclass(frozen=True)
class Confusion:
    """How often each label was predicted for each true one.

    Attributes:
      labels: C names.
      counts: C rows of C whole numbers: a row is a true label, a column a predicted one.
    """

    labels: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A completed run.

    Attributes:
      step: step of the reported checkpoint; None if not recorded.
      chosen: how it was chosen: "last" or "best".
      metric: metric by which runs are compared.
      collapsed: why it looks like a run that learned nothing; empty if it does not.
      truncated: number of examples of each split that lost words.
      seconds: wall time; None if not recorded.
      confusion: confusions by split, or task/split.
      directory: the run's directory inside that of all trials; "" for a single run.
    """

    seed: int | None
    step: int | None
    chosen: str
    metric: str
    scores: Scores
    collapsed: str
    truncated: Mapping[str, int]
    seconds: float | None
    confusion: Mapping[str, Confusion]
    directory: str


@dataclasses.dataclass(frozen=True)
class Spread:
    """One metric of one split over the trials; `deviation` is the standard deviation (n − 1), NaN for one trial."""

    mean: float
    median: float
    deviation: float
    best: float
    values: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Results:
    """Several trials.

    Attributes:
      failed: runs that learned nothing and were repeated with another seed; `summary` is without them.
      summary: split, or task/split → metric → its spread.
    """

    metric: str
    higher_is_better: bool
    trials: Sequence[Trial]
    failed: Sequence[Trial]
    summary: Mapping[str, Mapping[str, Spread]]


def read_trial(value: Any, place: str) -> Trial:
    """Checks the content of a `result.json`.

    Args:
      value: the parsed JSON.
      place: the file, and the place in it, for messages.

    Raises:
      InputError: an entry is missing or not of its kind.
    """
    value = _checked(value, dict, place, "an object")
    return Trial(
        seed=_optional(value, "seed", int, place),
        step=_optional(value, "step", int, place),
        chosen=_optional(value, "chosen", str, place) or "",
        metric=_optional(value, "metric", str, place) or "",
        scores={
            split: {name: _number(score, f"{place}: scores.{split}.{name}") for name, score in entries.items()}
            for split, entries in _objects(value, "scores", place).items()
        },
        collapsed=_optional(value, "collapsed", str, place) or "",
        truncated={
            split: _checked(count, int, f"{place}: truncated.{split}", "a whole number")
            for split, count in (_optional(value, "truncated", dict, place) or {}).items()
        },
        seconds=_optional(value, "seconds", int | float, place),
        confusion={
            split: _confusion(entries, f"{place}: confusion.{split}")
            for split, entries in _objects(value, "confusion", place, required=False).items()
        },
        directory=_optional(value, "directory", str, place) or "",
    )


def read_results(value: Any, place: str) -> Results:
    """Checks the content of a `results.json`; see `read_trial`."""
    value = _checked(value, dict, place, "an object")
    trials, failed = (
        [
            read_trial(entry, f"{place}: {name}[{index}]")
            for index, entry in enumerate(_checked(value.get(name, default), list, f"{place}: {name}", "a list"))
        ]
        for name, default in (("trials", None), ("failed", []))
    )
    return Results(
        metric=_optional(value, "metric", str, place) or "",
        higher_is_better=_optional(value, "higher_is_better", bool, place) is not False,
        trials=trials,
        failed=failed,
        summary={
            split: {name: _spread(entry, f"{place}: summary.{split}.{name}") for name, entry in entries.items()}
            for split, entries in _objects(value, "summary", place).items()
        },
    )


def _spread(value: Any, place: str) -> Spread:
    value = _checked(value, dict, place, "an object")
    mean, median, deviation, best = (
        _number(value.get(name), f"{place}.{name}") for name in ("mean", "median", "sd", "best")
    )
    values = _checked(value.get("values"), list, f"{place}.values", "a list")
    return Spread(mean, median, deviation, best, [_number(one, f"{place}.values") for one in values])


def _confusion(value: Json, place: str) -> Confusion:
    labels = _checked(value.get("labels"), list, f"{place}.labels", "a list")
    counts = _checked(value.get("counts"), list, f"{place}.counts", "a list")
    square = len(counts) == len(labels) and all(
        isinstance(row, list) and len(row) == len(labels) and all(isinstance(count, int) for count in row)
        for row in counts
    )
    if not square:
        raise InputError(
            f"{place}.counts: found no square of whole numbers with {len(labels)} rows, one for each label; restore or "
            "delete the file"
        )
    return Confusion([str(label) for label in labels], counts)


def _objects(value: Json, name: str, place: str, required: bool = True) -> Mapping[str, Json]:
    """Returns an entry whose values are objects themselves."""
    entries = _checked(value.get(name, None if required else {}), dict, f"{place}: {name}", "an object")
    return {key: _checked(entry, dict, f"{place}: {name}.{key}", "an object") for key, entry in entries.items()}


def _optional(value: Json, name: str, kind: Any, place: str) -> Any:
    entry = value.get(name)
    return None if entry is None else _checked(entry, kind, f"{place}: {name}", getattr(kind, "__name__", str(kind)))


def _number(value: Any, place: str) -> float:
    return math.nan if value is None else float(_checked(value, int | float, place, "a number"))


def _checked(value: Any, kind: Any, place: str, expected: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        found = json.dumps(value, ensure_ascii=False)[:60]
        raise InputError(f"{place}: found {found}, expected {expected}; restore or delete the file")
    return value
