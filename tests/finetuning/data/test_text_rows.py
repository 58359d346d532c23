"""Rows of texts and pairs: segments, and what is left out of long ones."""

import pytest

from electra_jax.finetuning.data import text_rows
from tests.interop import made


def longest_first(lengths, room):
    """Google's rule, a piece at a time."""
    kept = list(lengths)
    while sum(kept) > room:
        kept[0 if len(kept) == 1 or kept[0] > kept[1] else 1] -= 1
    return kept


def test_the_longer_text_loses_pieces_first_and_short_ones_lose_none():
    for first in range(9):
        for second in range(9):
            for room in range(1, 20):
                assert text_rows._fitting([first, second], room) == longest_first([first, second], room)
        assert text_rows._fitting([first], 5) == longest_first([first], 5)


@pytest.mark.parametrize(
    ("texts", "segments", "left_out"),
    [
        (("a b c d", "e"), [0] * 6 + [1] * 2, 0),
        (("a", "b c d e"), [0] * 3 + [1] * 5, 0),
        (("a b c d e f g h", "a b"), [0] * 7 + [1] * 3, 3),
        (("a b",), [0] * 4, 0),
    ],
)
def test_the_second_text_has_segment_1(texts, segments, left_out):
    (row,) = text_rows.encoded_texts([texts], made.tokenizer(), 10)
    assert row.segments_L.tolist() == segments
    assert (len(row.tokens_L), row.left_out) == (len(segments), left_out)
