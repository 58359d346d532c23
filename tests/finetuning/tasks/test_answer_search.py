"""Answers from starts and ends: against looking at everything, and the rules by which windows are compared."""

import itertools

import numpy as np
import pytest

from electra_jax.finetuning.data.examples import QuestionExample
from electra_jax.finetuning.data.windows import Context, QuestionRows
from electra_jax.finetuning.tasks.answer_search import search

QUESTION = 2  # Tokens before the context: its rows are [CLS] [SEP] window [SEP].


def rows_of(*examples):
    """Rows for pairs of a context and its windows (first token, size); each letter is a token."""
    contexts, numbers, windows = [], [], []
    for number, (text, parts) in enumerate(examples):
        starts = np.arange(len(text))
        context = Context(np.zeros(len(text), np.int32), starts, starts + 1)
        contexts += [context] * len(parts)
        numbers += [number] * len(parts)
        windows += parts
    window_N, size_N = np.array(windows, np.int64).T
    nothing = np.zeros(0, np.int32)
    return QuestionRows(
        examples=[QuestionExample("", str(number), "?", text, None) for number, (text, _) in enumerate(examples)],
        example_N=np.array(numbers, np.int32),
        tokens_T=nothing,
        segments_T=nothing,
        lengths_N=QUESTION + size_N + 1,
        by_row={},
        by_token={},
        context_N=contexts,
        window_N=window_N,
        place_N=np.full(len(windows), QUESTION),
        size_N=size_N,
    )


def everything(rows, rng, length=12, joint=True):
    """Random scores for all positions of rows of a length, in a random order."""
    count = len(rows)
    predicted = {
        "start_ids": np.array([rng.permutation(length) for _ in range(count)]),
        "start_scores": rng.normal(size=(count, length)),
        "null_scores": rng.normal(size=count),
    }
    shape = (count, length, length) if joint else (count, length)
    ids = np.broadcast_to(np.arange(length), shape)
    return predicted | {"end_ids": rng.permuted(ids, axis=-1), "end_scores": rng.normal(size=shape)}


def brute_force(rows, predicted, longest_answer, counts_from):
    """Of each example every text with its best score, by plain loops."""
    best = [{} for _ in rows.examples]
    for row, example in enumerate(rows.example_N):
        text = rows.examples[example].context
        for i, j in itertools.product(range(predicted["start_ids"].shape[1]), range(predicted["end_ids"].shape[-1])):
            ends = (predicted[name][row] for name in ("end_ids", "end_scores"))
            end_ids, end_scores = (each[i] if predicted["end_ids"].ndim == 3 else each for each in ends)
            start, end = predicted["start_ids"][row, i] - QUESTION, end_ids[j] - QUESTION
            if not (0 <= start <= end < rows.size_N[row] and end - start + 1 <= longest_answer):
                continue
            start, end = start + rows.window_N[row], end + rows.window_N[row]
            if counts_from is not None and counts_from[start] != row:
                continue
            score = predicted["start_scores"][row, i] + end_scores[j]
            answer = text[start : end + 1]
            best[example][answer] = max(best[example].get(answer, -np.inf), score)
    return best


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("joint", [True, False])
def test_the_answers_are_those_of_plain_loops(seed, joint):
    # Windows abcdef, cdefgh, efghi.
    rows = rows_of(("abcdefghi", [(0, 6), (2, 6), (4, 5)]))
    predicted = everything(rows, np.random.default_rng(seed), joint=joint)
    (found,) = search(rows, predicted, longest_answer=3)
    counts_from = [0, 0, 0, 0, 1, 1, 2, 2, 2] if joint else None
    (expected,) = brute_force(rows, predicted, 3, counts_from)
    ranked = sorted(expected, key=expected.get, reverse=True)[:20]
    assert [each.text for each in found.candidates] == ranked
    np.testing.assert_allclose([each.score for each in found.candidates], [expected[text] for text in ranked])
    powers = np.exp([expected[text] for text in ranked])
    np.testing.assert_allclose([each.probability for each in found.candidates], powers / powers.sum())
    assert [each.start for each in found.candidates] == ["abcdefghi".index(text) for text in ranked]


def test_each_question_has_its_own_rows():
    rows = rows_of(("ab", [(0, 2)]), ("cdefgh", [(0, 4), (2, 4)]), ("z", [(0, 1)]))
    predicted = everything(rows, np.random.default_rng(0))
    found = list(search(rows, predicted, longest_answer=9))
    expected = brute_force(rows, predicted, 9, None)
    assert [{each.text for each in found[number].candidates} for number in (0, 2)] == [set(expected[0]), {"z"}]
    assert {letter for each in found[1].candidates for letter in each.text} == set("cdefgh")
    assert [each.null_odds for each in found] == [
        predicted["null_scores"][0],
        min(predicted["null_scores"][1:3]),
        predicted["null_scores"][3],
    ]


def test_independent_ends_weigh_the_null_score_against_the_best_answer():
    rows = rows_of(("abcd", [(0, 3), (1, 3)]))
    predicted = everything(rows, np.random.default_rng(3), joint=False)
    (found,) = search(rows, predicted, longest_answer=9)
    assert found.null_odds == pytest.approx(min(predicted["null_scores"]) - found.candidates[0].score)


def test_a_start_counts_only_in_the_window_that_shows_most_around_it():
    rows = rows_of(("abcdefghi", [(0, 6), (2, 6), (4, 5)]))
    # Both windows point at "e", the first one louder; but there it stands near the edge.
    predicted = {
        "start_ids": np.array([[6], [4], [0]]),
        "start_scores": np.array([[-0.1], [-2.0], [-0.1]]),
        "end_ids": np.array([[[6]], [[5]], [[0]]]),
        "end_scores": np.array([[[-0.1]], [[-2.0]], [[-0.1]]]),
        "null_scores": np.zeros(3),
    }
    (found,) = search(rows, predicted, longest_answer=9)
    assert [(each.text, each.score) for each in found.candidates] == [("ef", -4.0)]


def test_cls_question_separators_and_padding_are_no_answers():
    rows = rows_of(("ab", [(0, 2)]))
    predicted = {
        "start_ids": np.array([[0, 1, 4, 5]]),
        "start_scores": np.zeros((1, 4)),
        "end_ids": np.array([[0, 1, 4, 5]]),
        "end_scores": np.zeros((1, 4)),
        "null_scores": np.array([1.5]),
    }
    (found,) = search(rows, predicted, longest_answer=9)
    assert (found.candidates, found.null_odds) == ((), 1.5)


def test_an_answer_may_be_as_long_as_allowed_and_no_longer():
    rows = rows_of(("abcd", [(0, 4)]))
    predicted = {
        "start_ids": np.array([[2]]),
        "start_scores": np.zeros((1, 1)),
        "end_ids": np.array([[4, 5]]),
        "end_scores": np.array([[0.0, 1.0]]),
        "null_scores": np.zeros(1),
    }
    (found,) = search(rows, predicted, longest_answer=3)
    assert [each.text for each in found.candidates] == ["abc"]


def test_pieces_without_text_are_no_answers():
    rows = rows_of(("abc", [(0, 3)]))
    rows.context_N[0].ends_C[1] = 1
    predicted = everything(rows, np.random.default_rng(0))
    (found,) = search(rows, predicted, longest_answer=9)
    assert sorted(each.text for each in found.candidates) == ["a", "abc", "bc", "c"]
