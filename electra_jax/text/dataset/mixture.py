"""The order in which rows are read, and how often those of each source: arithmetic, without buffer or state.

An epoch's order is a permutation that is computed index by index, so that starting anywhere costs the same.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from electra_jax.errors import InputError

_ROUNDS = 6  # Four already make a good permutation (Luby and Rackoff 1988); small domains need a few more.


def proportions(rows_per_source: Sequence[int], weights: Sequence[float], temperature: float) -> list[int]:
    """Returns how many rows of each source are read in an epoch.

    A row of the epoch is from source i with probability proportional to weight_i · rows_i^(1 / temperature). An epoch
    has as many rows as the sources that take part have together, so that equal weights at temperature 1 read each row
    once. XLM-R's alpha (Conneau et al. 2020) is 1 / temperature.

    Args:
      rows_per_source: rows that each source has.
      weights: one for each source; a source of weight 0 is left out.
      temperature: above 1, small sources are read more often than in proportion to their size; below 1, less often.

    Returns:
      Counts, at least 1 for each source that takes part and 0 for the others; fractions go to the largest remainders.

    Raises:
      InputError: a weight is negative, the temperature is not positive, or no source with rows has a weight.
    """
    if not 0 < temperature < math.inf:
        raise InputError(f"config.data.mixture_temperature: found {temperature}, expected a number above 0.")
    for number, weight in enumerate(weights):
        if not 0 <= weight < math.inf:
            raise InputError(
                f"config.data.sources[{number}]: found weight={weight}, expected a number of 0 or more; set weight= "
                "in the source."
            )
    taking_part = [bool(rows and weight) for rows, weight in zip(rows_per_source, weights, strict=True)]
    if not any(taking_part):
        raise InputError(
            "config.data.sources: empty mixture, no source with rows has a weight above 0; set weight= of one of them "
            "to 1."
        )
    rows = np.array(rows_per_source, np.int64)[taking_part]
    # In logarithms relative to the largest: the powers of a low temperature leave the range of floats.
    logarithms = np.log(rows)
    logarithms = (logarithms - logarithms.max()) / temperature + np.log(np.array(weights, float)[taking_part])
    shares = np.exp(logarithms - logarithms.max())
    quotas = shares / shares.sum() * rows.sum()
    counts = np.floor(quotas).astype(np.int64)
    left = int(rows.sum() - counts.sum())
    counts[np.argsort(counts - quotas, kind="stable")[:left]] += 1
    for source in np.flatnonzero(counts == 0):
        counts[np.argmax(counts)] -= 1
        counts[source] = 1
    whole = np.zeros(len(taking_part), np.int64)
    whole[taking_part] = counts
    return whole.tolist()


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The endless order in which the rows of several sources are read.

    Each epoch is a permutation that is keyed by (seed, epoch), of as many positions as `counts` has together; each
    position stands for one of the next rows of a source. A source that is not read exactly once an epoch has an endless
    order of its own, one permutation after another, so that after any number of epochs no row of it has been read two
    times more often than another.

    Attributes:
      sources: range of the split's rows from each source.
      counts: rows of each source in an epoch; see `proportions`.
      seed: seed of the order, not negative.
    """

    sources: tuple[range, ...]
    counts: tuple[int, ...]
    seed: int

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Returns the split's row that is read at each position (int [n], not negative) of the stream, int64 [n]."""
        size = sum(self.counts)
        within = row_indices(positions, size, self.seed)
        of_source = np.searchsorted(np.cumsum(self.counts), within, side="right")
        starts, lengths, counts = self._columns[:, of_source]
        offsets = within - (np.cumsum(self.counts) - self.counts)[of_source]
        mixed = np.flatnonzero(counts != lengths)
        if mixed.size:
            numbers = positions[mixed] // size * counts[mixed] + offsets[mixed]
            own_epochs, offsets_in_epoch = np.divmod(numbers, lengths[mixed])
            # Hashed rather than from a SeedSequence each: a small source has thousands of epochs in one of all.
            keys = _mix(self._keys[:, of_source[mixed]] ^ _mix(own_epochs.astype(np.uint64) + np.uint64(1)))
            offsets[mixed] = _permute(offsets_in_epoch, lengths[mixed], keys)
        return starts + offsets

    @functools.cached_property
    def _columns(self) -> np.ndarray:
        """First row, number of rows, and count of each source, int64 [3, sources]."""
        return np.array([[rows.start for rows in self.sources], list(map(len, self.sources)), self.counts], np.int64)

    @functools.cached_property
    def _keys(self) -> np.ndarray:
        """Keys of the sources' permutations, uint64 [rounds, sources]."""
        seeds = [np.random.SeedSequence(self.seed, spawn_key=(number,)) for number in range(len(self.sources))]
        return np.stack([seed.generate_state(_ROUNDS, np.uint64) for seed in seeds], axis=1)


def row_indices(positions: np.ndarray, num_rows: int, seed: int) -> np.ndarray:
    """Returns the row, of `num_rows`, that is read at each position of the endless stream, int64 of the same shape.

    Position p belongs to epoch p // num_rows; within an epoch the rows are a permutation keyed by (seed, epoch).
    """
    epochs, within = np.divmod(positions, num_rows)
    indices = np.empty_like(within)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        keys = np.random.SeedSequence([seed, int(epoch)]).generate_state(_ROUNDS, np.uint64)
        indices[here] = _permute(within[here], num_rows, keys[:, None])
    return indices


def _permute(values: np.ndarray, sizes: np.ndarray | int, keys: np.ndarray) -> np.ndarray:
    """Maps integers one to one onto integers of the same domain.

    A Feistel cipher permutes a power of four; what falls outside is encrypted again until it is inside ("cycle
    walking", Black and Rogaway 2002), fewer than four times on average.

    Args:
      values: what to map, int [n].
      sizes: size of the domain, above all values; one, or int [n].
      keys: uint64 [rounds, 1] for one permutation of all values, or [rounds, n].
    """
    sizes = np.broadcast_to(np.asarray(sizes, np.uint64), values.shape)
    # frexp gives the bits of an integer, exactly below 2^53.
    bits = np.frexp((sizes - np.uint64(1)).astype(np.float64))[1]
    half = np.maximum(1, (bits + 1) // 2).astype(np.uint64)
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = np.broadcast_to(keys, (len(keys), *values.shape))
    values = values.astype(np.uint64)
    outside = np.arange(values.size)
    while outside.size:
        left, right = values[outside] >> half[outside], values[outside] & mask[outside]
        for key in keys[:, outside]:
            left, right = right, left ^ (_mix(right ^ key) & mask[outside])
        values[outside] = (left << half[outside]) | right
        outside = outside[values[outside] >= sizes[outside]]
    return values.astype(np.int64)


def _mix(values: np.ndarray) -> np.ndarray:
    """Scrambles uint64 values: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
