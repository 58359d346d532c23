"""Shards: files of rows, each row with a checksum of its own. Written here as a stream, read by `dataset.py`.

    row      length tokens, little-endian uint16, or uint32 where the vocabulary needs it
    crc32    little-endian uint32, zlib's CRC-32 of the row's bytes

With a checksum at each row, damage is found when the row is read, wherever the file is, and opening reads nothing.
"""

import contextlib
import hashlib
import zlib
from types import TracebackType
from typing import IO, Any

import numpy as np

from electra_jax import storage
from electra_jax.text.tokenizers.tokenizer import Tokenizer

_ROWS_WRITTEN_AT_ONCE = 4096


def token_dtype(vocabulary_size: int) -> np.dtype:
    """Type of token ids on disk."""
    return np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")


def record_dtype(dtype: np.dtype, length: int) -> np.dtype:
    """Type of a row on disk, with its checksum."""
    return np.dtype([("tokens", dtype, (length,)), ("crc32", "<u4")])


def checksums(records: np.ndarray) -> np.ndarray:
    """Returns the CRC-32 of the tokens of each record (`record_dtype` [n], contiguous), uint32 [n]."""
    size = records.dtype.itemsize
    stored, width = records.view(np.uint8).data, size - 4
    found = (zlib.crc32(stored[start : start + width]) for start in range(0, len(stored), size))
    return np.fromiter(found, np.uint32, len(records))


class ShardWriter(contextlib.AbstractContextManager):
    """Context manager that writes one shard in constant memory, with its counts and its hash.

    The complete file appears at the end of the block. There is none if no row was added or the block raised.

    Attributes:
      path: path of the file.
      num_rows, num_tokens: rows and tokens written so far; padding is not counted.
      unigram_counts: int64 [vocabulary], how often each non-special token was written.
    """

    def __init__(self, path: str, *, length: int, tokenizer: Tokenizer) -> None:
        self.path = path
        self.num_rows = self.num_tokens = 0
        self.unigram_counts = np.zeros(tokenizer.vocabulary_size, np.int64)
        self._special = [tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
        self._pad_id = tokenizer.pad_id
        self._dtype = record_dtype(token_dtype(tokenizer.vocabulary_size), length)
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0
        self._hash = hashlib.sha256()
        self._stack = contextlib.ExitStack()
        self._file: IO[bytes] | None = None

    def add(self, rows: np.ndarray) -> None:
        """Adds rows, int32 [n, length]; the array may be changed afterwards."""
        for start in range(0, len(rows), _ROWS_WRITTEN_AT_ONCE):
            self._waiting.append(np.array(rows[start : start + _ROWS_WRITTEN_AT_ONCE], np.int32))
            self._num_waiting += len(self._waiting[-1])
            if self._num_waiting >= _ROWS_WRITTEN_AT_ONCE:
                self._flush()

    def summary(self) -> dict[str, Any]:
        """Manifest entry of this shard once the block has ended: file, rows, tokens, sha256."""
        name = self.path.rpartition("/")[2]
        return dict(file=name, rows=self.num_rows, tokens=self.num_tokens, sha256=self._hash.hexdigest())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            # Passed on, so that the unfinished file is deleted.
            self._stack.__exit__(kind, error, traceback)
            return
        with self._stack:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        added = np.concatenate(waiting) if waiting else np.empty((0, 0), np.int32)
        # In equal parts, however many rows were added at once.
        for start in range(0, len(added), _ROWS_WRITTEN_AT_ONCE):
            rows = added[start : start + _ROWS_WRITTEN_AT_ONCE]
            counts = np.bincount(rows.ravel(), minlength=len(self.unigram_counts))
            self.num_rows += len(rows)
            self.num_tokens += int(rows.size - counts[self._pad_id])
            counts[self._special] = 0
            self.unigram_counts += counts
            records = np.empty(len(rows), self._dtype)
            records["tokens"] = rows
            records["crc32"] = checksums(records)
            if self._file is None:
                self._file = self._stack.enter_context(storage.open_to_write(self.path))
            self._file.write(records.data)
            self._hash.update(records.data)
