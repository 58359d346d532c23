"""Lines of a file: read in large blocks, decompressed and decoded; errors name the line and the byte."""

import codecs
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from electra_jax.errors import InputError
from electra_jax.text.sources import decompression
from electra_jax.text.sources.decompression import COMPRESSIONS, compression_of

_BLOCK_BYTES = 1 << 20
# The longest line. A document of one line is a book at most, and a row of JSON or a page of HTML is less.
_LONGEST_LINE_BYTES = 1 << 28


class LineReader:
    """The text of one open file, in blocks of whole lines.

    A line ends with "\\n" and begins after one. A byte order mark at the beginning of a file is skipped.
    """

    def __init__(
        self,
        stream: IO[bytes],
        name: str,
        read: Callable[[int], None],
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
          stream: the file's bytes as they are stored; it must be able to seek if stretches of the file are asked for.
          name: the file's path; its suffix gives the compression, and messages quote it.
          read: called with the number of stored bytes read since the last call.
          note: called with a message on bytes that are passed over; see `decompression.blocks`.
        """
        self._stream = stream
        self._name = name
        self._read = read
        self._note = note
        self._compression = compression_of(name)
        self._first = 0  # The byte at which the current stretch began, …
        self._lines = 0  # … the lines from there to the end of the current block, …
        self._block_lines = 0  # … and the lines in that block.

    def blocks(self, start: int = 0, stop: int | None = None, counted: bool = True) -> Iterator[str]:
        """Yields the text from byte `start`, where a line begins, to byte `stop`, where one ends; by default all of it.

        Args:
          start: 0 for a compressed file.
          stop: None for a compressed file.
          counted: whether bytes are reported to `read`; false where another stretch counts them.

        Raises:
          InputError: bytes that are not UTF-8, damaged compression, or a file that cannot be read.
        """
        self._first, self._lines, self._block_lines = start, 0, 0
        position = start
        for data in self._whole_lines(self._guarded(self._chunks(start, stop, counted))):
            self._block_lines = data.count(b"\n") + (not data.endswith(b"\n"))
            self._lines += self._block_lines
            mark = len(codecs.BOM_UTF8) if position == 0 and data.startswith(codecs.BOM_UTF8) else 0
            try:
                decoded = [data[mark:].decode()]
            except UnicodeDecodeError as error:
                raise self._not_utf8(data, mark + error.start, position) from error
            position += len(data)
            del data  # A line may be long: nothing is kept here while it is in use.
            if decoded[0]:
                yield decoded.pop()

    def chunks(self) -> Iterator[bytes]:
        """Yields the decompressed bytes of the whole file.

        Raises:
          InputError: damaged compression, or a file that cannot be read.
        """
        return self._guarded(self._chunks(0, None, counted=True))

    def stripped(self, start: int = 0, stop: int | None = None, counted: bool = True) -> Iterator[list[str]]:
        """Yields the lines of each of the `blocks`, without blanks around them; empty lines are ""."""
        for block in self.blocks(start, stop, counted):
            lines = [line.strip() for line in split_lines(block)]
            del block
            yield lines

    def line_number(self, index: int) -> int:
        """Number in the file, from 1, of line `index`, from 0, of the last block that was yielded."""
        return self._lines_before_stretch() + self._lines - self._block_lines + index + 1

    def line_start(self, position: int, limit: int | None = None) -> int:
        """The first byte, from `position` on, at which a line begins; the size of the file if none does.

        Args:
          position: a byte of an uncompressed file.
          limit: end of the search; a result not below it means that no line begins before it.
        """
        if position == 0:
            return 0
        at = position - 1
        try:
            for chunk in self._uncompressed(at, limit, _ignore):
                found = chunk.find(b"\n")
                if found >= 0:
                    return at + found + 1
                at += len(chunk)
        except OSError as error:
            raise InputError(f"{self._name}: cannot be read after byte {at} ({error}).") from error
        return at

    def _chunks(self, start: int, stop: int | None, counted: bool) -> Iterator[bytes]:
        read = self._read if counted else _ignore
        if self._compression:
            return decompression.blocks(self._stream, self._name, read, self._note)
        return self._uncompressed(start, stop, read)

    def _uncompressed(self, start: int, stop: int | None, read: Callable[[int], None]) -> Iterator[bytes]:
        if start or self._stream.seekable():
            self._stream.seek(start)
        while stop is None or start < stop:
            chunk = self._stream.read(_BLOCK_BYTES if stop is None else min(_BLOCK_BYTES, stop - start))
            if not chunk:
                return
            read(len(chunk))
            start += len(chunk)
            yield chunk

    def _whole_lines(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Regroups chunks into blocks that end where a line does. Parts of a long line are joined once, at its end."""
        pending: list[bytes] = []
        size = 0
        for chunk in chunks:
            end = chunk.rfind(b"\n") + 1
            if end:
                pending.append(chunk[:end])
                yield _taken(pending)
                size = 0
            if end < len(chunk):
                pending.append(chunk[end:])
                size += len(pending[-1])
            if size > _LONGEST_LINE_BYTES:
                number = self._lines_before_stretch() + self._lines + 1
                raise InputError(
                    f"{self._name}, line {number}: is longer than {_LONGEST_LINE_BYTES >> 20} MiB; if it is a text, "
                    "break it into lines."
                )
        if pending:
            yield _taken(pending)

    def _guarded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yields chunks; a failure to read them becomes an error that names the last line."""
        newlines = 0
        try:
            for chunk in chunks:
                newlines += chunk.count(b"\n")
                yield chunk
        except decompression.errors(self._compression) as error:
            raise InputError(
                f"{self._name}: the {self._compression} data is damaged after line {newlines} ({error}). Fetch the "
                "file again."
            ) from error
        except OSError as error:
            number = newlines + self._lines_before_stretch()
            raise InputError(f"{self._name}: cannot be read after line {number} ({error}).") from error

    def _lines_before_stretch(self) -> int:
        """Number of lines before the current stretch, which only error messages need."""
        if self._first == 0:
            return 0
        try:
            return sum(chunk.count(b"\n") for chunk in self._uncompressed(0, self._first, _ignore))
        except OSError:
            return 0  # The file has become unreadable, and the error at hand reports that.

    def _not_utf8(self, data: bytes, index: int, position: int) -> InputError:
        number = self.line_number(data.count(b"\n", 0, index))
        inside = " of the decompressed text" if self._compression else ""
        unpack = f"{self._compression} -dc {self._name} | " if self._compression else ""
        plain = "" if self._compression else f" {self._name}"
        place = f"{self._name}, line {number}: byte {position + index} (0x{data[index]:02x}){inside} is not UTF-8"
        convert = f"{unpack}iconv --from-code=%s --to-code=UTF-8{plain} > {_converted(self._name)}"
        if position == 0 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return InputError(f"{place}, and the file begins as UTF-16 does. Convert it: {convert % 'UTF-16'}")
        return InputError(
            f"{place}. Convert the file, for example: {convert % 'LATIN1'} (if only a few places are damaged: iconv "
            "--from-code=UTF-8 --to-code=UTF-8 -c)"
        )


def _taken(parts: list[bytes]) -> bytes:
    """Joins the parts, and empties the list."""
    joined = b"".join(parts)
    parts.clear()
    return joined


def split_lines(block: str) -> list[str]:
    """The lines of a block, without "\\n"; only that ends a line, whatever else Unicode may call a line break."""
    lines = block.split("\n")
    if not lines[-1]:
        del lines[-1]
    return lines


def without_compression(name: str) -> str:
    """A file's name without the suffix of its compression."""
    return next((name[: -len(end)] for end in COMPRESSIONS if name.lower().endswith(end)), name)


def _ignore(number: int) -> None:
    pass


def _converted(name: str) -> str:
    stem, dot, suffix = without_compression(name).rpartition("/")[2].rpartition(".")
    return f"{stem}.utf8{dot}{suffix}"
