"""A prepared dataset: rows of fixed length in two splits, the tokenizer that made them, and a manifest.

    manifest.json          what was read and written; written last
    tokenizer/             what the tokenizer needs
    train-00000.bin        rows, each with its checksum; see `shards.py`
    heldout-00000.bin
    unigram_counts.npy     int64 [vocabulary], non-special tokens of the training split

The directory is local or any address that `storage.py` reads. Nothing is preloaded; access to any row costs the same.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import itertools
import mmap
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from electra_jax import dataset_manifest, storage
from electra_jax.dataset_manifest import FORMAT_VERSION, MANIFEST, Manifest
from electra_jax.errors import InputError
from electra_jax.text.dataset.shards import checksums, record_dtype, token_dtype
from electra_jax.text.tokenizers import tokenizer as tokenizers
from electra_jax.text.tokenizers.tokenizer import Tokenizer

SPLITS = ("train", "heldout")
UNIGRAM_COUNTS = "unigram_counts.npy"

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "SPLITS",
    "UNIGRAM_COUNTS",
    "Dataset",
    "Split",
    "is_prepared",
    "open_dataset",
    "verify",
]

# Each holds a file descriptor, of which a process commonly has 1024.
_OPEN_SHARDS = 256
_VERIFIED_AT_ONCE = 4
_MOST_NPY_HEADER_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of one split, opened for random access.

    Attributes:
      num_rows: rows in all shards together.
      num_tokens: tokens in them, with special tokens and without padding.
      num_documents: documents they were made from.
      length: positions in a row.
      shards: path and number of rows of each file, in order.
      sources: range of rows from each source of the manifest, in order; empty for one without rows.
      dtype: type of the tokens on disk.
    """

    num_rows: int
    num_tokens: int
    num_documents: int
    length: int
    shards: tuple[tuple[str, int], ...]
    sources: tuple[range, ...]
    dtype: np.dtype

    @property
    def is_remote(self) -> bool:
        """Whether the shards are in object storage, where a row costs a request."""
        return bool(self.shards) and storage.is_remote(self.shards[0][0])

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Returns the rows with these indices (int [n], each from 0 to num_rows - 1) as int32 [n, length].

        Raises:
          IndexError: an index is out of range.
          InputError: a row differs from its checksum, or a shard can no longer be read; the message names it.
        """
        indices = np.asarray(indices)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.num_rows:
            raise IndexError(f"row indices {indices.min()} to {indices.max()} of a split with {self.num_rows} rows")
        gathered = np.empty((len(indices), self.length), np.int32)
        if not indices.size:
            return gathered
        # In the order of the disk, shard by shard.
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        shards = np.searchsorted(self._ends, ordered, side="right")
        in_shard = ordered - (self._ends - self._shard_rows)[shards]
        read = self._read_remote if self.is_remote else self._read_local
        records = read(shards, in_shard)
        damaged = np.flatnonzero(checksums(records) != records["crc32"])
        if damaged.size:
            path, _ = self.shards[shards[damaged[0]]]
            raise _damaged(path, f"row {in_shard[damaged[0]]} does not have its checksum")
        gathered[order] = records["tokens"]
        return gathered

    def _read_local(self, shards: np.ndarray, in_shard: np.ndarray) -> np.ndarray:
        """Returns the records of rows, int [n] each, that are sorted by shard."""
        records = np.empty(len(shards), self._record)
        touched, firsts = np.unique(shards, return_index=True)
        groups = list(zip(touched.tolist(), itertools.pairwise([*firsts.tolist(), len(shards)]), strict=True))
        # A group at a time, so that no more files are open at once than a process may have.
        for begin in range(0, len(groups), _OPEN_SHARDS):
            opened = [(self._map(shard), part) for shard, part in groups[begin : begin + _OPEN_SHARDS]]
            for (mapped, _), (first, end) in opened:
                self._fetch(mapped, in_shard[first:end])
            for (_, stored), (first, end) in opened:
                np.take(stored, in_shard[first:end], out=records[first:end], mode="clip")
        return records

    def _fetch(self, mapped: mmap.mmap, in_shard: np.ndarray) -> None:
        """Asks the kernel to read all these rows ahead; otherwise each read would wait for the one before."""
        size = self._record.itemsize
        starts = in_shard * size
        pages = starts - starts % mmap.PAGESIZE
        for start, width in zip(pages.tolist(), (starts + size - pages).tolist(), strict=True):
            mapped.madvise(mmap.MADV_WILLNEED, start, width)

    def _read_remote(self, shards: np.ndarray, in_shard: np.ndarray) -> np.ndarray:
        """Returns the same records from object storage."""
        size = self._record.itemsize
        paths = [self.shards[shard][0] for shard in shards.tolist()]
        starts = (in_shard * size).tolist()
        try:
            found = storage.read_ranges(paths, starts, [start + size for start in starts])
        except OSError as error:
            raise InputError(f"{os.path.dirname(paths[0])}: rows cannot be read ({_reason(error)}).") from error
        for path, start, stored in zip(paths, starts, found, strict=True):
            if len(stored) != size:
                raise _damaged(path, f"row {start // size} has {len(stored)} bytes, expected {size}")
        return np.frombuffer(b"".join(found), self._record)

    @functools.cached_property
    def _record(self) -> np.dtype:
        return record_dtype(self.dtype, self.length)

    @functools.cached_property
    def _shard_rows(self) -> np.ndarray:
        return np.array([rows for _, rows in self.shards], np.int64)

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        """First row index after each shard."""
        return np.cumsum(self._shard_rows)

    @functools.cached_property
    def _map(self) -> Callable[[int], tuple[mmap.mmap, np.ndarray]]:
        """Function that returns a shard's memory map and its records; those used last stay open."""

        @functools.lru_cache(maxsize=_OPEN_SHARDS)
        def open_map(shard: int) -> tuple[mmap.mmap, np.ndarray]:
            path, rows = self.shards[shard]
            try:
                with storage.open_to_read(path) as file:
                    mapped = mmap.mmap(file.fileno(), rows * self._record.itemsize, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise _damaged(path, _reason(error)) from error
            # Rows are read in random order, so that read-ahead of their neighbours is wasted.
            mapped.madvise(mmap.MADV_RANDOM)
            return mapped, np.frombuffer(mapped, self._record)

        return open_map


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared dataset.

    Attributes:
      directory: its local path or address.
      manifest: the content of manifest.json.
      tokenizer: the tokenizer its rows were made with.
      train: rows to train on.
      heldout: rows to evaluate on; no document has rows in both splits.
      unigram_counts: int64 [vocabulary], how often each non-special token occurs in `train`.
    """

    directory: str
    manifest: dict[str, Any]
    tokenizer: Tokenizer
    train: Split
    heldout: Split
    unigram_counts: np.ndarray

    @property
    def heldout_unigram_entropy(self) -> float:
        """Entropy in nats of the distribution of non-special tokens in the held-out rows."""
        return self.manifest["heldout_unigram_entropy"]

    @property
    def fingerprint(self) -> str:
        """Hash of the config fields that determine the rows."""
        return self.manifest["data_fingerprint"]


def is_prepared(directory: str | os.PathLike) -> bool:
    """Returns whether a directory holds a complete dataset: its manifest is written last.

    Raises:
      OSError: the directory cannot be reached.
    """
    return storage.exists(storage.join(directory, MANIFEST))


def open_dataset(directory: str | os.PathLike) -> Dataset:
    """Opens a prepared dataset; checks the sizes of its files here, and the content of each row when it is read.

    Raises:
      InputError: no dataset, another format version, or damaged files; the message names the file.
    """
    directory = os.fspath(directory)
    fields, manifest = dataset_manifest.read(directory, Manifest)
    try:
        sizes = storage.sizes(directory)
        dtype = np.dtype(manifest.dtype)
        splits = {name: _open_split(directory, manifest, name, dtype, sizes) for name in SPLITS}
        tokenizer = tokenizers.load(storage.join(directory, "tokenizer"))
        if tokenizer.sha256 != manifest.tokenizer_sha256:
            path = storage.join(directory, "tokenizer")
            raise _damaged(path, "it does not hold the tokenizer that made the rows")
        if dtype != token_dtype(tokenizer.vocabulary_size):
            raise _damaged(storage.join(directory, MANIFEST), f"dtype {dtype.str} does not fit the vocabulary")
        counts_path = storage.join(directory, UNIGRAM_COUNTS)
        unigram_counts_V = _unigram_counts(counts_path, tokenizer.vocabulary_size, manifest.unigram_counts_sha256)
    except OSError as error:
        raise InputError(f"{directory}: the dataset cannot be read ({_reason(error)}).") from error
    return Dataset(directory, fields, tokenizer, splits["train"], splits["heldout"], unigram_counts_V)


def _unigram_counts(path: str, vocabulary_size: int, sha256: str | None) -> np.ndarray:
    """Counts of tokens, int64 [V], from a file whose hash is known unless an earlier version wrote the manifest."""
    most = vocabulary_size * 8 + _MOST_NPY_HEADER_BYTES
    try:
        with storage.open_to_read(path) as file:
            content = file.read(most + 1)
    except OSError as error:
        raise _damaged(path, _reason(error)) from error
    found = hashlib.sha256(content).hexdigest()
    if len(content) > most:
        raise _damaged(path, f"it has more than {most} bytes")
    if sha256 not in (None, found):
        raise _damaged(path, f"SHA-256 {found}, expected {sha256}")
    try:
        counts_V: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python, with whatever errors that has.
        raise _damaged(path, _reason(error)) from error
    if not isinstance(counts_V, np.ndarray) or counts_V.shape != (vocabulary_size,) or counts_V.dtype != np.int64:
        found = f"{counts_V.dtype} {counts_V.shape}" if isinstance(counts_V, np.ndarray) else "an archive"
        raise _damaged(path, f"it holds {found}, expected int64 ({vocabulary_size},)")
    if counts_V.min() < 0:
        raise _damaged(path, f"found the count {counts_V.min()}, expected 0 or more")
    return counts_V


def verify(dataset: Dataset, progress: Callable[[str], None] | None = None) -> None:
    """Reads every shard and compares its SHA-256 with the manifest's.

    Args:
      dataset: the dataset.
      progress: receives a line for each shard that was read.

    Raises:
      InputError: shards differ or cannot be read; the message names them all.
    """
    shards = [shard for name in SPLITS for shard in dataset.manifest["splits"][name]["shards"]]

    def fault(shard: dict[str, Any]) -> str:
        path = storage.join(dataset.directory, shard["file"])
        try:
            found = _sha256(path)
        except OSError as error:
            return f"  {path}: {_reason(error)}"
        return "" if found == shard["sha256"] else f"  {path}: SHA-256 {found}, expected {shard['sha256']}"

    faults = []
    with concurrent.futures.ThreadPoolExecutor(_VERIFIED_AT_ONCE) as threads:
        for number, found in enumerate(threads.map(fault, shards), start=1):
            faults.extend([found] if found else [])
            if progress:
                progress(f"{number} of {len(shards)} shards read, {len(faults)} damaged")
    if faults:
        raise InputError(
            f"{dataset.directory}: {len(faults)} of {len(shards)} shards are damaged:\n" + "\n".join(faults) + "\n"
            "Restore these files, or delete the directory and prepare it again."
        )


def _sha256(path: str) -> str:
    with storage.open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_split(directory: str, manifest: Manifest, name: str, dtype: np.dtype, sizes: dict[str, int]) -> Split:
    entry: dataset_manifest.Split = getattr(manifest.splits, name)
    length, num_sources = manifest.length, len(manifest.sources)
    row_bytes = record_dtype(dtype, length).itemsize
    rows_of = [0] * num_sources
    shards, last_source = [], 0
    for shard in entry.shards:
        path, source = storage.join(directory, shard.file), shard.source
        expected, found = shard.rows * row_bytes, sizes.get(shard.file)
        if found != expected:
            raise _damaged(path, "it is missing" if found is None else f"{found} bytes, expected {expected}")
        if not last_source <= source < num_sources:
            raise _damaged(storage.join(directory, MANIFEST), f"{shard.file} is out of order: source {source}")
        last_source = source
        rows_of[source] += shard.rows
        shards.append((path, shard.rows))
    if sum(rows_of) != entry.rows:
        raise _damaged(storage.join(directory, MANIFEST), f"{name} has {sum(rows_of)} rows, expected {entry.rows}")
    return Split(
        num_rows=entry.rows,
        num_tokens=entry.tokens,
        num_documents=entry.documents,
        length=length,
        shards=tuple(shards),
        sources=tuple(_ranges(rows_of)),
        dtype=dtype,
    )


def _ranges(lengths: list[int]) -> Iterator[range]:
    start = 0
    for length in lengths:
        yield range(start, start + length)
        start += length


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _damaged(path: str, reason: str) -> InputError:
    return InputError(
        f"{path}: the dataset is damaged ({reason}). Restore this file, or delete its directory and prepare it again."
    )
