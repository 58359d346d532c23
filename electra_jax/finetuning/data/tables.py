"""Reader of examples of one or two texts: tables (TSV, CSV), JSON lines, and lines that start with their label."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from electra_jax import foreign_json
from electra_jax.config.finetuning import ClassificationConfig, TaskConfig
from electra_jax.finetuning.data.examples import TextExample
from electra_jax.finetuning.data.labelled_file import SplitFile

# The place of a row, and its cells by column.
Row = tuple[int | str, Mapping[str, Any]]

_LONGEST_CELL = 1 << 30


def field_problems(place: str, task: ClassificationConfig, formats: Mapping[str, str]) -> Iterator[str]:
    """Yields the problems with the fields of a task that this module reads.

    Args:
      place: the task's place in the config.
      task: its fields.
      formats: file formats by path.
    """
    if len(task.text_columns) not in (1, 2):
        yield f"{place}.text_columns: found {tuple(task.text_columns)}, expected one name, or two for pairs"
    if task.label_column in task.text_columns:
        yield f"{place}.label_column: found {task.label_column!r}, which is also one of text_columns"
    if task.columns:
        for column in [*task.text_columns, task.label_column, *filter(None, [task.key_column])]:
            if column not in task.columns:
                yield f"{place}.columns: found {tuple(task.columns)}, expected {column!r} among them"
    if task.double_unordered and len(task.text_columns) != 2:
        yield f"{place}.double_unordered: expected two text_columns, found {tuple(task.text_columns)}"
    if len(set(task.labels)) != len(task.labels):
        yield f"{place}.labels: found {tuple(task.labels)}, expected distinct names"
    if task.kind == "multilabel" and not task.label_separator:
        yield f'{place}.label_separator: is empty, expected the separator between labels, such as ","'
    if "lines" in formats.values() and len(task.text_columns) != 1:
        yield f"{place}.text_columns: found {tuple(task.text_columns)}, expected one name, as lines have one text"


def read(file: SplitFile[ClassificationConfig], text: str, form: str) -> list[TextExample]:
    """The valid examples of a file; the problems with the others are recorded in `file`.

    Args:
      file: the file.
      text: its text.
      form: "tsv", "csv", "jsonl" or "lines".
    """
    if form == "jsonl":
        return examples(file, _json_rows(file, text))
    if form == "lines":
        return examples(file, _labelled_lines(file, text))
    quoted = _is_quoted(file.settings.quoting, form)
    return examples(file, _table(file, text, "," if form == "csv" else "\t", quoted))


def _is_quoted(quoting: str, form: str) -> bool:
    return form == "csv" if quoting == "auto" else quoting == "csv"


def examples(file: SplitFile[ClassificationConfig], rows: Iterable[Row]) -> list[TextExample]:
    """Examples from rows of any format; problems are recorded in `file`.

    Args:
      file: the file or dataset of the rows.
      rows: rows with the text columns, the key column, and the label column if labelled.
    """
    settings = file.settings
    found: list[TextExample] = []
    for where, cells in rows:
        problems = [_text_problem(column, cells[column]) for column in settings.text_columns]
        label, problem = _label(file, cells.get(settings.label_column))
        if present := [text for text in (*problems, problem) if text]:
            file.report(where, "; ".join(present))
            continue
        key = cells[settings.key_column] if settings.key_column else len(found)
        texts = tuple(cells[column].strip() for column in settings.text_columns)
        found.append(TextExample(file.place(where), str(key).strip(), texts, label))
    return found


def _text_problem(column: str, value: Any) -> str:
    if not isinstance(value, str):
        return f"{column!r} is {value!r}, expected a text"
    return "" if value.strip() else f"{column!r} is empty, expected a text"


def _label(file: SplitFile[ClassificationConfig], value: Any) -> tuple[Any, str]:
    """A row's label, and its problem or ""."""
    settings = file.settings
    column = settings.label_column
    empty = isinstance(value, str) and not value.strip() and settings.kind != "multilabel"
    if value is None or empty:
        return None, f"{column!r} is empty, expected a label" if file.answered else ""
    if settings.kind == "regression":
        try:
            grade = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            grade = math.nan
        return grade, "" if math.isfinite(grade) else f"{column!r} is {value!r}, expected a number"
    if settings.kind == "multilabel":
        parts = value if isinstance(value, (list, tuple)) else str(value).split(settings.label_separator)
        names = [_class_name(part, settings.label_until) for part in parts]
        return tuple(dict.fromkeys(name for name in names if name)), ""
    if isinstance(value, (list, tuple, dict)):
        kind = file.flag("kind", "multilabel")
        return None, f"{column!r} is {value!r}, expected one label; for several at once set {kind}"
    return _class_name(value, settings.label_until), ""


def _class_name(value: Any, until: str) -> str:
    # As in JSON: true, not True.
    name = json.dumps(value) if isinstance(value, bool) else str(value)
    return (name.partition(until)[0] if until else name).strip()


def _table(file: SplitFile[ClassificationConfig], text: str, separator: str, quoted: bool) -> Iterator[Row]:
    """The rows of a table, with or without a header."""
    rows = _quoted_cells(file, text, separator) if quoted else _plain_cells(text, separator)
    first = next(rows, None)
    if first is None:
        return
    settings = file.settings
    header = [cell.strip() for cell in first[1]]
    if settings.columns and not set(settings.text_columns) <= set(header):
        columns, rows = list(settings.columns), _chained(first, rows)
    else:
        columns = header
    if problem := _column_problem(file, columns):
        file.report(first[0], problem)
        return
    broken: list[int] = []
    for line, cells in rows:
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            if settings.skip_broken_rows:
                broken.append(line)
            else:
                file.report(line, _broken(file, len(cells), columns, quoted))
            continue
        yield line, dict(zip(columns, cells, strict=False))
    _note_broken(file, broken)


def _chained(first: tuple[int, list[str]], rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rows


def _column_problem(file: SplitFile[ClassificationConfig], columns: Sequence[str]) -> str:
    settings = file.settings
    wanted = [*settings.text_columns, *filter(None, [settings.key_column])]
    wanted += [settings.label_column] if file.answered else []
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return ""
    shown = ", ".join(repr(name if len(name) <= 40 else name[:40] + "…") for name in columns[:12])
    return (
        f"found the columns {shown} in the first line, expected {', '.join(map(repr, missing))}; name the "
        f"file's own with {file.flag('text_columns', '…')} and label_column or, without a header, all columns with "
        f"{file.flag('columns', '…')}"
    )


def _broken(file: SplitFile[ClassificationConfig], found: int, columns: Sequence[str], quoted: bool) -> str:
    if found > len(columns) and not quoted:
        fix = f"a text with tabs needs quotes and {file.flag('quoting', 'csv')}"
    elif found > len(columns):
        fix = "a text with commas needs quotes"
    else:
        fix = f"fix the row, or leave out such rows with {file.flag('skip_broken_rows', 'True')}"
    return f"found {found} cell{'s' * (found != 1)}, expected {len(columns)} ({', '.join(columns)}); {fix}"


def _note_broken(file: SplitFile[ClassificationConfig], lines: Sequence[int]) -> None:
    if lines:
        rows = "1 broken row" if len(lines) == 1 else f"{len(lines):,} broken rows"
        file.notes.append(f"{file.path}: {rows} left out, first at line {lines[0]}")


def _plain_cells(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    for line, content in enumerate(_lines(text), start=1):
        yield line, content.split(separator)


def _quoted_cells(file: SplitFile[ClassificationConfig], text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_CELL)  # The library's default is shorter than long documents.
    reader = csv.reader(_with_ends(text), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            file.report(
                line,
                f"found unbalanced quotes ({error}); double the quotes inside a quoted cell, or set "
                f"{file.flag('quoting', 'none')} if quotes have no meaning in this file",
            )
            return
        yield line, cells


def _with_ends(text: str) -> list[str]:
    """Lines with their ends, as the csv module expects; `str.splitlines` would also split at other characters."""
    return [line + "\n" for line in _lines(text)]


def _lines(text: str) -> list[str]:
    lines = text.rstrip("\n").split("\n")
    return [] if lines == [""] else lines


def _json_rows(file: SplitFile[ClassificationConfig], text: str) -> Iterator[Row]:
    settings = file.settings
    wanted = [*settings.text_columns, *filter(None, [settings.key_column])]
    broken: list[int] = []
    for line, value in json_lines(file, text):
        missing = [name for name in wanted if name not in value]
        if not missing:
            yield line, value
        elif settings.skip_broken_rows:
            broken.append(line)
        else:
            file.report(
                line,
                f"found {', '.join(map(repr, value)) or 'no keys'}, expected {', '.join(map(repr, missing))}; name the "
                f"keys with {file.flag('text_columns', '…')}, or leave out such rows with "
                f"{file.flag('skip_broken_rows', 'True')}",
            )
    _note_broken(file, broken)


def json_lines(file: SplitFile[TaskConfig], text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields line numbers and objects of a file of JSON lines; invalid lines are recorded in `file`.

    Args:
      file: the file.
      text: its text.
    """
    for line, content in enumerate(_lines(text), start=1):
        if not content.strip():
            continue
        try:
            value = foreign_json.parse(content, finite=False)
        except ValueError as error:
            file.report(line, f"is not JSON ({error}); expected one object in each line")
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            file.report(line, f"found {content[:40]!r}, expected a JSON object")


def _labelled_lines(file: SplitFile[ClassificationConfig], text: str) -> Iterator[Row]:
    """Yields rows from lines `LABEL text`, in test files too."""
    settings = file.settings
    for line, content in enumerate(_lines(text), start=1):
        label, _, rest = content.strip().partition(" ")
        if label and not rest.strip():
            file.report(line, f"found only {label!r}, expected a label, a blank and a text")
            continue
        yield line, {settings.text_columns[0]: rest, settings.label_column: label}
