"""Transfer against compute: one panel for each task and metric, one line for each contender."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.objectives.statistics import Statistic
from benchmarks.objectives.tasks import RANDOM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Lines = Mapping[str, Sequence[tuple[float, Statistic]]]

_PANEL_INCHES = 4.2, 3.2
_COLUMNS = 3
_GREY = "0.45"


def draw(panels: Mapping[str, Lines], title: str, x_label: str) -> bytes:
    """Returns the figure as a PNG.

    Args:
      panels: lines by panel title: points (x, statistic) by contender; random weights become a horizontal line.
      title: title of the figure.
      x_label: label of all x axes.
    """
    # A figure of its own, not pyplot's: no window, and nothing to close.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(max(width * columns, 5.5), height * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}: mean over pre-training seeds, bands of ± 1 standard deviation", fontsize=11)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines if name != RANDOM))
    colours = {name: f"C{number}" for number, name in enumerate(names)} | {RANDOM: _GREY}
    for place, (panel, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        for name, points in lines.items():
            _line(axes, name, points, colours[name])
        axes.set_title(panel, fontsize=10)
        axes.set_xscale("log")
        axes.set_xlabel(x_label, fontsize=9)
        axes.tick_params(which="both", labelsize=8)
        axes.grid(alpha=0.3)
        if place == 0:
            axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def _line(axes: Axes, name: str, points: Sequence[tuple[float, Statistic]], colour: str) -> None:
    if name == RANDOM:
        ((_, found),) = points
        axes.axhline(found.mean, color=colour, linestyle="--", label="random weights")
        if found.sd is not None:
            axes.axhspan(found.mean - found.sd, found.mean + found.sd, color=colour, alpha=0.15, linewidth=0)
        return
    x = [place for place, _ in points]
    mean = [found.mean for _, found in points]
    low, high = ([found.mean + sign * (found.sd or 0.0) for _, found in points] for sign in (-1, 1))
    axes.plot(x, mean, marker="o", markersize=4, color=colour, label=name)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
