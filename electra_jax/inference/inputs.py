"""Reads inputs of predictions line by line: text, TSV, CSV, JSON lines; and SQuAD's JSON.

Each line of a file gives one `Request`, in order, whatever is wrong with it. Imports neither JAX nor NumPy.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import select
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.inference.results import Problem
from electra_jax.text.sources import decompression

FORMATS = ("auto", "lines", "tsv", "csv", "jsonl", "squad")
STANDARD_INPUT = "-"

_SUFFIXES = {".txt": "lines", ".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "squad"}
# A longer line is answered with a problem, and passed over in bounded memory.
_LONGEST_LINE = 1 << 24
# Lines of a quoted CSV cell; after more of them the quote that opens it is taken for damage.
_MOST_CELL_LINES = 1000
_BLOCK = 1 << 16
# Names of an input's id, and of its texts by task, in the order in which they are looked for.
_ID_COLUMNS = ("id", "key", "guid", "idx", "index")
_TEXTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "answer": (("question", "context"),),
    "tag": (("words",), ("tokens",), ("text",), ("sentence",)),
    "classify": (
        ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence"),
        ("text",), ("sentence",), ("review",), ("content",),
    ),
}  # fmt: skip
_TEXT = (("text",), ("sentence",), ("content",), ("review",))

# A line: its number from 1 and its content, or what is wrong with it. None: no more is there for now.
Line = tuple[int, str | Problem] | None


@dataclasses.dataclass(frozen=True)
class Request:
    """One input.

    Attributes:
      id: its id in the file, or its number from 0.
      value: a text, texts, words, or a question and a context, as the task takes them; or why it cannot be used.
    """

    id: Any
    value: Any


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a file is read.

    Attributes:
      form: one of `FORMATS`.
      text_columns: names of the columns or keys of the texts; empty to find them by their names.
      id_column: that of the ids; empty to find it by its name.
      columns: names of all columns of a table without a header; empty if its first line names them.
    """

    form: str = "auto"
    text_columns: tuple[str, ...] = ()
    id_column: str = ""
    columns: tuple[str, ...] = ()


def requests(path: str, task: str, layout: Layout) -> Iterator[Request | None]:
    """Yields the inputs of a file in order; None when no more are there for now, from a pipe or a terminal.

    Args:
      path: local path or address; "-" is standard input. ".gz" and ".zst" are decompressed.
      task: one of `predictor.TASKS`.
      layout: how the file is read.

    Raises:
      InputError: the file cannot be read at all, or has no such columns.
    """
    form = _form(path, task, layout)
    if form == "squad":
        yield from _squad(path, task)
        return
    lines = _decoded(_raw_lines(path))
    if form == "lines":
        if task == "answer":
            raise InputError(
                f"--input={path}: found lines of text, expected questions with contexts: SQuAD's JSON, or JSON lines "
                'or a table with "question" and "context" (--format)'
            )
        for line in lines:
            yield line and Request(line[0] - 1, line[1])
    elif form == "jsonl":
        yield from _json_lines(lines, _Finder(path, task, layout))
    else:
        separator = "," if form == "csv" else "\t"
        yield from _table(lines, _Finder(path, task, layout), layout.columns, separator, quoted=form == "csv")


def _form(path: str, task: str, layout: Layout) -> str:
    if layout.form != "auto":
        return layout.form
    if path == STANDARD_INPUT:
        return "lines"
    plain = path
    for end in decompression.COMPRESSIONS:
        plain = plain.removesuffix(end)
    form = next((form for end, form in _SUFFIXES.items() if plain.lower().endswith(end)), "")
    if not form:
        raise InputError(
            f"--input={path}: found no suffix of {', '.join(_SUFFIXES)}; name the format with --format="
            f"{'|'.join(FORMATS[1:])}"
        )
    if form == "squad" and task != "answer":
        raise InputError(
            f"--input={path}: .json is for SQuAD's questions; name JSON lines as .jsonl or with --format=jsonl"
        )
    return form


def _raw_lines(path: str) -> Iterator[bytes | Problem | None]:
    """Yields lines without their ends; a line that is too long as a problem."""
    rest, skipping = bytearray(), False
    for block in _blocks(path):
        if block is None:
            yield None
            continue
        *ended, last = block.split(b"\n")
        for part in ended:
            if skipping:
                skipping = False
                yield _too_long()
            elif rest:
                yield bytes(rest + part)
            else:
                yield part
            rest.clear()
        if not skipping:
            rest += last
        if len(rest) > _LONGEST_LINE:
            rest.clear()
            skipping = True
    if skipping:
        yield _too_long()
    elif rest:
        yield bytes(rest)


def _too_long() -> Problem:
    return Problem(f"has more than {_LONGEST_LINE:,} bytes, expected a shorter line")


def _blocks(path: str) -> Iterator[bytes | None]:
    if path == STANDARD_INPUT:
        yield from _standard_input(0)
        return
    try:
        with storage.open_to_read(path) as file:
            if decompression.compression_of(path):
                yield from decompression.blocks(file, path, lambda count: None)
            else:
                yield from _read_blocks(file)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"--input={path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _read_blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _standard_input(descriptor: int) -> Iterator[bytes | None]:
    """Yields what arrives; None before waiting for more."""
    waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
    while True:
        if waits and not select.select([descriptor], [], [], 0)[0]:
            yield None
        block = os.read(descriptor, _BLOCK)
        if not block:
            return
        yield block


def _decoded(raw: Iterable[bytes | Problem | None]) -> Iterator[Line]:
    number = 0
    for content in raw:
        if content is None:
            yield None
            continue
        number += 1
        if isinstance(content, Problem):
            yield number, content
            continue
        try:
            text = content.removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield number, Problem(f"byte 0x{content[error.start]:02x} at {error.start} is not UTF-8")
            continue
        yield number, text


class _Finder:
    """Finds id and texts in the cells of a row, by column."""

    def __init__(self, path: str, task: str, layout: Layout) -> None:
        self._place, self._layout, self._task = f"--input={path}", layout, task
        self._known = [layout.text_columns] if layout.text_columns else [*_TEXTS.get(task, _TEXT)]

    def columns(self, present: Iterable[str]) -> tuple[str, ...]:
        """The columns of the texts; empty if there are none."""
        names = set(present)
        return next((columns for columns in self._known if set(columns) <= names), ())

    def missing(self, present: Sequence[str]) -> str:
        """Why a row or a table has no texts."""
        shown = ", ".join(repr(name[:40]) for name in list(present)[:12]) or "nothing"
        wanted = " or ".join(" and ".join(map(repr, columns)) for columns in self._known)
        return f"found {shown}, expected {wanted}; name them with --text_columns"

    def check(self, present: Sequence[str]) -> tuple[str, ...]:
        """The columns of a table's texts.

        Raises:
          InputError: it does not have them.
        """
        columns = self.columns(present)
        if not columns and not self._layout.text_columns and len(present) == 1 and self._task != "answer":
            columns = (present[0],)
        if not columns:
            raise InputError(f"{self._place}: {self.missing(present)} or, without a header, all columns with --columns")
        if self._layout.id_column and self._layout.id_column not in present:
            raise InputError(f"{self._place}: found no column {self._layout.id_column!r}, named by --id_column")
        return columns

    def request(self, number: int, cells: dict[str, Any], columns: tuple[str, ...]) -> Request:
        """The input in a row."""
        names = [self._layout.id_column] if self._layout.id_column else _ID_COLUMNS
        own = next((cells[name] for name in names if name in cells), number)
        if not columns:
            return Request(own, Problem(self.missing(list(cells))))
        texts = [cells[column] for column in columns]
        # Without a second text it is a single one.
        while len(texts) == 2 and self._task == "classify" and texts[1] is None:
            texts.pop()
        return Request(own, texts[0] if len(texts) == 1 else tuple(texts))


def _json_lines(lines: Iterable[Line], finder: _Finder) -> Iterator[Request | None]:
    for line in lines:
        if line is None:
            yield None
            continue
        number, content = line[0] - 1, line[1]
        if isinstance(content, Problem):
            yield Request(number, content)
            continue
        if not content.strip():
            yield Request(number, Problem("is empty, expected a JSON object"))
            continue
        try:
            value = foreign_json.parse(content)
        except ValueError as error:
            yield Request(number, Problem(f"is not JSON ({error})"))
            continue
        if isinstance(value, dict):
            yield finder.request(number, value, finder.columns(value))
        elif isinstance(value, str):
            yield Request(number, value)
        else:
            yield Request(number, Problem(f"found {content[:40]!r}, expected a JSON object or a text in quotes"))


def _table(
    lines: Iterable[Line], finder: _Finder, columns: tuple[str, ...], separator: str, *, quoted: bool
) -> Iterator[Request | None]:
    cells_of = (lambda text: _quoted_cells(text, separator)) if quoted else (lambda text: text.split(separator))
    rows = _csv_rows(lines) if quoted else iter(lines)
    names, found, number = list(columns), finder.check(columns) if columns else (), 0
    for row in rows:
        if row is None:
            yield None
            continue
        _, content = row
        try:
            cells = content if isinstance(content, Problem) else cells_of(content)
        except csv.Error as error:
            cells = Problem(f"is not CSV ({error})")
        if not names:
            if isinstance(cells, Problem):
                raise InputError(f"the first line, which names the columns: {cells.message}")
            names = [cell.strip() for cell in cells]
            found = finder.check(names)
            continue
        if not isinstance(cells, Problem) and not any(cells):
            cells = Problem("is empty, expected a row")
        elif not isinstance(cells, Problem) and (len(cells) < len(names) or any(cells[len(names) :])):
            cells = Problem(f"found {len(cells)} cells, expected {len(names)} ({', '.join(names)[:80]})")
        if isinstance(cells, Problem):
            yield Request(number, cells)
        else:
            yield finder.request(number, dict(zip(names, cells, strict=False)), found)
        number += 1


def _quoted_cells(text: str, separator: str) -> list[str]:
    # A row at a time, so that a quote that is never closed does not take the rest of the file.
    reader = csv.reader([text], delimiter=separator, strict=True)
    try:
        return next(reader, [])
    except csv.Error:
        # The library's limit on cells is a setting of the whole process; without quotes it is not needed.
        if '"' not in text:
            return text.split(separator)
        raise


def _csv_rows(lines: Iterable[Line]) -> Iterator[Line]:
    """Yields rows of CSV, whose quoted cells may hold line ends; a quote that is never closed costs its own line."""
    open_lines: list[tuple[int, str]] = []
    waiting: list[Line] = []
    source = iter(lines)
    while True:
        line = waiting.pop(0) if waiting else next(source, (0, ""))
        if line is None:
            yield None
            continue
        number, content = line
        ended = number == 0
        if not ended and not isinstance(content, Problem):
            open_lines.append((number, content))
            if sum(text.count('"') for _, text in open_lines) % 2 == 0:
                yield open_lines[0][0], "\n".join(text for _, text in open_lines)
                open_lines = []
                continue
            if len(open_lines) < _MOST_CELL_LINES and sum(len(text) for _, text in open_lines) < _LONGEST_LINE:
                continue
        if open_lines:
            (first, _), *others = open_lines
            yield first, Problem("has a quote that is never closed; double the quotes inside a quoted cell")
            waiting = [*others, *([] if ended or not isinstance(content, Problem) else [line]), *waiting]
            open_lines = []
            if ended and not waiting:
                return
        elif ended:
            return
        else:
            yield line


def _squad(path: str, task: str) -> Iterator[Request]:
    if task != "answer":
        raise InputError(f"--format=squad: holds questions, and the task is {task}; expected --task=answer")
    value: Any
    if path == STANDARD_INPUT:
        try:
            value = foreign_json.parse(b"".join(block for block in _standard_input(0) if block is not None))
        except ValueError as error:
            raise InputError(f"standard input: is not JSON ({error})") from error
    else:
        value = foreign_json.read(path, "expected SQuAD's JSON; for JSON lines give --format=jsonl")
    number = 0
    for paragraph in _paragraphs(value):
        questions = paragraph.get("qas")
        for asked in questions if isinstance(questions, list) else [None]:
            if isinstance(asked, dict):
                yield Request(asked.get("id", number), (asked.get("question"), paragraph.get("context")))
            else:
                yield Request(number, Problem('expected "qas", a list of questions'))
            number += 1


def _paragraphs(value: Any) -> Iterator[dict[str, Any]]:
    articles = value.get("data") if isinstance(value, dict) else None
    if not isinstance(articles, list):
        raise InputError('--input: expected SQuAD\'s {"data": [{"paragraphs": [{"context": …, "qas": […]}]}]}')
    for article in articles:
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        for paragraph in paragraphs if isinstance(paragraphs, list) else []:
            if isinstance(paragraph, dict):
                yield paragraph
