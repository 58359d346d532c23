"""Learning curves of fine-tuning: of one run, or of several trials in one chart with their mean."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from electra_jax.reporting import metric_names
from electra_jax.reporting.charts import Chart, Figure, charts, final_value, grid, scale_steps, thinned
from electra_jax.reporting.drawing import PAINTS, draw
from electra_jax.reporting.run_files import Histories

_ABOUT_TRAINING = (
    Chart("Learning rate", {"learning_rate": ""}, "How far each update moves the weights; lower layers move less."),
    Chart("Gradient norm", {"gradient_norm": ""}, "The length of the gradient; spikes mean an unsteady run."),
)


def run_curves(histories: Histories, metrics: Sequence[str], reported: int | None) -> Markup:
    """HTML of one run's curves: the given metrics first, then losses, then the other ones.

    Args:
      histories: at least one metric.
      metrics: names without `eval/`, the main ones first.
      reported: step of the checkpoint whose scores are reported, if it is not the last one.
    """
    measured = [name.partition("/")[2] for name in histories if name.startswith(("eval/", "train/"))]
    names = _ordered(list(dict.fromkeys(measured)), metrics)
    known = [Chart(metric_names.words(name), {name: ""}, metric_names.meaning(name)) for name in names]
    return charts(histories, (*known, *_ABOUT_TRAINING), heldout="dev", reported=reported)


def trial_curves(trials: Mapping[str, Histories], metrics: Sequence[str]) -> Markup:
    """HTML of one chart for each metric, in which every trial has a thin line and their mean a thick one.

    Args:
      trials: metrics of each trial by its name; trials without any are left out.
      metrics: names without `eval/`, the main ones first.
    """
    present = {name for histories in trials.values() for name in histories}
    names = _ordered(sorted(name.removeprefix("eval/") for name in present if name.startswith("eval/")), metrics)
    shown = [f"eval/{name}" for name in names]
    shown += [name for name in ("train/loss",) if name in present]
    return grid([_figure(name, trials) for name in shown])


def _ordered(names: Sequence[str], first: Sequence[str]) -> list[str]:
    """Sorts names: those in `first`, then the others, then losses."""
    rank = {name: index for index, name in enumerate(first)}
    return sorted(names, key=lambda name: (name.rpartition("/")[2] == "loss", rank.get(name, len(rank))))


def _figure(name: str, trials: Mapping[str, Histories]) -> Figure:
    lines = [histories[name] for histories in trials.values() if name in histories]
    heldout = name.startswith("eval/")
    shared = sorted(set.intersection(*(set(line) for line in lines)))
    mean = {step: statistics.fmean(line[step] for line in lines) for step in shared} if len(lines) > 1 else {}
    last_step = max(max(line) for line in lines)
    paint = "orange" if heldout else "blue"
    marker = "o" if heldout else None

    def plot(axes: Any) -> None:
        for line in lines:
            steps, values = thinned(line)
            single = "o" if len(line) == 1 else None
            axes.plot(steps, values, color=PAINTS[paint], alpha=0.4, linewidth=0.8, marker=single, markersize=2.2)
        if mean:
            steps, values = thinned(mean)
            axes.plot(steps, values, color=PAINTS[paint], linewidth=1.8, marker=marker, markersize=3.6)
        scale_steps(axes, last_step)

    title = f"{metric_names.words(name.partition('/')[2])}, {'dev' if heldout else 'train'}"
    ends = [final_value(line) for line in lines]
    spread = metric_names.value(min(ends)), metric_names.value(max(ends))
    legend = "one trial" if len(lines) == 1 else f"{len(lines)} trials, at their ends"
    keys = [(f"{paint} thin", legend, " to ".join(dict.fromkeys(spread)))]
    if mean:
        keys.append((paint, "mean", metric_names.value(mean[shared[-1]])))
    return title, draw(title, plot), keys, metric_names.meaning(name)
