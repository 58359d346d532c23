import dataclasses
import itertools

import numpy as np
import pytest

from electra_jax.finetuning.data.rows import Rows
from electra_jax.finetuning.data.task_batches import (
    Order,
    evaluation_batches,
    fitting,
    padded_lengths,
    training_batches,
)


def rows_of(lengths, first_token=10):
    """Rows whose tokens tell which row they are of."""
    lengths = np.array(lengths, np.int64)
    tokens = np.repeat(first_token + np.arange(len(lengths), dtype=np.int32), lengths)
    return Rows(
        examples=[None] * len(lengths),
        example_N=np.arange(len(lengths), dtype=np.int32),
        tokens_T=tokens,
        segments_T=np.ones_like(tokens),
        lengths_N=lengths,
        by_row={"label": np.arange(len(lengths), dtype=np.int32) * 2},
        by_token={"tag": (tokens * 3, -1)},
    )


def order_of(batch_size=4, temperature=1.0, seed=0, weights=None, last_batch="drop", **rows):
    return Order(rows, weights or dict.fromkeys(rows, 1.0), temperature, batch_size, last_batch, seed)


def padding(lengths, chosen):
    return sum(fitting(chosen, length) - length for length in lengths)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_padded_lengths_are_the_best_of_all_choices(most):
    lengths = np.random.default_rng(most).integers(1, 60, 50)
    chosen = padded_lengths(lengths, most)
    candidates = range(8, 65, 8)
    best = min(
        padding(lengths, choice)
        for count in range(1, most + 1)
        for choice in itertools.combinations(candidates, count)
        if choice[-1] >= lengths.max()
    )
    assert padding(lengths, chosen) == best
    assert len(chosen) <= most
    assert all(length % 8 == 0 for length in chosen)


def test_there_are_no_more_padded_lengths_than_rows_need():
    assert padded_lengths(np.array([3, 5, 8]), 4) == (8,)


def test_a_batch_is_padded_and_rows_of_minus_one_weigh_nothing():
    batch = rows_of([2, 3]).batch(np.array([1, -1]), 4, pad_id=0)
    np.testing.assert_array_equal(batch["tokens"], [[11, 11, 11, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch["segments"], [[1, 1, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch["tag"], [[33, 33, 33, -1], [-1, -1, -1, -1]])
    np.testing.assert_array_equal(batch["weight"], [1, 0])
    np.testing.assert_array_equal(batch["row"], [1, -1])
    np.testing.assert_array_equal(batch["label"], [2, 0])
    assert {name: array.dtype.name for name, array in batch.items()} == {
        "tokens": "int32", "segments": "int32", "tag": "int32", "weight": "float32", "row": "int32", "label": "int32",
    }  # fmt: skip


def test_rows_are_told_apart_by_all_that_is_trained_on():
    rows = rows_of([2, 3])
    assert rows.sha256 == rows_of([2, 3]).sha256
    changed = (
        {"tokens_T": rows.tokens_T + 1},
        {"segments_T": rows.segments_T * 0},
        {"lengths_N": rows.lengths_N[::-1]},
        {"by_row": {"label": rows.by_row["label"] + 1}},
        {"by_token": {"tag": (rows.by_token["tag"][0] + 1, -1)}},
    )
    assert len({rows.sha256, *(dataclasses.replace(rows, **change).sha256 for change in changed)}) == 6


def test_every_row_comes_once_an_epoch_whatever_the_length():
    order = order_of(only=rows_of(np.random.default_rng(0).integers(1, 30, 64)))
    # An epoch is one stretch of sixteen batches here, so that its end is a batch's end.
    for epoch in range(3):
        seen = np.concatenate([order.batch(number)[1] for number in range(epoch * 16, epoch * 16 + 16)])
        np.testing.assert_array_equal(np.sort(seen), np.arange(64))


def test_rows_of_a_batch_are_of_similar_length_and_batches_in_random_order():
    lengths = np.random.default_rng(0).integers(1, 100, 64)
    order = order_of(only=rows_of(lengths))
    batches = [lengths[order.batch(number)[1]] for number in range(16)]
    assert np.mean([batch.max() - batch.min() for batch in batches]) < 12
    longest = [batch.max() for batch in batches]
    assert longest != sorted(longest)


@pytest.mark.parametrize("last_batch", ["train", "drop"])
def test_a_batch_depends_on_seed_and_number_alone(last_batch):
    rows = rows_of(range(1, 40))
    first, again, other = (order_of(only=rows, last_batch=last_batch, seed=seed) for seed in (0, 0, 1))
    for number in (70, 3, 0):
        np.testing.assert_array_equal(first.batch(number)[1], again.batch(number)[1])
    assert any((first.batch(number)[1] != other.batch(number)[1]).any() for number in range(4))


def test_tasks_come_as_often_as_their_batches_and_every_row_once_a_round():
    order = order_of(small=rows_of([5] * 64), large=rows_of([5] * 192))
    seen = [order.batch(number) for number in range(64)]
    names = [name for name, _ in seen]
    assert names.count("small") == 16
    assert names[:16] != ["small"] * 16
    for name, size in (("small", 64), ("large", 192)):
        rows = np.concatenate([rows for task, rows in seen if task == name])
        np.testing.assert_array_equal(np.sort(rows), np.arange(size))
    # The second round goes on where the first one ended.
    again = [order.batch(number) for number in range(64, 128)]
    np.testing.assert_array_equal(np.sort(np.concatenate([rows for task, rows in again if task == "small"])), range(64))


@pytest.mark.parametrize("sizes", [(600,), (5,), (33,), (70, 9, 300)])
def test_rows_that_fill_no_batch_train_once_an_epoch_too(sizes):
    draw = np.random.default_rng(0)
    rows = {f"task{size}": rows_of(draw.integers(1, 30, size)) for size in sizes}
    order = order_of(32, last_batch="train", **rows)
    assert order.epoch_batches == sum(-(-size // 32) for size in sizes)
    for epoch in range(3):
        seen = [order.batch(epoch * order.epoch_batches + number) for number in range(order.epoch_batches)]
        for name, own in rows.items():
            batches = [chosen[chosen >= 0] for task, chosen in seen if task == name]
            np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(own)))
            assert max(map(len, batches)) - min(map(len, batches)) <= 1
    assert order.passes(3 * order.epoch_batches) == pytest.approx(3)


def test_passes_over_whole_batches_alone_are_fewer():
    order = order_of(32, only=rows_of([5] * 600))
    assert (order.epoch_batches, order.passes(54)) == (18, 2.88)


def test_rows_of_an_incomplete_batch_are_spread_over_devices():
    order = order_of(32, last_batch="train", only=rows_of([5] * 33))
    for _, chosen in map(order.batch, range(4)):
        counts = (chosen.reshape(4, 8) >= 0).sum(axis=1)
        assert counts.max() - counts.min() <= 1


def test_rows_meet_others_in_the_next_epoch_whatever_their_lengths():
    order = order_of(4, last_batch="train", only=rows_of(range(1, 38)))
    first, second = (
        {frozenset(order.batch(number)[1].tolist()) for number in range(epoch * 10, epoch * 10 + 10)}
        for epoch in range(2)
    )
    assert len(first & second) < 3


def test_weights_and_temperature_change_how_often_a_task_comes():
    rows = {"small": rows_of([5] * 40), "large": rows_of([5] * 360)}
    count = [order_of(temperature=1e9, **rows).batch(number)[0] for number in range(100)].count("small")
    assert count == 50
    heavy = order_of(weights={"small": 9.0, "large": 1.0}, **rows)
    assert [heavy.batch(number)[0] for number in range(100)].count("small") == 50


def test_processes_read_parts_of_the_same_batches():
    order = order_of(only=rows_of(range(1, 30)), last_batch="train")
    lengths = {"only": (16, 32)}
    whole = training_batches(order, lengths, 0, 5, slice(0, 4))
    parts = [training_batches(order, lengths, 0, 5, slice(first, first + 2)) for first in (0, 2)]
    for _ in range(6):
        expected = next(whole)["only"]
        found = [next(part)["only"] for part in parts]
        for name, array in expected.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in found]), array)


def test_an_evaluation_has_every_row_once_and_fills_the_last_batch():
    rows = rows_of([9, 1, 20, 3, 3])
    batches = [batch["only"] for batch in evaluation_batches("only", rows, (8, 24), 2, 0, slice(0, 2))]
    assert [batch["tokens"].shape for batch in batches] == [(2, 8), (2, 24), (2, 24)]
    assert [batch["row"].tolist() for batch in batches] == [[1, 3], [4, 0], [2, -1]]
    assert batches[-1]["weight"].tolist() == [1, 0]
