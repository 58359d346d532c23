"""Rows of both kinds: nothing is lost, nothing moves, and the shape is as documented."""

import itertools

import numpy as np
import pytest

from electra_jax.text.dataset.row_builders import Packer, segment_pairs

PAD, CLS, SEP = 0, 2, 3


def rows_of(lines, length, seed=0, single=0.1, short=0.05):
    blocks = segment_pairs(
        np.concatenate([np.array(line, np.int32) for line in lines]),
        np.array([len(line) for line in lines], np.int64),
        length=length,
        cls_id=CLS,
        sep_id=SEP,
        pad_id=PAD,
        rng=np.random.default_rng(seed),
        single_segment_probability=single,
        short_row_probability=short,
    )
    return np.concatenate([np.empty((0, length), np.int32), *blocks])


def random_document(rng):
    """Lines of all sizes, empty and very long ones among them; every token differs, so that order shows."""
    sizes = rng.choice([0, 1, 2, 5, 12, 60, 400], size=rng.integers(1, 30))
    ends = 10 + np.cumsum(sizes)
    return [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def test_random_documents_are_kept_complete_and_in_order():
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
        rows = rows_of(random_document(rng), length, seed=trial, short=0.3)
        assert rows.dtype == np.int32
        assert rows.shape[1:] == (length,)
        for row in rows:
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
    rows = rows_of([[10, 11, 12]] * 30_000, 64, single=0.1, short=0.05)
    pairs = np.mean([(row == SEP).sum() == 2 for row in rows])
    assert pairs == pytest.approx(0.9, abs=0.03)
    lengths = np.array([(row != PAD).sum() for row in rows[:-1]])
    assert np.mean(lengths < 62) == pytest.approx(0.05, abs=0.02)
    assert lengths.min() < 15


def test_only_empty_lines_give_no_row():
    assert rows_of([[], []], 16).shape == (0, 16)


def test_an_empty_line_moves_no_boundary():
    lines = [[10 + n] * 3 for n in range(90)]
    gaps = [part for line in lines for part in (line, [])]
    np.testing.assert_array_equal(rows_of(gaps, 19, short=0.3), rows_of(lines, 19, short=0.3))


class Counted(np.ndarray):
    """Ids that count how many of them were taken out."""

    taken = 0

    def __getitem__(self, index):
        found = super().__getitem__(index)
        Counted.taken += np.size(found)
        return np.asarray(found)


@pytest.fixture
def counted():
    Counted.taken = 0
    return lambda ids: np.asarray(ids, np.int32).view(Counted)


def test_rows_of_a_long_line_are_made_in_blocks_reading_each_token_once(counted):
    # A copy of the rest for each row would be twenty thousand times the document.
    ids = counted([10] * 1_500_000)
    options = dict(cls_id=CLS, sep_id=SEP, pad_id=PAD, rng=np.random.default_rng(0))
    blocks = segment_pairs(
        ids, np.array([len(ids)]), length=64, single_segment_probability=0.1, short_row_probability=0.05, **options
    )
    sizes = [len(rows) for rows in blocks]
    assert sum(sizes) > 20_000
    assert max(sizes) == 4096  # Its rows would take as much memory as its tokens again.
    assert Counted.taken == len(ids)


def test_rows_too_short_for_two_segments_are_refused():
    with pytest.raises(ValueError, match="at least 5 positions, got 4"):
        rows_of([[7]], 4)


def packed(documents, length):
    packer = Packer(length=length, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    return np.concatenate([*[packer.add(np.array(document, np.int32)) for document in documents], packer.finish()])


def numbered(sizes):
    """Documents of these sizes whose tokens all differ."""
    ends = 10 + np.cumsum(sizes)
    return [np.arange(end - size, end, dtype=np.int32) for size, end in zip(sizes, ends, strict=True)]


def pieces_of(row):
    """What stands between each [CLS] and its [SEP]; whatever else is no padding fails."""
    pieces, at = [], 0
    while at < len(row) and row[at] != PAD:
        assert row[at] == CLS
        end = at + int(np.argmax(row[at:] == SEP))
        assert row[end] == SEP
        pieces.append(row[at + 1 : end].tolist())
        at = end + 1
    assert (row[at:] == PAD).all()
    return pieces


def random_sizes(rng, count):
    kinds = [rng.integers(0, 4), rng.integers(1, 40), rng.integers(60, 90), rng.integers(1, 600)]
    return [
        int(kinds[kind] if rng.random() < 0.3 else rng.integers(0, 1 + kinds[kind]))
        for kind in rng.integers(0, 4, count)
    ]


def test_packed_documents_are_complete_or_pieces_of_eight_or_more():
    rng = np.random.default_rng(3)
    for _ in range(300):
        length = int(rng.integers(18, 130))
        documents = numbered(random_sizes(rng, rng.integers(0, 60)))
        rows = packed(documents, length)
        assert rows.dtype == np.int32
        assert rows.shape[1:] == (length,)
        pieces = sorted(piece for row in rows for piece in pieces_of(row))
        # Tokens are numbered, so what is sorted is in the order of the documents again.
        whole = {tuple(document) for document in documents}
        begins = {document[0]: len(document) for document in documents if len(document)}
        assert [token for piece in pieces for token in piece] == [token for document in documents for token in document]
        for piece in pieces:
            assert len(piece) >= 8 or tuple(piece) in whole
        for piece, after in itertools.pairwise(pieces):
            # No piece reaches over the end of a document.
            assert not set(begins) & set(piece[1:])
            assert after[0] == piece[-1] + 1


def test_rows_are_as_full_as_unsplit_pieces_allow():
    # Two marks each: 12 and 4 positions fill a row of 16, as do 8 and 8, and 9, 4 and 3.
    rows = packed(numbered([2, 6, 10, 6, 1, 7, 2]), 16)
    assert sorted(sorted(map(len, pieces_of(row))) for row in rows) == [[1, 2, 7], [2, 10], [6, 6]]
    assert (rows != PAD).all()
    # The 6 positions next to 10 are best for the 6, although 8 are open next to the 8.
    rows = packed(numbered([1, 3, 4, 6, 8]), 16)
    assert sorted(sorted(map(len, pieces_of(row))) for row in rows) == [[1, 3, 6], [4, 8]]


def test_a_long_document_is_full_rows_and_a_rest():
    document = np.arange(10, 10 + 14 * 3 + 9)
    packer = Packer(length=16, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    expected = [[CLS, *document[start : start + 14], SEP] for start in (0, 14, 28)]
    np.testing.assert_array_equal(packer.add(document), expected)
    np.testing.assert_array_equal(packer.finish(), [[CLS, *document[42:], SEP] + [PAD] * 5])


def test_a_short_rest_takes_tokens_from_the_row_before_it():
    lengths = [[len(piece) for piece in pieces_of(row)] for row in packed(numbered([30 * 2 + 3]), 32)]
    assert lengths == [[30], [25], [8]]


@pytest.mark.parametrize("length", [128, 512])
@pytest.mark.parametrize(
    ("low", "high"), [(0.01, 0.2), (0.1, 1.0), (0.55, 0.7), (0.5, 0.52), (0.34, 0.36), (0.9, 0.91), (0.7, 3.0)]
)
def test_padding_is_below_two_percent_whatever_the_sizes_of_documents(length, low, high):
    rng = np.random.default_rng(4)
    rows = packed(numbered(rng.integers(low * length, high * length, 3000)), length)
    assert np.mean(rows == PAD) < 0.02 + 1 / len(rows)


def test_documents_that_fit_are_not_cut_when_short_ones_fill_the_gaps():
    rng = np.random.default_rng(5)
    sizes = np.concatenate([rng.integers(60, 90, 500), rng.integers(1, 30, 3000)])
    assert sum(len(pieces_of(row)) for row in packed(numbered(sizes), 128)) == 3500


def test_rows_come_out_before_all_documents_are_in_and_little_is_kept():
    packer = Packer(length=64, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    ready = [packer.add(document) for document in numbered([10] * 40_000)]
    rows = np.concatenate(ready)
    assert sum(len(rows) > 0 for rows in ready) == 2  # Each 16,384 documents.
    assert np.sum(rows == CLS) > 32_000
    # Five of ten tokens each fit; the four positions that they leave are padding.
    assert np.sum(rows == PAD) == 4 * len(rows)
    assert np.sum(rows == CLS) + np.sum(packer.finish() == CLS) == 40_000


def test_a_document_s_array_is_not_kept():
    packer = Packer(length=16, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    ids = np.arange(10, 15, dtype=np.int32)
    packer.add(ids)
    ids[:] = 99
    assert pieces_of(packer.finish()[0]) == [[10, 11, 12, 13, 14]]


def test_pieces_are_packed_once_and_tokens_read_once(counted):
    seen = []

    class Watched(Packer):
        def _pack(self, *, finishing):
            seen.append(len(self._pieces))
            return super()._pack(finishing=finishing)

    rng = np.random.default_rng(6)
    sizes = (*rng.integers(1, 100, 100_000), 3_000_000)
    packer = Watched(length=128, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    rows = np.concatenate([*(packer.add(counted(np.full(size, 10))) for size in sizes), packer.finish()])
    assert np.sum(rows == 10) == sum(sizes)
    # What is left over from one packing waits for the next; it is few pieces.
    assert len(seen) > 5
    assert sum(seen) < 1.01 * len(sizes)
    assert Counted.taken < 1.01 * sum(sizes)


def test_nothing_makes_no_packed_row():
    assert packed([], 16).shape == packed([[], []], 16).shape == (0, 16)


def test_packed_rows_of_four_positions_are_refused():
    with pytest.raises(ValueError, match="at least 5 positions, got 4"):
        packed([], 4)
