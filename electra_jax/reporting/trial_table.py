"""Scores as tables: of one run, or of several trials with their spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from markupsafe import Markup

from electra_jax import storage
from electra_jax.reporting import markup, metric_names
from electra_jax.reporting.results import Results, Scores, Trial
from electra_jax.reporting.summary import seed_name
from electra_jax.wording import duration

_SUMMARIES = ("mean", "median", "sd", "best")


def scores_table(scores: Scores) -> Markup:
    """HTML of one run's scores, a line for each split and metric."""
    splits = [
        (split, [(metric_names.words(n), metric_names.meaning(n), metric_names.value(s)) for n, s in metrics.items()])
        for split, metrics in scores.items()
    ]
    return markup.call("trials", "scores_table", splits)


def trials_table(results: Results, directory: str) -> Markup:
    """HTML of all trials' scores and their spread, with the checkpoint and the wall time of each.

    Args:
      results: results of the trials.
      directory: parent of the trials' directories, whose reports are linked if they exist.
    """
    splits = []
    for split, metrics in results.summary.items():
        rows = []
        for name, spread in metrics.items():
            numbers = (spread.mean, spread.median, spread.deviation, spread.best)
            scores = [trial.scores.get(split, {}).get(name, float("nan")) for trial in results.trials]
            rows.append((metric_names.words(name), map(metric_names.value, numbers), map(metric_names.value, scores)))
        splits.append((split, rows))
    trials = [(seed_name(trial), _link(trial, directory)) for trial in results.trials]
    return markup.call("trials", "trials_table", _SUMMARIES, trials, splits, list(_footer(results.trials)))


def _footer(trials: Sequence[Trial]) -> Iterator[tuple[str, list[str]]]:
    """Yields rows of the trials' checkpoints and wall times."""
    for name, cells in (
        ("checkpoint", [f"{trial.step:,}" if trial.step is not None else "—" for trial in trials]),
        ("wall time", [duration(trial.seconds) if trial.seconds is not None else "—" for trial in trials]),
    ):
        if any(cell != "—" for cell in cells):
            yield name, cells


def _link(trial: Trial, directory: str) -> str:
    """Address of a trial's own report; empty if there is none."""
    if trial.directory and storage.is_file(storage.join(directory, trial.directory, "report.html")):
        return f"{quote(trial.directory)}/report.html"
    return ""


def failures(lines: Sequence[str]) -> list[str]:
    """Joins each sentence of `summary.remarks` with the indented lines after it."""
    sentences: list[str] = []
    for line in lines:
        if line.startswith("  ") and sentences:
            sentences[-1] += f"{'' if sentences[-1].endswith(':') else ';'} {line.strip()}"
        else:
            sentences.append(line)
    return [f"{sentence}." for sentence in sentences]
