import numpy as np
import pytest

from electra_jax.inference import row_batches
from electra_jax.inference.row_batches import Row


class Counting:
    """A runtime whose logits are the tokens, and that keeps the shapes that it was asked for."""

    outputs = frozenset(["replaced"])

    def __init__(self):
        self.shapes = []

    def compute(self, output, rows):
        self.shapes.append(rows.tokens_BxL.shape)
        for tokens_L, length in zip(rows.tokens_BxL, rows.lengths_B, strict=True):
            assert (tokens_L[length:] == 0).all()
        return {"logits": rows.tokens_BxL.astype(np.float32)}


def rows_of(*lengths):
    return [
        Row(np.full(length, number + 1, np.int32), np.zeros(length, np.int32)) for number, length in enumerate(lengths)
    ]


def outputs_of(rows, batch_size=4, longest=64):
    runtime = Counting()
    kept = row_batches.outputs_of(
        runtime,
        "replaced",
        rows,
        lambda row, outputs: (len(row.tokens_L), outputs["logits"][0]),
        batch_size=batch_size,
        longest=longest,
        pad_id=0,
    )
    return kept, runtime.shapes


@pytest.mark.parametrize(
    ("needed", "longest", "length"),
    [(1, 512, 16), (16, 512, 16), (17, 512, 32), (128, 512, 128), (129, 512, 160), (256, 512, 256), (257, 512, 320),
     (500, 512, 512), (20, 24, 24)],
)  # fmt: skip
def test_lengths_are_padded_to_a_few(needed, longest, length):
    assert row_batches.padded_length(needed, longest) == length


def test_no_padding_is_more_than_an_eighth_of_a_long_row():
    lengths = {row_batches.padded_length(needed, 512) for needed in range(1, 513)}
    assert len(lengths) == 16
    assert max(row_batches.padded_length(n, 512) / n for n in range(128, 513)) < 1.25


def test_outputs_come_in_the_order_of_the_rows():
    kept, _ = outputs_of(rows_of(9, 40, 3, 17, 60, 2, 33))
    assert kept == [(9, 1), (40, 2), (3, 3), (17, 4), (60, 5), (2, 6), (33, 7)]


def test_rows_of_similar_length_share_a_batch():
    _, shapes = outputs_of(rows_of(60, 2, 60, 2, 60, 2, 60, 2))
    assert shapes == [(4, 16), (4, 64)]


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 8), (8, 8)])
def test_a_few_rows_make_a_small_batch(count, size):
    _, shapes = outputs_of(rows_of(*[5] * count), batch_size=32)
    assert shapes == [(size, 16)]


def test_many_rows_make_full_batches():
    _, shapes = outputs_of(rows_of(*[5] * 256), batch_size=32)
    assert shapes == [(32, 16)] * 8
    _, shapes = outputs_of(rows_of(*[5] * 255), batch_size=32)
    assert shapes == [(8, 16)] * 32


def test_a_batch_size_below_the_small_ones_is_kept():
    _, shapes = outputs_of(rows_of(5, 5, 5), batch_size=2)
    assert shapes == [(2, 16), (1, 16)]


def test_no_rows_take_no_batch():
    assert outputs_of([]) == ([], [])
