"""Predictions for a text as a whole: classes, grades, vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from electra_jax.errors import InputError
from electra_jax.finetuning.data.text_rows import encoded_texts
from electra_jax.finetuning.data.windows import spread
from electra_jax.inference.kinds import MOST_CHARACTERS, Prediction, Prepared
from electra_jax.inference.results import Classification, Embedding, Grade, MultiClassification, Problem, Result
from electra_jax.inference.row_batches import Arrays, Row
from electra_jax.inference.runtime import Output
from electra_jax.inference.text_windows import UnusableError, checked_text
from electra_jax.text.tokenizers.tokenizer import Tokenizer

LongTexts = Literal["truncate", "windows"]
Pooling = Literal["mean", "cls"]


class Classifier(Prediction):
    """Implements `kinds.Prediction`: one class, several, or a grade.

    Attributes:
      labels: names of the classes in the order of the logits.
    """

    output: Output = "task"
    most_characters = MOST_CHARACTERS

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        labels: tuple[str, ...],
        kind: str,
        text_columns: Sequence[str],
        *,
        threshold: float = 0.5,
        long_texts: LongTexts = "truncate",
    ) -> None:
        """Keeps what it is given.

        Args:
          tokenizer: the model's tokenizer.
          max_length: maximum length of a row in tokens.
          labels: names of the classes in the order of the logits.
          kind: "classification", "multilabel" or "regression".
          text_columns: names of the texts that it was trained on, one or two; empty if unknown.
          threshold: probability from which a class of several is chosen.
          long_texts: "truncate" reads what fits, as training does; "windows" averages the logits of all windows of a
            single text. Pairs are always truncated.

        Raises:
          InputError: no such treatment of long texts.
        """
        _check_choice("long_texts", long_texts, get_args(LongTexts))
        self.labels, self._kind, self._text_columns = labels, kind, tuple(text_columns)
        self._tokenizer, self._max_length = tokenizer, max_length
        self._threshold, self._long_texts = threshold, long_texts

    def prepare(self, items: Sequence[Any]) -> list[Prepared | Problem]:
        """See `Prediction`; an input is a text, or one text or two as a sequence."""
        checked = [self._checked(item) for item in items]
        texts = [texts for texts in checked if not isinstance(texts, Problem)]
        whole = self._long_texts == "windows"
        encoded = iter(encoded_texts(texts, self._tokenizer, 1 << 40 if whole else self._max_length) if texts else ())
        found: list[Prepared | Problem] = []
        for one in checked:
            if isinstance(one, Problem):
                found.append(one)
                continue
            row = next(encoded)
            if whole and len(row.tokens_L) > self._max_length and len(one) == 2:
                (row,) = encoded_texts([one], self._tokenizer, self._max_length)
            rows, truncated = [Row(row.tokens_L, row.segments_L)], row.left_out
            if len(row.tokens_L) > self._max_length:
                rows = _windows(row.tokens_L, self._max_length)
            found.append(Prepared(rows, self._finisher([len(row.tokens_L) for row in rows], truncated)))
        return found

    def _checked(self, item: Any) -> tuple[str, ...] | Problem:
        texts = (item,) if isinstance(item, str) or not isinstance(item, Sequence) else tuple(item)
        expected = len(self._text_columns)
        try:
            if len(texts) not in (1, 2) or (expected and len(texts) != expected):
                wanted = f"a pair ({', '.join(self._text_columns)})" if expected == 2 else "one text"
                wanted = wanted if expected else "one text or a pair"
                raise UnusableError(f"found {_counted(len(texts))}, expected {wanted}, as the model was trained on")
            return tuple(checked_text(text).strip() for text in texts)
        except UnusableError as error:
            return Problem(str(error))

    def _finisher(self, lengths: Sequence[int], truncated: int) -> Any:
        def finish(kept: Sequence[np.ndarray]) -> Result:
            logits_C = np.average(np.stack(kept), axis=0, weights=lengths) if len(kept) > 1 else kept[0]
            return self._result(logits_C.astype(np.float64), truncated, len(kept))

        return finish

    def _result(self, logits_C: np.ndarray, truncated: int, count: int) -> Result:
        if self._kind == "regression":
            return Grade(float(logits_C[0]), truncated, count)
        if self._kind == "multilabel":
            probabilities_C = 1 / (1 + np.exp(-np.clip(logits_C, -500, 500)))
            chosen = sorted(
                label for label, p in zip(self.labels, probabilities_C, strict=True) if p >= self._threshold
            )
            return MultiClassification(tuple(chosen), self.labels, probabilities_C, truncated, count)
        exponentials_C = np.exp(logits_C - logits_C.max())
        probabilities_C = exponentials_C / exponentials_C.sum()
        best = int(logits_C.argmax())
        return Classification(
            self.labels[best], float(probabilities_C[best]), self.labels, probabilities_C, truncated, count
        )

    def keep(self, row: Row, outputs: Arrays) -> np.ndarray:
        """Logits, float32 [C]."""
        del row
        return outputs["logits"]


class Embedder(Prediction):
    """Implements `kinds.Prediction`: one vector for each text."""

    output: Output = "hidden"
    most_characters = MOST_CHARACTERS

    def __init__(
        self, tokenizer: Tokenizer, max_length: int, *, pooling: Pooling = "mean", normalize: bool = True
    ) -> None:
        """Keeps what it is given.

        Args:
          tokenizer: the model's tokenizer.
          max_length: maximum length of a row in tokens.
          pooling: "mean" over all tokens, [CLS] and [SEP] included, or the last hidden state of [CLS].
          normalize: divides each vector by its length.

        Raises:
          InputError: no such pooling.
        """
        _check_choice("pooling", pooling, get_args(Pooling))
        self._tokenizer, self._max_length = tokenizer, max_length
        self._pooling, self._normalize = pooling, normalize

    def prepare(self, items: Sequence[Any]) -> list[Prepared | Problem]:
        """See `Prediction`."""
        checked: list[str | Problem] = []
        for item in items:
            try:
                checked.append(checked_text(item))
            except UnusableError as error:
                checked.append(Problem(str(error)))
        texts = [(text,) for text in checked if isinstance(text, str)]
        encoded = iter(encoded_texts(texts, self._tokenizer, 1 << 40) if texts else ())
        return [item if isinstance(item, Problem) else self._prepared(next(encoded).tokens_L) for item in checked]

    def _prepared(self, tokens_L: np.ndarray) -> Prepared:
        rows = _windows(tokens_L, self._max_length)
        lengths = [len(row.tokens_L) for row in rows]

        def finish(kept: Sequence[np.ndarray]) -> Embedding:
            vector_D = np.average(np.stack(kept), axis=0, weights=lengths) if len(kept) > 1 else kept[0]
            if self._normalize:
                vector_D = vector_D / max(float(np.linalg.norm(vector_D)), 1e-12)
            return Embedding(vector_D.astype(np.float32), len(kept))

        return Prepared(rows, finish)

    def keep(self, row: Row, outputs: Arrays) -> np.ndarray:
        """The pooled vector, float32 [D]."""
        hidden_LxD = outputs["hidden"]
        return hidden_LxD[0].copy() if self._pooling == "cls" else hidden_LxD[: len(row.tokens_L)].mean(axis=0)


def _windows(tokens_L: np.ndarray, max_length: int) -> list[Row]:
    """The row of a text; or rows of its parts, which do not overlap, each with [CLS] and [SEP]."""
    inner, room = tokens_L[1:-1], max_length - 2
    rows = []
    for start, size in spread(len(inner), room, room):
        part_L = np.concatenate([tokens_L[:1], inner[start : start + size], tokens_L[-1:]])
        rows.append(Row(part_L, np.zeros(len(part_L), np.int32)))
    return rows


def _check_choice(name: str, found: str, known: Sequence[str]) -> None:
    if found not in known:
        raise InputError(f"{name}: found {found!r}, expected one of {', '.join(known)}")


def _counted(count: int) -> str:
    return "1 text" if count == 1 else f"{count} texts"
