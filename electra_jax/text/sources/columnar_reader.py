"""The text column of a Parquet or Arrow file, read by row groups or record batches. Runs in a process of its own, see
`columnar.py`.

pyarrow is C++ that ends its process for some damaged files, and allocates what a file asks for.
"""

import contextlib
import json
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.sources.decompression import Expansion

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

# Rows of text decoded at once: few enough that long documents take little memory, many enough that calls do not count.
_ROWS = 256
# Arrow's file format, whose record batches can be read in any order, begins like this; its stream format does not.
_ARROW_FILE = b"ARROW1"
_FEATHER_1 = b"FEA1"
# What ends a stream: a message of length 0, in the notation of today and of Arrow before 0.15.
_STREAM_END = b"\0\0\0\0"


def stretches(stream: IO[bytes], name: str, form: str, column: str, piece_bytes: int) -> list[tuple[int, int, int]]:
    """Groups row groups, or record batches, into stretches; returns (first, one after the last, bytes) of each.

    Of Parquet only the column's bytes count: nothing else is read.

    Raises:
      InputError: the file is damaged, or the column is missing or holds no text.
    """
    if form == "arrow":
        return _arrow_stretches(stream, name, column, piece_bytes)
    with _readable_parquet(stream, name) as file:
        path = ".".join(_column(file.schema_arrow, name, column))
        found: list[tuple[int, int, int]] = []
        start, size = 0, 0
        for group in range(file.num_row_groups):
            of_group = _column_bytes(file, group, path)
            if size and size + of_group > piece_bytes:
                found.append((start, group, size))
                start, size = group, 0
            size += of_group
        return [*found, (start, file.num_row_groups, size)] if file.num_row_groups else []


def texts(
    stream: IO[bytes], name: str, form: str, column: str, start: int, stop: int, read: Callable[[int], None]
) -> Iterator[str]:
    """Yields the texts of a stretch, in order; a null is an empty text.

    Raises:
      InputError: the file is damaged, the column is missing or holds no text, or a text is not UTF-8.
    """
    if form == "arrow":
        yield from _arrow_texts(stream, name, column, start, stop, read)
        return
    with _readable_parquet(stream, name) as file:
        path = _column(file.schema_arrow, name, column)
        # Few bytes may stand for the same text a million times.
        expansion = Expansion(name)
        for group in range(start, stop):
            rows = max(file.metadata.row_group(group).num_rows, 1)
            size = _column_bytes(file, group, ".".join(path))
            expansion.stored(size)
            done = 0
            # One row group at a time, so that progress is known; one thread, because workers are processes.
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[".".join(path)], use_threads=False):
                expansion.produced(batch.nbytes + len(batch))
                yield from _strings(_values(batch, path), f"{name}, row group {group}", done)
                read(size * (done + len(batch)) // rows - size * done // rows)
                done += len(batch)


@contextlib.contextmanager
def _readable_parquet(stream: IO[bytes], name: str) -> "Iterator[pyarrow.parquet.ParquetFile]":
    import pyarrow.parquet

    with _damage_reported(name, "a Parquet"):
        # The buffer keeps memory small where a row group is large.
        yield pyarrow.parquet.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)


@contextlib.contextmanager
def _damage_reported(name: str, kind: str) -> Iterator[None]:
    """Turns what a library raises in its block into an InputError."""
    try:
        yield
    except InputError:
        raise
    # Damaged files are also reported as ValueError, TypeError, OverflowError, MemoryError, …
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name}: not {kind} file that can be read ({reason}). Fetch the file again.") from error


def _arrow_stretches(stream: IO[bytes], name: str, column: str, piece_bytes: int) -> list[tuple[int, int, int]]:
    size = stream.seek(0, os.SEEK_END)
    with _damage_reported(name, "an Arrow"):
        file, _ = _opened_arrow(stream, name, column)
        batches = getattr(file, "num_record_batches", 1)
        count = min(batches, max(1, -(-size // piece_bytes)))
        found = [(batches * number // count, batches * (number + 1) // count) for number in range(count)]
        return [(start, stop, size * stop // batches - size * start // batches) for start, stop in found]


def _arrow_texts(
    stream: IO[bytes], name: str, column: str, start: int, stop: int, read: Callable[[int], None]
) -> Iterator[str]:
    size = stream.seek(0, os.SEEK_END)
    with _damage_reported(name, "an Arrow"):
        file, path = _opened_arrow(stream, name, column)
        expansion = Expansion(name)
        for number, (batch, stored) in enumerate(_record_batches(file, stream, size, start, stop), start=start):
            expansion.stored(stored)
            for first in range(0, len(batch), _ROWS):
                values = _values(batch.slice(first, _ROWS), path)
                # The lengths of texts come from the file, and could point anywhere.
                _as_bytes(values).validate(full=True)
                expansion.produced(values.nbytes + len(values))
                yield from _strings(values, f"{name}, record batch {number}", first)
            read(stored)


def _opened_arrow(
    stream: IO[bytes], name: str, column: str
) -> "tuple[pyarrow.ipc.RecordBatchFileReader | pyarrow.ipc.RecordBatchStreamReader, tuple[str, ...]]":
    """Opens an Arrow file for its text column; returns the path of the column, too."""
    import pyarrow

    stream.seek(0)
    beginning = stream.read(len(_ARROW_FILE))
    if beginning.startswith(_FEATHER_1):
        raise InputError(
            f"{name}: is in version 1 of Feather, which is not read; write it again, for example with "
            "pyarrow.feather.write_feather, whose version is 2."
        )
    if beginning == _ARROW_FILE:
        open_file = pyarrow.ipc.open_file
    else:
        open_file = pyarrow.ipc.open_stream
        stream.seek(-len(_STREAM_END), os.SEEK_END)
        if stream.read() != _STREAM_END:
            raise InputError(
                f"{name}: the Arrow data has no end: the file was cut short, or is in another format. Fetch the file "
                "again."
            )
    stream.seek(0)
    schema = open_file(stream).schema
    path = _column(schema, name, column)
    stream.seek(0)
    only_text = pyarrow.ipc.IpcReadOptions(included_fields=[schema.get_field_index(path[0])], use_threads=False)
    return open_file(stream, options=only_text), path


def _record_batches(
    file: "pyarrow.ipc.RecordBatchFileReader | pyarrow.ipc.RecordBatchStreamReader",
    stream: IO[bytes],
    size: int,
    start: int,
    stop: int,
) -> "Iterator[tuple[pyarrow.RecordBatch, int]]":
    """Yields the record batches of a stretch, each with the bytes that it takes in the file."""
    import pyarrow

    if isinstance(file, pyarrow.ipc.RecordBatchFileReader):
        batches = file.num_record_batches
        for number in range(start, stop):
            # Their places are not known to pyarrow's users: as if all took the same.
            yield file.get_batch(number), size * (number + 1) // batches - size * number // batches
        return
    done = 0
    for batch in file:
        yield batch, stream.tell() - done
        done = stream.tell()


def _column(schema: "pyarrow.Schema", name: str, column: str) -> tuple[str, ...]:
    """The path of a column: its name, and the names of fields within it.

    Raises:
      InputError: there is no such column, several, or one that holds no text.
    """
    import pyarrow

    path = (column,) if column in schema.names else tuple(column.split("."))
    found = schema.field(path[0]) if schema.names.count(path[0]) == 1 else None
    for part in path[1:]:
        inner = found.type if found is not None and pyarrow.types.is_struct(found.type) else None
        found = inner.field(part) if inner is not None and inner.get_field_index(part) >= 0 else None
    leaves = list(_leaves(schema))
    if found is None:
        names = ", ".join(name for name, _ in leaves[:20]) or "no column at all"
        raise InputError(f"{name}: no column {column!r} (found {names}); append #field=NAME to the source.")
    if not _is_text(found.type):
        strings = ", ".join(name for name, kind in leaves if _is_text(kind)) or "none"
        raise InputError(
            f"{name}: column {column!r} holds {found.type}, expected string; append #field=NAME to the source (columns "
            f"of strings: {strings})."
        )
    return path


def _leaves(fields: "Iterable[pyarrow.Field]", above: str = "") -> "Iterator[tuple[str, pyarrow.DataType]]":
    """Yields the name and type of each column; of one with fields, those of the fields, as in "meta.text"."""
    import pyarrow

    for field in fields:
        if pyarrow.types.is_struct(field.type):
            yield from _leaves(field.type, f"{above}{field.name}.")
        else:
            yield f"{above}{field.name}", field.type


def _is_text(kind: "pyarrow.DataType") -> bool:
    import pyarrow

    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    checks = pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view, pyarrow.types.is_null
    return any(check(value) for check in checks)


def _values(batch: "pyarrow.RecordBatch", path: tuple[str, ...]) -> "pyarrow.Array":
    """The values at a column's path; those of a row that is null there or above are null."""
    values = batch.column(batch.schema.get_field_index(path[0]))
    for part in path[1:]:
        values = values.flatten()[values.type.get_field_index(part)]
    return values


def _as_bytes(values: "pyarrow.Array") -> "pyarrow.Array":
    """Texts as bytes, of which a check asks for no UTF-8: what is none is reported with its row."""
    import pyarrow

    plain = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}
    return values.view(plain[values.type]) if values.type in plain else values


def _column_bytes(file: "pyarrow.parquet.ParquetFile", group: int, path: str) -> int:
    described = file.metadata.row_group(group)
    columns = (described.column(number) for number in range(described.num_columns))
    return max(0, sum(found.total_compressed_size for found in columns if found.path_in_schema == path))


def _strings(values: "pyarrow.Array", place: str, first_row: int) -> Iterator[str]:
    for row, value in enumerate(values, start=first_row):
        try:
            yield value.as_py() or ""
        except UnicodeDecodeError as error:
            raise InputError(
                f"{place}, row {row + 1}: byte {error.start} of the text (0x{error.object[error.start]:02x}) is not "
                "UTF-8. Write the file again with text that is."
            ) from error


# A frame of the answer: its kind and the length of what follows.
FRAME = struct.Struct("<BQ")
STRETCHES, TEXT, READ, FAULT, END = range(5)


def serve(requests: Iterable[bytes], answers: IO[bytes]) -> None:
    """Answers requests, JSON in a line each, with frames: texts, stretches, or a message about what is wrong."""

    def send(kind: int, content: bytes = b"") -> None:
        answers.write(FRAME.pack(kind, len(content)) + content)

    for line in requests:
        request = json.loads(line)
        name, about = request["name"], (request["name"], request["form"], request["column"])
        try:
            with storage.open_to_read(request["path"]) as stream:
                if "piece_bytes" in request:
                    found = stretches(stream, *about, request["piece_bytes"])
                    send(STRETCHES, json.dumps(found).encode())
                else:
                    numbers = request["start"], request["stop"]
                    for text in texts(stream, *about, *numbers, lambda count: send(READ, str(count).encode())):
                        send(TEXT, text.encode("utf-8", "surrogatepass"))
            send(END)
        except InputError as error:
            send(FAULT, str(error).encode("utf-8", "replace"))
        except OSError as error:
            send(FAULT, f"{name}: cannot be read ({error.strerror or error}).".encode("utf-8", "replace"))
        answers.flush()


def main() -> None:
    """Serves one parent, until it closes the pipe."""
    # What libraries print must not get between the frames.
    if len(sys.argv) > 1:
        with contextlib.suppress(ValueError, OSError):  # Not every system has this limit.
            resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
    answers = os.fdopen(os.dup(1), "wb", 1 << 16)
    os.dup2(2, 1)
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
