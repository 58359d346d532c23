"""Scores of predicted labels, computed by scikit-learn, SciPy and seqeval.

All scores are fractions, not percent. None is NaN and none warns: a division by zero gives 0, the libraries' default.
Answers to questions are scored in `answer_metrics.py`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# Names of the scores of each kind of task; more is better, except for "mse".
CLASSIFICATION = ("accuracy", "matthews", "f1", "macro_f1", "micro_f1")
MULTILABEL = ("micro_f1", "macro_f1", "subset_accuracy")
REGRESSION = ("pearson", "spearman", "mse")
TAGGING = ("span_f1", "span_precision", "span_recall", "accuracy")


def classification_scores(
    labels_N: np.ndarray, predictions_N: np.ndarray, classes: int, wanted: Sequence[str]
) -> dict[str, float]:
    """Scores of a task with one class for each example.

    "f1" is the score of class 1 of two, as in GLUE for MRPC and QQP. "macro_f1" is the mean over the classes that
    occur among labels or predictions, scikit-learn's default. "matthews" is 0 if either is constant.

    Args:
      labels_N: int, from 0 to `classes` - 1; -1 for a class that is not among them, which counts as wrong.
      predictions_N: int, likewise.
      classes: number of classes.
      wanted: names of metrics.

    Returns:
      One score for each wanted name.

    Raises:
      ValueError: "f1" with other than two classes, no examples, shapes that differ, or an unknown metric.
    """
    from sklearn import metrics

    _check("classification", CLASSIFICATION, labels_N, predictions_N, wanted)
    if "f1" in wanted and classes != 2:
        raise ValueError(f'"f1" scores class 1 of two, found {classes} classes; use "macro_f1" or "micro_f1"')
    scorers: Mapping[str, Callable[..., Any]] = {
        "accuracy": metrics.accuracy_score,
        "matthews": _matthews,
        "f1": lambda labels_N, predictions_N: _binary_f1(labels_N == 1, predictions_N == 1),
        "macro_f1": functools.partial(metrics.f1_score, average="macro", zero_division=0.0),
        "micro_f1": functools.partial(metrics.f1_score, average="micro", zero_division=0.0),
    }
    return {name: float(scorers[name](labels_N, predictions_N)) for name in wanted}


def multilabel_scores(labels_NxC: np.ndarray, predictions_NxC: np.ndarray, wanted: Sequence[str]) -> dict[str, float]:
    """Scores of a task with any number of classes for each example.

    "micro_f1" is over all decisions; "macro_f1" is the mean over classes, 0 for a class that is neither present nor
    predicted; "subset_accuracy" is the fraction of examples with every class right.

    Args:
      labels_NxC: bool.
      predictions_NxC: bool.
      wanted: names of metrics.

    Returns:
      One score for each wanted name.

    Raises:
      ValueError: no examples, shapes that differ, or an unknown metric.
    """
    _check("multilabel", MULTILABEL, labels_NxC, predictions_NxC, wanted)
    # Column by column: scikit-learn treats an array of one column as a task of two classes, and scores both.
    scorers: Mapping[str, Callable[[], Any]] = {
        "subset_accuracy": lambda: np.mean((labels_NxC == predictions_NxC).all(axis=1)),
        "micro_f1": lambda: _binary_f1(labels_NxC.ravel(), predictions_NxC.ravel()),
        "macro_f1": lambda: np.mean([*map(_binary_f1, labels_NxC.T, predictions_NxC.T)]),
    }
    return {name: float(scorers[name]()) for name in wanted}


def regression_scores(labels_N: np.ndarray, predictions_N: np.ndarray, wanted: Sequence[str]) -> dict[str, float]:
    """Scores of a task with a number for each example.

    The correlations are 0 if labels or predictions are constant.

    Args:
      labels_N: float.
      predictions_N: float.
      wanted: names of metrics.

    Returns:
      One score for each wanted name.

    Raises:
      ValueError: no examples, shapes that differ, numbers that are not finite, or an unknown metric.
    """
    from scipy import stats
    from sklearn import metrics

    _check("regression", REGRESSION, labels_N, predictions_N, wanted)
    if not (np.isfinite(labels_N).all() and np.isfinite(predictions_N).all()):
        raise ValueError("labels or predictions are not finite")
    labels_N, predictions_N = np.asarray(labels_N, np.float64), np.asarray(predictions_N, np.float64)
    scorers: Mapping[str, Callable[[], Any]] = {
        "pearson": lambda: _correlation(stats.pearsonr, labels_N, predictions_N),
        "spearman": lambda: _correlation(stats.spearmanr, labels_N, predictions_N),
        "mse": lambda: metrics.mean_squared_error(labels_N, predictions_N),
    }
    return {name: float(scorers[name]()) for name in wanted}


def tagging_scores(
    labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], wanted: Sequence[str]
) -> dict[str, float]:
    """Scores of a task with a tag for each word.

    Spans follow the rule of conlleval, the scorer of the CoNLL shared tasks, which reads ill-formed tags too
    (`spans.py`); conlleval itself has neither S nor B after E, so its scores are reproduced with IOB tags. "accuracy"
    is over all words.

    Args:
      labels: tags of the words of each sentence, with spans as B-, I-, E-, S- and O.
      predictions: predicted tags of the same words.
      wanted: names of metrics.

    Returns:
      One score for each wanted name.

    Raises:
      ValueError: no words, numbers of sentences or words that differ, or an unknown metric.
    """
    from seqeval.metrics import accuracy_score
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    _check_names("tagging", TAGGING, wanted)
    if [len(sentence) for sentence in labels] != [len(sentence) for sentence in predictions]:
        raise ValueError("predictions have other numbers of words than labels")
    if not any(labels):
        raise ValueError("no words to score")
    # seqeval recognises sentences by their being lists; it would join tuples.
    labels, predictions = [list(sentence) for sentence in labels], [list(sentence) for sentence in predictions]
    scores: dict[str, float] = {}
    if any(name != "accuracy" for name in wanted):
        spans = precision_recall_fscore_support(labels, predictions, average="micro", zero_division=0)
        scores.update(zip(("span_precision", "span_recall", "span_f1"), spans, strict=False))
    if "accuracy" in wanted:
        scores["accuracy"] = accuracy_score(labels, predictions)
    return {name: float(scores[name]) for name in wanted}


def confusion(labels_N: np.ndarray, predictions_N: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix, int64 [C, C]: rows are labels, columns predictions.

    Args:
      labels_N: int, from 0 to `classes` - 1.
      predictions_N: int, likewise.
      classes: number of classes, C.
    """
    from sklearn import metrics

    return metrics.confusion_matrix(labels_N, predictions_N, labels=np.arange(classes)).astype(np.int64)


def _check_names(kind: str, known: Sequence[str], wanted: Sequence[str]) -> None:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"metrics of {kind}: found {', '.join(unknown)}, expected some of {', '.join(known)}")


def _check(kind: str, known: Sequence[str], labels: np.ndarray, predictions: np.ndarray, wanted: Sequence[str]) -> None:
    _check_names(kind, known, wanted)
    if labels.shape != predictions.shape:
        raise ValueError(f"labels have shape {labels.shape}, predictions {predictions.shape}")
    if not labels.size:
        raise ValueError("no examples to score")


def _binary_f1(labels_N: np.ndarray, predictions_N: np.ndarray) -> float:
    from sklearn import metrics

    return metrics.f1_score(labels_N, predictions_N, pos_label=1, average="binary", zero_division=0.0)


def _matthews(labels_N: np.ndarray, predictions_N: np.ndarray) -> float:
    from sklearn import metrics

    # scikit-learn warns if both have the same single label.
    if np.array_equal(labels_N, predictions_N) and np.ptp(labels_N) == 0:
        return 0.0
    return metrics.matthews_corrcoef(labels_N, predictions_N)


def _correlation(correlate: Callable[..., Any], labels_N: np.ndarray, predictions_N: np.ndarray) -> float:
    from scipy import stats

    if np.ptp(labels_N) == 0 or np.ptp(predictions_N) == 0:
        return 0.0
    with warnings.catch_warnings():
        # Expected where predictions differ only in their last digits.
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return correlate(labels_N, predictions_N).statistic
