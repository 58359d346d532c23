"""Windows over long texts, and rows of questions and contexts with the place of each window's tokens in the text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from electra_jax.finetuning.data.examples import QuestionExample
from electra_jax.finetuning.data.rows import Rows
from electra_jax.text.tokenizers.tokenizer import Tokenizer

# Windows over a text overlap by this share of their size, so that each token has context on both sides.
_OVERLAP = 4


class Cover(NamedTuple):
    """The windows over a text of T tokens, each in a row behind [CLS].

    Attributes:
      window_W: int64, the first token of each window.
      size_W: int64, tokens in each window.
      owner_T: int64, the window from which each token's output is taken: where it has most context.
      place_T: int64, its position in that window's row.
    """

    window_W: np.ndarray
    size_W: np.ndarray
    owner_T: np.ndarray
    place_T: np.ndarray


def covering(tokens: int, room: int) -> Cover:
    """Overlapping windows over a text; a single one if it fits.

    Args:
      tokens: number of tokens in the text, at least one.
      room: size of a window.
    """
    window_W, size_W = np.array(spread(tokens, room, room - room // _OVERLAP), np.int64).T
    within_T = np.arange(tokens)
    last_T = np.searchsorted(window_W, within_T, side="right") - 1
    before_T = np.maximum(last_T - 1, 0)  # No token is in more than two.

    def lesser(owner_T: np.ndarray) -> np.ndarray:
        behind_T = within_T - window_W[owner_T]
        return np.minimum(behind_T, size_W[owner_T] - 1 - behind_T)

    owner_T = np.where(lesser(before_T) >= lesser(last_T), before_T, last_T)
    return Cover(window_W, size_W, owner_T, within_T - window_W[owner_T] + 1)


@dataclasses.dataclass(frozen=True)
class Context:
    """The C tokens of a context.

    Attributes:
      ids_C: int32 token ids.
      starts_C: int64, offset of each token's first character.
      ends_C: int64, offset after each token's last character.
    """

    ids_C: np.ndarray
    starts_C: np.ndarray
    ends_C: np.ndarray

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """First and last token that overlap the characters [start, end); None if there are none."""
        first = int(np.searchsorted(self.ends_C, start, side="right"))
        last = int(np.searchsorted(self.starts_C, end, side="left")) - 1
        return (first, last) if first <= last else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionRows(Rows[QuestionExample]):
    """N rows [CLS] question [SEP] window of the context [SEP]; rows of one example are adjacent.

    Attributes:
      context_N: context of each row, shared among rows with the same context.
      window_N: int64, index of the window's first token in the context.
      place_N: int64, position of that token in the row.
      size_N: int64, number of context tokens in the row.
    """

    context_N: Sequence[Context]
    window_N: np.ndarray
    place_N: np.ndarray
    size_N: np.ndarray


def question_rows(
    examples: Sequence[QuestionExample],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    stride: int,
    longest_question: int,
) -> QuestionRows:
    """Makes the rows of a split as Google's code does (`qa_tasks.featurize`).

    A window without the full answer has start and end at [CLS]; this does not make the question impossible.

    Args:
      examples: the split.
      tokenizer: the model's tokenizer.
      max_length: maximum length of a row in tokens; must leave room for context after `longest_question` + 3.
      stride: tokens from the start of one window to the start of the next, at most the size of a window.
      longest_question: maximum length of a question in tokens; longer ones are truncated and counted.

    Returns:
      By row, "start" and "end", int32 positions of the first answer, and "impossible", float32, 1 if there is no
      answer, 0 also if answers are unknown. By token, "allowed", int32: 1 where an answer may start and end, that is
      in the context and at [CLS].
    """
    ids, lengths = tokenizer.encode([example.question for example in examples])
    ends = np.cumsum(lengths)
    cls, sep = np.array([[tokenizer.cls_id], [tokenizer.sep_id]], np.int32)
    contexts: dict[str, Context] = {}
    pieces: list[np.ndarray] = []
    numbers, context_N, window_N, place_N, size_N, start_N, end_N = [], [], [], [], [], [], []
    for number, example in enumerate(examples):
        if example.context not in contexts:
            contexts[example.context] = Context(*tokenizer.encode_with_offsets(example.context))
        context = contexts[example.context]
        question = ids[ends[number] - lengths[number] : ends[number]][:longest_question]
        place = len(question) + 2
        answer = _answer_tokens(example, context)
        for window, size in spread(len(context.ids_C), max_length - place - 1, stride):
            pieces += [cls, question, sep, context.ids_C[window : window + size], sep]
            within = answer is not None and window <= answer[0] and answer[1] < window + size
            start_N.append(answer[0] - window + place if answer and within else 0)
            end_N.append(answer[1] - window + place if answer and within else 0)
            numbers.append(number)
            context_N.append(context)
            window_N.append(window)
            place_N.append(place)
            size_N.append(size)
    example_N, places, sizes = np.array(numbers, np.int32), np.array(place_N, np.int64), np.array(size_N, np.int64)
    ones = np.ones_like(sizes)
    impossible = np.array([example.answers == () for example in examples], np.float32)
    return QuestionRows(
        examples=examples,
        example_N=example_N,
        tokens_T=np.concatenate(pieces),
        segments_T=_alternating([places, sizes + 1], [0, 1]),
        lengths_N=places + sizes + 1,
        by_row={
            "start": np.array(start_N, np.int32),
            "end": np.array(end_N, np.int32),
            "impossible": impossible[example_N],
        },
        by_token={"allowed": (_alternating([ones, places - 1, sizes, ones], [1, 0, 1, 0]), 0)},
        truncated=int(np.sum(lengths > longest_question)),
        context_N=context_N,
        window_N=np.array(window_N, np.int64),
        place_N=places,
        size_N=sizes,
    )


def central(window_W: np.ndarray, size_W: np.ndarray, tokens: int) -> np.ndarray:
    """For each token, the window with the most context on its shorter side (Google's code).

    Args:
      window_W: int, the first token of each window of a context.
      size_W: int, tokens in each window; the windows cover the context.
      tokens: number of tokens in the context, C.

    Returns:
      int [C], the first such window; longer windows gain a hundredth per token.
    """
    within_WxC = np.arange(tokens) - window_W[:, None]
    beyond_WxC = size_W[:, None] - 1 - within_WxC
    lesser_WxC = np.minimum(within_WxC, beyond_WxC)
    return np.argmax(np.where(lesser_WxC < 0, -1.0, lesser_WxC + 0.01 * size_W[:, None]), axis=0)


def _answer_tokens(example: QuestionExample, context: Context) -> tuple[int, int] | None:
    if not example.answers:
        return None
    answer = example.answers[0]
    return context.tokens_of(answer.start, answer.start + len(answer.text))


def spread(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """First token and size of each window; at least one, even for a context without tokens.

    Args:
      tokens: number of tokens in the context.
      room: size of a window.
      stride: tokens from the start of one window to the start of the next.
    """
    starts = range(0, max(tokens - room, 0) + min(stride, room), min(stride, room))
    return [(start, min(room, tokens - start)) for start in starts]


def _alternating(lengths: Sequence[np.ndarray], values: Sequence[int]) -> np.ndarray:
    """Repeats the values in turn, as often as each row's lengths state; int32, rows concatenated."""
    return np.repeat(np.tile(np.array(values, np.int32), len(lengths[0])), np.stack(lengths, axis=1).ravel())
