"""The results of several trials as plain text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from electra_jax.reporting import metric_names
from electra_jax.reporting.results import Results, Trial, read_results

_HEADINGS = ("split", "metric", "mean", "median", "sd", "best", "all values")
_HEADINGS_OF_ONE = ("split", "metric", "value")


def summary_lines(results: dict[str, Any], place: str = "results.json") -> list[str]:
    """Returns a table with a line for each split and metric, and remarks on runs that learned nothing.

    Args:
      results: content of `results.json`.
      place: its origin, for messages.

    Raises:
      InputError: an entry is missing or not of its kind.
    """
    checked = read_results(results, place)
    rows = [_HEADINGS, *_rows(checked)] if len(checked.trials) > 1 else [_HEADINGS_OF_ONE, *_rows_of_one(checked)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 or column == len(row) - 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return [f"{trial_count(checked)}:", *lines, *remarks(checked.trials, checked.failed)]


def trial_count(results: Results) -> str:
    """Number of trials and kind of their checkpoints: "5 trials, their last checkpoints"."""
    count = len(results.trials)
    chosen = {trial.chosen for trial in results.trials}
    checkpoint = f"{chosen.pop()} checkpoint" if len(chosen) == 1 and chosen != {""} else "checkpoint"
    return f"{count} trials, their {checkpoint}s" if count != 1 else f"1 trial, its {checkpoint}"


def remarks(trials: Sequence[Trial], failed: Sequence[Trial]) -> list[str]:
    """Sentences on runs that learned nothing: those that were repeated, and those that still count."""
    lines = []
    if failed:
        count = f"{len(failed)} runs" if len(failed) > 1 else "1 run"
        lines.append(f"Not counted: {count} learned nothing and had to be repeated with another seed:")
        lines += [f"  {_failure(trial)}" for trial in failed]
    counted = [trial for trial in trials if trial.collapsed]
    if counted:
        lines.append("Counted, though it looks as if nothing was learned:")
        lines += [f"  {_failure(trial)}" for trial in counted]
    return lines


def _failure(trial: Trial) -> str:
    return f"{seed_name(trial)}: {trial.collapsed or 'no reason is recorded'}"


def seed_name(trial: Trial) -> str:
    """Name of a trial."""
    return f"seed {trial.seed}" if trial.seed is not None else trial.directory or "a run"


def _rows_of_one(results: Results) -> Iterator[tuple[str, ...]]:
    for trial in results.trials:
        for split, scores in trial.scores.items():
            for name, score in scores.items():
                yield split, name, metric_names.value(score)


def _rows(results: Results) -> Iterator[tuple[str, ...]]:
    for split, metrics in results.summary.items():
        for name, spread in metrics.items():
            numbers = (spread.mean, spread.median, spread.deviation, spread.best)
            yield (
                split,
                name,
                *(metric_names.value(number) for number in numbers),
                " ".join(metric_names.value(number) for number in spread.values),
            )
