"""The text column of a Parquet file, read by row groups."""

import contextlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from electra_jax.errors import InputError

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
        for group in range(start, stop):
            rows = file.metadata.row_group(group).num_rows
            size = _column_bytes(file, group, column)
            done = 0
            # One row group at a time, so that progress is known; one thread, because workers are processes.
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[column], use_threads=False):
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
    except (pyarrow.ArrowException, OSError) as error:
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
    return sum(found.total_compressed_size for found in columns if found.path_in_schema == column)


def _strings(values: "pyarrow.Array", place: str, first_row: int) -> Iterator[str]:
    for row, value in enumerate(values, start=first_row):
        try:
            yield value.as_py() or ""
        except UnicodeDecodeError as error:
            raise InputError(
                f"{place}, row {row + 1}: byte {error.start} of the text (0x{error.object[error.start]:02x}) is not "
                "UTF-8. Write the file again with text that is."
            ) from error
