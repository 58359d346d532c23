"""Google's builder, bug for bug, against rows worked out by hand from its published rules."""

import numpy as np
import pytest

from electra_jax.text.dataset.google_rows import GoogleExampleBuilder

CLS, SEP, PAD = 1, 2, 0


class Draws:
    """A generator whose uniform draws are given; integers are the upper bound minus `below`."""

    def __init__(self, *uniform, below=1):
        self.uniform, self.below = list(uniform), below

    def random(self):
        return self.uniform.pop(0)

    def integers(self, low, high):
        return high - self.below


def rows(draws, *documents, length=12):
    """The rows of documents given as lists of lines; tokens of line n of all lines are n · 10, n · 10 + 1, …"""
    builder = GoogleExampleBuilder(
        length=length,
        cls_id=CLS,
        sep_id=SEP,
        pad_id=PAD,
        rng=draws,
        single_segment_probability=0.1,
        short_row_probability=0.05,
    )
    made, number = [], 0
    for lengths in documents:
        lines = []
        for size in lengths:
            number += 1
            lines.append(np.arange(number * 10, number * 10 + size))
        made += [row.tolist() for row in builder.add(np.concatenate(lines), np.array(lengths))]
    return made


def test_a_short_line_jumps_over_a_longer_one_into_the_first_segment():
    # First target (12 - 3) // 2 = 4: line 1 is first; line 2 does not fit and the coin says second; line 3 fits first.
    (row,) = rows(Draws(0.5, 0.9, 0.5), [1, 8, 2, 1])
    assert row == [CLS, 10, 30, 31, SEP, 20, 21, 22, 23, 24, 25, SEP]  # The fourth line, and two tokens, are lost.


def test_a_line_across_the_middle_goes_first_by_a_coin_toss():
    (row,) = rows(Draws(0.5, 0.1, 0.5), [1, 8, 3])
    assert row == [CLS, 10, *range(20, 28), SEP, PAD]  # The third line is lost: a second segment has no room left.


def test_one_row_in_ten_has_a_single_segment_and_loses_the_rest():
    (row,) = rows(Draws(0.05, 0.5), [5, 20])
    assert row == [CLS, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, SEP]


def test_a_document_on_one_line_keeps_its_beginning_only():
    (row,) = rows(Draws(0.5, 0.5), [100])
    assert row == [CLS, *range(10, 20), SEP]


def test_a_short_target_ends_the_next_row_sooner_and_survives_the_document():
    # The first row's last draw, 0.01, makes the next target 12 - 7 = 5, which the first line of the next document meets.
    made = rows(Draws(0.5, 0.01, 0.5, 0.5, 0.5, 0.5, below=8), [3], [5, 4])
    assert made[0] == [CLS, 10, 11, 12, SEP, *[PAD] * 7]
    assert made[1] == [CLS, 20, 21, 22, 23, 24, SEP, *[PAD] * 5]
    assert made[2] == [CLS, 30, 31, 32, 33, SEP, *[PAD] * 6]


@pytest.mark.parametrize("lengths", [[0], []])
def test_a_document_without_tokens_gives_no_row(lengths):
    builder = GoogleExampleBuilder(
        length=12,
        cls_id=CLS,
        sep_id=SEP,
        pad_id=PAD,
        rng=Draws(),
        single_segment_probability=0.1,
        short_row_probability=0.05,
    )
    assert builder.add(np.zeros(0, np.int32), np.array(lengths, np.int64)).shape == (0, 12)
