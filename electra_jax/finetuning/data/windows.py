"""Questions and their contexts as rows: long contexts in windows, and where each window's tokens lie in the text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from electra_jax.finetuning.data.examples import QuestionExample
from electra_jax.finetuning.data.rows import Rows
from electra_jax.text.tokenizers.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Context:
    """A context's C tokens.

    Attributes:
      ids_C: int32.
      starts_C: int64, the first character of each.
      ends_C: int64, behind its last character.
    """

    ids_C: np.ndarray
    starts_C: np.ndarray
    ends_C: np.ndarray

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last token that hold some of the characters from `start` to before `end`, if any do."""
        first = int(np.searchsorted(self.ends_C, start, side="right"))
        last = int(np.searchsorted(self.starts_C, end, side="left")) - 1
        return (first, last) if first <= last else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionRows(Rows[QuestionExample]):
    """Rows [CLS] question [SEP] window of the context [SEP], N of them, those of an example one behind the other.

    Attributes:
      context_N: of each row, shared among the rows and questions that have the same.
      window_N: int64, which of the context's tokens is the row's first.
      place_N: int64, the position in the row where that token stands.
      size_N: int64, how many tokens of the context the row holds.
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
    """Makes the rows of a split, as Google's code does (`qa_tasks.featurize`).

    A window that does not hold the whole answer has its start and end at [CLS], and the answer is not called
    impossible for that.

    Args:
      examples: the split.
      tokenizer: of the model.
      max_length: tokens of a row; `longest_question` + 3 leave room for some of the context.
      stride: tokens from the start of one window to the start of the next; of short windows their length.
      longest_question: tokens; longer questions are cut, and counted as truncated.

    Returns:
      by row "start" and "end", int32 positions of the first answer, and "impossible", float32, 1 where there is none;
      0 where answers are not known. By token "allowed", int32: 1 where an answer may start and end, on the context
      and on [CLS].
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
        for window, size in _windows(len(context.ids_C), max_length - place - 1, stride):
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
    """Which window shows the most of what surrounds a token: the lesser of its two sides counts (Google's code).

    Args:
      window_W: int, the first token of each window of a context.
      size_W: int, tokens of each; together the windows hold all.
      tokens: C, of the context.

    Returns:
      int [C], the first such window; longer ones win by a hundredth for each token more.
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


def _windows(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """First token and size of each window; at least one, for a context that a tokenizer takes for nothing."""
    starts = range(0, max(tokens - room, 0) + min(stride, room), min(stride, room))
    return [(start, min(room, tokens - start)) for start in starts]


def _alternating(lengths: Sequence[np.ndarray], values: Sequence[int]) -> np.ndarray:
    """Of each row so many of the first value, then of the second, and so on; int32, the rows one behind the other."""
    return np.repeat(np.tile(np.array(values, np.int32), len(lengths[0])), np.stack(lengths, axis=1).ravel())
