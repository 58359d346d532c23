"""Scores as tables: of one run, or of several trials with their spread."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Sequence
from urllib.parse import quote

from electra_jax.reporting import metric_names
from electra_jax.reporting.results import Results, Scores, Trial
from electra_jax.reporting.summary import seed_said
from electra_jax.wording import duration


def scores_table(scores: Scores) -> str:
    """HTML of one run's scores, a line for each split and metric."""
    bodies = "".join(
        f"<tbody>{_group(split, 1)}"
        + "".join(
            f'<tr><th scope="row" title="{html.escape(metric_names.meaning(name))}">'
            f"{html.escape(metric_names.words(name))}</th><td>{metric_names.value(score)}</td></tr>"
            for name, score in metrics.items()
        )
        + "</tbody>"
        for split, metrics in scores.items()
    )
    return f'<div class="wide"><table class="scores single">{bodies}</table></div>' if bodies else ""


def trials_table(results: Results, directory: pathlib.Path) -> str:
    """HTML of all trials' scores and their spread, and what each run was.

    Args:
      results: of the trials.
      directory: that holds their directories, whose reports are linked where they exist.
    """
    trials = results.trials
    summaries = ("mean", "median", "sd", "best")
    heads = "".join(f'<th scope="col">{head}</th>' for head in summaries)
    heads += "".join(f'<th scope="col">{_linked(trial, directory)}</th>' for trial in trials)
    bodies = []
    for split, metrics in results.summary.items():
        rows = []
        for name, spread in metrics.items():
            numbers = (spread.mean, spread.median, spread.deviation, spread.best)
            cells = "".join(f'<td class="spread">{metric_names.value(number)}</td>' for number in numbers)
            cells += "".join(f"<td>{metric_names.value(number)}</td>" for number in _by_trial(trials, split, name))
            rows.append(f'<tr><th scope="row">{html.escape(metric_names.words(name))}</th>{cells}</tr>')
        bodies.append(f"<tbody>{_group(split, len(summaries) + len(trials))}{''.join(rows)}</tbody>")
    return (
        f'<div class="wide"><table class="scores"><thead><tr><td></td>{heads}</tr></thead>{"".join(bodies)}'
        f"<tfoot>{_footer(trials, len(summaries))}</tfoot></table></div>"
        '<p class="lead">The standard deviation (sd) is that of a sample, with n&nbsp;−&nbsp;1.</p>'
    )


def _group(split: str, columns: int) -> str:
    return f'<tr class="split"><th scope="rowgroup" colspan="{columns + 1}">{html.escape(split)}</th></tr>'


def _by_trial(trials: Sequence[Trial], split: str, name: str) -> list[float]:
    return [trial.scores.get(split, {}).get(name, float("nan")) for trial in trials]


def _footer(trials: Sequence[Trial], skipped: int) -> str:
    """Which checkpoint each trial's scores are of, and how long it took."""
    rows = []
    for name, cells in (
        ("checkpoint", [f"{trial.step:,}" if trial.step is not None else "—" for trial in trials]),
        ("wall time", [duration(trial.seconds) if trial.seconds is not None else "—" for trial in trials]),
    ):
        if any(cell != "—" for cell in cells):
            columns = "".join(f"<td>{cell}</td>" for cell in cells)
            rows.append(f'<tr><th scope="row">{name}</th><td colspan="{skipped}"></td>{columns}</tr>')
    return "".join(rows)


def _linked(trial: Trial, directory: pathlib.Path) -> str:
    name = html.escape(seed_said(trial))
    if trial.directory and (directory / trial.directory / "report.html").is_file():
        return f'<a href="{quote(trial.directory)}/report.html">{name}</a>'
    return name


def failures(lines: Sequence[str]) -> list[str]:
    """The sentences of `summary.remarks`, each with its indented lines behind it."""
    sentences: list[str] = []
    for line in lines:
        if line.startswith("  ") and sentences:
            sentences[-1] += f"{'' if sentences[-1].endswith(':') else ';'} {line.strip()}"
        else:
            sentences.append(line)
    return [f"{sentence}." for sentence in sentences]
