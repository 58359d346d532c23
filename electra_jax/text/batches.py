"""Global batches of rows as a pure function of (seed, batch number).

There is no shuffle buffer: an epoch's order is a permutation that is computed index by index, so that starting at any
batch costs the same, and any number of processes reads the same global batches.
"""

import functools
import types
import weakref
from collections.abc import Iterator

import numpy as np

from electra_jax.errors import InputError
from electra_jax.text.dataset import Split

_ROUNDS = 6  # Four already make a good permutation (Luby and Rackoff 1988); small domains like some more.
_EVALUATION_SEED = 0
_PREFETCHED_BATCHES = 8
_BLOCK = 4096


def training_batches(
    split: Split, *, batch_size: int, seed: int, start: int, process_index: int = 0, process_count: int = 1
) -> Iterator[np.ndarray]:
    """Returns an endless iterator over this process's part of the global batches start, start + 1, …

    Every row comes exactly once an epoch, in another order each epoch. A batch may reach from one epoch into the next.

    Args:
      split: the rows.
      batch_size: rows in a global batch.
      seed: of the order, not negative.
      start: number of the first global batch.
      process_index: which contiguous part of each batch this process reads.
      process_count: into how many parts a batch is cut.

    Returns:
      Iterator of int32 [batch_size / process_count, length].

    Raises:
      InputError: `batch_size` is not divisible by `process_count`.
    """
    part = _part(batch_size, process_index, process_count)
    tensorflow = _tensorflow()

    # Computed in blocks: numpy takes as long for one batch of indices as for thousands of them.
    @functools.lru_cache(maxsize=2)
    def block_indices(block: int) -> np.ndarray:
        return row_indices(np.arange(block * _BLOCK, (block + 1) * _BLOCK), split.num_rows, seed)

    def gather(number: np.int64) -> np.ndarray:
        first, last = int(number) * batch_size + part.start, int(number) * batch_size + part.stop
        blocks = range(first // _BLOCK, (last - 1) // _BLOCK + 1)
        offset = blocks[0] * _BLOCK
        indices = np.concatenate([block_indices(block) for block in blocks])
        return split.rows(indices[first - offset : last - offset])

    def load(number: object) -> object:
        rows = tensorflow.numpy_function(gather, [number], tensorflow.int32, stateful=False)
        return tensorflow.ensure_shape(rows, [part.stop - part.start, split.length])

    options = tensorflow.data.Options()
    options.deterministic = True
    # One thread keeps up with a thousand steps a second, and the rest of the machine is for the model.
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    numbers = tensorflow.data.Dataset.range(start, np.iinfo(np.int64).max)
    return _closed_in_time(numbers.map(load).prefetch(_PREFETCHED_BATCHES).with_options(options).as_numpy_iterator())


def evaluation_batches(
    split: Split, *, batch_size: int, max_rows: int, pad_id: int = 0, process_index: int = 0, process_count: int = 1
) -> Iterator[np.ndarray]:
    """Yields this process's part of the first `max_rows` rows, in an order that is random and always the same.

    Args:
      split: the rows.
      batch_size: rows in a global batch.
      max_rows: how many rows to read; all when there are fewer.
      pad_id: fills the last batch up with rows of nothing but padding.
      process_index: which contiguous part of each batch this process reads.
      process_count: into how many parts a batch is cut; every process sees the same number of batches.

    Yields:
      int32 [batch_size / process_count, length].

    Raises:
      InputError: `batch_size` is not divisible by `process_count`.
    """
    part = _part(batch_size, process_index, process_count)
    num_rows = min(max_rows, split.num_rows)
    for first in range(0, num_rows, batch_size):
        positions = np.arange(first + part.start, min(first + part.stop, num_rows))
        rows = split.rows(row_indices(positions, split.num_rows, _EVALUATION_SEED))
        yield np.pad(rows, ((0, part.stop - part.start - len(rows)), (0, 0)), constant_values=pad_id)


def row_indices(positions: np.ndarray, num_rows: int, seed: int) -> np.ndarray:
    """Returns which row is read at each position of the endless stream, int64 of the same shape.

    Position p belongs to epoch p // num_rows; within an epoch the rows are a permutation keyed by (seed, epoch).
    """
    epochs, within = np.divmod(positions, num_rows)
    indices = np.empty_like(within)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = _permute(within[here], num_rows, np.random.SeedSequence([seed, int(epoch)]))
    return indices


def _permute(values: np.ndarray, size: int, seed: np.random.SeedSequence) -> np.ndarray:
    """Maps integers below `size` one to one onto integers below `size`.

    A Feistel cipher permutes a power of four; what falls outside is encrypted again until it is inside ("cycle
    walking", Black and Rogaway 2002), fewer than four times on average.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = seed.generate_state(_ROUNDS, np.uint64)
    values = values.astype(np.uint64)
    outside = np.ones(values.shape, bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        values[outside] = (left << half) | right
        outside = values >= size
    return values.astype(np.int64)


def _mix(values: np.ndarray) -> np.ndarray:
    """Scrambles uint64 values: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _part(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size % process_count:
        raise InputError(
            f"config.batch_size: {batch_size} rows cannot be shared by {process_count} processes; set "
            f"--config.batch_size= to a multiple of {process_count}."
        )
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)


def _closed_in_time(iterator: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same iterator, let go before the interpreter shuts down.

    Otherwise the program may hang at its end: TensorFlow waits for its thread, which waits to call Python once more.
    """
    holder = [iterator]

    def batches() -> Iterator[np.ndarray]:
        while True:
            yield next(holder[0])

    generator = batches()
    weakref.finalize(generator, holder.clear)
    return generator


def _tensorflow() -> types.ModuleType:
    """TensorFlow, kept away from the accelerators, which belong to JAX."""
    import tensorflow  # Here, because it takes seconds, which those who only evaluate or predict need not pay.

    for kind in ("GPU", "TPU"):
        tensorflow.config.set_visible_devices([], kind)
    return tensorflow
