"""Global batches of rows as a pure function of (seed, batch number).

There is no shuffle buffer, so that starting at any batch costs the same, and any number of processes reads the same
global batches. `mixture.py` chooses their rows.
"""

import types
import weakref
from collections.abc import Iterator, Sequence

import numpy as np

from electra_jax.errors import InputError
from electra_jax.text.dataset.dataset import Split
from electra_jax.text.dataset.mixture import Mixture, proportions, row_indices

_EVALUATION_SEED = 0
# Rows read together: numpy takes hardly longer for a thousand than for one, and disk or object storage gets one request
# for all of them.
_GATHERED_ROWS = 1024
_GATHERED_BATCHES = 256
_PREFETCHED_GATHERINGS = 2


def training_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    start: int,
    process_index: int = 0,
    process_count: int = 1,
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
) -> Iterator[np.ndarray]:
    """Returns an endless iterator over this process's part of the global batches start, start + 1, …

    With equal weights and temperature 1 every row is read exactly once an epoch, in another order each epoch; see
    `mixture.py` for the rest. A batch may reach from one epoch into the next.

    Args:
      split: the rows.
      batch_size: rows in a global batch.
      seed: seed of the order, not negative.
      start: number of the first global batch.
      process_index: which contiguous part of each batch this process reads.
      process_count: number of processes that share a batch.
      weights: one for each source of the split; equal by default.
      temperature: temperature of the mixture of sources.

    Returns:
      Iterator of int32 [batch_size / process_count, length]. It raises InputError at a damaged row.

    Raises:
      InputError: `batch_size` is not divisible by `process_count`, or bad weights or temperature.
    """
    part = _part(batch_size, process_index, process_count)
    rows_per_source = [len(source) for source in split.sources]
    counts = proportions(rows_per_source, weights or [1.0] * len(rows_per_source), temperature)
    mixture = Mixture(split.sources, tuple(counts), seed)
    rows_in_part = part.stop - part.start
    together = max(1, min(_GATHERED_BATCHES, _GATHERED_ROWS // rows_in_part))
    tensorflow = tensorflow_without_devices()
    failures: list[InputError] = []

    def gather(number: np.int64) -> np.ndarray:
        firsts = (int(number) + np.arange(together)) * batch_size
        positions = firsts[:, None] + np.arange(part.start, part.stop)
        try:
            rows = split.rows(mixture.rows(positions.ravel()))
        except InputError as error:
            failures.append(error)
            raise
        return rows.reshape(together, rows_in_part, split.length)

    def load(number: object) -> object:
        rows = tensorflow.numpy_function(gather, [number], tensorflow.int32, stateful=False)
        return tensorflow.ensure_shape(rows, [together, rows_in_part, split.length])

    def batches() -> Iterator[np.ndarray]:
        while holder:
            try:
                gathered = next(holder[0])
            except tensorflow.errors.OpError:
                # TensorFlow replaces what was raised in its thread by an error of its own.
                if failures:
                    raise failures[0] from None
                raise
            yield from gathered

    options = tensorflow.data.Options()
    options.deterministic = True
    # One thread keeps up with a thousand steps a second, and the rest of the machine is for the model.
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    numbers = tensorflow.data.Dataset.range(start, np.iinfo(np.int64).max, together)
    holder = [numbers.map(load).prefetch(_PREFETCHED_GATHERINGS).with_options(options).as_numpy_iterator()]
    generator = batches()
    # Released before the interpreter shuts down. Otherwise the program may hang at exit: TensorFlow waits for its
    # thread, which waits to call Python once more.
    weakref.finalize(generator, holder.clear)
    return generator


def evaluation_batches(
    split: Split, *, batch_size: int, max_rows: int, pad_id: int = 0, process_index: int = 0, process_count: int = 1
) -> Iterator[np.ndarray]:
    """Yields this process's part of the first `max_rows` rows, in an order that is random and always the same.

    Args:
      split: the rows.
      batch_size: rows in a global batch.
      max_rows: number of rows to read; all if there are fewer.
      pad_id: fills the last batch up with rows of padding.
      process_index: which contiguous part of each batch this process reads.
      process_count: number of processes that share a batch; all see the same number of batches.

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


def _part(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size % process_count:
        raise InputError(
            f"config.batch_size: {batch_size} rows cannot be shared by {process_count} processes; set "
            f"--config.batch_size= to a multiple of {process_count}."
        )
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)


def tensorflow_without_devices() -> types.ModuleType:
    """Returns TensorFlow with the accelerators hidden from it, because they belong to JAX."""
    import tensorflow  # Imported here: it takes seconds, and evaluation and prediction do not need it.

    for kind in ("GPU", "TPU"):
        tensorflow.config.set_visible_devices([], kind)
    return tensorflow
