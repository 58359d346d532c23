"""Examples of one or two texts: tables (TSV, CSV), JSON lines, and lines that begin with their label."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from electra_jax.config.finetuning import ClassificationConfig, TaskConfig
from electra_jax.finetuning.data.examples import TextExample
from electra_jax.finetuning.data.labelled_file import SplitFile

# Where a row stands, and its cells by column.
Row = tuple[int | str, Mapping[str, Any]]

_LONGEST_CELL = 1 << 30


def field_problems(place: str, task: ClassificationConfig, formats: Mapping[str, str]) -> Iterator[str]:
    """Yields what is wrong with the fields of a task that this module reads.

    Args:
      place: how the task is called in the config.
      task: its fields.
      formats: of the files, by path.
    """
    if len(task.text_columns) not in (1, 2):
        yield f"{place}.text_columns: {tuple(task.text_columns)}, expected one name, or two for pairs"
    if task.label_column in task.text_columns:
        yield f"{place}.label_column: {task.label_column!r} is one of text_columns too"
    if task.columns:
        for column in [*task.text_columns, task.label_column, *filter(None, [task.key_column])]:
            if column not in task.columns:
                yield f"{place}.columns: {tuple(task.columns)} lack {column!r}"
    if task.double_unordered and len(task.text_columns) != 2:
        yield f"{place}.double_unordered: expected two text_columns, found {tuple(task.text_columns)}"
    if len(set(task.labels)) != len(task.labels):
        yield f"{place}.labels: {tuple(task.labels)} name one twice"
    if task.kind == "multilabel" and not task.label_separator:
        yield f'{place}.label_separator: is empty, expected what stands between labels, ","'
    if "lines" in formats.values() and len(task.text_columns) != 1:
        yield f"{place}.text_columns: {tuple(task.text_columns)}, but lines of a label and a text have one text"


def read(file: SplitFile[ClassificationConfig], text: str, form: str) -> list[TextExample]:
    """The examples of a file that are sound; the others are put down as its problems.

    Args:
      file: where the text is from.
      text: all of it.
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
    """Examples of rows, whatever they were read from; what is wrong with one is put down.

    Args:
      file: where the rows are from.
      rows: with the text columns, the key column, and the label column unless the answer is not known.
    """
    settings = file.settings
    found: list[TextExample] = []
    for where, cells in rows:
        problems = [_text_problem(column, cells[column]) for column in settings.text_columns]
        label, problem = _label(file, cells.get(settings.label_column))
        if problems := [said for said in (*problems, problem) if said]:
            file.report(where, "; ".join(problems))
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
    """A row's label and what is wrong with it."""
    settings = file.settings
    column = settings.label_column
    empty = isinstance(value, str) and not value.strip() and settings.kind != "multilabel"
    if value is None or empty:
        return None, f"{column!r} is empty, expected a label" if file.answered else ""
    if settings.kind == "regression":
        try:
            grade = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
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
    # As JSON writes it: true, not True.
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
        f"no column {', '.join(map(repr, missing))} in this first line, which has {shown}; name those there are with "
        f"{file.flag('text_columns', '…')} and label_column, or, if the file has no header, its columns with "
        f"{file.flag('columns', '…')}"
    )


def _broken(file: SplitFile[ClassificationConfig], found: int, columns: Sequence[str], quoted: bool) -> str:
    if found > len(columns) and not quoted:
        mend = f"a text with tabs in it needs quotes and {file.flag('quoting', 'csv')}"
    elif found > len(columns):
        mend = "a text with commas in it needs quotes"
    else:
        mend = f"mend it, or leave out such rows with {file.flag('skip_broken_rows', 'True')}"
    return f"{found} cell{'s' * (found != 1)}, expected {len(columns)} ({', '.join(columns)}); {mend}"


def _note_broken(file: SplitFile[ClassificationConfig], lines: Sequence[int]) -> None:
    if lines:
        rows = "1 broken row" if len(lines) == 1 else f"{len(lines):,} broken rows"
        file.notes.append(f"{file.path}: {rows} left out, first at line {lines[0]}")


def _plain_cells(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    for line, content in enumerate(_lines(text), start=1):
        yield line, content.split(separator)


def _quoted_cells(file: SplitFile[ClassificationConfig], text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_CELL)  # The library's own limit is a long document.
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
                f"the quotes of this row do not match ({error}); quotes inside a quoted cell are doubled; if quotes "
                f"mean nothing in this file, set {file.flag('quoting', 'none')}",
            )
            return
        yield line, cells


def _with_ends(text: str) -> list[str]:
    """Lines as the csv module wants them; `str.splitlines` would also split at what is no line end."""
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
                f"no {', '.join(map(repr, missing))} among {', '.join(map(repr, value)) or 'no keys'}; name the keys "
                f"there are with {file.flag('text_columns', '…')}, or leave out such rows with "
                f"{file.flag('skip_broken_rows', 'True')}",
            )
    _note_broken(file, broken)


def json_lines(file: SplitFile[TaskConfig], text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines with their lines' numbers; damaged lines are put down as problems.

    Args:
      file: where the text is from.
      text: all of it.
    """
    for line, content in enumerate(_lines(text), start=1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except ValueError as error:
            file.report(line, f"is not JSON ({error}); expected one object in each line")
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            file.report(line, f"holds {content[:40]!r}, expected a JSON object")


def _labelled_lines(file: SplitFile[ClassificationConfig], text: str) -> Iterator[Row]:
    """LABEL text; a line of a test file too."""
    settings = file.settings
    for line, content in enumerate(_lines(text), start=1):
        label, _, rest = content.strip().partition(" ")
        if label and not rest.strip():
            file.report(line, f"has {label!r} alone, expected a label, a blank and a text")
            continue
        yield line, {settings.text_columns[0]: rest, settings.label_column: label}
