import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.inference.token_predictions import TagWords
from tests.finetuning.made import CLS, SEP, UNKNOWN, WordTokenizer, sentences, tagging

TOKENIZER = WordTokenizer("a b c d e f g h")


def predictions(task, split, *tags):
    """Predictions for the first pieces; every other token gets the last tag."""
    rows = task.splits[split]
    table = np.full((len(rows), rows.lengths_N.max()), len(task.tags) - 1, np.int32)
    for row, words in enumerate(tags):
        first = np.flatnonzero(rows.by_token["first"][0][rows.starts_N[row] :][: rows.lengths_N[row]])
        table[row, first] = [task.tags.index(tag) for tag in words.split()]
    return {"tag": table, "loss": np.zeros(len(rows), np.float32)}


def test_a_word_is_tagged_on_its_first_piece_and_an_empty_one_is_unknown():
    task = tagging(TOKENIZER, sentences(("a zz … b", "N V X N")), spans=False, metrics=("accuracy",))
    rows = task.splits["train"]
    assert rows.tokens_T.tolist() == [CLS, 5, UNKNOWN, UNKNOWN, UNKNOWN, 6, SEP]
    assert rows.by_token["first"][0].tolist() == [0, 1, 1, 0, 1, 1, 0]
    assert task.tags == ("N", "V", "X")
    assert rows.by_token["tag"][0].tolist() == [0, 0, 1, 0, 2, 0, 0]


def test_spans_are_trained_as_bioes():
    task = tagging(TOKENIZER, sentences(("a b c d e", "B-X I-X O B-Y B-X")))
    assert task.tags == ("O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y")
    numbers = task.splits["train"].by_token["tag"][0][1:-1]
    assert [task.tags[number] for number in numbers] == ["B-X", "E-X", "O", "S-Y", "S-X"]


def test_the_older_scheme_in_which_spans_begin_with_i_is_understood():
    task = tagging(TOKENIZER, sentences(("a b c d", "I-X I-X B-X O")))
    numbers = task.splits["train"].by_token["tag"][0][1:-1]
    assert [task.tags[number] for number in numbers] == ["B-X", "E-X", "S-X", "O"]


def test_spans_of_one_unnamed_type_are_understood():
    task = tagging(TOKENIZER, sentences(("a b c", "B I O")))
    assert task.tags == ("O", "B", "I", "E", "S")
    numbers = task.splits["train"].by_token["tag"][0][1:-1]
    assert [task.tags[number] for number in numbers] == ["B", "E", "O"]


def test_each_word_counts_once_in_the_loss_and_other_pieces_and_padding_do_not():
    task = tagging(TOKENIZER, sentences(("a zz", "N V")), spans=False, metrics=("accuracy",))
    batch = task.splits["train"].batch(np.array([0, -1]), 8, 0)
    logits = jnp.zeros((2, 8, 2)).at[0, 1, 0].set(np.log(3.0))
    sums = task.loss({"logits": logits}, batch)
    np.testing.assert_allclose(sums["loss"], [np.log(4 / 3) + np.log(2), 2], rtol=1e-6)
    np.testing.assert_allclose(sums["accuracy"], [1, 2])


def test_scores_are_of_spans_and_predictions_come_as_begin_and_inside():
    task = tagging(TOKENIZER, sentences(("a b c", "B-X I-X O"), ("d e", "B-X O")))
    predicted = predictions(task, "train", "B-X E-X O", "O S-X")
    rows = task.splits["train"]
    assert task.score(rows, predicted) == pytest.approx({"span_f1": 0.5, "accuracy": 0.6})
    first, second = task.records(rows, predicted)
    assert first["predictions"] == ["B-X", "I-X", "O"]
    assert first["right"]
    assert second["predictions"] == ["O", "B-X"]
    assert second["labels"] == ["B-X", "O"]
    assert not second["right"]


def test_a_long_sentence_is_tagged_in_windows_each_word_once():
    long = "a b c d e f g h", "O B-X I-X O O O B-X I-X"
    task = tagging(TOKENIZER, sentences(("a b", "O B-X"), long), max_length=8)
    rows = task.splits["train"]
    assert (rows.example_N.tolist(), rows.truncated) == ([0, 1, 1], 0)
    assert rows.tokens_T[4:].tolist() == [CLS, 5, 6, 7, 8, 9, 10, SEP, CLS, 10, 11, 12, SEP]
    assert rows.by_token["first"][0][4:].tolist() == [0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0]
    predicted = predictions(task, "train", "O S-X", "O B-X E-X O O O", "B-X E-X")
    predicted["loss"][:] = [1, 2, 3]
    assert task.score(rows, predicted) == {"span_f1": 1, "accuracy": 1}
    assert [record["loss"] for record in task.records(rows, predicted)] == [1, 5]
    assert task.confusion(rows, predicted).sum() == 10


def test_a_run_tags_long_sentences_as_predictions_do():
    words = ["a", "zz", "b", "c", "zzzz", "d", "e", "f", "g", "h", "a", "zzzzzzzzzz", "b", "c"]
    task = tagging(TOKENIZER, sentences((" ".join(words), " ".join(["B-X"] * len(words)))), max_length=8)
    rows = task.splits["train"]
    (prepared,) = TagWords(TOKENIZER, 8, task.tags, 0, True).prepare([words])
    tokens = np.split(rows.tokens_T, np.cumsum(rows.lengths_N)[:-1])
    assert [row.tokens_L.tolist() for row in prepared.rows] == [row.tolist() for row in tokens]
    # Tags alternate from row to row, so that they tell from which one a word's tag is taken.
    table = np.tile(np.arange(len(rows), dtype=np.int32)[:, None] % 2, 8)
    found = prepared.finish([(tags_L, np.ones(8)) for tags_L in table])
    (record,) = task.records(rows, {"tag": table, "loss": np.zeros(len(rows))})
    assert record["predictions"] == list(found.tags)
    assert set(found.tags) == {"O", "B-X"}


def test_words_that_do_not_fit_are_outside_and_counted_in_scores():
    task = tagging(TOKENIZER, sentences(("a b c d e f g h", "O O O O O O O B-X")), max_length=8, windows=False)
    rows = task.splits["train"]
    assert rows.truncated == 1
    assert rows.tokens_T.tolist() == [CLS, 5, 6, 7, 8, 9, 10, SEP]
    predicted = predictions(task, "train", "O O O O O O")
    assert task.score(rows, predicted)["accuracy"] == pytest.approx(7 / 8)
    assert len(next(task.records(rows, predicted))["predictions"]) == 8


def test_a_long_word_that_fits_only_in_part_is_left_out_whole():
    settings = dict(spans=False, metrics=("accuracy",), max_length=8, windows=False)
    task = tagging(TOKENIZER, sentences(("a zzzzzzzz b", "N V N")), **settings)
    assert task.splits["train"].tokens_T.tolist() == [CLS, 5, SEP]


def test_unknown_tags_are_predicted_all_the_same():
    task = tagging(TOKENIZER, sentences(("a b", "B-X O")), dev=sentences(("c d", None)))
    (record,) = task.records(task.splits["dev"], predictions(task, "dev", "O S-X"))
    assert record == {"key": "0", "words": ["c", "d"], "predictions": ["O", "B-X"]}


def test_one_tag_for_every_word_is_a_collapse():
    task = tagging(TOKENIZER, sentences(("a b", "B-X O")))
    assert task.collapsed(task.splits["train"], predictions(task, "train", "O O")) == "every word is tagged 'O'"
    assert not task.collapsed(task.splits["train"], predictions(task, "train", "O S-X"))


def test_confusions_count_first_pieces():
    task = tagging(TOKENIZER, sentences(("a zz b", "N V N")), spans=False, metrics=("accuracy",))
    np.testing.assert_array_equal(
        task.confusion(task.splits["train"], predictions(task, "train", "N V V")), [[1, 1], [0, 1]]
    )


def test_unseen_tags_are_excluded_from_the_loss_and_scored_as_wrong():
    dev = sentences(("a b", "N X"))
    task = tagging(TOKENIZER, sentences(("a b", "N V")), dev=dev, spans=False, metrics=("accuracy",))
    batch = task.splits["dev"].batch(np.array([0]), 8, 0)
    sums = task.loss({"logits": jnp.zeros((1, 8, 2))}, batch)
    np.testing.assert_allclose(sums["loss"], [np.log(2), 1], rtol=1e-6)
    assert task.loss_weight(batch) == 1
    for tags in ("N N", "N V"):
        predicted = predictions(task, "dev", tags)
        assert task.score(task.splits["dev"], predicted) == {"accuracy": 0.5}
        assert task.confusion(task.splits["dev"], predicted).tolist() == [[1, 0], [0, 0]]
