"""A prepared dataset on disk: rows of fixed length in two splits, the tokenizer that made them, and a manifest.

    manifest.json          what was read and what was made of it; written last
    tokenizer/             tokenizer.json, vocab.txt
    train-00000.bin        rows, [rows, length] little-endian uint16, or uint32 where the vocabulary needs it
    heldout-00000.bin
    unigram_counts.npy     int64 [vocabulary], non-special tokens of the training split

Rows are read by memory map, so that any row costs the same and nothing is loaded beforehand.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from electra_jax.errors import InputError
from electra_jax.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "heldout")


def token_dtype(vocabulary_size: int) -> np.dtype:
    """The type that token ids have on disk."""
    return np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of one split, opened for random access.

    Attributes:
      num_rows: rows in all shards together.
      num_tokens: tokens in them, special ones counted and padding not.
      num_documents: documents they were made of.
      length: positions in a row.
      shards: path and number of rows of each file, in order.
      dtype: of the tokens on disk.
    """

    num_rows: int
    num_tokens: int
    num_documents: int
    length: int
    shards: tuple[tuple[pathlib.Path, int], ...]
    dtype: np.dtype

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Returns the rows with these indices (int [n], each from 0 to num_rows - 1) as int32 [n, length].

        Raises:
          IndexError: an index is out of range.
        """
        indices = np.asarray(indices)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.num_rows:
            raise IndexError(f"row indices {indices.min()} to {indices.max()} of a split with {self.num_rows} rows")
        maps, ends = self._maps
        shards = np.searchsorted(ends, indices, side="right")
        gathered = np.empty((len(indices), self.length), np.int32)
        for shard in np.unique(shards):
            here = shards == shard
            gathered[here] = maps[shard][indices[here] - (ends[shard] - len(maps[shard]))]
        return gathered

    @functools.cached_property
    def _maps(self) -> tuple[list[np.ndarray], np.ndarray]:
        """The shards as arrays [rows, length], and the first row index after each of them."""
        maps = [np.memmap(path, self.dtype, "r", shape=(rows, self.length)) for path, rows in self.shards]
        return maps, np.cumsum([rows for _, rows in self.shards])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared dataset.

    Attributes:
      directory: where it is.
      manifest: the content of manifest.json.
      tokenizer: the tokenizer its rows were made with.
      train: rows to learn from.
      heldout: rows to evaluate on; no document has rows in both splits.
      unigram_counts: int64 [vocabulary], how often each non-special token occurs in `train`.
    """

    directory: pathlib.Path
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
        """Hash of the config fields that the rows follow from."""
        return self.manifest["data_fingerprint"]


def is_prepared(directory: str | os.PathLike) -> bool:
    """Says whether a directory holds a finished dataset; its manifest is written last."""
    return (pathlib.Path(directory).expanduser() / MANIFEST).exists()


def open_dataset(directory: str | pathlib.Path) -> Dataset:
    """Opens a prepared dataset, checking that every file is there and has its size; `verify` checks the bytes.

    Raises:
      InputError: a file is missing, has another size than the manifest says, or cannot be read; the message names it.
    """
    directory = pathlib.Path(directory).expanduser()
    manifest = _read_manifest(directory)
    try:
        dtype = np.dtype(manifest["dtype"])
        splits = {name: _open_split(directory, manifest, name, dtype) for name in SPLITS}
        tokenizer = Tokenizer.load(directory / "tokenizer")
        if tokenizer.sha256 != manifest["tokenizer_sha256"]:
            raise _damaged(directory / "tokenizer" / "tokenizer.json", "it is not the tokenizer that made the rows")
        counts_path = directory / "unigram_counts.npy"
        try:
            unigram_counts = np.load(counts_path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(counts_path, str(error)) from error
        if unigram_counts.shape != (tokenizer.vocabulary_size,) or unigram_counts.dtype != np.int64:
            raise _damaged(counts_path, f"it holds {unigram_counts.dtype} {unigram_counts.shape}")
    except (KeyError, TypeError) as error:
        raise _damaged(directory / MANIFEST, f"no valid entry {error}") from error
    return Dataset(directory, manifest, tokenizer, splits["train"], splits["heldout"], unigram_counts)


def verify(dataset: Dataset) -> None:
    """Reads every shard and compares its SHA-256 with the manifest's.

    Raises:
      InputError: a shard differs; the message names it.
    """
    for name in SPLITS:
        for shard in dataset.manifest["splits"][name]["shards"]:
            path = dataset.directory / shard["file"]
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != shard["sha256"]:
                raise _damaged(path, f"SHA-256 {found}, expected {shard['sha256']}")


def _read_manifest(directory: pathlib.Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{directory} is not a prepared dataset: cannot read {path} ({error.strerror}).") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: found format_version {version}, expected {FORMAT_VERSION}. Delete {directory} and prepare it "
            "again."
        )
    return manifest


def _open_split(directory: pathlib.Path, manifest: dict[str, Any], name: str, dtype: np.dtype) -> Split:
    entry, length = manifest["splits"][name], manifest["length"]
    shards = []
    for shard in entry["shards"]:
        path = directory / shard["file"]
        expected = shard["rows"] * length * dtype.itemsize
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            raise _damaged(path, "it is missing" if found is None else f"{found} bytes, expected {expected}")
        shards.append((path, shard["rows"]))
    return Split(entry["rows"], entry["tokens"], entry["documents"], length, tuple(shards), dtype)


def _damaged(path: pathlib.Path, reason: str) -> InputError:
    return InputError(f"{path}: the dataset is damaged ({reason}). Delete its directory and prepare it again.")
