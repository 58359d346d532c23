"""Histogram of document lengths."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from electra_jax.reporting import markup
from electra_jax.reporting.drawing import PAINTS, draw

_WORDS = {"train": "training", "heldout": "held-out"}
_MOST_TICKS = 12


def histogram(manifest: dict[str, Any]) -> Markup:
    """HTML of a histogram of documents by number of tokens, as shares of each split's documents.

    Args:
      manifest: a dataset's manifest; entry i of `splits[…]["lengths"]` counts the documents of 2^(i-1) to 2^i - 1
        tokens, entry 0 those without any.
    """
    splits = {name: manifest["splits"][name]["lengths"] for name in _WORDS}
    filled = [index for lengths in splits.values() for index, count in enumerate(lengths) if count]
    if not filled:
        return markup.render("histogram", drawing=None)
    # Position x stands for 2^x tokens, so that bin i reaches from i - 1 to i.
    row_end = math.log2(manifest["length"])
    left, right = min(*filled, math.ceil(row_end)) - 1, max(*filled, math.ceil(row_end))
    paints = dict(zip(_WORDS, ("blue", "orange"), strict=True))

    def plot(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator, PercentFormatter

        for number, (name, lengths) in enumerate(splits.items()):
            positions = [index - 0.72 + 0.44 * number for index in range(len(lengths))]
            shares = [count / max(1, sum(lengths)) for count in lengths]
            axes.bar(positions[left + 1 : right + 1], shares[left + 1 : right + 1], 0.4, color=PAINTS[paints[name]])
        axes.axvline(row_end, color=PAINTS["muted"], linestyle=(0, (4, 3)), linewidth=1.1)
        ticks = list(range(max(left, 0), right + 1, math.ceil((right - left + 1) / _MOST_TICKS)))
        labels = [f"{2**tick:,}" for tick in ticks]
        if left < 0:
            axes.set_xticks([-0.5, *ticks], ["empty", *labels])
        else:
            axes.set_xticks(ticks, labels)
        axes.set_xlim(left - 0.1, right + 0.1)
        axes.set_xlabel("tokens in a document", color=PAINTS["muted"])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))

    return markup.render(
        "histogram",
        drawing=draw("Documents by number of tokens", plot, (8.8, 2.6)),
        splits=[(paints[name], word, sum(splits[name])) for name, word in _WORDS.items()],
        length=manifest["length"],
        median=_median(splits["train"]),
        short_ones=(
            "several short ones share a row" if manifest["rows"] == "packed" else "short ones are followed by padding"
        ),
    )


def _median(lengths: Sequence[int]) -> str:
    """Median length of a document; empty without documents."""
    half = (sum(lengths) + 1) // 2
    middle = next((index for index, seen in enumerate(itertools.accumulate(lengths)) if seen >= half > 0), None)
    return "" if middle is None else _bin(middle)


def _bin(index: int) -> str:
    """The lengths that a bin counts."""
    return str(index) if index < 2 else f"{2 ** (index - 1):,} to {2**index - 1:,}"
