"""The text column of a Parquet file, read by row groups. Runs in a process of its own, see `parquet.py`.

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
    import pyarrow.parquet

# Rows of text decoded at once: few enough that long documents take little memory, many enough that calls do not count.
_ROWS = 256


def stretches(stream: IO[bytes], name: str, column: str, piece_bytes: int) -> list[tuple[int, int, int]]:
    """Groups row groups into stretches; returns (first row group, one after the last, bytes) of each.

    Only the column's bytes count: nothing else is read.

    Raises:
      InputError: the file is damaged, or the column is missing or holds no text.
    """
    with _readable(stream, name, column) as file:
        found: list[tuple[int, int, int]] = []
        start, size = 0, 0
        for group in range(file.num_row_groups):
            of_group = _column_bytes(file, group, column)
            if size and size + of_group > piece_bytes:
                found.append((start, group, size))
                start, size = group, 0
            size += of_group
        return [*found, (start, file.num_row_groups, size)] if file.num_row_groups else []


def texts(
    stream: IO[bytes], name: str, column: str, start: int, stop: int, read: Callable[[int], None]
) -> Iterator[str]:
    """Yields the texts of row groups `start` to `stop` - 1, in order; a null is an empty text.

    Raises:
      InputError: the file is damaged, the column is missing or holds no text, or a text is not UTF-8.
    """
    with _readable(stream, name, column) as file:
        # Few bytes may stand for the same text a million times.
        expansion = Expansion(name)
        for group in range(start, stop):
            rows = max(file.metadata.row_group(group).num_rows, 1)
            size = _column_bytes(file, group, column)
            expansion.stored(size)
            done = 0
            # One row group at a time, so that progress is known; one thread, because workers are processes.
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[column], use_threads=False):
                expansion.produced(batch.nbytes + len(batch))
                yield from _strings(batch.column(0), f"{name}, row group {group}", done)
                read(size * (done + len(batch)) // rows - size * done // rows)
                done += len(batch)


@contextlib.contextmanager
def _readable(stream: IO[bytes], name: str, column: str) -> "Iterator[pyarrow.parquet.ParquetFile]":
    import pyarrow
    import pyarrow.parquet

    try:
        # The buffer keeps memory small where a row group is large.
        file = pyarrow.parquet.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
        _check_column(file.schema_arrow, name, column)
        yield file
    except InputError:
        raise
    # Damaged files are also reported as ValueError, TypeError, OverflowError, MemoryError, …
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name}: not a Parquet file that can be read ({reason}). Fetch the file again.") from error


def _check_column(schema: "pyarrow.Schema", name: str, column: str) -> None:
    import pyarrow

    if schema.names.count(column) != 1:
        found = ", ".join(schema.names[:20]) or "no column at all"
        raise InputError(f"{name}: no column {column!r} (found {found}); append #field=NAME to the source.")
    kind = schema.field(column).type
    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    is_text = (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view)
    if not any(check(value) for check in is_text) and not pyarrow.types.is_null(value):
        strings = ", ".join(field.name for field in schema if pyarrow.types.is_string(field.type)) or "none"
        raise InputError(
            f"{name}: column {column!r} holds {kind}, expected string; append #field=NAME to the source (columns of "
            f"strings: {strings})."
        )


def _column_bytes(file: "pyarrow.parquet.ParquetFile", group: int, column: str) -> int:
    described = file.metadata.row_group(group)
    columns = (described.column(number) for number in range(described.num_columns))
    return max(0, sum(found.total_compressed_size for found in columns if found.path_in_schema == column))


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
        name, column = request["name"], request["column"]
        try:
            with storage.open_to_read(request["path"]) as stream:
                if "piece_bytes" in request:
                    found = stretches(stream, name, column, request["piece_bytes"])
                    send(STRETCHES, json.dumps(found).encode())
                else:
                    numbers = request["start"], request["stop"]
                    for text in texts(stream, name, column, *numbers, lambda count: send(READ, str(count).encode())):
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
