"""Writing the rows of a split to disk; `dataset.py` reads them."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from electra_jax.text.dataset import token_dtype
from electra_jax.text.tokenizer import Tokenizer

_ROWS_WRITTEN_AT_ONCE = 4096
_SHARD_BYTES = 1 << 28


class SplitWriter(contextlib.AbstractContextManager):
    """Writes the rows of one split into shards, counting and hashing on the way; a context that closes the last shard.

    Attributes:
      name: of the split, with which the names of its files begin.
      length: positions in a row.
      num_documents, num_rows, num_tokens: written so far; padding is not counted.
      unigram_counts: int64 [vocabulary], how often each non-special token was written.
    """

    def __init__(self, directory: pathlib.Path, name: str, length: int, tokenizer: Tokenizer) -> None:
        self.name = name
        self.length = length
        self.num_documents = self.num_rows = self.num_tokens = 0
        self.unigram_counts = np.zeros(tokenizer.vocabulary_size, np.int64)
        self._directory = directory
        self._special = [tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
        self._pad_id = tokenizer.pad_id
        self._dtype = token_dtype(tokenizer.vocabulary_size)
        self._rows_in_shard = max(1, _SHARD_BYTES // (length * self._dtype.itemsize))
        self._waiting: list[np.ndarray] = []
        self._shards: list[dict[str, Any]] = []
        self._file = None

    def add(self, rows: Iterable[np.ndarray]) -> None:
        """Adds the rows of one document, each int32 [length]."""
        self.num_documents += 1
        for row in rows:
            self._waiting.append(row)
            if len(self._waiting) >= _ROWS_WRITTEN_AT_ONCE:
                self._flush()

    def manifest(self) -> dict[str, Any]:
        """What manifest.json says of this split."""
        counts = dict(documents=self.num_documents, rows=self.num_rows, tokens=self.num_tokens)
        return counts | {"shards": self._shards}

    def __exit__(self, *exception: object) -> None:
        try:
            self._flush()
        finally:
            self._close()

    def _flush(self) -> None:
        while self._waiting:
            if not self._shards or self._shards[-1]["rows"] == self._rows_in_shard:
                self._open_next()
            shard = self._shards[-1]
            room = self._rows_in_shard - shard["rows"]
            rows, self._waiting = np.stack(self._waiting[:room]), self._waiting[room:]
            stored = rows.astype(self._dtype).tobytes()
            self._file.write(stored)
            self._hash.update(stored)
            shard["rows"] += len(rows)
            self.num_rows += len(rows)
            self.num_tokens += int(np.count_nonzero(rows != self._pad_id))
            counts = np.bincount(rows.ravel(), minlength=len(self.unigram_counts))
            counts[self._special] = 0
            self.unigram_counts += counts

    def _open_next(self) -> None:
        self._close()
        name = f"{self.name}-{len(self._shards):05d}.bin"
        self._file = (self._directory / name).open("wb")
        self._hash = hashlib.sha256()
        self._shards.append({"file": name, "rows": 0})

    def _close(self) -> None:
        if self._file is not None:
            self._shards[-1]["sha256"] = self._hash.hexdigest()
            with self._file as file:
                # On the disk before the manifest that vouches for it.
                file.flush()
                os.fsync(file.fileno())
            self._file = None
