"""A file that grows line by line, on disk or in an object store, where nothing can be appended."""

from __future__ import annotations

import os
import tempfile
import time

from electra_jax import storage

# An object is written again as a whole: not more often than this, and more seldom the longer it is.
_SECONDS = 30.0
_BYTES_PER_SECOND = 50_000.0


class AppendedFile:
    """Lines on disk are durable when `append` returns; those at an address when `publish` returns.

    At an address, lines are collected in a local file, which is uploaded as a whole: at most every 30 seconds, and at
    most 50 kB a second on average. A metrics.jsonl of a million steps, 10 MB, is written every 200 seconds at its end.
    """

    def __init__(self, path: str, kept: bytes | None = None) -> None:
        """Opens a file for appending.

        Args:
          path: path or address of the file.
          kept: what the file is to hold at first, in place of its present content; None to leave that.
        """
        self._path = path
        self._spool = None
        self._published_at, self._is_published = time.monotonic(), True
        if storage.is_remote(path):
            self._spool = tempfile.NamedTemporaryFile()  # noqa: SIM115, deleted with this object
            before = storage.read(path) if storage.exists(path) else b""
            self._spool.write(before if kept is None else kept)
            self._is_published = kept is None or kept == before
        elif kept is not None:
            storage.write(path, kept)

    def append(self, line: bytes) -> None:
        """Adds a line, which has to end with a newline."""
        if self._spool is None:
            with open(self._path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            return
        self._spool.write(line)
        self._is_published = False
        pause = max(_SECONDS, self._spool.tell() / _BYTES_PER_SECOND)
        if time.monotonic() - self._published_at >= pause:
            self.publish()

    def publish(self) -> None:
        """Returns when all lines are durable.

        Raises:
          OSError, StorageLost: they cannot be written.
        """
        if self._spool is None or self._is_published:
            return
        self._spool.flush()
        storage.upload(self._spool.name, self._path)
        self._published_at, self._is_published = time.monotonic(), True
