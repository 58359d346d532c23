"""Spans of text without blanks around them and with all accents: cases by hand."""

import numpy as np
import pytest

from electra_jax.text.tokenizers.offsets import tightened


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        (" the", (0, 4), (1, 4)),
        ("the \n", (0, 5), (0, 3)),
        ("a b", (0, 3), (0, 3)),
        # Blanks alone are nothing.
        ("a  b", (1, 3), (3, 3)),
        ("a  ", (1, 3), (3, 3)),
        (" ", (0, 1), (1, 1)),
        # So are the parts of a character but one: ½ is "1", "⁄", "2".
        ("½", (0, 0), (0, 0)),
        ("\u3000½", (0, 1), (1, 1)),
        # An accent as a character of its own belongs to its letter.
        ("e\u0301\u0302t", (0, 1), (0, 3)),
        ("né", (0, 2), (0, 2)),
        ("", (0, 0), (0, 0)),
    ],
)
def test_spans_are_what_a_reader_would_mark(text, given, expected):
    starts, ends = tightened(text, np.array([given[0]]), np.array([given[1]]))
    assert (starts.tolist(), ends.tolist()) == ([expected[0]], [expected[1]])


def test_an_accent_that_is_a_piece_is_left_to_it():
    text = "e\u0301e\u0301"
    starts, ends = tightened(text, np.array([0, 1, 2]), np.array([1, 2, 3]))
    assert list(zip(starts, ends, strict=True)) == [(0, 1), (1, 2), (2, 4)]


def test_a_text_may_have_no_pieces():
    starts, ends = tightened("\x00", np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert (len(starts), len(ends)) == (0, 0)
