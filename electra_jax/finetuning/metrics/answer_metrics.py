"""Scores of answers to questions: exact match and F1 as in SQuAD's official evaluation, versions 1.1 and 2.0.

Behaviour from Rajpurkar et al. 2016 (https://arxiv.org/abs/1606.05250), Rajpurkar et al. 2018
(https://arxiv.org/abs/1806.03822) and the evaluation programs published with them. Scores are fractions, not percent.

The two versions differ in answers that are empty without articles and punctuation:

  1.1  An empty answer is compared like any other. Two empty answers match exactly, with F1 0.
  2.0  Empty gold answers are dropped; if none is left, the right answer is "". Two empty answers have F1 1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

ANSWERING = (
    *("exact", "f1", "best_exact", "best_f1"),
    *("has_answer_exact", "has_answer_f1", "no_answer_exact", "no_answer_f1"),
)

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalised(text: str) -> str:
    """An answer normalised for comparison: lower case, without ASCII punctuation and English articles, single spaces.

    Punctuation goes first and leaves no gap, so "a-b" is "ab", and other scripts' punctuation stays.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_and_f1(gold: Sequence[str], prediction: str, *, unanswerable: bool) -> tuple[float, float]:
    """Scores of one question, each the best over its right answers.

    Args:
      gold: the right answers; empty if there is none.
      prediction: "" stands for no answer.
      unanswerable: compare as in SQuAD 2.0 rather than 1.1.

    Returns:
      Exact match (0 or 1), and F1 over words.

    Raises:
      ValueError: there is no right answer, and `unanswerable` is False.
    """
    gold_words = [normalised(answer).split() for answer in gold]
    if unanswerable:
        gold_words = [words for words in gold_words if words] or [[]]
    elif not gold_words:
        raise ValueError("found a question without a right answer, which only SQuAD 2.0's rules (unanswerable) score")
    words = normalised(prediction).split()
    exact = float(words in gold_words)
    return exact, max(_f1(right, words, float(unanswerable)) for right in gold_words)


def answer_scores(
    gold: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None,
    threshold: float | None,
    *,
    unanswerable: bool,
) -> dict[str, float]:
    """Scores of a split.

    Args:
      gold: the right answers by question; empty for an unanswerable question.
      predictions: answers by question; those of other questions are ignored.
      null_odds: odds by question that there is no answer, on any scale.
      threshold: predictions with larger odds become "" for all but the "best" scores; None keeps all predictions.
      unanswerable: score as in SQuAD 2.0; otherwise as in 1.1, which has neither odds nor unanswerable questions.

    Returns:
      "exact" and "f1". For SQuAD 2.0 also "has_answer_exact", "has_answer_f1", "no_answer_exact" and "no_answer_f1"
      over the questions with and without an answer, if there are any; and with odds "best_exact" and "best_f1" at the
      best thresholds, "best_exact_threshold" and "best_f1_threshold".

    Raises:
      ValueError: no questions, one without prediction or odds, a threshold without odds, or odds for version 1.1.
    """
    _check(gold, predictions, null_odds, threshold, unanswerable)
    raw = {key: exact_and_f1(gold[key], predictions[key], unanswerable=unanswerable) for key in gold}
    final = dict(raw)
    if null_odds is not None and threshold is not None:
        for key in gold:
            if null_odds[key] > threshold:
                # As in the official evaluation, an answer that normalises to nothing, such as "the", counts as one.
                final[key] = (0.0, 0.0) if gold[key] else (1.0, 1.0)

    scores = _means("", final.values())
    if unanswerable:
        scores |= _means("has_answer_", [final[key] for key in gold if gold[key]])
        scores |= _means("no_answer_", [final[key] for key in gold if not gold[key]])
    if null_odds is not None:
        for column, name in enumerate(("best_exact", "best_f1")):
            by_key = {key: pair[column] for key, pair in raw.items()}
            scores[name], scores[f"{name}_threshold"] = _best(gold, predictions, by_key, null_odds)
    return scores


def _check(
    gold: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None,
    threshold: float | None,
    unanswerable: bool,
) -> None:
    if not gold:
        raise ValueError("no questions to score")
    if threshold is not None and null_odds is None:
        raise ValueError("a threshold needs odds that there is no answer")
    if null_odds is not None and not unanswerable:
        raise ValueError("SQuAD 1.1 has no odds that there is no answer; score with unanswerable=True")
    for what, by_key in (("prediction", predictions), ("odds", null_odds)):
        missing = [key for key in gold if by_key is not None and key not in by_key]
        if missing:
            raise ValueError(f"{len(missing)} of {len(gold)} questions without {what}; the first is {missing[0]!r}")


def _f1(right: list[str], words: list[str], nothing: float) -> float:
    """F1 of two bags of words; `nothing` if both are empty."""
    if not right and not words:
        return nothing
    common = (Counter(right) & Counter(words)).total()
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(right)
    return 2 * precision * recall / (precision + recall)


def _means(prefix: str, pairs: Collection[tuple[float, float]]) -> dict[str, float]:
    if not pairs:
        return {}
    return {
        prefix + name: sum(values) / len(pairs)
        for name, values in zip(("exact", "f1"), zip(*pairs, strict=True), strict=True)
    }


def _best(
    gold: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    scores: Mapping[str, float],
    null_odds: Mapping[str, float],
) -> tuple[float, float]:
    """The best mean score over thresholds, and the threshold, as SQuAD 2.0's evaluation finds them.

    Starts with no question answered and answers one more at a time, in ascending order of odds. Two quirks of the
    official search are kept, so that results agree: it may stop between questions of equal odds, which no threshold
    can; and where answering nothing is best, it returns the threshold 0, although questions of smaller odds would be
    answered.
    """
    total = best = float(sum(not answers for answers in gold.values()))
    threshold = 0.0
    for key in sorted((key for key in null_odds if key in gold), key=null_odds.__getitem__):
        if gold[key]:
            total += scores[key]
        elif predictions[key]:
            total -= 1.0
        if total > best:
            best, threshold = total, float(null_odds[key])
    return best / len(gold), threshold
