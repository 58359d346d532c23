"""Batches: a pure function of (seed, number), each row once an epoch, for any number of processes."""

import itertools
import tracemalloc

import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.text.dataset import row_batches
from electra_jax.text.dataset.dataset import Split
from electra_jax.text.dataset.mixture import Mixture, proportions, row_indices
from electra_jax.text.dataset.row_batches import evaluation_batches, training_batches
from electra_jax.text.dataset.shards import checksums, record_dtype
from tests.running import run_program


@pytest.fixture
def make_split(tmp_path):
    """Splits whose row i holds i + 1 everywhere, of one source unless `sources` says how many rows each has."""

    def make(num_rows, length=4, sources=None):
        path = tmp_path / f"{num_rows}.bin"
        records = np.empty(num_rows, record_dtype(np.dtype("<u2"), length))
        records["tokens"] = np.arange(1, num_rows + 1)[:, None]
        records["crc32"] = checksums(records)
        records.tofile(path)
        ends = np.cumsum(sources or [num_rows]).tolist()
        ranges = tuple(range(start, end) for start, end in itertools.pairwise([0, *ends]))
        return Split(num_rows, num_rows * length, 1, length, ((str(path), num_rows),), ranges, np.dtype("<u2"))

    return make


def first(batches, count):
    return np.concatenate(list(itertools.islice(batches, count)))[:, 0]


def test_batches_hold_each_row_once_an_epoch_and_cross_its_border(make_split):
    rows = first(training_batches(make_split(10), batch_size=4, seed=3, start=0), 5).reshape(2, 10)
    assert [sorted(epoch) for epoch in rows.tolist()] == [list(range(1, 11))] * 2
    assert rows[0].tolist() != rows[1].tolist()


def test_batches_are_int32_of_the_shape_asked(make_split):
    batch = next(training_batches(make_split(10, length=6), batch_size=4, seed=0, start=0))
    assert batch.dtype == np.int32
    assert batch.shape == (4, 6)


@pytest.mark.parametrize("start", [1, 7, 1025, 2000])
def test_starting_at_a_batch_is_the_same_as_running_to_it(make_split, start):
    split = make_split(1000)
    ran = first(training_batches(split, batch_size=12, seed=1, start=0), start + 3)
    started = first(training_batches(split, batch_size=12, seed=1, start=start), 3)
    assert (ran[12 * start :] == started).all()
    assert (started - 1 == row_indices(np.arange(12 * start, 12 * start + 36), 1000, 1)).all()


@pytest.mark.parametrize("batch_size", [1, 3, 1000, 1024, 1025, 10_000])
def test_batches_of_any_size_are_full(make_split, batch_size):
    rows = first(training_batches(make_split(20_000), batch_size=batch_size, seed=0, start=1), 3)
    assert (rows - 1 == row_indices(np.arange(batch_size, 4 * batch_size), 20_000, 0)).all()


def test_sources_are_mixed_by_their_weights(make_split):
    split = make_split(1000, sources=[900, 100])
    options = dict(batch_size=50, seed=2, start=3, weights=[1, 3], temperature=2)
    rows = first(training_batches(split, **options), 40) - 1
    counts = proportions([900, 100], [1, 3], 2)
    assert counts == [500, 500]
    assert (rows == Mixture(split.sources, tuple(counts), 2).rows(np.arange(150, 2150))).all()
    assert 850 < (rows < 900).sum() < 1150


@pytest.mark.parametrize("weights", [None, [1, 1], [7, 7]])
def test_equal_weights_are_the_order_of_a_single_source(make_split, weights):
    split = make_split(1000, sources=[900, 100])
    rows = first(training_batches(split, batch_size=50, seed=2, start=0, weights=weights), 40)
    assert (rows == first(training_batches(make_split(1000), batch_size=50, seed=2, start=0), 40)).all()


def test_damage_is_raised_as_what_it_is_and_where_it_comes(make_split):
    split = make_split(3000)
    bad = row_indices(np.arange(3000), 3000, 0)[2500]
    with open(split.shards[0][0], "r+b") as file:
        file.seek(int(bad) * 12)
        file.write(b"damaged!")
    batches = training_batches(split, batch_size=100, seed=0, start=0)
    assert len(first(batches, 20)) == 2000
    with pytest.raises(InputError, match=f"3000.bin: .*row {bad} "):
        first(batches, 10)


@pytest.mark.parametrize("process_count", [1, 2, 4, 8])
def test_processes_together_read_the_global_batches(make_split, process_count):
    split = make_split(37)
    options = dict(batch_size=8, process_count=process_count)
    whole = list(itertools.islice(training_batches(split, batch_size=8, seed=5, start=6), 4))
    parts = [
        list(itertools.islice(training_batches(split, seed=5, start=6, process_index=index, **options), 4))
        for index in range(process_count)
    ]
    assert (np.concatenate(parts, axis=1) == whole).all()

    whole = list(evaluation_batches(split, batch_size=8, max_rows=30))
    parts = [list(evaluation_batches(split, max_rows=30, process_index=n, **options)) for n in range(process_count)]
    assert (np.concatenate(parts, axis=1) == whole).all()


class CountingSplit(Split):
    """Counts the calls for rows, and the rows."""

    def __init__(self, split, **changes):
        super().__init__(**vars(split) | changes)
        object.__setattr__(self, "asked", [])

    def rows(self, indices):
        self.asked.append(len(indices))
        return super().rows(indices)


def test_a_late_batch_of_fifty_million_rows_reads_no_rows_before_it(make_split):
    small = make_split(50_000)
    size = 1000 * small.num_rows
    split = CountingSplit(small, num_rows=size, shards=small.shards * 1000, sources=(range(size),))
    next(training_batches(small, batch_size=8, seed=0, start=0))  # TensorFlow is imported.
    tracemalloc.start()
    batch = next(training_batches(split, batch_size=256, seed=0, start=10**6))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What is read ahead, and neither the batches before nor an epoch's order, which would be 400 MB.
    assert sum(split.asked) <= 8 * row_batches._GATHERED_ROWS
    assert peak < 20e6
    expected = row_indices(np.arange(256 * 10**6, 256 * 10**6 + 256), size, 0)
    assert (batch[:, 0] == (expected % 50_000 + 1)).all()


@pytest.mark.parametrize(("batch_size", "at_once"), [(8, 1024), (16, 1024), (256, 1024), (2048, 2048)])
def test_about_a_thousand_rows_are_asked_for_at_once(make_split, batch_size, at_once):
    split = CountingSplit(make_split(10_000))
    next(training_batches(split, batch_size=batch_size, seed=0, start=0))
    assert set(split.asked) == {at_once}


def test_evaluation_reads_a_fixed_random_subset_and_fills_the_last_batch(make_split):
    split = make_split(50)
    batches = list(evaluation_batches(split, batch_size=8, max_rows=20, pad_id=9))
    assert [batch.shape for batch in batches] == [(8, 4)] * 3
    rows = np.concatenate(batches)
    assert rows.dtype == np.int32
    assert len(set(rows[:20, 0].tolist())) == 20
    assert rows[:20, 0].max() > 25
    assert (rows[20:] == 9).all()
    assert (rows == np.concatenate(list(evaluation_batches(split, batch_size=8, max_rows=20, pad_id=9)))).all()


def test_evaluation_reads_all_rows_when_there_are_fewer(make_split):
    rows = np.concatenate(list(evaluation_batches(make_split(5), batch_size=4, max_rows=100)))[:, 0]
    assert sorted(rows.tolist()) == [0, 0, 0, 1, 2, 3, 4, 5]


def test_a_batch_that_cannot_be_shared_is_refused(make_split):
    with pytest.raises(InputError, match=r"config.batch_size: 6 rows cannot be shared by 4 processes"):
        training_batches(make_split(5), batch_size=6, seed=0, start=0, process_count=4)


def test_no_batch_is_read_any_more_when_the_interpreter_shuts_down(make_split):
    run_program("tests.text.programs.read_until_exit", make_split(1000).shards[0][0])
