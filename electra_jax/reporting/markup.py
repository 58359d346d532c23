"""The templates of the pages, and what fills them. Whatever comes in is text and is escaped, unless it is `Markup`."""

import functools
import json
import re
from collections.abc import Iterable
from typing import Any

import jinja2
from markupsafe import Markup


def render(template: str, **values: Any) -> Markup:
    """The HTML of a template of `templates/`.

    Raises:
      jinja2.UndefinedError: the template asks for a value that is not given.
    """
    return Markup(_environment().get_template(f"{template}.html.j2").render(values))


def call(template: str, macro: str, *values: Any) -> Markup:
    """The HTML of one macro of a template that is a collection of them."""
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
    """Says whether a piece stands for no text: [CLS], <pad> and the like."""
    return bool(re.fullmatch(r"\[\w+\]|</?\w+>", piece))


def word_mark(pieces: Iterable[str]) -> str | None:
    """The sign at the beginning of words; None where what goes on has a sign instead.

    SentencePiece and byte-level BPE mark the beginnings of words, WordPiece marks what goes on.
    """
    pieces = list(pieces)
    return next((mark for mark in "▁Ġ" if any(piece.startswith(mark) for piece in pieces)), None)
