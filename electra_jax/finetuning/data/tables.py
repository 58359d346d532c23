"""Reader of examples of one or two texts: tables (TSV, CSV), JSON lines, and lines that start with their label."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from electra_jax import foreign_json
from electra_jax.config.finetuning import ClassificationConfig, TaskConfig
from electra_jax.finetuning.data.examples import TextExample
from electra_jax.finetuning.data.label_cells import LabelReader
from electra_jax.finetuning.data.labelled_file import SplitFile

# The place of a row, and its cells by column.
Row = tuple[int | str, Mapping[str, Any]]

_LONGEST_CELL = 1 << 30
_SEPARATORS = {"csv": ",", "tsv": "\t"}
# Excel writes it before the first line, in countries where a comma separates decimals.
_SEPARATOR_LINE = re.compile(r"sep=(.)\n", re.IGNORECASE)
# What files call the splits in `split_column`.
_SPLITS = {
    "train": "train", "training": "train",
    "dev": "dev", "development": "dev", "valid": "dev", "validation": "dev", "val": "dev", "eval": "dev",
    "test": "test", "testing": "test",
}  # fmt: skip


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
    if not task.label_column and not (task.kind == "multilabel" and task.labels):
        yield (
            f'{place}.label_column: is empty, expected the column of the label; "" is for kind="multilabel" with a '
            f"column for each class in {place}.labels"
        )
    if task.split_column and (task.dev or task.test):
        yield (
            f"{place}.split_column: found {task.split_column!r}, which takes all splits from {place}.train; set "
            f"--{place}.dev= --{place}.test="
        )
    if task.kind == "classification" and len(task.labels) == 1:
        yield f"{place}.labels: found {tuple(task.labels)}, expected two classes or more"
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
    return examples(file, _table(file, text, form))


def wanted_columns(settings: ClassificationConfig, *, answered: bool) -> list[str]:
    """The columns that a row must have, with those of its label if it must have one."""
    labels = [settings.label_column] if settings.label_column else list(settings.labels)
    named = [*settings.text_columns, settings.key_column, settings.split_column, *(labels if answered else ())]
    return [name for name in named if name]


def examples(file: SplitFile[ClassificationConfig], rows: Iterable[Row]) -> list[TextExample]:
    """Examples from rows of any format; problems are recorded in `file`.

    Args:
      file: the file or dataset of the rows.
      rows: rows with the text columns, the key column, and the label column if labelled.
    """
    settings = file.settings
    found: list[TextExample] = []
    rows = [row for row in rows if _is_of_split(file, *row)]
    labels = LabelReader(file, [_stated(settings, cells) for _, cells in rows])
    for where, cells in rows:
        problems = [_text_problem(column, cells[column]) for column in settings.text_columns]
        label, problem = labels.read(_stated(settings, cells))
        if present := [text for text in (*problems, problem) if text]:
            file.refuse(where, "; ".join(present))
            continue
        key = cells[settings.key_column] if settings.key_column else len(found)
        texts = tuple(cells[column].strip() for column in settings.text_columns)
        found.append(TextExample(file.place(where), str(key).strip(), texts, label))
    return found


def _stated(settings: ClassificationConfig, cells: Mapping[str, Any]) -> Any:
    """A row's label as in the file: a cell, or a list of the cells of all classes."""
    if settings.label_column:
        return cells.get(settings.label_column)
    values = [cells.get(name) for name in settings.labels]
    return None if all(value in (None, "") for value in values) else values


def _is_of_split(file: SplitFile[ClassificationConfig], where: int | str, cells: Mapping[str, Any]) -> bool:
    column = file.settings.split_column
    if not column:
        return True
    value = cells[column]
    split = _SPLITS.get(str(value).strip().lower())
    if split is None and file.split == "train":
        file.refuse(where, f"{column!r} is {value!r}, expected train, dev or test")
    return split == file.split


def _text_problem(column: str, value: Any) -> str:
    if not isinstance(value, str):
        return f"{column!r} is {value!r}, expected a text"
    return "" if value.strip() else f"{column!r} is empty, expected a text"


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How the cells of a table are written.

    Attributes:
      separator: between cells.
      quoted: whether quotes have a meaning.
      first_line: number of the line that names the columns.
    """

    separator: str
    quoted: bool
    first_line: int = 1


def _layout(file: SplitFile[ClassificationConfig], text: str, form: str) -> _Layout:
    """The layout of a table, from the config, and where that says nothing, from the first line."""
    settings = file.settings
    quoted = form == "csv" if settings.quoting == "auto" else settings.quoting == "csv"
    named = _SEPARATOR_LINE.match(text)
    first_line = 2 if named else 1
    if settings.separator:
        return _Layout("\t" if settings.separator == "tab" else settings.separator, quoted, first_line)
    if named:
        return _Layout(named[1], quoted=True, first_line=first_line)
    usual, line = _SEPARATORS[form], text.partition("\n")[0]
    wanted = set(wanted_columns(settings, answered=file.answered))

    def fits(separator: str) -> bool:
        cells = [cell.strip().strip(settings.quote) for cell in line.split(separator)]
        return wanted <= set(cells) or 1 < len(settings.columns) == len(cells)

    others = [mark for mark in ",;\t|" if mark != usual]
    # One column is too few: then any other separator shows the names that the config could have.
    found = [mark for mark in others if fits(mark)] or [mark for mark in others if mark in line and usual not in line]
    if fits(usual) or not found:
        return _Layout(usual, quoted)
    file.notes.append(f"{file.path}: cells are separated by {found[0]!r}, as its first line shows")
    return _Layout(found[0], quoted or found[0] == ";")


def _table(file: SplitFile[ClassificationConfig], text: str, form: str) -> Iterator[Row]:
    """The rows of a table, with or without a header."""
    layout = _layout(file, text, form)
    rows = _quoted_cells(file, text, layout) if layout.quoted else _plain_cells(text, layout)
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
    repeated: list[int] = []
    for line, cells in rows:
        if columns is header and [cell.strip() for cell in cells] == header:
            repeated.append(line)  # As where files were joined.
        elif len(cells) < len(columns) or any(cells[len(columns) :]):
            file.refuse(line, _broken(file, cells, columns, layout))
        else:
            yield line, dict(zip(columns, cells, strict=False))
    if repeated:
        lines = f"line {repeated[0]} repeats" if len(repeated) == 1 else f"{len(repeated):,} lines repeat"
        file.notes.append(f"{file.path}: {lines} the names of the columns; left out")


def _chained(first: tuple[int, list[str]], rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rows


def _column_problem(file: SplitFile[ClassificationConfig], columns: Sequence[str]) -> str:
    wanted = wanted_columns(file.settings, answered=file.answered)
    shown = ", ".join(repr(name if len(name) <= 40 else name[:40] + "…") for name in columns[:12])
    if twice := [name for name in wanted if columns.count(name) > 1]:
        return f"found the columns {shown} in the first line, expected {twice[0]!r} once; rename the other one"
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return ""
    return (
        f"found the columns {shown} in the first line, expected {', '.join(map(repr, missing))}; name the "
        f"file's own with {file.flag('text_columns', '…')} and label_column or, without a header, all columns with "
        f"{file.flag('columns', '…')}"
    )


def _broken(
    file: SplitFile[ClassificationConfig], cells: Sequence[str], columns: Sequence[str], layout: _Layout
) -> str:
    found = len(cells)
    told = f"found {found} cell{'s' * (found != 1)}, expected {len(columns)} ({', '.join(columns)})"
    if found <= len(columns):
        return told
    if layout.quoted and any(cell.lstrip().startswith("'") for cell in cells) and file.settings.quote == '"':
        fix = f"if quotes are single ones, set {file.flag('quote', chr(34) + chr(39) + chr(34))}"
    elif not layout.quoted:
        fix = f"a text with tabs needs quotes and {file.flag('quoting', 'csv')}"
    else:
        fix = f"a text with {'commas' if layout.separator == ',' else repr(layout.separator)} needs quotes"
    return f"{told}; {fix}"


def _plain_cells(text: str, layout: _Layout) -> Iterator[tuple[int, list[str]]]:
    for line, content in enumerate(_lines(text)[layout.first_line - 1 :], start=layout.first_line):
        yield line, content.split(layout.separator)


def _quoted_cells(file: SplitFile[ClassificationConfig], text: str, layout: _Layout) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_CELL)  # The library's default is shorter than long documents.
    lines = _with_ends(text)[layout.first_line - 1 :]
    reader = csv.reader(lines, delimiter=layout.separator, quotechar=file.settings.quote, strict=True)
    while True:
        line = reader.line_num + layout.first_line
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
    # A label may be missing like a cell may be empty; what that means is the same for all formats.
    wanted = wanted_columns(file.settings, answered=False)
    for line, value in json_lines(file, text):
        if missing := [name for name in wanted if name not in value]:
            file.refuse(
                line,
                f"found {', '.join(map(repr, value)) or 'no keys'}, expected {', '.join(map(repr, missing))}; name the "
                f"keys with {file.flag('text_columns', '…')}",
            )
        else:
            yield line, value


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
            file.refuse(line, f"is not JSON ({error}); expected one object in each line")
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            file.refuse(line, f"found {content[:40]!r}, expected a JSON object")


def _labelled_lines(file: SplitFile[ClassificationConfig], text: str) -> Iterator[Row]:
    """Yields rows from lines `LABEL text`, in test files too."""
    settings = file.settings
    for line, content in enumerate(_lines(text), start=1):
        label, _, rest = content.strip().partition(" ")
        if label and not rest.strip():
            file.refuse(line, f"found only {label!r}, expected a label, a blank and a text")
            continue
        yield line, {settings.text_columns[0]: rest, settings.label_column: label}
