"""Which labels a model takes for which: a table, or of many labels the pairs that are confused most."""

import html

from electra_jax.reporting.results import Confusion

_MOST_LABELS_OF_A_TABLE = 12
_MOST_PAIRS = 15


def confusion_table(confusion: Confusion) -> str:
    """HTML of the whole table up to twelve labels, of the largest confusions beyond."""
    if not any(any(row) for row in confusion.counts):
        return ""
    if len(confusion.labels) > _MOST_LABELS_OF_A_TABLE:
        return _largest(confusion)
    labels = [html.escape(label) for label in confusion.labels]
    upright = ' class="upright"' if len(labels) > 4 or sum(map(len, confusion.labels)) > 48 else ""
    heads = "".join(f'<th scope="col"{upright}><span>{label}</span></th>' for label in labels)
    rows = []
    for index, (label, row) in enumerate(zip(labels, confusion.counts, strict=True)):
        total = sum(row)
        cells = ""
        for column, count in enumerate(row):
            kind = "agreed" if column == index else "confused" if count else "never"
            cells += f'<td class="{kind}" style="--p:{count / max(total, 1):.2f}">{count:,}</td>'
        share = f"{row[index] / total:.1%}" if total else "—"
        cells += "".join(f'<td class="total">{cell}</td>' for cell in (f"{total:,}", share))
        rows.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    columns = [sum(row[column] for row in confusion.counts) for column in range(len(labels))]
    predicted = "".join(f"<td>{count:,}</td>" for count in columns)
    agreed = sum(confusion.counts[index][index] for index in range(len(labels)))
    return (
        '<div class="wide"><table class="confusion"><caption>Rows are the true labels, columns what was predicted; the '
        "colour is the share of the row.</caption>"
        f'<thead><tr><td></td>{heads}<th scope="col">all</th><th scope="col">right</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
        f'<tfoot><tr><th scope="row">predicted</th>{predicted}<td>{sum(columns):,}</td>'
        f"<td>{agreed / sum(columns):.1%}</td></tr></tfoot></table></div>"
    )


def _largest(confusion: Confusion) -> str:
    pairs = [
        (count, label, confusion.labels[column], sum(row))
        for index, (label, row) in enumerate(zip(confusion.labels, confusion.counts, strict=True))
        for column, count in enumerate(row)
        if count and column != index
    ]
    pairs.sort(key=lambda pair: -pair[0])
    if not pairs:
        return f"<p>None of the {len(confusion.labels)} labels is ever taken for another.</p>"
    rows = "".join(
        f"<tr><td>{html.escape(true)}</td><td>{html.escape(predicted)}</td><td>{count:,}</td>"
        f"<td>{count / total:.1%} of {total:,}</td></tr>"
        for count, true, predicted, total in pairs[:_MOST_PAIRS]
    )
    left = len(pairs) - _MOST_PAIRS
    rest = f" Another {left:,} pairs are confused less often." if left > 0 else ""
    return (
        f'<div class="wide"><table class="pairs"><caption>Of {len(confusion.labels)} labels, those that are confused '
        f"most.{rest}</caption>"
        "<thead><tr><th>true</th><th>taken for</th><th>times</th><th>share of the true ones</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
