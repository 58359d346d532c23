"""Drawings in the colours and the font of a page."""

import io
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

# Colours are names in the drawing until the page's style sheet gives them a light and a dark value.
PAINTS = {"muted": "#000001", "grid": "#000002", "blue": "#000003", "orange": "#000004", "teal": "#000005"}


def draw(title: str, plot: Callable[[Any], None], size: tuple[float, float] = (4.4, 2.3)) -> Markup:
    """Returns an SVG element for a page; equal input gives equal bytes.

    Args:
      title: description of the drawing for screen readers.
      plot: draws on matplotlib axes, in colours of `PAINTS`.
      size: width and height in inches; the page keeps their ratio and sets the size.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # A user's matplotlibrc is for other drawings.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9})
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        plot(axes)
        axes.tick_params(colors=PAINTS["muted"], length=0)
        axes.yaxis.get_offset_text().set_color(PAINTS["muted"])
        axes.grid(axis="y", color=PAINTS["grid"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<style.*?</style>", "", drawing, flags=re.DOTALL)  # It would apply to the entire page.
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)  # The same in each drawing, and ids are the page's.
    drawing = re.sub(r"font-family: [^;\"]*;? ?", "", drawing)
    # The page sets the size.
    label = f'role="img" aria-label="{escape(title)}"'
    drawing = re.sub(r'(?<= )width="[^"]*" height="[^"]*"', lambda _: label, drawing, count=1)
    for paint, colour in PAINTS.items():
        drawing = drawing.replace(colour, f"var(--{paint})")
    return Markup(drawing)
