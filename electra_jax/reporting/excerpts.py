"""Marked texts: wrong tags in a sentence, answers in their context."""

import itertools
import re
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from electra_jax.reporting import markup

_LONGEST_TEXT = 1200  # Characters.
_AROUND = 180  # Characters on both sides of an answer.
_GIVEN, _TRUE = 1, 2


def whole(text: str) -> Markup:
    """HTML of a text; the middle of a very long one is left out."""
    if len(text) > _LONGEST_TEXT:
        half = _LONGEST_TEXT // 2
        text = f"{text[:half]} […] {text[-half:]}"
    return markup.call("excerpts", "whole", text)


def tagged(words: Sequence[str], predicted: Sequence[str], true: Sequence[str]) -> Markup:
    """HTML of a sentence; words with a wrong tag have the true one above and the predicted one below."""
    columns = (map(str, column) for column in (words, true, predicted))
    return markup.call("excerpts", "tagged", list(zip(*columns, strict=True)))


def in_context(context: str, given: str, truths: Sequence[str], given_start: int | None) -> Markup:
    """HTML of the stretches of a context around the given answer and the right ones, each marked.

    Args:
      context: the text that the question is about.
      given: the model's answer; "" if none.
      truths: the true answers.
      given_start: first character of the model's answer; None marks every occurrence.
    """
    marks = bytearray(len(context))
    places = []
    for answers, mark in (([given], _GIVEN), (truths, _TRUE)):
        for answer in answers:
            found = list(_occurrences(context, answer))
            if mark == _GIVEN and given_start is not None:
                found = [place for place in found if place[0] == given_start] or found
            places += found[:1]
            for start, end in found:
                for index in range(start, end):
                    marks[index] |= mark
    windows = [_at_words(context, start, end) for start, end in _windows(len(context), places)]
    stretches = [list(_marked(context, marks, start, end)) for start, end in windows]
    before, after = "… " if windows[0][0] else "", " …" if windows[-1][1] < len(context) else ""
    return markup.call("excerpts", "in_context", stretches, before, after)


def _marked(context: str, marks: bytearray, start: int, end: int) -> Iterator[tuple[str, str]]:
    """Yields class and text of the parts of a stretch; the class is empty where nothing is marked."""
    names = {_GIVEN: "wrong", _TRUE: "truth", _GIVEN | _TRUE: "wrong truth"}
    for mark, indices in itertools.groupby(range(start, end), key=lambda index: marks[index]):
        yield names.get(mark, ""), "".join(context[index] for index in indices)


def _occurrences(context: str, answer: str) -> Iterator[tuple[int, int]]:
    """Yields the spans of an answer, those of full words if there are any."""
    if not answer:
        return
    found = list(re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", context))
    for match in found or re.finditer(re.escape(answer), context):
        yield match.span()


def _windows(length: int, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches around the spans, joined where they meet; the beginning of the text if there are none."""
    if length <= 4 * _AROUND:
        return [(0, length)]
    windows: list[tuple[int, int]] = []
    for start, end in sorted(places) or [(0, _AROUND)]:
        start, end = max(start - _AROUND, 0), min(end + _AROUND, length)
        if windows and start <= windows[-1][1]:
            windows[-1] = windows[-1][0], max(windows[-1][1], end)
        else:
            windows.append((start, end))
    return windows


def _at_words(context: str, start: int, end: int) -> tuple[int, int]:
    """Trims partial words off both ends of a stretch."""
    if start:
        space = context.find(" ", start, start + _AROUND // 4)
        start = space + 1 if space >= 0 else start
    if end < len(context):
        space = context.rfind(" ", end - _AROUND // 4, end)
        end = space if space >= 0 else end
    return start, end
