"""Predictions for each token or word of a text: replaced tokens, tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from electra_jax.finetuning.data import spans, text_rows
from electra_jax.finetuning.data.spans import ImpossibleTagsError
from electra_jax.inference.kinds import MOST_CHARACTERS, OneByOne, Prepared
from electra_jax.inference.results import Detection, Span, Tagging
from electra_jax.inference.row_batches import Arrays, Row
from electra_jax.inference.runtime import Output
from electra_jax.inference.text_windows import (
    Encoded,
    UnusableError,
    Windows,
    checked_text,
    encoded,
    windows,
    words_of,
)
from electra_jax.text.tokenizers.tokenizer import Tokenizer


class Detecting(OneByOne):
    """Implements `kinds.Prediction`: which tokens were replaced."""

    output: Output = "replaced"
    most_characters = MOST_CHARACTERS

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self._tokenizer, self._max_length = tokenizer, max_length

    def _one(self, item: Any) -> Prepared:
        text = encoded(item, self._tokenizer)
        own = windows(text.ids_T, self._tokenizer, self._max_length)

        def finish(kept: Sequence[np.ndarray]) -> Detection:
            return Detection(
                tokens=tuple(self._tokenizer.pieces(text.ids_T)),
                starts_T=text.starts_T,
                ends_T=text.ends_T,
                probabilities_T=gathered(kept, own),
                windows=len(own.rows),
            )

        return Prepared(own.rows, finish)

    def keep(self, row: Row, outputs: Arrays) -> np.ndarray:
        """Probabilities of the row's tokens, float32 [L]."""
        logits_L = outputs["logits"][: len(row.tokens_L)].astype(np.float64)
        return (1 / (1 + np.exp(-np.clip(logits_L, -500, 500)))).astype(np.float32)


class TagWords(OneByOne):
    """Implements `kinds.Prediction`: tags of words; a word has the tag of its first token, as in training.

    Attributes:
      labels: names of the tags in the order of the logits.
    """

    output: Output = "task"
    most_characters = MOST_CHARACTERS

    def __init__(
        self, tokenizer: Tokenizer, max_length: int, labels: tuple[str, ...], token_type: int, marks_spans: bool | None
    ) -> None:
        """Keeps what it is given.

        Args:
          tokenizer: the model's tokenizer.
          max_length: maximum length of a row in tokens.
          labels: names of the tags in the order of the logits.
          token_type: segment of the rows.
          marks_spans: whether the tags mark spans; None to decide by their names.
        """
        self.labels, self._tokenizer, self._max_length, self._token_type = labels, tokenizer, max_length, token_type
        try:
            self._scheme = spans.scheme_of([labels])
        except ImpossibleTagsError:
            marks_spans = False
        self._marks_spans = marks_spans is not False

    def _one(self, item: Any) -> Prepared:
        """See `OneByOne`; an input is a text or a sequence of words."""
        if isinstance(item, str):
            text = encoded(item, self._tokenizer)
            first_W, starts_W, ends_W = words_of(text, self._tokenizer)
        else:
            text, first_W, starts_W, ends_W = self._of_words(item)
        own = windows(text.ids_T, self._tokenizer, self._max_length, self._token_type)

        def finish(kept: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tagging:
            numbers_T = gathered([numbers for numbers, _ in kept], own)
            probabilities_T = gathered([probabilities for _, probabilities in kept], own)
            return self._tagging(
                text.text, starts_W, ends_W, numbers_T[first_W], probabilities_T[first_W], len(own.rows)
            )

        return Prepared(own.rows, finish)

    def _of_words(self, words: Any) -> tuple[Encoded, np.ndarray, np.ndarray, np.ndarray]:
        if not isinstance(words, Sequence) or not words:
            raise UnusableError(f"found {type(words).__name__} {str(words)[:40]!r}, expected a text or a list of words")
        words = [checked_text(word) for word in words]
        ids_T, lengths_W = text_rows.encoded_words(words, self._tokenizer)
        sizes_W = np.array([len(word) for word in words], np.int64)
        ends_W = np.cumsum(sizes_W + 1) - 1
        starts_W = ends_W - sizes_W
        text = Encoded(" ".join(words), ids_T, np.repeat(starts_W, lengths_W), np.repeat(ends_W, lengths_W))
        return text, np.cumsum(lengths_W) - lengths_W, starts_W, ends_W

    def _tagging(
        self,
        text: str,
        starts_W: np.ndarray,
        ends_W: np.ndarray,
        numbers_W: np.ndarray,
        probabilities_W: np.ndarray,
        count: int,
    ) -> Tagging:
        tags = [self.labels[number] for number in numbers_W]
        found: list[Span] = []
        if self._marks_spans:
            tags = spans.from_bioes(spans.to_bioes(tags, self._scheme) if self._scheme == "bilou" else tags)
            for first, behind in _spans(tags):
                start, end = int(starts_W[first]), int(ends_W[behind - 1])
                probability = float(np.mean(probabilities_W[first:behind]))
                label = tags[first].partition("-")[2]
                found.append(Span(label, start, end, text[start:end], first, behind - 1, probability))
        return Tagging(
            words=tuple(text[start:end] for start, end in zip(starts_W, ends_W, strict=True)),
            tags=tuple(tags),
            starts_W=starts_W,
            ends_W=ends_W,
            probabilities_W=probabilities_W,
            spans=tuple(found),
            marks_spans=self._marks_spans,
            windows=count,
        )

    def keep(self, row: Row, outputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and probabilities of the best tags, int64 and float32 [L]."""
        logits_LxC = outputs["logits"][: len(row.tokens_L)].astype(np.float64)
        best_L = logits_LxC.argmax(axis=-1)
        exponentials_LxC = np.exp(logits_LxC - logits_LxC.max(axis=-1, keepdims=True))
        return best_L, (1 / exponentials_LxC.sum(axis=-1)).astype(np.float32)


def gathered(kept: Sequence[np.ndarray], own: Windows) -> np.ndarray:
    """The value of each token of a text, from values [L] of each of its windows."""
    values_T = np.empty(len(own.owner_T), kept[0].dtype)
    for window, values_L in enumerate(kept):
        mine_T = own.owner_T == window
        values_T[mine_T] = values_L[own.place_T[mine_T]]
    return values_T


def _spans(tags: Sequence[str]) -> list[tuple[int, int]]:
    """First word and one after the last of each span of a sentence's IOB2 tags."""
    starts = [number for number, tag in enumerate(tags) if tag[0] == "B"]
    ends = []
    for start in starts:
        end = start + 1
        while end < len(tags) and tags[end][0] == "I":
            end += 1
        ends.append(end)
    return list(zip(starts, ends, strict=True))
