"""Batches of task rows as a pure function of (seed, batch number), and their padded lengths.

Rows of a batch have similar lengths: the rows are split into stretches of several batches; each stretch is sorted by
length and split into batches, which are shuffled. Batches are padded to one of a few lengths; each length is compiled
once.

An epoch of rows that fill no whole number of batches is shared out evenly: 600 rows in batches of at most 32 are 19
batches of 31 or 32, where a last batch of 24, or of one row, would count as much as the others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from electra_jax.finetuning.data.rows import Rows
from electra_jax.text.dataset.mixture import proportions, row_indices

# Batches in a stretch: more of them make lengths in a batch more similar and its rows less random.
_STRETCH = 16
# Stretches in an epoch, at least: if all its rows were sorted by length, the same ones would meet in every epoch.
_FEWEST_STRETCHES = 4
# Padded lengths are multiples of this, for vector units.
_MULTIPLE = 8
# Purposes of the random generators.
_BATCH_ORDER, _TASK_ORDER = range(2)

Batch = Mapping[str, Mapping[str, np.ndarray]]  # The arrays of `Rows.batch` under the name of their task.


def padded_lengths(lengths_N: np.ndarray, most: int) -> tuple[int, ...]:
    """The padded lengths that minimise padding.

    Args:
      lengths_N: lengths of all rows.
      most: maximum number of padded lengths.

    Returns:
      Multiples of 8, ascending; the last fits the longest row.
    """
    counts = np.bincount(-(-lengths_N // _MULTIPLE))
    ends = np.flatnonzero(counts)
    below = np.concatenate([[0], np.cumsum(counts[ends])])
    # cost[k, j]: padded size of the rows up to length ends[j - 1] with k padded lengths, one of them ends[j - 1].
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
    """The endless order of training rows of several tasks; each batch has rows of one task (Liu et al. 2019).

    Attributes:
      rows: training splits by task name.
      weights: weights of the tasks.
      temperature: temperature of the mixture, see `mixture.proportions`. A single task has each row once per epoch.
      batch_size: rows in a global batch.
      last_batch: "train" to train on each row once per epoch, in batches that lack at most a few rows; "drop" for full
        batches of the endless stream of rows, of which whole ones count as an epoch.
      seed: not negative.
    """

    rows: Mapping[str, Rows]
    weights: Mapping[str, float]
    temperature: float
    batch_size: int
    last_batch: str
    seed: int

    @functools.cached_property
    def _counts(self) -> dict[str, int]:
        """Batches of each task in a round; a round has as many batches as an epoch of all tasks."""
        batches = [max(1, self._whole_batches(len(rows))) for rows in self.rows.values()]
        counts = proportions(batches, [self.weights[name] for name in self.rows], self.temperature)
        return dict(zip(self.rows, counts, strict=True))

    def _whole_batches(self, rows: int) -> int:
        """Batches in an epoch of so many rows."""
        return -(-rows // self.batch_size) if self.last_batch == "train" else rows // self.batch_size

    @property
    def epoch_batches(self) -> int:
        """Batches in an epoch of all tasks; with "drop", 0 if all their rows fill none."""
        if self.last_batch == "train":
            return sum(self._counts.values())
        return self._whole_batches(sum(map(len, self.rows.values())))

    def passes(self, batches: int) -> float:
        """How often so many batches go through the rows of all tasks, on average."""
        total = sum(map(len, self.rows.values()))
        if self.last_batch == "drop":
            return batches * self.batch_size / total
        in_a_round = sum(
            n * len(self.rows[name]) / self._whole_batches(len(self.rows[name])) for name, n in self._counts.items()
        )
        return batches / self.epoch_batches * in_a_round / total

    def _task(self, number: int) -> tuple[str, int]:
        """The task of a batch, and the number of earlier batches of that task."""
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
        """The task of a global batch, and the indices of its rows, int64 [B]; -1 where it has none."""
        name, own_number = self._task(number)
        if self.last_batch == "train":
            return name, self._of_an_epoch(self.rows[name], own_number)
        stretch, place = divmod(own_number, _STRETCH)
        size = _STRETCH * self.batch_size
        rows = row_indices(stretch * size + np.arange(size), len(self.rows[name]), self.seed)
        rows = rows[np.argsort(self.rows[name].lengths_N[rows], kind="stable")]
        places = _generator(self.seed, stretch, _BATCH_ORDER).permutation(_STRETCH)
        return name, rows.reshape(_STRETCH, self.batch_size)[places[place]]

    def _of_an_epoch(self, rows: Rows, number: int) -> np.ndarray:
        """The rows of one of a task's batches, which hold each row once per epoch."""
        batches = self._whole_batches(len(rows))
        epoch, place = divmod(number, batches)
        stretch = min(_STRETCH, max(1, batches // _FEWEST_STRETCHES))
        first = place - place % stretch
        # The row at which each batch of the stretch begins, and the last one ends.
        begins = np.arange(first, min(first + stretch, batches) + 1) * len(rows) // batches
        sorted_rows = row_indices(epoch * len(rows) + np.arange(begins[0], begins[-1]), len(rows), self.seed)
        sorted_rows = sorted_rows[np.argsort(rows.lengths_N[sorted_rows], kind="stable")]
        own_first = epoch * batches + first
        chosen = _generator(self.seed, own_first, _BATCH_ORDER).permutation(len(begins) - 1)[place - first]
        own = sorted_rows[begins[chosen] - begins[0] : begins[chosen + 1] - begins[0]]
        filled_B = np.full(self.batch_size, -1)
        # Spread, so that devices and microbatches have equal shares of the rows.
        filled_B[np.arange(len(own)) * self.batch_size // len(own)] = own
        return filled_B


def _generator(seed: int, number: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, 0, purpose]))


def training_batches(
    order: Order, lengths: Mapping[str, Sequence[int]], pad_id: int, start: int, part: slice
) -> Iterator[Batch]:
    """Yields a part of the global batches `start`, `start` + 1, …, without end.

    Args:
      order: order of the rows.
      lengths: padded lengths of each task's batches, ascending.
      pad_id: id of the padding token.
      start: number of the first batch.
      part: which rows of each global batch.
    """
    number = start
    while True:
        name, chosen_B = order.batch(number)
        rows = order.rows[name]
        length = fitting(lengths[name], int(rows.lengths_N[chosen_B[chosen_B >= 0]].max()))
        yield {name: rows.batch(chosen_B[part], length, pad_id)}
        number += 1


def evaluation_batches(
    name: str, rows: Rows, lengths: Sequence[int], batch_size: int, pad_id: int, part: slice
) -> Iterator[Batch]:
    """Yields a part of the batches of a split, shortest rows first; rows of weight 0 fill the last one."""
    ascending_N = np.argsort(rows.lengths_N, kind="stable")
    for first in range(0, len(ascending_N), batch_size):
        chosen_B = ascending_N[first : first + batch_size]
        length = fitting(lengths, int(rows.lengths_N[chosen_B].max()))
        filled_B = np.concatenate([chosen_B, np.full(batch_size - len(chosen_B), -1)])
        yield {name: rows.batch(filled_B[part], length, pad_id)}


def fitting(lengths: Sequence[int], needed: int) -> int:
    """The smallest of ascending lengths that is at least `needed`."""
    return next(length for length in lengths if length >= needed)
