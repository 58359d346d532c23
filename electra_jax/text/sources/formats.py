"""Documents inside one file: plain text, JSON lines, tables, Parquet, Arrow, Markdown, WARC, WikiExtractor, Python.

A format turns bytes into documents and reports exactly where bytes are wrong. Nothing read here is ever executed.
"""

import ast
import csv
import dataclasses
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Any, Literal

from electra_jax.errors import InputError
from electra_jax.text.sources import columnar, warc
from electra_jax.text.sources.line_reader import LineReader, split_lines, without_compression

# Strings up to this many characters in a Python module are names and messages rather than text.
SHORTEST_PYTHON_TEXT = 500

# A document is kept in memory, each line as a string of its own. The Bible takes 6 MB.
_LARGEST_DOCUMENT_BYTES = 1 << 28
_LINE_BYTES = 60
# The syntax tree of a module takes about a hundred times its length.
_LONGEST_MODULE = 1 << 23

# Suffixes of each format, in lower case; WikiExtractor gives its files none.
FORMATS = {
    "txt": (".txt", ".text"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "md": (".md", ".markdown"),
    "py": (".py",),
    "parquet": (".parquet",),
    "arrow": (".arrow", ".feather"),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "warc": (".warc", ".wet"),
    "wikiextractor": (),
}
BOUNDARIES = ("blank_line", "line", "file")

_COLUMNAR = ("parquet", "arrow")
_TABLES = ("csv", "tsv")
_WITH_FIELDS = ("jsonl", *_TABLES, *_COLUMNAR)
_WHOLE_DOCUMENTS = {
    "jsonl": "each line of a file of JSON lines",
    "parquet": "each row of a .parquet file",
    "arrow": "each row of an Arrow file",
    "csv": "each row of a table",
    "tsv": "each row of a table",
    "warc": "each record of a WARC file",
    "wikiextractor": "each article of WikiExtractor",
}
# WikiExtractor (github.com/attardi/wikiextractor): <doc id="12" url="…" title="Anarchism">, lines, </doc>.
_ARTICLE_BEGINS = re.compile(r'<doc id="[^"]*"(?: \w+="[^"]*")*>')
_ARTICLE_ENDS = "</doc>"
# Excel writes it before the first line of a table, in countries where a comma separates decimals.
_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)
_HEADING = re.compile(r"#{1,6}\s")
# In this order: an escaped mark is kept as itself, then tags, stars, and underscores that are not inside a word.
_MARKUP = re.compile(r"\\([!-/:-@\[-`{-~])|<[/!]?[A-Za-z-][^<>]*>|\*+|(?<!\w)_+|_+(?!\w)|^#{1,6}\s+")


@dataclasses.dataclass(frozen=True)
class Document:
    """A text whose lines belong together.

    Attributes:
      lines: its lines, stripped, none of them empty; at least one.
    """

    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Options:
    """How one source is read; an empty string means that the option is not given.

    Attributes:
      documents: what ends a document, one of `BOUNDARIES`. By default blank lines, and headings in Markdown.
      format: one of `FORMATS`. By default what the suffix says.
      field: the field that holds the text of a record. By default "text".
      sha256: hash of the downloaded archive, in hexadecimal; for packages only.
      split: the split of a TFDS dataset. By default "train".
      weight: share of the source in the mixture, a number of 0 or more. By default 1.
    """

    documents: str = ""
    format: str = ""
    field: str = ""
    sha256: str = ""
    split: str = ""
    weight: str = ""

    @property
    def text_field(self) -> str:
        """The field that holds the text of a record."""
        return self.field or "text"


def problem(name: str, options: Options) -> str:
    """Returns why a file of this name cannot be read with these options; "" if it can."""
    form = format_of(name, options)
    if form in _COLUMNAR and name != without_compression(name):
        return f"{name} is a compressed {form.title()} file, which is not read by columns; decompress it"
    if not form:
        known = _suffixes(FORMATS)
        return (
            f"{name} ends in {suffix(name) or 'no suffix'!r}; text is read from {known}, and all but "
            f"{_suffixes(_COLUMNAR)} also with .gz, .zst, .bz2 or .xz after it; for another name append "
            f"#format=, one of {', '.join(FORMATS)}"
        )
    if options.field and form not in _WITH_FIELDS:
        return (
            f"`field=` names a field of JSON lines or a column of a table, Parquet or Arrow, but {name} is read as "
            f"{form}; leave it out"
        )
    if options.documents and form in _WHOLE_DOCUMENTS:
        return f"`documents=` does not apply to {name}: {_WHOLE_DOCUMENTS[form]} is one document; leave it out"
    return ""


def format_of(name: str, options: Options) -> str:
    """The format of a file, one of `FORMATS`; "" if neither its options nor its suffix say it."""
    found = suffix(name).lower()
    return options.format or next((form for form, suffixes in FORMATS.items() if found in suffixes), "")


def _suffixes(forms: Iterable[str]) -> str:
    return ", ".join(suffix for form in forms for suffix in FORMATS[form])


def _can_be_cut(name: str, options: Options) -> bool:
    """Whether a file can be read from the middle: where lines stand alone, and are stored as they are."""
    is_plain = name == without_compression(name)
    return is_plain and format_of(name, options) in ("txt", "jsonl") and options.documents != "file"


def stretches(
    open_stream: Callable[[], AbstractContextManager[IO[bytes]]],
    name: str,
    size: int,
    options: Options,
    piece_bytes: int,
) -> list[tuple[int, int, int]]:
    """Splits a file into stretches that can be read independently, of about `piece_bytes` where its format allows it.

    Args:
      open_stream: opens the file; only Parquet and Arrow are opened.
      name: its path.
      size: bytes in it.
      options: how it is read.
      piece_bytes: how large a stretch should be at most.

    Returns:
      (start, stop, bytes to read) of each stretch: in bytes for text and JSON lines, in row groups for Parquet, in
      record batches for Arrow; any other file is one stretch. Every way of splitting gives the same documents.

    Raises:
      InputError: a Parquet or Arrow file that is damaged, or has no column of text with the right name.
    """
    if (form := format_of(name, options)) in _COLUMNAR:
        with open_stream() as stream:
            return columnar.stretches(stream, name, form, options.text_field, piece_bytes)
    count = max(1, -(-size // piece_bytes)) if _can_be_cut(name, options) else 1
    ends = [size * number // count for number in range(count + 1)]
    return [(start, stop, stop - start) for start, stop in itertools.pairwise(ends)]


def read(
    stream: IO[bytes],
    name: str,
    options: Options,
    start: int,
    stop: int,
    read_bytes: Callable[[int], None],
    note: Callable[[str], None] | None = None,
) -> Iterator[Document]:
    """Yields the documents of one stretch of a file, in order, holding one of them in memory at a time.

    Args:
      stream: the file's bytes as they are stored.
      name: its path, which messages quote.
      options: how it is read.
      start: where the stretch begins, as `stretches` returned it.
      stop: where the next one does.
      read_bytes: called now and then with the number of stored bytes read since the last call.
      note: called with a message on bytes that are passed over; without it they are refused.

    Raises:
      InputError: an unsupported name, damaged compression, bytes that are not UTF-8, or a record that does not match
        the format.
    """
    if reason := problem(name, options):
        raise InputError(f"config.data.sources: {reason}.")
    form = format_of(name, options)
    if form in _COLUMNAR:
        for text in columnar.texts(stream, name, form, options.text_field, start, stop, read_bytes):
            yield from document_of(text)
        return
    reader = LineReader(stream, name, read_bytes, note)
    is_cut = _can_be_cut(name, options)
    match form:
        case "txt" if options.documents == "file":
            yield from _one_document(_bounded(reader.stripped(), name, "file"))
        case "txt" if options.documents == "line":
            yield from _grouped(_own_lines(reader, start, stop) if is_cut else reader.stripped(), "line")
        case "txt":
            paragraphs = _own_paragraphs(reader, start, stop) if is_cut else reader.stripped()
            yield from _grouped(_bounded(_without_articles(paragraphs, name), name, "blank_line"), "blank_line")
        case "wikiextractor":
            yield from _articles(reader.stripped(), name, reader)
        case "jsonl":
            blocks = _own_lines(reader, start, stop) if is_cut else reader.stripped()
            yield from _json_lines(blocks, name, options.text_field, reader)
        case "csv" | "tsv":
            yield from _table(reader, name, form, options.text_field)
        case "warc":
            for text in warc.texts(reader.chunks(), name):
                yield from document_of(text)
        case "md":
            yield from _markdown(reader, options.documents, name)
        case "py":
            for text in _python_strings(_source(reader, name), name):
                lines = [line.strip() for line in _whole_characters(text).split("\n")]
                yield from _grouped([lines], options.documents or "blank_line")


def document_of(text: str) -> Iterator[Document]:
    """Yields a text as a document; nothing if it is blank."""
    lines = tuple(filter(None, map(str.strip, text.split("\n"))))
    if lines:
        yield Document(lines)


def suffix(name: str) -> str:
    """The suffix that decides the format: ".txt" for both "a.txt" and "a.txt.gz"."""
    last = without_compression(name).rpartition("/")[2]
    return last[last.rfind(".") :] if "." in last else ""


def _own_lines(reader: LineReader, start: int, stop: int) -> Iterator[list[str]]:
    """Yields the lines that begin within a stretch, stripped."""
    first = reader.line_start(start, limit=stop)
    if first < stop:
        yield from reader.stripped(first, reader.line_start(stop))


def _own_paragraphs(reader: LineReader, start: int, stop: int) -> Iterator[list[str]]:
    """Yields lines from the first blank one that begins in a stretch to the next blank one that begins after it."""
    first = reader.line_start(start, limit=stop)
    if first >= stop:
        return
    end = reader.line_start(stop)
    is_own = start == 0
    for lines in reader.stripped(first, end):
        if is_own:
            yield lines
        elif "" in lines:
            is_own = True
            yield lines[lines.index("") :]
    if not is_own:
        return  # A document that began in an earlier stretch fills this one.
    for lines in reader.stripped(end, counted=False):
        if "" in lines:
            yield lines[: lines.index("")]
            return
        yield lines


def _grouped(blocks: Iterable[list[str]], boundary: str) -> Iterator[Document]:
    """Groups stripped lines into documents, without empty lines."""
    if boundary == "file":
        yield from _one_document(blocks)
        return
    if boundary == "line":
        for lines in blocks:
            yield from (Document((line,)) for line in lines if line)
        return
    gathered: list[str] = []
    for lines in blocks:
        start = 0
        for _ in range(lines.count("")):
            blank = lines.index("", start)
            gathered += lines[start:blank]
            start = blank + 1
            if gathered:
                yield Document(tuple(gathered))
                gathered = []
        gathered += lines[start:]
    if gathered:
        yield Document(tuple(gathered))


def _bounded(blocks: Iterable[list[str]], name: str, boundary: str) -> Iterator[list[str]]:
    """Yields blocks of stripped lines as they are, and refuses a document that is too long to be kept in memory."""
    size = 0
    for lines in blocks:
        if boundary == "line" or (boundary == "blank_line" and "" in lines):
            size = 0
        size += sum(map(len, lines)) + _LINE_BYTES * len(lines)
        if size > _LARGEST_DOCUMENT_BYTES:
            raise _too_long(name)
        yield lines


def _without_articles(blocks: Iterable[list[str]], name: str) -> Iterator[list[str]]:
    """Yields blocks as they are; refuses a file of WikiExtractor, whose marks would become text.

    Raises:
      InputError: the file begins with such a mark.
    """
    for number, lines in enumerate(blocks):
        if number == 0 and lines and _ARTICLE_BEGINS.fullmatch(lines[0]):
            raise InputError(
                f"{name}: begins with {lines[0]:.60}, as files of WikiExtractor do; append #format=wikiextractor to "
                "the source, which makes each article a document."
            )
        yield lines


def _articles(blocks: Iterable[list[str]], name: str, reader: LineReader) -> Iterator[Document]:
    """Reads the articles of WikiExtractor; blank lines do not end them.

    Raises:
      InputError: a line belongs to no article, or the last article does not end.
    """
    gathered: list[str] | None = None
    size = 0
    for lines in blocks:
        for index, line in enumerate(lines):
            if _ARTICLE_BEGINS.fullmatch(line):
                gathered, size = [], 0
            elif line == _ARTICLE_ENDS and gathered is not None:
                yield from _one_document([gathered])
                gathered = None
            elif gathered is not None:
                gathered.append(line)
                size += len(line) + _LINE_BYTES
                if size > _LARGEST_DOCUMENT_BYTES:
                    raise _too_long(name)
            elif line:
                raise InputError(
                    f"{name}, line {reader.line_number(index)}: found {line:.60}, expected <doc id=…>, which begins an "
                    "article of WikiExtractor."
                )
    if gathered is not None:
        raise InputError(f"{name}: the last article has no </doc>; the file was cut short, extract it again.")


def _too_long(name: str) -> InputError:
    return InputError(
        f"{name}: a document takes more than {_LARGEST_DOCUMENT_BYTES >> 20} MiB of memory; end documents sooner, with "
        "blank lines or #documents=line."
    )


def _one_document(blocks: Iterable[list[str]]) -> Iterator[Document]:
    gathered = tuple(line for lines in blocks for line in lines if line)
    if gathered:
        yield Document(gathered)


def _json_lines(blocks: Iterable[list[str]], name: str, field: str, reader: LineReader) -> Iterator[Document]:
    for lines in blocks:
        for index, line in enumerate(lines):
            if not line:
                continue
            try:
                text = _field_of(json.loads(line), field)
            except (ValueError, RecursionError, LookupError, TypeError) as error:
                raise _json_error(line, f"{name}, line {reader.line_number(index)}", field, error) from error
            if text is None:  # An empty document, as in Parquet.
                continue
            if not isinstance(text, str):
                place = f"{name}, line {reader.line_number(index)}"
                raise InputError(f"{place}: field {field!r} holds {text!r:.60}, expected a string.")
            yield from document_of(_whole_characters(text) if "\\u" in line else text)


def _table(reader: LineReader, name: str, form: str, column: str) -> Iterator[Document]:
    """Reads a column of a table, whose first line names the columns; lines that repeat it are left out.

    Raises:
      InputError: there is no such column, a row lacks it or has too many cells, or quotes do not match.
    """
    lines = _whole_lines(reader)
    first = next(lines, "")
    before = 0
    separators = ",;\t|" if form == "csv" else "\t"
    if form == "csv" and (stated := _SEPARATOR_LINE.fullmatch(first.strip("\r\n"))):
        separators, first, before = stated[1], next(lines, ""), 1
    # The default of the library is shorter than long documents.
    csv.field_size_limit(_LARGEST_DOCUMENT_BYTES)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form == "csv" else csv.QUOTE_NONE
    headers = {
        separator: [cell.strip() for cell in next(csv.reader([first], delimiter=separator, quoting=quoting), [""])]
        for separator in separators
    }
    separator = next((each for each, cells in headers.items() if column in cells), separators[0])
    header = headers[separator]
    if header.count(column) != 1:
        shown = ", ".join(f"{cell[:40]!r}" for cell in header[:12])
        found = "no column" if column not in header else f"{header.count(column)} columns"
        raise InputError(
            f"{name}, line {before + 1}: {found} {column!r} (found {shown}); append #field=NAME to the source, with "
            "the name of the column that holds the text."
        )
    rows = csv.reader(lines, delimiter=separator, quoting=quoting, strict=form == "csv")
    wanted = header.index(column)
    while True:
        line = before + rows.line_num + 2
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InputError(
                f"{name}, line {line}: quotes do not match ({error}); double the quotes inside a quoted cell, or "
                "append #format=tsv if tabs separate the cells and quotes have no meaning."
            ) from error
        if row is None:
            return
        if row and (len(row) < len(header) or any(row[len(header) :])):
            raise InputError(
                f"{name}, line {line}: found {len(row)} cells, expected {len(header)}; a text that holds {separator!r} "
                f"needs quotes{'' if form == 'csv' else ', and #format=csv'}."
            )
        if row and [cell.strip() for cell in row] != header:
            yield from document_of(row[wanted])


def _whole_lines(reader: LineReader) -> Iterator[str]:
    """Yields lines with their ends, as the csv module expects; keeps none that is in use."""
    for block in reader.blocks():
        lines = split_lines(block)[::-1]
        del block
        while lines:
            yield lines.pop() + "\n"


def _field_of(record: Any, field: str) -> Any:
    """The value of a field, which may lie within others: "meta.text". A null has no fields, and gives null."""
    if "." not in field or field in record:
        return record[field]
    for name in field.split("."):
        record = None if record is None else record[name]
    return record


def _json_error(line: str, place: str, field: str, error: Exception) -> InputError:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return InputError(f"{place}: not a JSON value ({error}); each line must be one object.")
    if not isinstance(record, dict):
        return InputError(f'{place}: found a JSON {type(record).__name__}, expected {{"{field}": "…"}}.')
    found = _whole_characters(", ".join(sorted(record)[:10])) or "no field at all"
    return InputError(f"{place}: no field {field!r} (found {found}); append #field=NAME to the source.")


def _whole_characters(text: str) -> str:
    r"""Writes U+FFFD for half a character, which "\ud83d" alone is, and which UTF-8 has no bytes for."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _markdown(reader: LineReader, boundary: str, name: str) -> Iterator[Document]:
    """Reads Markdown without its markup. By default a heading begins a document.

    Headings that directly follow each other ("Hamlet", "Act I", "Scene I") stay together: none is a document by itself.
    """
    if boundary:
        plain = ([_plain(line) for line in split_lines(block)] for block in reader.blocks())
        yield from _grouped(_bounded(plain, name, boundary), boundary)
        return
    section: list[str] = []
    only_headings = True
    size = 0
    for block in reader.blocks():
        for line in split_lines(block):
            size += len(line) + _LINE_BYTES
            if size > _LARGEST_DOCUMENT_BYTES:
                raise _too_long(name)
            is_heading = bool(_HEADING.match(line))
            if is_heading and not only_headings:
                yield from _one_document([section])
                section, only_headings, size = [], True, len(line) + _LINE_BYTES
            text = _plain(line)
            section.append(text)
            only_headings = only_headings and (is_heading or not text)
    yield from _one_document([section])


def _plain(line: str) -> str:
    return _MARKUP.sub(lambda match: match[1] or "", line).strip()


def _source(reader: LineReader, name: str) -> str:
    """The text of a Python module."""
    gathered: list[str] = []
    for block in reader.blocks():
        gathered.append(block)
        if sum(map(len, gathered)) > _LONGEST_MODULE:
            raise InputError(
                f"{name}: is longer than {_LONGEST_MODULE >> 20} Mi characters, too long for a Python module."
            )
    return "".join(gathered)


def _python_strings(source: str, name: str) -> Iterator[str]:
    """Yields each long string constant of a module, in order. The module is parsed, never executed."""
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            module = ast.parse(source, filename=name)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError) as error:
        raise InputError(f"{name}: not a Python module that can be parsed ({error}).") from error
    constants = [
        (node.lineno, node.col_offset, node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > SHORTEST_PYTHON_TEXT
    ]
    for _, _, text in sorted(constants, key=lambda constant: constant[:2]):
        yield text
