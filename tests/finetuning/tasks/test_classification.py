import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.errors import InputError
from tests.finetuning.made import CLS, SEP, UNKNOWN, WordTokenizer, classification, texts

TOKENIZER = WordTokenizer("a b c d e f g h")  # 5, 6, 7 …


def row(task, split, number):
    rows = task.splits[split]
    start, length = rows.starts_N[number], rows.lengths_N[number]
    return rows.tokens_T[start : start + length].tolist(), rows.segments_T[start : start + length].tolist()


def predicted(task, split, logits):
    logits = np.array(logits, np.float32)
    return {"logits": logits, "loss": np.arange(len(logits), dtype=np.float32)}


def test_one_text_is_a_row_of_segment_0_and_a_pair_has_the_second_in_segment_1():
    task = classification(TOKENIZER, texts(("a b", "x"), (("a", "b c"), "y")))
    assert row(task, "train", 0) == ([CLS, 5, 6, SEP], [0, 0, 0, 0])
    assert row(task, "train", 1) == ([CLS, 5, SEP, 6, 7, SEP], [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("pair", "kept"),
    [
        (("a b c d", "e f"), ([5, 6, 7], [9, 10])),
        (("a b", "c d e f"), ([5, 6], [7, 8, 9])),
        (("a b c d", "e f g h"), ([5, 6, 7], [9, 10])),
    ],
)
def test_of_a_pair_that_is_too_long_the_longer_text_is_cut_and_counted(pair, kept):
    task = classification(TOKENIZER, texts((pair, "x"), (("a", "b"), "y")), max_length=8)
    first, second = kept
    assert row(task, "train", 0)[0] == [CLS, *first, SEP, *second, SEP]
    assert task.splits["train"].truncated == 1


def test_a_single_text_that_is_too_long_loses_its_end():
    task = classification(TOKENIZER, texts(("a b c d e f g h", "x"), ("a", "y")), max_length=8)
    assert row(task, "train", 0)[0] == [CLS, 5, 6, 7, 8, 9, 10, SEP]


def test_an_unknown_word_stays_an_unknown_piece():
    assert row(classification(TOKENIZER, texts(("a z", "x"), ("b", "y"))), "train", 0)[0] == [CLS, 5, UNKNOWN, SEP]


def test_classes_are_the_sorted_training_labels_unless_configured():
    train = texts(("a", "no"), ("b", "yes"), ("c", "maybe"))
    assert classification(TOKENIZER, train).labels == ("maybe", "no", "yes")
    named = classification(TOKENIZER, train, labels=("yes", "no", "maybe"))
    assert named.splits["train"].by_row["label"].tolist() == [1, 0, 2]


def test_cross_entropy_is_over_real_rows_alone():
    task = classification(TOKENIZER, texts(("a", "x"), ("b", "y")))
    logits = jnp.array([[2.0, 0.0], [1.0, 1.0], [9.0, -9.0]])
    batch = {"label": jnp.array([0, 1, 1]), "weight": jnp.array([1.0, 1.0, 0.0])}
    sums = task.loss({"logits": logits}, batch)
    np.testing.assert_allclose(sums["loss"], [np.log(1 + np.exp(-2)) + np.log(2), 2], rtol=1e-6)
    np.testing.assert_allclose(sums["accuracy"], [1, 2])


def test_grades_are_scaled_for_the_loss_and_scored_and_said_in_their_own_unit():
    train = texts(("a", 5.0), ("b", 0.0), ("c", 2.5))
    task = classification(TOKENIZER, train, kind="regression", metrics=("pearson", "mse"), label_scale=5.0)
    assert task.splits["train"].by_row["label"].tolist() == [1.0, 0.0, 0.5]
    sums = task.loss(
        {"logits": jnp.array([[0.5], [0.0], [0.5]])}, {"label": jnp.array([1.0, 0.0, 0.5]), "weight": jnp.ones(3)}
    )
    np.testing.assert_allclose(sums["loss"], [0.25, 3])
    rows, results = task.splits["train"], predicted(task, "train", [[0.9], [0.1], [0.5]])
    scores = task.score(rows, results)
    assert scores["mse"] == pytest.approx((0.5**2 + 0.5**2) / 3)
    assert scores["pearson"] == pytest.approx(1.0)
    assert [record["prediction"] for record in task.records(rows, results)] == pytest.approx([4.5, 0.5, 2.5])


def test_a_multi_label_example_may_have_no_label():
    train = texts(("a", ("x", "y")), ("b", ()), ("c", ("z",)))
    task = classification(TOKENIZER, train, kind="multilabel", metrics=("micro_f1", "subset_accuracy"))
    assert task.splits["train"].by_row["label"].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    rows, results = task.splits["train"], predicted(task, "train", [[3, 2, -1], [-1, -2, -3], [1, -1, 1]])
    assert task.score(rows, results) == pytest.approx({"micro_f1": 6 / 7, "subset_accuracy": 2 / 3})
    records = list(task.records(rows, results))
    assert [record["prediction"] for record in records] == [["x", "y"], [], ["x", "z"]]
    assert [record["right"] for record in records] == [True, True, False]


def test_records_of_unlabelled_examples_have_predictions_alone():
    task = classification(TOKENIZER, texts(("a", "x"), ("b", "y")), test=texts(("c", None)))
    (record,) = task.records(task.splits["test"], predicted(task, "test", [[0.0, np.log(3)]]))
    assert record == {"key": "0", "texts": ["c"], "prediction": "y", "probabilities": {"x": 0.25, "y": 0.75}}


def test_one_class_for_all_is_a_collapse_unless_there_is_but_one():
    task = classification(TOKENIZER, texts(("a", "x"), ("b", "y")), dev=texts(("a", "x"), ("b", "x")))
    everything_y = predicted(task, "train", [[0, 1], [0, 2]])
    assert task.collapsed(task.splits["train"], everything_y) == "every example is predicted 'y'"
    assert not task.collapsed(task.splits["train"], predicted(task, "train", [[0, 1], [1, 0]]))
    assert not task.collapsed(task.splits["dev"], everything_y)


def test_grades_without_spread_are_a_collapse():
    train = texts(("a", 5.0), ("b", 0.0))
    task = classification(TOKENIZER, train, kind="regression", metrics=("pearson",), label_scale=5.0)
    assert "all grades are about 2.5" in task.collapsed(
        task.splits["train"], predicted(task, "train", [[0.5], [0.501]])
    )
    assert not task.collapsed(task.splits["train"], predicted(task, "train", [[0.4], [0.6]]))


def test_classes_that_are_whole_numbers_are_in_their_order():
    task = classification(TOKENIZER, texts(*(("a", str(number)) for number in (10, 2, -1, 0))))
    assert task.labels == ("-1", "0", "2", "10")
    assert classification(TOKENIZER, texts(("a", "10"), ("b", "2"), ("c", "x"))).labels == ("10", "2", "x")


@pytest.mark.parametrize("metric", ["accuracy", "f1", "micro_f1", "matthews", "macro_f1"])
def test_a_class_that_training_does_not_have_counts_as_wrong(metric):
    train, dev = texts(("a", "x"), ("b", "y")), texts(("a", "x"), ("b", "y"), ("c", "z"))
    task = classification(TOKENIZER, train, dev=dev, metrics=(metric,))
    rows, logits = task.splits["dev"], [[1, 0], [0, 1], [0, 1]]
    assert rows.by_row["label"].tolist() == [0, 1, -1]
    score = task.score(rows, predicted(task, "dev", logits))[metric]
    assert 0 < score < task.score(task.splits["train"], predicted(task, "train", logits[:2]))[metric] == 1
    record = list(task.records(rows, predicted(task, "dev", logits)))[2]
    assert (record["label"], record["right"]) == ("z", False)
    assert record["loss"] == pytest.approx(-np.log(1 / (1 + np.e)), abs=1e-5)
    batch = {"label": jnp.array([0, 1, -1]), "weight": jnp.ones(3)}
    np.testing.assert_allclose(task.loss({"logits": jnp.array(logits, float)}, batch)["loss"][1], 2)


def test_several_classes_that_training_does_not_have_count_as_missed():
    train, dev = texts(("a", ("x",)), ("b", ("y",))), texts(("a", ("x", "z")), ("b", ("y",)), ("c", ("z",)))
    task = classification(TOKENIZER, train, dev=dev, kind="multilabel", metrics=("micro_f1", "subset_accuracy"))
    rows = task.splits["dev"]
    scores = task.score(rows, predicted(task, "dev", [[1, -1], [-1, 1], [-1, -1]]))
    assert scores == pytest.approx({"micro_f1": 2 * 2 / (2 + 4), "subset_accuracy": 1 / 3})


def test_f1_of_three_classes_is_refused_with_what_to_set():
    with pytest.raises(
        InputError, match=r"config\.tasks\.made\.metrics: found 'f1', which scores the second of two classes.*macro_f1"
    ):
        classification(TOKENIZER, texts(("a", "x"), ("b", "y"), ("c", "z")), metrics=("f1",))


def test_confusions_have_a_row_for_each_true_class():
    task = classification(TOKENIZER, texts(("a", "x"), ("b", "y"), ("c", "y")))
    results = predicted(task, "train", [[1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(task.confusion(task.splits["train"], results), [[1, 0], [1, 1]])
