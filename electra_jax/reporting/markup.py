"""Rendering of the pages' templates. Every value is escaped as text, unless it is `Markup`."""

import functools
import json
import re
from collections.abc import Iterable
from typing import Any

import jinja2
from markupsafe import Markup


def render(template: str, **values: Any) -> Markup:
    """Returns the HTML of a template of `templates/`.

    Raises:
      jinja2.UndefinedError: the template uses a value that is not given.
    """
    return Markup(_environment().get_template(f"{template}.html.j2").render(values))


def call(template: str, macro: str, *values: Any) -> Markup:
    """Returns the HTML of one macro of a template that is a collection of them."""
    return Markup(getattr(_environment().get_template(f"{template}.html.j2").module, macro)(*values))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("electra_jax.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"leaf": _leaf, "percent": _percent, "thousands": _thousands}
    return environment


def _leaf(item: Any) -> str:
    """A value of a config as text."""
    return item if isinstance(item, str) and item else json.dumps(item, ensure_ascii=False)


def _percent(share: float, digits: int = 0) -> str:
    return f"{share:.{digits}%}"


def _thousands(count: int) -> str:
    return f"{count:,}"


def is_special(piece: str) -> bool:
    """Returns whether a piece is a special token: [CLS], <pad> and the like."""
    return bool(re.fullmatch(r"\[\w+\]|</?\w+>", piece))


def word_mark(pieces: Iterable[str]) -> str | None:
    """Returns the mark at the beginning of words; None if continuations are marked instead.

    SentencePiece and byte-level BPE mark the beginnings of words, WordPiece marks continuations.
    """
    pieces = list(pieces)
    return next((mark for mark in "▁Ġ" if any(piece.startswith(mark) for piece in pieces)), None)
