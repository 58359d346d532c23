"""Means, standard deviations and paired differences over pre-training seeds, and the choice of a learning rate."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

BySeed = Mapping[int, Sequence[float]]  # Values of the fine-tuning seeds, by pre-training seed.


class Statistic(NamedTuple):
    """A mean over pre-training seeds.

    Attributes:
      mean: mean of the seeds' values.
      sd: standard deviation (n - 1); None for a single seed.
      n: number of seeds.
    """

    mean: float
    sd: float | None
    n: int


def over_seeds(values: BySeed) -> Statistic | None:
    """Mean and standard deviation over pre-training seeds of the mean over fine-tuning runs; None without values."""
    return _statistic([statistics.fmean(values[seed]) for seed in sorted(values) if values[seed]])


def paired_difference(values: BySeed, baseline: BySeed) -> Statistic | None:
    """Mean and standard deviation of differences between runs of equal pre-training seed; None without such pairs."""
    shared = [seed for seed in sorted(values) if values[seed] and baseline.get(seed)]
    return _statistic([statistics.fmean(values[seed]) - statistics.fmean(baseline[seed]) for seed in shared])


def chosen_rate(dev_scores: Mapping[float, Sequence[float]]) -> float:
    """The learning rate with the highest mean on the dev split; on a tie, the smallest.

    Args:
      dev_scores: scores of the fine-tuning runs by learning rate; higher is better.
    """
    return min(dev_scores, key=lambda rate: (-statistics.fmean(dev_scores[rate]), rate))


def _statistic(values: Sequence[float]) -> Statistic | None:
    if not values:
        return None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Statistic(statistics.fmean(values), sd, len(values))
