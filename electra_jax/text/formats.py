"""Documents inside one open file: plain text, JSON lines, Markdown and the long strings of a Python module.

A format turns bytes into documents and says exactly where the bytes are wrong. Nothing read here is ever run.
"""

import ast
import contextlib
import dataclasses
import gzip
import json
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from electra_jax.errors import InputError

# Strings up to this many characters in a Python module are names and messages rather than text.
SHORTEST_PYTHON_TEXT = 500

SUFFIXES = (".txt", ".jsonl", ".md", ".py")
BOUNDARIES = ("blank_line", "line", "file")

_HEADING = re.compile(r"#{1,6}\s")
# In this order: an escaped mark is kept as itself, then tags, stars, and underscores that are not inside a word.
_MARKUP = re.compile(r"\\([!-/:-@\[-`{-~])|<[/!]?[A-Za-z-][^<>]*>|\*+|(?<!\w)_+|_+(?!\w)|^#{1,6}\s+")


@dataclasses.dataclass(frozen=True)
class Document:
    """A text whose lines belong together.

    Attributes:
      lines: its lines, stripped, none of them empty.
      origin: "path:line" of its first line, for messages.
    """

    lines: tuple[str, ...]
    origin: str


@dataclasses.dataclass(frozen=True)
class Options:
    """How one source is read; an empty string means that the source does not say.

    Attributes:
      documents: what ends a document, one of `BOUNDARIES`. Unsaid, blank lines do, and headings in Markdown.
      field: the field that holds the text of a JSON line. Unsaid, "text".
      sha256: hash of the downloaded archive, in hexadecimal; for packages only.
    """

    documents: str = ""
    field: str = ""
    sha256: str = ""


def problem(name: str, options: Options) -> str:
    """Says why a file of this name cannot be read with these options; empty when it can."""
    suffix = _suffix(name)
    if suffix not in SUFFIXES:
        return f"{name} ends in {suffix or 'no suffix'!r}; text is read from {', '.join(SUFFIXES)}, each also with .gz"
    if options.field and suffix != ".jsonl":
        return f"`field=` names a field of .jsonl lines, but {name} is {suffix}; leave it out"
    if options.documents and suffix == ".jsonl":
        return f"`documents=` does not apply to {name}: each line of a .jsonl file is one document; leave it out"
    return ""


def read(stream: BinaryIO, name: str, options: Options) -> Iterator[Document]:
    """Yields the documents of one file, in order, holding one of them in memory at a time.

    Args:
      stream: the file's bytes, still compressed if `name` ends in ".gz".
      name: its path; the suffix chooses the format, and messages quote it.
      options: how documents are told apart.

    Raises:
      InputError: an unsupported name, damaged compression, bytes that are not UTF-8, or a line that is not what the
        format says.
    """
    if reason := problem(name, options):
        raise InputError(f"config.data.sources: {reason}.")
    with contextlib.ExitStack() as stack:
        if name.endswith(".gz"):
            stream = stack.enter_context(gzip.open(stream))
        lines = _lines(stream, name)
        match _suffix(name):
            case ".txt":
                yield from _split(lines, name, options.documents or "blank_line")
            case ".jsonl":
                yield from _json_lines(lines, name, options.field or "text")
            case ".md":
                yield from _markdown(lines, name, options.documents)
            case ".py":
                for text in _python_strings(lines, name):
                    yield from _split(text, name, options.documents or "blank_line")


def _suffix(name: str) -> str:
    """The suffix that decides the format: ".txt" for both "a.txt" and "a.txt.gz"."""
    last = name.removesuffix(".gz").rpartition("/")[2]
    return last[last.rfind(".") :] if "." in last else ""


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, line without its end), decoded as strict UTF-8."""
    offset = 0
    number = 0
    try:
        for number, raw in enumerate(stream, start=1):
            yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            offset += len(raw)
    except UnicodeDecodeError as error:
        position = offset + error.start + (3 if number == 1 and raw.startswith(b"\xef\xbb\xbf") else 0)
        raise InputError(
            f"{name}, line {number}: byte {position} (0x{raw[position - offset]:02x}) is not UTF-8. Convert the file, "
            f"for example: iconv --from-code=LATIN1 --to-code=UTF-8 {name} > {name}.utf8"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{name}: the gzip data is damaged after line {number} ({error}). Fetch the file again."
        ) from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read after line {number} ({error}).") from error


def _split(lines: Iterable[tuple[int, str]], name: str, boundary: str) -> Iterator[Document]:
    """Groups lines into documents; empty lines are dropped wherever they are."""
    gathered: list[str] = []
    first = 0
    for number, line in lines:
        line = line.strip()
        ends = boundary == "line" or (boundary == "blank_line" and not line)
        if gathered and ends:
            yield Document(tuple(gathered), f"{name}:{first}")
            gathered = []
        if line:
            first = first if gathered else number
            gathered.append(line)
    if gathered:
        yield Document(tuple(gathered), f"{name}:{first}")


def _json_lines(lines: Iterable[tuple[int, str]], name: str, field: str) -> Iterator[Document]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(
                f"{name}, line {number}: not a JSON value ({error}); each line must be one object."
            ) from error
        if not isinstance(record, dict):
            raise InputError(
                f'{name}, line {number}: found a JSON {type(record).__name__}, expected {{"{field}": "…"}}.'
            )
        if field not in record:
            found = ", ".join(sorted(record)[:10]) or "no field at all"
            raise InputError(
                f"{name}, line {number}: no field {field!r} (found {found}); append #field=NAME to the source."
            )
        if not isinstance(record[field], str):
            raise InputError(f"{name}, line {number}: field {field!r} holds {record[field]!r:.60}, expected a string.")
        text = ((number, part) for part in record[field].split("\n"))
        yield from _split(text, name, "file")


def _markdown(lines: Iterable[tuple[int, str]], name: str, boundary: str) -> Iterator[Document]:
    """Reads Markdown without its markup. Unless `boundary` says otherwise, a heading begins a document.

    Headings that directly follow each other ("Hamlet", "Act I", "Scene I") stay together: none is a document alone.
    """
    if boundary:
        yield from _split(((number, _plain(line)) for number, line in lines), name, boundary)
        return
    section: list[tuple[int, str]] = []
    only_headings = True
    for number, line in lines:
        is_heading = bool(_HEADING.match(line))
        if is_heading and not only_headings:
            yield from _split(section, name, "file")
            section, only_headings = [], True
        text = _plain(line)
        section.append((number, text))
        only_headings = only_headings and (is_heading or not text)
    yield from _split(section, name, "file")


def _plain(line: str) -> str:
    return _MARKUP.sub(lambda match: match[1] or "", line).strip()


def _python_strings(lines: Iterable[tuple[int, str]], name: str) -> Iterator[list[tuple[int, str]]]:
    """Yields the numbered lines of each long string constant. The module is parsed, never run."""
    source = "\n".join(line for _, line in lines)
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            module = ast.parse(source, filename=name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{name}: not a Python module that can be parsed ({error}).") from error
    constants = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > SHORTEST_PYTHON_TEXT
    ]
    for node in sorted(constants, key=lambda node: (node.lineno, node.col_offset)):
        yield list(enumerate(node.value.split("\n"), start=node.lineno))
