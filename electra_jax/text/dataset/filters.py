"""Filters of documents by length and copies, and the choice of held-out ones; all depend on the text alone."""

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np

from electra_jax import storage
from electra_jax.config.pretraining import FiltersConfig
from electra_jax.text.sources.text_sources import Document

# A 128-bit hash: among a billion documents, two different ones share it with a probability of 1e-21.
HASH_BYTES = 16
# Hashes compared at once; 24 bytes of memory each, and as many again for sorting.
_HASHES_IN_MEMORY = 4_000_000


def content_hash(document: Document) -> bytes:
    """Hash of a document's lines, 16 bytes."""
    return hashlib.blake2b("\n".join(document.lines).encode(), digest_size=HASH_BYTES).digest()


def is_heldout(digest: bytes, fraction: float) -> bool:
    """Returns whether a document is held out, by its text alone: copies of it are in the same split."""
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def is_sampled(digest: bytes, fraction: float) -> bool:
    """Returns whether a document is in a random sample; independent of `is_heldout`."""
    return int.from_bytes(digest[8:], "big") < fraction * 2**64


def length_fault(document: Document, filters: FiltersConfig) -> str:
    """Returns the length filter of `config.data.filters` that drops a document; "" if none does."""
    characters = sum(map(len, document.lines))
    if characters < filters.shortest_document:
        return "too_short"
    if filters.longest_document and characters > filters.longest_document:
        return "too_long"
    return ""


def write_copies(hash_paths: Sequence[str], copies_paths: Sequence[str]) -> None:
    """Marks every document whose text occurred before, in the order of the files and within them.

    Compares one part of the range of hashes at a time, so that memory does not grow with the number of documents.

    Args:
      hash_paths: .npy files, each uint64 [documents, 2].
      copies_paths: where the marks go, each .npy bool [documents].
    """
    counts = [len(load(path)) for path in hash_paths]
    copies = [np.zeros(count, bool) for count in counts]
    bits = max(0, math.ceil(math.log2(max(1, sum(counts)) / _HASHES_IN_MEMORY)))
    for part in range(1 << bits):
        hashes, files, indices = (np.concatenate(values) for values in zip(*_part(hash_paths, part, bits), strict=True))
        # Stable, so that of equal hashes the first in the files' order comes first.
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
        repeated = np.flatnonzero((hashes[order][1:] == hashes[order][:-1]).all(axis=1)) + 1
        for file in np.unique(files[order[repeated]]):
            here = order[repeated]
            here = here[files[here] == file]
            copies[file][indices[here]] = True
    for path, marks in zip(copies_paths, copies, strict=True):
        save(path, marks)


def save(path: str, array: np.ndarray) -> None:
    """Writes an array as .npy, atomically."""
    with storage.open_to_write(path) as file:
        np.save(file, array, allow_pickle=False)


def load(path: str) -> np.ndarray:
    """Reads an array that `save` wrote."""
    with storage.open_to_read(path) as file:
        return np.load(file, allow_pickle=False)


def _part(paths: Sequence[str], part: int, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields the hashes of each file whose first `bits` bits are `part`, with the numbers of their file and place."""
    for number, path in enumerate(paths):
        hashes = load(path)
        here = np.flatnonzero(hashes[:, 0] >> np.uint64(64 - bits) == part) if bits else np.arange(len(hashes))
        yield hashes[here], np.full(len(here), number, np.int32), here
