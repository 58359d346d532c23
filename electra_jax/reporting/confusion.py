"""Confusion of labels: a table or, for many labels, the pairs that are confused most."""

from markupsafe import Markup

from electra_jax.reporting import markup
from electra_jax.reporting.results import Confusion

_MOST_LABELS_OF_A_TABLE = 12
_MOST_PAIRS = 15


def confusion_table(confusion: Confusion) -> Markup:
    """HTML of the full table for up to twelve labels, else of the largest confusions; empty if nothing was counted."""
    if not any(any(row) for row in confusion.counts):
        return Markup("")
    labels, counts = confusion.labels, confusion.counts
    if len(labels) > _MOST_LABELS_OF_A_TABLE:
        return _largest(confusion)
    rows = []
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row)
        cells = [
            ("agreed" if column == index else "confused" if count else "never", f"{count / max(total, 1):.2f}", count)
            for column, count in enumerate(row)
        ]
        rows.append((label, cells, total, f"{row[index] / total:.1%}" if total else "—"))
    columns = [sum(row[column] for row in counts) for column in range(len(labels))]
    agreed = sum(counts[index][index] for index in range(len(labels)))
    return markup.render(
        "confusion",
        labels=labels,
        upright=len(labels) > 4 or sum(map(len, labels)) > 48,
        rows=rows,
        columns=columns,
        right=f"{agreed / sum(columns):.1%}",
    )


def _largest(confusion: Confusion) -> Markup:
    pairs = [
        (count, label, confusion.labels[column], sum(row))
        for index, (label, row) in enumerate(zip(confusion.labels, confusion.counts, strict=True))
        for column, count in enumerate(row)
        if count and column != index
    ]
    pairs.sort(key=lambda pair: -pair[0])
    return markup.render(
        "largest_confusions",
        count=len(confusion.labels),
        pairs=pairs[:_MOST_PAIRS],
        left=len(pairs) - _MOST_PAIRS,
    )
