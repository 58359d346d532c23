"""Predictions as values: frozen dataclasses with NumPy arrays.

Places are offsets in characters of the text as it was given, text[start:end]. Axes: T tokens, W words, C classes.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Problem:
    """What takes the place of a result when an input cannot be used.

    Attributes:
      message: what was found and what was expected.
    """

    message: str


@dataclasses.dataclass(frozen=True, eq=False)
class Detection:
    """For each token, the probability that it was replaced.

    Attributes:
      tokens: pieces as the vocabulary spells them.
      starts_T: int64, the first character of each token.
      ends_T: int64, one after its last.
      probabilities_T: float32.
      windows: number of rows that the text was split into.
    """

    tokens: tuple[str, ...]
    starts_T: np.ndarray
    ends_T: np.ndarray
    probabilities_T: np.ndarray
    windows: int = 1


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A token for a mask.

    Attributes:
      token: the piece as the vocabulary spells it.
      id: its id.
      probability: softmax over the vocabulary.
    """

    token: str
    id: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Mask:
    """A mask of a text, with the most probable tokens, best first."""

    start: int
    end: int
    candidates: tuple[Candidate, ...]


@dataclasses.dataclass(frozen=True)
class Filling:
    """The masks of a text, in its order.

    Attributes:
      masks: one for each mask.
      text: the text with the best token in place of each mask.
      windows: number of rows that the text was split into.
    """

    masks: tuple[Mask, ...]
    text: str
    windows: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """The class of a text or a pair.

    Attributes:
      label: the most probable class.
      probability: its probability.
      labels: names of all classes.
      probabilities_C: float64, in the order of `labels`.
      truncated: number of tokens that did not fit and were not read.
      windows: number of rows that the text was split into; their logits are averaged.
    """

    label: str
    probability: float
    labels: tuple[str, ...]
    probabilities_C: np.ndarray
    truncated: int = 0
    windows: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class MultiClassification:
    """The classes of a text or a pair, any number of them; see `Classification`.

    Attributes:
      chosen: classes at or above the threshold, sorted.
      labels: names of all classes.
      probabilities_C: float64, in the order of `labels`.
      truncated: see `Classification`.
      windows: see `Classification`.
    """

    chosen: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities_C: np.ndarray
    truncated: int = 0
    windows: int = 1


@dataclasses.dataclass(frozen=True)
class Grade:
    """The grade of a text or a pair; see `Classification`."""

    grade: float
    truncated: int = 0
    windows: int = 1


@dataclasses.dataclass(frozen=True)
class Span:
    """A tagged span: text[start:end].

    Attributes:
      label: its type, such as "PER".
      start: its first character.
      end: one after its last.
      text: the span itself.
      first_word: index of its first word.
      last_word: index of its last.
      probability: mean probability of its words' tags.
    """

    label: str
    start: int
    end: int
    text: str
    first_word: int
    last_word: int
    probability: float


@dataclasses.dataclass(frozen=True, eq=False)
class Tagging:
    """The tags of a text's words.

    Attributes:
      words: the words; of a sentence given as words, these.
      tags: one for each word; spans are written as B-… and I-….
      starts_W: int64, the first character of each word; for a sentence given as words, in the words joined by blanks.
      ends_W: int64, one after its last.
      probabilities_W: float32, of the tag that the model chose for the word's first token.
      spans: the spans, if the tags mark any.
      marks_spans: whether the model's tags mark spans.
      windows: number of rows that the text was split into.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    starts_W: np.ndarray
    ends_W: np.ndarray
    probabilities_W: np.ndarray
    spans: tuple[Span, ...]
    marks_spans: bool
    windows: int = 1


@dataclasses.dataclass(frozen=True)
class AnswerCandidate:
    """A candidate answer, context[start:end], with its probability among the candidates."""

    text: str
    start: int
    end: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
      text: context[start:end]; "" if the context has no answer.
      start: 0 if there is no answer.
      end: 0 if there is no answer.
      probability: confidence in the answer, or in there being none.
      null_odds: score of having no answer; there is none above the threshold.
      candidates: the best answers, best first.
      truncated: number of tokens of the question that were not read.
      windows: number of rows that the context was split into.
    """

    text: str
    start: int
    end: int
    probability: float
    null_odds: float
    candidates: tuple[AnswerCandidate, ...]
    truncated: int = 0
    windows: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """A text's vector, float32 [D]; of a text in several windows, the mean over all of its tokens."""

    vector_D: np.ndarray
    windows: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """Pseudo-log-likelihood of a text (Salazar et al. 2020): each token predicted from all others.

    Attributes:
      tokens: pieces as the vocabulary spells them.
      starts_T: int64, the first character of each token.
      ends_T: int64, one after its last.
      log_probabilities_T: float32, natural logarithms.
      windows: number of windows that the text was split into.
    """

    tokens: tuple[str, ...]
    starts_T: np.ndarray
    ends_T: np.ndarray
    log_probabilities_T: np.ndarray
    windows: int = 1

    @property
    def total(self) -> float:
        """The pseudo-log-likelihood: the sum over the tokens."""
        return float(np.sum(self.log_probabilities_T, dtype=np.float64))

    @property
    def perplexity(self) -> float:
        """Pseudo-perplexity: exp of the negative mean; infinity where the number is too large."""
        mean = -self.total / len(self.tokens)
        return math.exp(mean) if mean < 700 else math.inf


Result = (
    Detection | Filling | Classification | MultiClassification | Grade | Tagging | Answer | Embedding | Score
)  # fmt: skip
