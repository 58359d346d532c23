"""Search for answers among probable starts and ends in the windows of a context. Imports NumPy only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from electra_jax.finetuning.data.windows import QuestionRows, central

_KEPT = 20  # Candidates per question; n_best_size in Google's code and transformers.


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A candidate answer.

    Attributes:
      text: context[start : start + len(text)], not empty.
      start: offset in characters.
      score: its highest score in any window.
      probability: softmax of the score over the candidates.
    """

    text: str
    start: int
    score: float
    probability: float


@dataclasses.dataclass(frozen=True)
class Found:
    """A model's answers to one question.

    Attributes:
      candidates: answers with different texts, best first; empty if no pair of searched starts and ends is valid.
      null_odds: score of having no answer; larger means more probable.
    """

    candidates: tuple[Candidate, ...]
    null_odds: float


def answer(found: Found, null_threshold: float | None) -> Candidate | None:
    """The predicted answer; None if there is none.

    Args:
      found: the answers to a question.
      null_threshold: null odds above which there is no answer; None if every question has one.
    """
    if not found.candidates or (null_threshold is not None and found.null_odds > null_threshold):
        return None
    return found.candidates[0]


def confidence(found: Found, null_threshold: float | None) -> float:
    """Confidence in the answer, from 0 to 1, relative to the other candidates and to having no answer."""
    probability = found.candidates[0].probability if found.candidates else 1.0
    if null_threshold is None:
        return probability
    # At the threshold both are equally likely; clipped, so that the exponential stays finite.
    excess = min(max(found.null_odds - null_threshold, -50.0), 50.0)
    no_answer = 1 / (1 + math.exp(-excess))
    return no_answer if answer(found, null_threshold) is None else probability * (1 - no_answer)


def search(rows: QuestionRows, predicted: Mapping[str, np.ndarray], *, longest_answer: int) -> Iterator[Found]:
    """Yields the answers to each question of a split, in order.

    Ends conditioned on their start are ranked as in Google's code (`qa_metrics.write_predictions`): by the sum of the
    two log-probabilities in a window; a start counts only in the window that shows most of its context; the null odds
    are the minimum of the windows' `null_scores`. Independent ends are ranked as in transformers (its example
    `utils_qa.py`, which follows BERT): by the sum of the two logits, in all windows; the null odds are the minimum of
    the windows' `null_scores` minus the score of the best answer.

    Args:
      rows: rows of the split.
      predicted: "start_ids" and "start_scores" [N, K]; "end_ids" and "end_scores" [N, K, K] for each start, or [N, K];
        "null_scores" [N].
      longest_answer: maximum length of an answer in tokens.
    """
    joint = predicted["end_ids"].ndim == 3
    bounds = np.searchsorted(rows.example_N, np.arange(len(rows.examples) + 1))
    for example, first, behind in zip(rows.examples, bounds[:-1], bounds[1:], strict=True):
        own = slice(first, behind)
        chosen = {name: array[own] for name, array in predicted.items()}
        spans = _spans(rows, own, chosen, longest_answer, central_only=joint)
        candidates = _candidates(example.context, *spans)
        null_odds = float(chosen["null_scores"].min())
        if not joint and candidates:
            null_odds -= candidates[0].score
        yield Found(candidates, null_odds)


def _spans(
    rows: QuestionRows, own: slice, chosen: Mapping[str, np.ndarray], longest_answer: int, *, central_only: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All valid spans of a question: first character, end, and score; unordered."""
    context, window_W, size_W = rows.context_N[own.start], rows.window_N[own], rows.size_N[own]
    # From positions in rows to indices of the context's tokens; spans outside the window are invalid.
    offset_W = window_W - rows.place_N[own]
    start_WxKx1 = (chosen["start_ids"] + offset_W[:, None])[..., None]
    shape = (len(window_W), 1, -1) if chosen["end_ids"].ndim == 2 else chosen["end_ids"].shape
    end_WxKxK = chosen["end_ids"].reshape(shape) + offset_W[:, None, None]
    score_WxKxK = chosen["start_scores"][..., None] + chosen["end_scores"].reshape(shape)
    low_Wx1x1, high_Wx1x1 = window_W[:, None, None], (window_W + size_W)[:, None, None]
    valid_WxKxK = (
        (start_WxKx1 >= low_Wx1x1)
        & (end_WxKxK < high_Wx1x1)
        & (end_WxKxK >= start_WxKx1)
        & (end_WxKxK - start_WxKx1 < longest_answer)
    )
    if central_only and len(window_W) > 1:
        central_C = central(window_W, size_W, len(context.ids_C))
        starts_WxKx1 = np.clip(start_WxKx1, 0, len(central_C) - 1)
        valid_WxKxK &= central_C[starts_WxKx1] == np.arange(len(window_W))[:, None, None]
    start_S, end_S = (np.broadcast_to(tokens, valid_WxKxK.shape)[valid_WxKxK] for tokens in (start_WxKx1, end_WxKxK))
    return context.starts_C[start_S], context.ends_C[end_S], score_WxKxK[valid_WxKxK]


def _candidates(context: str, from_S: np.ndarray, to_S: np.ndarray, score_S: np.ndarray) -> tuple[Candidate, ...]:
    best: dict[str, tuple[int, float]] = {}
    for span in np.argsort(-score_S, kind="stable"):
        text = context[from_S[span] : to_S[span]]
        # Pieces for blanks and for parts of characters can have empty text.
        if text and text not in best:
            best[text] = (int(from_S[span]), float(score_S[span]))
            if len(best) == _KEPT:
                break
    if not best:
        return ()
    scores = np.array([score for _, score in best.values()])
    exponentials = np.exp(scores - scores.max())
    probabilities = exponentials / exponentials.sum()
    return tuple(
        Candidate(text, start, score, float(probability))
        for (text, (start, score)), probability in zip(best.items(), probabilities, strict=True)
    )
