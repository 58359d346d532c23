"""Rows of segment pairs: nothing is lost, nothing moves, and the shape is ELECTRA's."""

import time

import numpy as np
import pytest

from electra_jax.text.examples import segment_pairs

PAD, CLS, SEP = 0, 2, 3


def rows_of(lines, length, seed=0, single=0.1, short=0.05):
    rows = segment_pairs(
        lines,
        length=length,
        cls_id=CLS,
        sep_id=SEP,
        pad_id=PAD,
        rng=np.random.default_rng(seed),
        single_segment_probability=single,
        short_row_probability=short,
    )
    return list(rows)


def random_document(rng):
    """Lines of all sizes, empty and very long ones among them; every token differs, so that order shows."""
    sizes = rng.choice([0, 1, 2, 5, 12, 60, 400], size=rng.integers(0, 30))
    ends = 10 + np.cumsum(sizes)
    return [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def test_random_documents_come_out_whole_and_in_order():
    rng = np.random.default_rng(1)
    for trial in range(400):
        lines = random_document(rng)
        length = int(rng.integers(5, 130))
        rows = rows_of(lines, length, seed=trial, single=rng.choice([0, 0.1, 1]), short=rng.choice([0, 0.05, 1]))
        text = [int(token) for row in rows for token in row if token not in (PAD, CLS, SEP)]
        assert text == [token for line in lines for token in line]


def test_random_rows_have_the_shape_of_segment_pairs():
    rng = np.random.default_rng(2)
    for trial in range(400):
        length = int(rng.integers(5, 130))
        for row in rows_of(random_document(rng), length, seed=trial, short=0.3):
            assert row.dtype == np.int32
            assert row.shape == (length,)
            filled = row[: np.flatnonzero(row != PAD)[-1] + 1]
            assert (filled != PAD).all()
            assert filled[0] == CLS
            assert (filled[1:] != CLS).all()
            ends = np.flatnonzero(filled == SEP)
            assert len(ends) in (1, 2)
            assert ends[-1] == len(filled) - 1
            assert (np.diff([0, *ends]) > 1).all()  # No segment is empty.


def test_one_line_that_fits_is_one_row():
    (row,) = rows_of([[7, 8]], 8)
    assert row.tolist() == [CLS, 7, 8, SEP, PAD, PAD, PAD, PAD]


def test_a_long_line_is_cut_and_goes_on_in_the_next_row():
    rows = rows_of([list(range(10, 20))], 6, short=0)
    assert [row.tolist() for row in rows] == [
        [CLS, 10, 11, 12, 13, SEP],
        [CLS, 14, 15, 16, 17, SEP],
        [CLS, 18, 19, SEP, PAD, PAD],
    ]


def test_the_second_segment_begins_at_a_line_near_the_middle():
    lines = [[10 + n] * 3 for n in range(9)]  # Nine lines of three tokens; two of them reach the first target of 8.
    firsts = set()
    for seed in range(40):
        row = rows_of(lines, 19, seed=seed, single=0, short=0)[0].tolist()
        first = row[1 : row.index(SEP)]
        assert len(row) - row[::-1].index(SEP) == 19  # The row is full although a line had to be cut for it.
        firsts.add(len(first))
    assert firsts == {6, 9}  # The line that crosses the middle falls on either side.


def test_single_segments_and_short_rows_are_as_frequent_as_asked():
    lines = [[10, 11, 12]] * 30_000
    rows = rows_of(lines, 64, single=0.1, short=0.05)
    pairs = np.mean([(row == SEP).sum() == 2 for row in rows])
    assert pairs == pytest.approx(0.9, abs=0.03)
    lengths = np.array([(row != PAD).sum() for row in rows[:-1]])
    assert np.mean(lengths < 62) == pytest.approx(0.05, abs=0.02)
    assert lengths.min() < 15


def test_only_empty_lines_give_no_row():
    assert rows_of([[], []], 16) == []


def test_megabytes_in_one_line_take_no_quadratic_time():
    line = [10] * 1_500_000
    started = time.monotonic()
    assert len(rows_of([line], 64)) > 20_000
    assert time.monotonic() - started < 8  # Under one second alone; copying the rest of the line for each row, thirty.


def test_rows_too_short_for_two_segments_are_refused():
    with pytest.raises(ValueError, match="at least 5 positions, got 4"):
        rows_of([[7]], 4)
