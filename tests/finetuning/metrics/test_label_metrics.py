"""Metrics against plain formulas, counts made in another way, and cases where scorers are known to stumble."""

import math
import random
import warnings
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics

from electra_jax.finetuning.metrics import label_metrics
from electra_jax.finetuning.tasks.kinds import KINDS

CLASSIFICATION = label_metrics.CLASSIFICATION
REGRESSION = label_metrics.REGRESSION
TAGGING = label_metrics.TAGGING
# The scorers take a few milliseconds each.
random_cases = pytest.mark.parametrize("cases", [200, pytest.param(2000, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def f1_of(true_positives, predicted, present):
    """From counts, as a fraction: 2TP / (predicted + present), 0 if there is none of either."""
    return Fraction(2 * true_positives, predicted + present) if predicted + present else Fraction(0)


def binary_f1(labels, predictions, wanted=1):
    pairs = list(zip(labels, predictions, strict=True))
    return f1_of(
        sum(a == b == wanted for a, b in pairs), sum(b == wanted for _, b in pairs), sum(a == wanted for a, _ in pairs)
    )


def matthews_of_two(labels, predictions):
    """The coefficient of Matthews 1975 from the four counts."""
    pairs = list(zip(labels, predictions, strict=True))
    tp, tn, fp, fn = (pairs.count(pair) for pair in ((1, 1), (0, 0), (0, 1), (1, 0)))
    under = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(under) if under else 0.0


def matthews_of_many(labels, predictions, classes):
    """Gorodkin 2004: the correlation of the two indicator matrices."""
    indicators = [np.eye(classes)[np.array(values)] for values in (labels, predictions)]
    centred = [matrix - matrix.mean(axis=0) for matrix in indicators]
    under = math.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return (centred[0] * centred[1]).sum() / under if under > 1e-12 else 0.0


@random_cases
def test_binary_tasks_equal_the_formulas(cases):
    generator = np.random.default_rng(0)
    for _ in range(cases):
        count, bias = generator.integers(1, 30), generator.random()
        labels = (generator.random(count) < bias).astype(int)
        predictions = np.where(generator.random(count) < 0.5, labels, generator.random(count) < 0.5).astype(int)
        scores = label_metrics.classification_scores(labels, predictions, 2, CLASSIFICATION)
        agreement = sum(a == b for a, b in zip(labels, predictions, strict=True)) / count
        assert scores["accuracy"] == pytest.approx(agreement, abs=1e-12)
        assert scores["micro_f1"] == pytest.approx(agreement, abs=1e-12)
        assert scores["f1"] == pytest.approx(float(binary_f1(labels, predictions)), abs=1e-12)
        assert scores["matthews"] == pytest.approx(matthews_of_two(labels.tolist(), predictions.tolist()), abs=1e-12)


@random_cases
def test_tasks_of_several_classes_some_of_them_empty_equal_the_formulas(cases):
    generator = np.random.default_rng(1)
    wanted = ("accuracy", "matthews", "macro_f1", "micro_f1")
    for _ in range(cases):
        classes = int(generator.integers(2, 9))
        occurring = generator.integers(1, classes + 1)
        count = generator.integers(1, 25)
        labels, predictions = generator.integers(0, occurring, (2, count))
        scores = label_metrics.classification_scores(labels, predictions, classes, wanted)
        present = sorted({*labels.tolist(), *predictions.tolist()})
        macro = sum(binary_f1(labels, predictions, wanted=one) for one in present) / len(present)
        assert scores["macro_f1"] == pytest.approx(float(macro), abs=1e-12)
        assert scores["matthews"] == pytest.approx(matthews_of_many(labels, predictions, classes), abs=1e-12)
        assert scores["accuracy"] == pytest.approx(np.mean(labels == predictions), abs=1e-12)

        confusion = label_metrics.confusion(labels, predictions, classes)
        assert confusion.dtype == np.int64
        expected = np.zeros((classes, classes), int)
        np.add.at(expected, (labels, predictions), 1)
        np.testing.assert_array_equal(confusion, expected)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("prediction", [0, 1])
def test_one_class_for_all_gives_plain_numbers(label, prediction):
    scores = label_metrics.classification_scores(np.full(5, label), np.full(5, prediction), 2, CLASSIFICATION)
    right = float(label == prediction)
    assert scores == {
        "accuracy": right,
        "matthews": 0.0,
        "f1": float(label == prediction == 1),
        "macro_f1": right,
        "micro_f1": right,
    }


def test_matthews_does_not_overflow_on_many_examples():
    # The product of the four marginals is beyond int64.
    labels = np.repeat([0, 1, 0, 1], [300_000, 300_000, 100_000, 100_000])
    predictions = np.repeat([0, 1, 1, 0], [300_000, 300_000, 100_000, 100_000])
    assert label_metrics.classification_scores(labels, predictions, 2, ["matthews"])["matthews"] == pytest.approx(0.5)


def test_f1_of_more_than_two_classes_is_refused():
    with pytest.raises(ValueError, match="found 3 classes; use"):
        label_metrics.classification_scores(np.zeros(2, int), np.zeros(2, int), 3, ["f1"])


@random_cases
def test_multilabel_tasks_equal_counts_and_scikit_learn(cases):
    generator = np.random.default_rng(2)
    for _ in range(cases):
        count, classes = generator.integers(1, 12), generator.integers(1, 6)
        # Some classes are in no example and never predicted.
        occurring = generator.random(classes) < 0.7
        labels, predictions = (generator.random((2, count, classes)) < 0.4) & occurring
        scores = label_metrics.multilabel_scores(labels, predictions, label_metrics.MULTILABEL)
        micro = binary_f1(labels.ravel(), predictions.ravel())
        macro = sum(binary_f1(labels[:, one], predictions[:, one]) for one in range(classes)) / int(classes)
        assert scores["micro_f1"] == pytest.approx(float(micro), abs=1e-12)
        assert scores["macro_f1"] == pytest.approx(float(macro), abs=1e-12)
        right = [a == b for a, b in zip(labels.tolist(), predictions.tolist(), strict=True)]
        assert scores["subset_accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-12)
        if classes > 1:
            for average in ("micro", "macro"):
                theirs = sklearn.metrics.f1_score(labels, predictions, average=average, zero_division=0.0)
                assert scores[f"{average}_f1"] == pytest.approx(theirs, abs=1e-12)
            assert scores["subset_accuracy"] == sklearn.metrics.accuracy_score(labels, predictions)


def test_one_column_of_labels_is_not_taken_for_two_classes():
    labels, predictions = np.array([[True], [False], [False]]), np.array([[False], [False], [False]])
    scores = label_metrics.multilabel_scores(labels, predictions, label_metrics.MULTILABEL)
    assert scores == {"micro_f1": 0.0, "macro_f1": 0.0, "subset_accuracy": pytest.approx(2 / 3)}


def ranks_with_ties(values):
    """Each value's mean place in the sorted order."""
    return np.array(
        [sum(other < value for other in values) + (1 + sum(other == value for other in values)) / 2 for value in values]
    )


def plain_correlation(left, right):
    left, right = left - left.mean(), right - right.mean()
    under = math.sqrt((left**2).sum() * (right**2).sum())
    return (left * right).sum() / under if under > 1e-12 else 0.0


@random_cases
def test_regression_with_ties_equals_the_formulas(cases):
    generator = np.random.default_rng(3)
    for case in range(cases):
        count = generator.integers(1, 20)
        labels, predictions = generator.normal(2.5, 2, (2, count))
        if case % 2:
            labels, predictions = labels.round(), predictions.round()
        scores = label_metrics.regression_scores(labels, predictions, REGRESSION)
        spearman = plain_correlation(ranks_with_ties(labels), ranks_with_ties(predictions))
        assert scores["pearson"] == pytest.approx(plain_correlation(labels, predictions), abs=1e-9)
        assert scores["spearman"] == pytest.approx(spearman, abs=1e-9)
        assert scores["mse"] == pytest.approx(np.mean((labels - predictions) ** 2), abs=1e-12)


@pytest.mark.parametrize("predictions", [[0.1, 0.1, 0.1], [0.0, 0.0, 0.0], [1e8, 1e8, 1e8]])
def test_constant_predictions_correlate_with_nothing(predictions):
    scores = label_metrics.regression_scores(np.array([1.0, 2.0, 3.0]), np.array(predictions, np.float32), REGRESSION)
    assert scores["pearson"] == scores["spearman"] == 0.0
    swapped = label_metrics.regression_scores(np.array(predictions), np.array([1.0, 2.0, 3.0]), REGRESSION)
    assert swapped["pearson"] == swapped["spearman"] == 0.0


def test_nearly_constant_predictions_and_few_examples_do_not_warn():
    nearly = np.nextafter(1.0, [0.0, 1.0, 2.0])
    scores = label_metrics.regression_scores(np.array([1.0, 2.0, 3.0]), nearly, REGRESSION)
    assert scores["spearman"] == pytest.approx(1.0)
    assert math.isfinite(scores["pearson"])
    pair = label_metrics.regression_scores(np.array([1.0, 2.0]), np.array([5.0, 4.0]), REGRESSION)
    assert pair["pearson"] == pytest.approx(-1.0)
    assert pair["spearman"] == pytest.approx(-1.0)
    assert label_metrics.regression_scores(np.array([1.0]), np.array([3.0]), REGRESSION) == {
        "pearson": 0.0,
        "spearman": 0.0,
        "mse": 4.0,
    }


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        label_metrics.regression_scores(np.array([1.0, 2.0]), np.array([1.0, np.nan]), ["mse"])


def chunks_of(tags):
    """Conlleval's reading as a small machine: the open chunk, and what closes it."""
    chunks, opened = set(), None
    for position, tag in enumerate([*tags, "O"]):
        letter, _, kind = tag.partition("-")
        goes_on = opened is not None and letter in ("I", "E") and kind == opened[1]
        if opened is not None and not goes_on:
            chunks.add((opened[0], position, opened[1]))
            opened = None
        if letter != "O" and not goes_on:
            opened = (position, kind)
        if letter in ("E", "S"):
            chunks.add((opened[0], position + 1, kind))
            opened = None
    return chunks


@random_cases
def test_tagging_equals_conlleval_counted_by_hand_on_ill_formed_sentences(cases):
    generator = random.Random(4)
    for _ in range(cases):
        letters = generator.choice(["BIO", "BIES", "BIESO", "IO", "O"])
        tags = ["O" if letter == "O" else f"{letter}-{kind}" for letter in letters for kind in ("X", "Y-Z")]
        labels = [generator.choices(tags, k=generator.randint(1, 8)) for _ in range(generator.randint(1, 6))]
        predictions = [[tag if generator.random() < 0.6 else generator.choice(tags) for tag in row] for row in labels]
        right = predicted = present = 0
        for label, prediction in zip(labels, predictions, strict=True):
            there, found = chunks_of(label), chunks_of(prediction)
            right, predicted, present = right + len(there & found), predicted + len(found), present + len(there)
        words = [a == b for one, two in zip(labels, predictions, strict=True) for a, b in zip(one, two, strict=True)]
        scores = label_metrics.tagging_scores(labels, predictions, TAGGING)
        assert scores["span_precision"] == pytest.approx(right / predicted if predicted else 0.0, abs=1e-12)
        assert scores["span_recall"] == pytest.approx(right / present if present else 0.0, abs=1e-12)
        assert scores["span_f1"] == pytest.approx(float(f1_of(right, predicted, present)), abs=1e-12)
        assert scores["accuracy"] == pytest.approx(sum(words) / len(words), abs=1e-12)


def test_a_tuple_of_tags_is_a_sentence_of_its_own():
    labels = (("B-X", "I-X"), ("I-X", "O"))
    scores = label_metrics.tagging_scores(labels, (("B-X", "I-X"), ("O", "O")), TAGGING)
    assert scores == {"span_f1": pytest.approx(2 / 3), "span_precision": 1.0, "span_recall": 0.5, "accuracy": 0.75}


def test_accuracy_alone_takes_tags_that_are_no_spans():
    assert label_metrics.tagging_scores([["NOUN", "VERB"]], [["NOUN", "B"]], ["accuracy"]) == {"accuracy": 0.5}


def test_only_what_is_wanted_is_returned_as_plain_floats():
    scores = label_metrics.classification_scores(np.array([0, 1]), np.array([0, 0]), 2, ["accuracy"])
    assert scores == {"accuracy": 0.5}
    assert type(scores["accuracy"]) is float
    assert type(label_metrics.tagging_scores([["O"]], [["O"]], ["span_f1"])["span_f1"]) is float


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression", "tagging"])
def test_the_known_metrics_are_those_that_are_computed(kind):
    numbers = np.array([0, 1, 1])
    compute = {
        "classification": lambda wanted: label_metrics.classification_scores(numbers, numbers, 2, wanted),
        "multilabel": lambda wanted: label_metrics.multilabel_scores(np.eye(3) > 0, np.eye(3) > 0, wanted),
        "regression": lambda wanted: label_metrics.regression_scores(numbers, numbers, wanted),
        "tagging": lambda wanted: label_metrics.tagging_scores([["B-X"]], [["B-X"]], wanted),
    }[kind]
    assert tuple(compute(KINDS[kind].metrics)) == KINDS[kind].metrics
    with pytest.raises(ValueError, match=f"metrics of {kind}: found exact, expected some of"):
        compute(["exact"])


def test_what_cannot_be_scored_is_refused():
    nothing = np.zeros(0, int)
    with pytest.raises(ValueError, match="no examples"):
        label_metrics.classification_scores(nothing, nothing, 2, ["accuracy"])
    with pytest.raises(ValueError, match=r"labels have shape \(2,\), predictions \(3,\)"):
        label_metrics.regression_scores(np.zeros(2), np.zeros(3), ["mse"])
    with pytest.raises(ValueError, match="no words"):
        label_metrics.tagging_scores([[]], [[]], ["accuracy"])
    # As many words in all, but not the same.
    with pytest.raises(ValueError, match="other numbers of words"):
        label_metrics.tagging_scores([["O"], ["O", "O"]], [["O", "O"], ["O"]], ["accuracy"])
