"""Mixtures: sources are read as often as asked, and their rows evenly."""

import itertools

import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.text.dataset.mixture import Mixture, proportions, row_indices


def mixture(rows_per_source, counts, seed=0):
    ends = np.cumsum(rows_per_source).tolist()
    sources = tuple(range(start, end) for start, end in itertools.pairwise([0, *ends]))
    return Mixture(sources, tuple(counts), seed)


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


def test_orders_never_change():
    # A resumed run reads on where it was; these were computed by the first release.
    assert row_indices(np.arange(12), 6, 7).tolist() == [5, 1, 3, 4, 0, 2, 0, 5, 2, 4, 1, 3]
    far = row_indices(np.arange(10**10, 10**10 + 4), 10**8, 2**40)
    assert far.tolist() == [63_529_856, 87_111_226, 97_887_984, 59_204_532]


def test_natural_proportions_read_each_row_once():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 100):
        rows = rng.integers(0, 10 ** rng.integers(1, 11, size), size).tolist()
        rows[0] += 1
        assert proportions(rows, [1] * size, 1) == rows
        assert proportions(rows, [0.1] * size, 1.0) == rows


@pytest.mark.parametrize(
    ("rows", "weights", "temperature", "counts"),
    [
        ([900, 100], [1, 1], 2, [750, 250]),  # 30 : 10
        ([900, 100], [1, 9], 1, [500, 500]),
        ([900, 100], [1, 3], 2, [500, 500]),
        ([900, 100], [0, 1], 1, [0, 100]),  # The other source is left out, and with it its rows.
        ([900, 0, 100], [1, 5, 1], 1, [900, 0, 100]),
        ([10, 10, 10], [1, 1, 2], 1, [8, 7, 15]),  # 7.5, 7.5, 15: the first of equal remainders.
        ([1000, 1], [1, 1e-9], 1, [1000, 1]),
        ([1000, 3], [1e-9, 1], 1, [1, 1002]),
        ([900, 100], [1, 1], 1e300, [500, 500]),
        ([900, 100], [1, 1], 1e-300, [999, 1]),
        ([900, 100], [1e300, 1e-300], 1, [999, 1]),
        ([5, 5], [1, 1], 1e-300, [5, 5]),
    ],
)
def test_proportions_follow_weights_and_temperature(rows, weights, temperature, counts):
    assert proportions(rows, weights, temperature) == counts


def test_a_hundred_sources_with_a_row_each_all_take_part():
    counts = proportions([10**6, *[1] * 100], [1e6, *[1] * 100], 1)
    assert counts == [10**6, *[1] * 100]


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_a_bad_temperature_is_refused(temperature):
    with pytest.raises(InputError, match=r"config.data.mixture_temperature: found .*above 0"):
        proportions([1, 2], [1, 1], temperature)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_a_bad_weight_is_refused(weight):
    with pytest.raises(InputError, match=r"config.data.sources\[1\]: found weight=.*0 or more"):
        proportions([1, 2], [1, weight], 1)


@pytest.mark.parametrize(("rows", "weights"), [([1, 2], [0, 0]), ([0, 2], [1, 0]), ([], [])])
def test_an_empty_mixture_is_refused(rows, weights):
    with pytest.raises(InputError, match=r"config.data.sources: empty mixture"):
        proportions(rows, weights, 1)


@pytest.mark.parametrize("sources", [[1000], [600, 400], [300, 0, 1, 699]])
def test_the_natural_mixture_is_the_plain_order(sources):
    positions = np.arange(500, 3500)
    assert (mixture(sources, sources, seed=4).rows(positions) == row_indices(positions, 1000, 4)).all()


@pytest.mark.parametrize("counts", [[37, 10, 53], [10, 40, 50], [1, 98, 1], [0, 60, 40], [50, 20, 30]])
def test_epochs_have_their_counts_and_rows_of_a_source_take_turns(counts):
    sizes = [50, 20, 30]
    mixed = mixture(sizes, counts, seed=1)
    times_read = np.zeros(100, int)
    for epoch in range(25):
        rows = mixed.rows(np.arange(100) + 100 * epoch)
        times_read += np.bincount(rows, minlength=100)
        of_sources = np.split(times_read, np.cumsum(sizes)[:-1])
        for of_source, count in zip(of_sources, counts, strict=True):
            assert of_source.sum() == count * (epoch + 1)
            assert of_source.max() - of_source.min() <= 1


def test_any_position_is_the_same_however_it_is_asked_for():
    mixed = mixture([50, 20, 30], [37, 10, 53], seed=1)
    whole = mixed.rows(np.arange(1000))
    assert [mixed.rows(np.array([position]))[0] for position in range(0, 1000, 37)] == whole[::37].tolist()
    shuffled = np.random.default_rng(0).permutation(1000)
    assert (mixed.rows(shuffled) == whole[shuffled]).all()
    assert (mixed.rows(np.array([10**15, 10**15 + 1])) < 100).all()


def test_orders_within_a_source_differ_between_its_epochs_seeds_and_sources():
    # A quarter of each source is read in an epoch, so that every fourth begins the source again; the epoch's own order
    # does not show in which rows they are.
    def chosen(seed, epoch, source):
        rows = mixture([4000, 4000], [1000, 1000], seed).rows(np.arange(2000) + epoch * 2000)
        return {row % 4000 for row in rows.tolist() if row // 4000 == source}

    cases = [(0, 0, 0), (0, 4, 0), (0, 8, 0), (1, 0, 0), (0, 0, 1)]
    for one, other in itertools.combinations([chosen(*case) for case in cases], 2):
        assert len(one) == len(other) == 1000
        assert 180 < len(one & other) < 320  # 250 are expected of two random quarters.


def test_rows_within_a_source_are_in_random_order():
    # One row in four is read each epoch: which ones must not follow from their numbers.
    rows = np.sort(mixture([4000, 1000], [1000, 1000]).rows(np.arange(2000)))
    rows = rows[rows < 4000]
    assert len(set(rows.tolist())) == 1000
    assert abs(rows.mean() - 2000) < 150
    assert abs(np.histogram(rows, bins=10, range=(0, 4000))[0] - 100).max() < 50
