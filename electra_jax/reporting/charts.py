"""Learning curves of a run's report: the metrics of each chart, their explanations, and the drawings."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from electra_jax.reporting import markup
from electra_jax.reporting.drawing import PAINTS, draw
from electra_jax.reporting.run_files import Histories


@dataclasses.dataclass(frozen=True)
class Chart:
    """Metrics drawn in one chart, with an explanation for newcomers.

    Attributes:
      quantities: metric names after the slash, each with its label in the legend if there are several.
      against_unigram: whether the loss of a model that knows only word frequencies is drawn, too.
      from_zero: whether the vertical axis begins at zero, so that noise does not look like change.
    """

    title: str
    quantities: dict[str, str]
    explanation: str = ""
    against_unigram: bool = False
    from_zero: bool = False


_MASKED_LOSS = (
    "How surprised it is by the hidden words, in nats; below the dashed line it has learnt more than how frequent each "
    "word is."
)
_MASKED_ACCURACY = "The share of hidden words for which its first guess is right."
PRETRAINING = (
    Chart("Generator loss", {"generator_loss": ""}, _MASKED_LOSS, against_unigram=True),
    Chart("Masked-word loss", {"mlm_loss": ""}, _MASKED_LOSS, against_unigram=True),
    Chart(
        "Discriminator loss",
        {"discriminator_loss": ""},
        "Binary cross-entropy per token, in nats; it may rise for a while as the generator becomes harder to see "
        "through.",
    ),
    Chart(
        "Corrective loss",
        {"corrective_loss": ""},
        "How surprised the discriminator's word head is by the original words, in nats; it reads the generator's words "
        "where the generator reads masks.",
    ),
    Chart("Generator accuracy", {"generator_accuracy": ""}, _MASKED_ACCURACY),
    Chart("Masked-word accuracy", {"mlm_accuracy": ""}, _MASKED_ACCURACY),
    Chart(
        "Corrective accuracy",
        {"corrective_accuracy": ""},
        "The share of original words for which the first guess of the discriminator's word head is right.",
    ),
    Chart(
        "Discriminator AUC",
        {"discriminator_auc": "own generator", "discriminator_auc_unigram": "unigram samples"},
        "How often a replaced token gets a higher score than an original one; 0.5 is chance, and only unigram samples "
        "stay equally hard throughout the run.",
    ),
    Chart(
        "Precision and recall",
        {"discriminator_precision": "precision", "discriminator_recall": "recall"},
        "Of the tokens flagged as replaced, how many are; and of the replaced ones, how many are flagged.",
    ),
    Chart(
        "Detection without a threshold",
        {
            "discriminator_average_precision": "average precision",
            "discriminator_base_rate_recall": "recall at the base rate",
        },
        "The mean precision over all thresholds; and the recall when as many tokens are flagged as were replaced. "
        "Guessing scores about the replaced share on both.",
    ),
    Chart(
        "Cosine of two tokens",
        {"discriminator_cosine": "discriminator", "generator_cosine": "generator", "encoder_cosine": "encoder"},
        "The mean over pairs of hidden states of the last layer; near 1 all tokens look alike, a sign of collapse.",
    ),
    Chart(
        "Effective rank",
        {"discriminator_rank": "discriminator", "generator_rank": "generator", "encoder_rank": "encoder"},
        "How many directions the hidden states of the last layer vary in; a few mean that the network has collapsed.",
        from_zero=True,
    ),
    Chart("Learning rate", {"learning_rate": ""}, "How far each update moves the weights."),
    Chart("Gradient norm", {"gradient_norm": ""}, "The length of the gradient; spikes mean an unsteady run."),
    Chart("Throughput", {"tokens_per_second": ""}, "Tokens trained on each second, padding included.", from_zero=True),
    Chart("Total loss", {"loss": ""}, "What the optimizer minimises: the weighted sum of the losses."),
    Chart(
        "Discriminator accuracy",
        {"discriminator_accuracy": ""},
        "The share of tokens judged correctly; calling everything original scores one minus the replaced share.",
    ),
    Chart(
        "Replaced share", {"replaced_fraction": ""}, "The share of tokens that the generator changed.", from_zero=True
    ),
    Chart(
        "Model FLOPs utilisation", {"mfu": ""}, "Useful arithmetic as a share of the hardware's peak.", from_zero=True
    ),
    Chart("Goodput", {"goodput": ""}, "The share of wall time spent on training steps.", from_zero=True),
)
_MOST_POINTS = 400


def last(histories: Histories, name: str) -> float | None:
    """Value at a metric's last step; None without the metric."""
    return final_value(histories[name]) if name in histories else None


def final_value(history: dict[int, float]) -> float:
    """Value at the last step of a metric's history."""
    return next(reversed(history.values()))


def number(value: float) -> str:
    """A value with four digits, large ones in groups of three."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


# Title, drawing, legend and explanation. Entries of the legend are the class in the style sheet, the text and the value
# after it, "" for none.
Figure = tuple[str, Markup, Sequence[tuple[str, str, str]], str]


def charts(
    histories: Histories, known: Sequence[Chart] = PRETRAINING, heldout: str = "held-out", reported: int | None = None
) -> Markup:
    """HTML of the known charts in order, then of all other metrics.

    Args:
      histories: at least one metric.
      known: charts that are drawn first.
      heldout: name of the text under `eval/`.
      reported: step to mark on its curves.
    """
    quantities = {quantity for chart in known for quantity in chart.quantities} | {"unigram_entropy"}
    left = sorted({_quantity(name) for name in histories} - quantities)
    last_step = max(max(history) for history in histories.values())

    def figures(shown: Iterable[Chart]) -> list[Figure]:
        made = (_figure(chart, histories, last_step, heldout, reported) for chart in shown)
        return [figure for figure in made if figure is not None]

    is_thinned = any(len(history) > _MOST_POINTS for history in histories.values())
    others = figures(Chart(quantity, {quantity: ""}) for quantity in left)
    return grid(figures(known), others, most_points=_MOST_POINTS if is_thinned else None)


def grid(figures: Sequence[Figure], others: Sequence[Figure] = (), most_points: int | None = None) -> Markup:
    """HTML of figures side by side, then of others under a heading of their own.

    Args:
      figures: the first ones.
      others: the second ones.
      most_points: points that long lines were thinned to; None if there are none.
    """
    return markup.render("charts", figures=figures, others=others, most_points=most_points)


def _quantity(name: str) -> str:
    return name.partition("/")[2] or name


def _figure(chart: Chart, histories: Histories, last_step: int, heldout: str, reported: int | None) -> Figure | None:
    """The drawing with its legend and explanation; None when the run has none of its metrics."""
    lines, keys = [], []
    paints = list(PAINTS)[2:]
    for order, (quantity, word) in enumerate(chart.quantities.items()):
        names = [name for name in histories if _quantity(name) == quantity]
        names.sort(key=lambda name: (name.startswith("eval/"), name))
        for name in names:
            prefix = name.partition("/")[0]
            dotted = prefix == "eval"
            split = heldout if dotted else prefix if prefix == "train" or len(names) > 1 else ""
            paint = paints[(order if len(chart.quantities) > 1 else int(dotted)) % len(paints)]
            lines.append((paint, dotted, histories[name]))
            label = " ".join(part for part in (word, split) if part) or "last"
            kind = f"{paint} heldout" if dotted else paint
            keys.append((kind, label, number(final_value(histories[name]))))
    if not lines:
        return None
    floor = last(histories, "eval/unigram_entropy") if chart.against_unigram else None
    if floor is not None:
        keys.append(("floor", "word frequencies alone", number(floor)))
    evaluated = [history for _, dotted, history in lines if dotted]
    marked = reported if evaluated else None
    if marked is not None:
        value = evaluated[0].get(marked)
        shown = number(value) if value is not None and len(evaluated) == 1 else ""
        keys.append(("floor", f"reported, step {marked:,}", shown))
    return chart.title, _drawing(chart, lines, floor, last_step, marked), keys, chart.explanation


def _drawing(
    chart: Chart,
    lines: list[tuple[str, bool, dict[int, float]]],
    floor: float | None,
    last_step: int,
    marked: int | None,
) -> Markup:
    """Curves as an SVG element."""

    def plot(axes: Any) -> None:
        for paint, dotted, history in lines:
            marker = "o" if dotted or len(history) == 1 else None
            steps, values = thinned(history)
            axes.plot(steps, values, color=PAINTS[paint], marker=marker, markersize=3.2, linewidth=1.4)
        if floor is not None:
            axes.axhline(floor, color=PAINTS["muted"], linestyle=(0, (4, 3)), linewidth=1.1)
        if marked is not None:
            axes.axvline(marked, color=PAINTS["muted"], linestyle=(0, (4, 3)), linewidth=1.1)
        if chart.from_zero:
            axes.set_ylim(bottom=0)
        scale_steps(axes, last_step)

    return draw(chart.title, plot)


def scale_steps(axes: Any, last_step: int) -> None:
    """Sets the ticks of both axes: steps from zero, and values."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlim(0, last_step * 1.02 or 1)
    axes.set_xlabel("step", color=PAINTS["muted"])
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if max(abs(limit) for limit in axes.get_ylim()) >= 10_000:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    else:
        axes.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)


def thinned(history: dict[int, float]) -> tuple[list[float], list[float]]:
    """Steps and values, averaged over neighbours when there are more than a chart can show."""
    steps: list[float] = list(history)
    values = list(history.values())
    width = math.ceil(len(steps) / _MOST_POINTS)
    if width <= 1:
        return steps, values
    groups = range(0, len(steps), width)
    return (
        [statistics.fmean(steps[start : start + width]) for start in groups],
        [statistics.fmean(values[start : start + width]) for start in groups],
    )
