"""The labels of a file's rows, in the ways that people write them: names, numbers, lists, zeros and ones."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from electra_jax import foreign_json
from electra_jax.config.finetuning import ClassificationConfig
from electra_jax.finetuning.data.labelled_file import SplitFile

# NumPy prints an array so: [1 0 1].
_NUMBERS = re.compile(r"\[[\s\d.]*\]")
_LONGEST_LIST = 100_000  # Characters; Python's parser takes about a thousand times as much memory.
# What pandas writes for a missing value.
_MISSING = ("nan", "<na>")
_TRUTHS = {"0": 0, "1": 1, "0.": 0, "1.": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}

Label = str | float | tuple[str, ...] | None


class LabelReader:
    """Reads the labels of one file, whose rows together decide how they are meant."""

    def __init__(self, file: SplitFile[ClassificationConfig], stated: Sequence[Any]) -> None:
        """Looks at all labels of a file, and records a problem if they cannot be understood together.

        Args:
          file: the file.
          stated: its labels, as cells or as values of JSON.
        """
        self._file, self._settings = file, file.settings
        self._width = self._width_of_rows(stated) if file.settings.kind == "multilabel" else 0
        if not self._width or len(self._settings.labels) == self._width:
            return
        shown = next(value for value in stated if not _is_missing(value))
        names = ", ".join(f'"class{number}"' for number in range(1, min(self._width, 3) + 1))
        found = f"{len(self._settings.labels)} names" if self._settings.labels else "no names"
        file.add(
            f"{file.path}: the labels are lists of {self._width} zeros and ones, such as {shown!r}, one for a class, "
            f"and config.tasks.{file.task}.labels has {found}; name the {self._width} classes in their order: "
            f"--config.tasks.{file.task}.labels='({names}{', …' if self._width > 3 else ''})'"
        )

    def _width_of_rows(self, stated: Sequence[Any]) -> int:
        """The number of classes, if each row has a zero or a one for each; else 0."""
        widths: set[int] = set()
        for value in stated:
            if _is_missing(value):
                continue
            parts = self._elements(value)
            if parts is None or len(parts) < 2 or any(_truth(part) is None for part in parts):
                return 0
            widths.add(len(parts))
        return widths.pop() if len(widths) == 1 else 0

    def read(self, value: Any) -> tuple[Label, str]:
        """A row's label, and its problem or ""."""
        settings = self._settings
        column = settings.label_column or "labels"
        missing = "is empty, expected a label" if self._file.answered else ""
        if value is None or (isinstance(value, float) and math.isnan(value) and settings.kind != "regression"):
            return None, f"{column!r} {missing}" if missing else ""
        if isinstance(value, str) and not value.strip() and settings.kind != "multilabel":
            return None, f"{column!r} {missing}" if missing else ""
        if settings.kind == "regression":
            return _grade(column, value)
        if settings.kind == "multilabel":
            return self._several(column, value)
        if isinstance(value, (list, tuple, dict)) or (isinstance(value, str) and _parts(value) is not None):
            kind = self._file.flag("kind", "multilabel")
            return None, f"{column!r} is {value!r}, expected one label; for several at once set {kind}"
        return self._named(column, value)

    def _named(self, column: str, value: Any) -> tuple[str, str]:
        name = _MISSING[0] if value is None else _name(value, self._settings.label_until)
        if name.lower() in _MISSING and name not in self._settings.labels:
            return "", (
                f"{column!r} is {name!r}, which pandas writes for a missing value; if it is a class, "
                f"name all of them with {self._file.flag('labels', '…')}"
            )
        return name, ""

    def _several(self, column: str, value: Any) -> tuple[Label, str]:
        if self._width:
            truths = [_truth(part) for part in self._elements(value) or ()]
            if len(truths) != len(self._settings.labels) or None in truths:
                return None, ""  # Reported for the whole file.
            return tuple(name for name, truth in zip(self._settings.labels, truths, strict=True) if truth), ""
        if (parts := self._elements(value)) is None:
            return (
                None,
                f"{column!r} is {value!r}, expected a list of names, or names with {self._separator} between them",
            )
        named = [self._named(column, part) for part in parts]
        problem = next((problem for _, problem in named if problem), "")
        return tuple(dict.fromkeys(name for name, _ in named if name)), problem

    @property
    def _separator(self) -> str:
        return repr(self._settings.label_separator)

    def _elements(self, value: Any) -> list[Any] | None:
        """The labels of a row of several; None if they are neither a list nor text with separators."""
        parts = _parts(value)
        if parts is None and not isinstance(value, (list, tuple, dict)) and str(value).strip()[:1] != "[":
            parts = str(value).split(self._settings.label_separator)
        return parts


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _grade(column: str, value: Any) -> tuple[float, str]:
    try:
        grade = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        grade = math.nan
    return grade, "" if math.isfinite(grade) else f"{column!r} is {value!r}, expected a number"


def _name(value: Any, until: str) -> str:
    """The name of a class: numbers without a useless ".0", truths as in JSON."""
    if isinstance(value, bool):
        name = json.dumps(value)
    else:
        name = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return (name.partition(until)[0] if until else name).strip()


def _parts(value: Any) -> list[Any] | None:
    """The elements of a list, or of text that is one, in JSON or as Python or NumPy prints it; else None."""
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, str) and (not (text.startswith("[") and text.endswith("]")) or len(text) > _LONGEST_LIST):
        return None
    try:
        found = foreign_json.parse(text) if isinstance(value, str) else value
    except ValueError:
        if _NUMBERS.fullmatch(text):
            return text[1:-1].split()
        try:
            found = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    simple = isinstance(found, (list, tuple)) and not any(isinstance(part, (list, tuple, dict, set)) for part in found)
    return list(found) if simple else None


def _truth(value: Any) -> int | None:
    """0 or 1, however written; None for anything else."""
    return _TRUTHS.get(str(value).strip().lower())
