"""Pieces of HTML that the pages have in common. Whatever comes in is text, and is escaped."""

import html
import json
import pathlib
import re
import string
from collections.abc import Iterable
from typing import Any


def fill(template: str, **parts: str) -> str:
    """Returns a page: a template of this folder, in the style of the house, with parts that are HTML already."""
    folder = pathlib.Path(__file__).parent
    style = (folder / "style.css").read_text("utf-8")
    return string.Template((folder / template).read_text("utf-8")).substitute(parts, style=style)


def notes(texts: Iterable[str]) -> str:
    """Remarks that the reader should not miss."""
    return "".join(f'<p class="note">{html.escape(text)}</p>' for text in texts)


def warning(text: str) -> str:
    """A box that says what is wrong with a run; nothing for an empty text."""
    return f'<p class="warning" role="alert"><b>Warning</b> {html.escape(text)}</p>' if text else ""


def facts(entries: Iterable[tuple[str, str, str]]) -> str:
    """Headline numbers; each entry is a name, a value and a remark."""
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}<small>{html.escape(remark)}</small></dd></div>"
        for name, value, remark in entries
    )


def table(value: dict[str, Any], depth: int = 0) -> str:
    """A nested dictionary as rows of a table, each level indented."""
    rows = []
    for key, item in value.items():
        name = f'<th scope="row" style="--depth:{depth}">{html.escape(str(key))}</th>'
        if isinstance(item, dict) and item:
            rows.append(f'<tr class="group">{name}<td></td></tr>{table(item, depth + 1)}')
        else:
            text = item if isinstance(item, str) and item else json.dumps(item, ensure_ascii=False)
            rows.append(f"<tr>{name}<td>{html.escape(text)}</td></tr>")
    if depth:
        return "".join(rows)
    return f"<table>{''.join(rows)}</table>" if rows else "<p>Not recorded.</p>"


def is_special(piece: str) -> bool:
    """Says whether a piece stands for no text: [CLS], <pad> and the like."""
    return bool(re.fullmatch(r"\[\w+\]|</?\w+>", piece))


def word_mark(pieces: Iterable[str]) -> str | None:
    """The sign at the beginning of words; None where what goes on has a sign instead.

    SentencePiece and byte-level BPE mark the beginnings of words, WordPiece marks what goes on.
    """
    pieces = list(pieces)
    return next((mark for mark in "▁Ġ" if any(piece.startswith(mark) for piece in pieces)), None)
