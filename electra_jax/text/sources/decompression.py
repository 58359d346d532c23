"""Decompression in bounded memory: in small blocks, up to a length that the stored bytes give."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from electra_jax.errors import InputError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}

# Natural text shrinks to a third or a tenth, repetitive logs to a hundredth; zeros to a thousandth or far less.
MOST_EXPANSION = 200
# However few bytes are stored, this much may come out of them.
FREE_BYTES = 1 << 26

# How a member, frame or stream of each compression begins; frames of zstd may hold other programs' notes.
_BEGINNINGS = {
    "gzip": (b"\x1f\x8b",),
    "zstd": (b"\x28\xb5\x2f\xfd", *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))),
    "bzip2": (b"BZh",),
    "xz": (b"\xfd7zXZ\0",),
}

_BLOCK_BYTES = 1 << 20
_STORED_BLOCK_BYTES = 1 << 17
# zstd has no limit on what comes out at once: four bytes make a block of 128 KiB, so these make at most 32 MiB.
_ZSTD_STORED_BYTES = 1 << 10
# The dictionary of `xz -9` is 64 MiB; more than this is no text's.
_XZ_MEMORY_BYTES = 1 << 29


class _Appended(Exception):
    """Data is complete, and followed by bytes that are not compressed."""

    def __init__(self, following: bytes) -> None:
        super().__init__("bytes that are none of it follow its end")
        self.following = following


class Expansion:
    """Compares what came out of a file with what is stored, and refuses a file that grows without bounds."""

    def __init__(self, name: str) -> None:
        """Counts from zero; messages quote the file's `name`."""
        self._name = name
        self._stored = self._produced = 0

    def stored(self, count: int) -> None:
        """Counts stored bytes."""
        self._stored += count

    def produced(self, count: int) -> None:
        """Counts bytes that came out of them.

        Raises:
          InputError: they are more than `FREE_BYTES` and `MOST_EXPANSION` times the stored ones.
        """
        self._produced += count
        if self._produced > FREE_BYTES + MOST_EXPANSION * self._stored:
            raise InputError(
                f"{self._name}: {self._stored} stored bytes gave more than {self._produced >> 20} MiB, expected at "
                f"most {FREE_BYTES >> 20} MiB and {MOST_EXPANSION} times as much, as no text shrinks further. If it is "
                "one, decompress it first."
            )


def compression_of(name: str) -> str:
    """The compression that a file's suffix names; "" for none."""
    return next((COMPRESSIONS[end] for end in COMPRESSIONS if name.lower().endswith(end)), "")


def blocks(
    stream: IO[bytes], name: str, read: Callable[[int], None], note: Callable[[str], None] | None = None
) -> Iterator[bytes]:
    """Yields what is in all members, frames or streams of a compressed file, at most 1 MiB at once.

    Args:
      stream: the file's bytes as they are stored.
      name: its path; the suffix gives the compression, and messages quote it.
      read: called with the number of stored bytes read since the last call.
      note: called with a message if bytes follow the end of the data that are none of it; without this they are
        damage.

    Raises:
      InputError: it grows without bounds; see `Expansion`.
      OSError, or one of `errors`: it cannot be read, or is damaged.
    """
    expansion = Expansion(name)
    position = 0

    def stored() -> bytes:
        nonlocal position
        data = stream.read(_STORED_BLOCK_BYTES)
        position += len(data)
        read(len(data))
        expansion.stored(len(data))
        return data

    readers = {"gzip": _gunzipped, "zstd": _unzstd, "bzip2": _unbzipped, "xz": _unxz}
    compression = compression_of(name)
    try:
        for block in readers[compression](stored):
            expansion.produced(len(block))
            yield block
    except _Appended as appended:
        if note is None:
            raise EOFError(str(appended)) from appended
        end = position - len(appended.following)
        while stored():
            pass
        note(
            f"{name}: the {compression} data ends at byte {end:,} of {position:,}; what follows is none of it and "
            "was not read. If text is missing, fetch the file again."
        )


def errors(compression: str) -> tuple[type[Exception], ...]:
    """Exceptions for damaged data."""
    if compression == "gzip":
        return (EOFError, zlib.error)
    if compression == "zstd":
        import zstandard

        return (EOFError, zstandard.ZstdError, MemoryError)
    if compression == "xz":
        return (EOFError, lzma.LZMAError)
    return (EOFError,) if compression else ()


def _next(data: bytes, compression: str) -> bytes:
    """What follows the end of a member, frame or stream, without padding that some programs write.

    Raises:
      _Appended: it is not the beginning of another one.
    """
    data = data.lstrip(b"\0")
    # The block may end within a beginning.
    if data and not any(beginning.startswith(data[: len(beginning)]) for beginning in _BEGINNINGS[compression]):
        raise _Appended(data)
    return data


def _gunzipped(stored: Callable[[], bytes]) -> Iterator[bytes]:
    """Yields the content of all members.

    Raises:
      EOFError: the last one is truncated.
    """
    decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    while data := stored():
        while data:
            if decompressor.eof:
                data = _next(data, "gzip")
                if not data:
                    break
                decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            yield decompressor.decompress(data, _BLOCK_BYTES)
            data = decompressor.unconsumed_tail or decompressor.unused_data
    # What the library still holds back, if the last block was full.
    while not decompressor.eof and (block := decompressor.decompress(b"", _BLOCK_BYTES)):
        yield block
    if not decompressor.eof:
        raise EOFError("it ends early")


def _unzstd(stored: Callable[[], bytes]) -> Iterator[bytes]:
    """Yields the content of all frames; see `_gunzipped`."""
    import zstandard

    # Windows as large as `zstd --long=31` makes; their memory is used as far as data fills it.
    context = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    decompressor = context.decompressobj()
    while data := stored():
        while data:
            if decompressor.eof:
                data = _next(data, "zstd")
                if not data:
                    break
                decompressor = context.decompressobj()
            produced = decompressor.decompress(data[:_ZSTD_STORED_BYTES])
            for start in range(0, len(produced), _BLOCK_BYTES):
                yield produced[start : start + _BLOCK_BYTES]
            data = decompressor.unused_data + data[_ZSTD_STORED_BYTES:]
    if not decompressor.eof:
        raise EOFError("it ends early")


def _unbzipped(stored: Callable[[], bytes]) -> Iterator[bytes]:
    """Yields the content of all streams; see `_gunzipped`."""
    try:
        yield from _streams(stored, "bzip2", bz2.BZ2Decompressor)
    except OSError as error:
        # The library's error for damaged data, which must not be taken for one of the disk.
        if error.errno is None:
            raise EOFError(str(error)) from error
        raise


def _unxz(stored: Callable[[], bytes]) -> Iterator[bytes]:
    """Yields the content of all streams; see `_gunzipped`."""
    yield from _streams(stored, "xz", lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES))


def _streams(
    stored: Callable[[], bytes], compression: str, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
) -> Iterator[bytes]:
    decompressor = new()
    while data := stored():
        while data:
            if decompressor.eof:
                data = _next(data, compression)
                if not data:
                    break
                decompressor = new()
            yield decompressor.decompress(data, _BLOCK_BYTES)
            while not decompressor.eof and not decompressor.needs_input:
                yield decompressor.decompress(b"", _BLOCK_BYTES)
            data = decompressor.unused_data
    if not decompressor.eof:
        raise EOFError("it ends early")
