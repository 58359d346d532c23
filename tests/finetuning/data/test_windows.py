"""Rows of questions: windows worked out by hand, answers found again, and a tokenizer that tells where its pieces lie."""

import re

import numpy as np

from electra_jax.finetuning.data.examples import Answer, QuestionExample
from electra_jax.finetuning.data.windows import central, question_rows
from electra_jax.text.tokenizers import wordpiece


class Letters:
    """Stands in for a tokenizer: each letter is a piece, numbered from 10; other characters are nothing."""

    cls_id, sep_id = 1, 2

    def encode_with_offsets(self, text):
        found = list(re.finditer("[a-z]", text))
        starts = np.array([match.start() for match in found], np.int64)
        return np.array([ord(match[0]) - 87 for match in found], np.int32), starts, starts + 1

    def encode(self, texts):
        ids = [self.encode_with_offsets(text)[0] for text in texts]
        return np.concatenate(ids), np.array([len(each) for each in ids], np.int64)


def question(context, answer=None, question="a", answers=None):
    if answer is not None:
        answers = (Answer(answer, context.index(answer)),)
    return QuestionExample("file:1", "key", question, context, answers)


def made(*examples, max_length=10, stride=2, longest_question=3):
    return question_rows(examples, Letters(), max_length=max_length, stride=stride, longest_question=longest_question)


def row_tokens(rows, array_T=None):
    array_T = rows.tokens_T if array_T is None else array_T
    return [
        array_T[start : start + length].tolist() for start, length in zip(rows.starts_N, rows.lengths_N, strict=True)
    ]


def test_a_short_context_is_one_row():
    rows = made(question("b c d", "c d", question="a e"))
    assert row_tokens(rows) == [[1, 10, 14, 2, 11, 12, 13, 2]]
    assert row_tokens(rows, rows.segments_T) == [[0, 0, 0, 0, 1, 1, 1, 1]]
    allowed_T, fill = rows.by_token["allowed"]
    assert (row_tokens(rows, allowed_T), fill) == ([[1, 0, 0, 0, 1, 1, 1, 0]], 0)
    assert {name: (array.tolist(), array.dtype) for name, array in rows.by_row.items()} == {
        "start": ([5], np.int32),
        "end": ([6], np.int32),
        "impossible": ([0.0], np.float32),
    }
    assert (rows.place_N[0], rows.window_N[0], rows.size_N[0]) == (4, 0, 3)


def test_windows_start_a_stride_apart_until_one_reaches_the_end():
    # Six tokens fit next to a question of one.
    for letters, windows in {
        "abcdef": [(0, 6)],
        "abcdefg": [(0, 6), (2, 5)],
        "abcdefgh": [(0, 6), (2, 6)],
        "abcdefghi": [(0, 6), (2, 6), (4, 5)],
    }.items():
        rows = made(question(letters))
        assert list(zip(rows.window_N.tolist(), rows.size_N.tolist(), strict=True)) == windows
        assert rows.example_N.tolist() == [0] * len(windows)
        for row, (start, size) in zip(row_tokens(rows), windows, strict=True):
            assert row == [1, 10, 2, *range(10 + start, 10 + start + size), 2]


def test_a_stride_larger_than_the_windows_leaves_no_token_out():
    rows = made(question("abcdefghijklm"), stride=100)
    assert list(zip(rows.window_N.tolist(), rows.size_N.tolist(), strict=True)) == [(0, 6), (6, 6), (12, 1)]


def test_windows_without_the_full_answer_point_to_cls_but_are_possible():
    rows = made(question("abcdefghi", "fg"))
    # Windows abcdef, cdefgh, efghi.
    assert rows.by_row["start"].tolist() == [0, 6, 4]
    assert rows.by_row["end"].tolist() == [0, 7, 5]
    assert rows.by_row["impossible"].tolist() == [0, 0, 0]


def test_no_answer_is_impossible_and_an_unknown_one_is_not():
    rows = made(question("bc", answers=()), question("bc", answers=None))
    assert rows.by_row["impossible"].tolist() == [1, 0]
    assert rows.by_row["start"].tolist() == rows.by_row["end"].tolist() == [0, 0]


def test_the_first_of_several_answers_is_trained_on():
    rows = made(question("bcd", answers=(Answer("d", 2), Answer("b", 0))))
    assert rows.by_row["start"].tolist() == [5]


def test_an_answer_inside_a_word_becomes_the_word():
    tokenizer = wordpiece.train(["Japanese cars are cars"] * 9, vocabulary_size=33, lowercase=True, strip_accents=True)
    example = question("Some Japanese cars.", "Japan")
    rows = question_rows([example], tokenizer, max_length=32, stride=8, longest_question=8)
    context, place = rows.context_N[0], rows.place_N[0]
    start, end = (rows.by_row[name][0] - place for name in ("start", "end"))
    text = example.context[context.starts_C[start] : context.ends_C[end]]
    assert text == "Japanese"


def test_an_answer_that_has_no_token_is_in_no_window():
    rows = made(question("b 1 c", "1"))
    assert (rows.by_row["start"].tolist(), rows.by_row["impossible"].tolist()) == ([0], [0])


def test_long_questions_are_cut_and_counted():
    rows = made(question("z", question="abcde"), question("z", question="abc"))
    assert row_tokens(rows) == [[1, 10, 11, 12, 2, 35, 2]] * 2
    assert rows.truncated == 1


def test_a_context_without_tokens_still_makes_a_row():
    rows = made(question("…"), question("b"))
    assert row_tokens(rows) == [[1, 10, 2, 2], [1, 10, 2, 11, 2]]
    assert rows.example_N.tolist() == [0, 1]


def test_questions_of_one_context_share_its_tokens():
    rows = made(question("bcd"), question("bcd", question="e"))
    assert rows.context_N[0] is rows.context_N[1]


def test_the_window_with_the_larger_lesser_side_is_central():
    # Windows of tokens 0-5, 2-7 and 4-8.
    assert central(np.array([0, 2, 4]), np.array([6, 6, 5]), 9).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    # Token 2 is at the edge of both; the longer one wins although it comes second.
    assert central(np.array([0, 2]), np.array([3, 4]), 6).tolist() == [0, 0, 1, 1, 1, 1]


def test_rows_of_questions_make_batches_as_other_rows():
    batch = made(question("abcdefghi", "fg")).batch(np.array([2, 0, -1]), 10, pad_id=0)
    assert batch["allowed"].tolist()[0] == [1, 0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert batch["start"].tolist()[:2] == [4, 0]
    assert not batch["allowed"][2].any()
