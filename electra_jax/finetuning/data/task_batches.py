"""Which rows of which task a batch holds, as a pure function of (seed, batch number), and how far they are padded.

Rows of a batch are of similar length: the stream of rows is cut into stretches of some batches, each stretch sorted by
length, cut into batches, and those shuffled. Batches are padded to one of a few lengths; each is compiled once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from electra_jax.finetuning.data.rows import Rows
from electra_jax.text.dataset.mixture import proportions, row_indices

# Batches in a stretch: the more of them, the more alike the rows of a batch, and the less random.
_STRETCH = 16
# Padded lengths are multiples of this, for the sake of vector units.
_MULTIPLE = 8
# What the random generators are for.
_BATCH_ORDER, _TASK_ORDER = range(2)

Batch = Mapping[str, Mapping[str, np.ndarray]]  # One task's name, and the arrays of `Rows.batch`.


def padded_lengths(lengths_N: np.ndarray, most: int) -> tuple[int, ...]:
    """The lengths to pad rows to, so that padding is least.

    Args:
      lengths_N: of all rows.
      most: how many different ones there may be.

    Returns:
      multiples of 8, ascending; the last one fits the longest row.
    """
    counts = np.bincount(-(-lengths_N // _MULTIPLE))
    ends = np.flatnonzero(counts)
    below = np.concatenate([[0], np.cumsum(counts[ends])])
    # cost[k, j]: padded size of the rows up to length ends[j - 1] when k lengths are used and ends[j - 1] is one.
    cost = np.full((most + 1, len(ends) + 1), np.inf)
    chosen = np.zeros((most + 1, len(ends) + 1), np.int64)
    cost[0, 0] = 0
    for k in range(1, most + 1):
        for j in range(1, len(ends) + 1):
            sizes = cost[k - 1, :j] + (below[j] - below[:j]) * ends[j - 1]
            chosen[k, j] = np.argmin(sizes)
            cost[k, j] = sizes[chosen[k, j]]
    k, j, found = int(np.argmin(cost[:, -1])), len(ends), []
    while j:
        found.append(int(ends[j - 1]) * _MULTIPLE)
        k, j = k - 1, int(chosen[k, j])
    return tuple(reversed(found))


@dataclasses.dataclass(frozen=True)
class Order:
    """The endless order in which rows of several tasks are trained on; each batch is of one task (Liu et al. 2019).

    Attributes:
      rows: the training split of each task, by its name.
      weights: of each task.
      temperature: of the mixture; see `mixture.proportions`. Every row of a single task comes once an epoch.
      batch_size: rows in a global batch.
      seed: not negative.
    """

    rows: Mapping[str, Rows]
    weights: Mapping[str, float]
    temperature: float
    batch_size: int
    seed: int

    @functools.cached_property
    def _counts(self) -> dict[str, int]:
        """Batches of each task in a round, which has as many as all tasks together have in an epoch."""
        batches = [max(1, len(rows) // self.batch_size) for rows in self.rows.values()]
        counts = proportions(batches, [self.weights[name] for name in self.rows], self.temperature)
        return dict(zip(self.rows, counts, strict=True))

    def _task(self, number: int) -> tuple[str, int]:
        """The task of a batch, and how many batches of that task came before it."""
        names = list(self._counts)
        if len(names) == 1:
            return names[0], number
        past_rounds, place = divmod(number, sum(self._counts.values()))
        sequence = self._round(past_rounds)
        task = sequence[place]
        return names[task], past_rounds * self._counts[names[task]] + int((sequence[:place] == task).sum())

    def _round(self, number: int) -> np.ndarray:
        tasks = np.repeat(np.arange(len(self._counts)), list(self._counts.values()))
        return _generator(self.seed, number, _TASK_ORDER).permutation(tasks)

    def batch(self, number: int) -> tuple[str, np.ndarray]:
        """The task of a global batch, and which of its rows are in it, int64 [B]."""
        name, own_number = self._task(number)
        stretch, place = divmod(own_number, _STRETCH)
        size = _STRETCH * self.batch_size
        rows = row_indices(stretch * size + np.arange(size), len(self.rows[name]), self.seed)
        rows = rows[np.argsort(self.rows[name].lengths_N[rows], kind="stable")]
        places = _generator(self.seed, stretch, _BATCH_ORDER).permutation(_STRETCH)
        return name, rows.reshape(_STRETCH, self.batch_size)[places[place]]


def _generator(seed: int, number: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, 0, purpose]))


def training_batches(
    order: Order, lengths: Mapping[str, Sequence[int]], pad_id: int, start: int, part: slice
) -> Iterator[Batch]:
    """Yields a part of the global batches `start`, `start` + 1, …, without end.

    Args:
      order: of the rows.
      lengths: what each task's batches may be padded to, ascending.
      pad_id: fills tokens up.
      start: number of the first batch.
      part: which rows of each global batch.
    """
    number = start
    while True:
        name, chosen_B = order.batch(number)
        rows = order.rows[name]
        length = fitting(lengths[name], int(rows.lengths_N[chosen_B].max()))
        yield {name: rows.batch(chosen_B[part], length, pad_id)}
        number += 1


def evaluation_batches(
    name: str, rows: Rows, lengths: Sequence[int], batch_size: int, pad_id: int, part: slice
) -> Iterator[Batch]:
    """Yields a part of the batches of a whole split, the shortest rows first; rows of weight 0 fill the last one."""
    ascending_N = np.argsort(rows.lengths_N, kind="stable")
    for first in range(0, len(ascending_N), batch_size):
        chosen_B = ascending_N[first : first + batch_size]
        length = fitting(lengths, int(rows.lengths_N[chosen_B].max()))
        filled_B = np.concatenate([chosen_B, np.full(batch_size - len(chosen_B), -1)])
        yield {name: rows.batch(filled_B[part], length, pad_id)}


def fitting(lengths: Sequence[int], needed: int) -> int:
    """The smallest of ascending lengths that is enough."""
    return next(length for length in lengths if length >= needed)
