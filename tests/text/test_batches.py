"""Batches: a pure function of (seed, number), each row once an epoch, for any number of processes."""

import itertools
import subprocess
import sys
import time

import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.text.batches import evaluation_batches, row_indices, training_batches
from electra_jax.text.dataset import Split


@pytest.fixture
def make_split(tmp_path):
    """Splits whose row i holds i + 1 everywhere."""

    def make(num_rows, length=4):
        path = tmp_path / f"{num_rows}.bin"
        np.repeat(np.arange(1, num_rows + 1, dtype="<u2"), length).tofile(path)
        return Split(num_rows, num_rows * length, 1, length, ((path, num_rows),), np.dtype("<u2"))

    return make


def first(batches, count):
    return np.concatenate(list(itertools.islice(batches, count)))[:, 0]


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 4096, 5000])
def test_every_epoch_is_a_permutation(num_rows):
    for seed in (0, 1, 2**40):
        indices = row_indices(np.arange(3 * num_rows), num_rows, seed).reshape(3, num_rows)
        for epoch in indices:
            assert sorted(epoch) == list(range(num_rows))


def test_orders_differ_between_epochs_and_seeds_and_look_random():
    size = 10_000
    orders = [
        row_indices(np.arange(size) + epoch * size, size, seed) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]
    ]
    for one, other in itertools.combinations([np.arange(size), *orders], 2):
        assert (one == other).sum() < 10  # One is expected of two random permutations.
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.05
    for order in orders:
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05


def test_all_orders_of_three_rows_are_about_as_frequent():
    orders = row_indices(np.arange(3 * 3000), 3, seed=0).reshape(-1, 3)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert (abs(counts - 500) < 100).all()


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
    split = make_split(1000)  # The index is computed in blocks of 4096; batches of 12 lie across their borders.
    ran = first(training_batches(split, batch_size=12, seed=1, start=0), start + 3)
    started = first(training_batches(split, batch_size=12, seed=1, start=start), 3)
    assert (ran[12 * start :] == started).all()
    assert (started - 1 == row_indices(np.arange(12 * start, 12 * start + 36), 1000, 1)).all()


def test_batches_larger_than_a_block_of_indices_are_whole(make_split):
    batch = next(training_batches(make_split(20_000), batch_size=10_000, seed=0, start=1))[:, 0]
    assert (batch - 1 == row_indices(np.arange(10_000, 20_000), 20_000, 0)).all()


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


def test_a_late_start_costs_no_more_than_an_early_one(make_split):
    split = make_split(1000)
    next(training_batches(split, batch_size=8, seed=0, start=0))
    started = time.monotonic()
    next(training_batches(split, batch_size=8, seed=0, start=10**6))
    assert time.monotonic() - started < 2


def test_batches_keep_up_with_training(make_split):
    batches = training_batches(make_split(10_000, length=64), batch_size=32, seed=0, start=0)
    next(batches)
    started = time.monotonic()
    for _ in range(500):
        next(batches)
    assert time.monotonic() - started < 2  # 4 ms a batch: a tenth of that was measured on two cores.


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
    # A thread that still wants to call Python then hangs the program, about one time in four; here it is seen each time.
    program = (
        "import atexit, os, sys, time\n"
        "read = []\n"
        "def check():\n"
        "    before = len(read)\n"
        "    time.sleep(0.5)\n"
        "    os._exit(len(read) > before)\n"
        "atexit.register(check)  # First in, last out.\n"
        "import pathlib, numpy as np\n"
        "from electra_jax.text import batches, dataset\n"
        "batches._PREFETCHED_BATCHES = 10**6\n"
        "class Noted(dataset.Split):\n"
        "    def rows(self, indices):\n"
        "        read.append(len(indices))\n"
        "        return super().rows(indices)\n"
        "split = Noted(1000, 4000, 1, 4, ((pathlib.Path(sys.argv[1]), 1000),), np.dtype('<u2'))\n"
        "kept = batches.training_batches(split, batch_size=8, seed=0, start=0)\n"
        "next(kept)\n"
    )
    path = str(make_split(1000).shards[0][0])
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=40, capture_output=True)


def test_the_wing_never_imports_jax_and_tensorflow_only_for_training_batches():
    program = (
        "import sys; from electra_jax.text import batches, dataset, examples, sources, tokenizer, writer\n"
        "assert not {'jax', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
