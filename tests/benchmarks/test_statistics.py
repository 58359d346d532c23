import math

import pytest

from benchmarks.objectives.statistics import chosen_rate, over_seeds, paired_difference


def test_mean_and_deviation_are_over_pretraining_seeds():
    # Seeds have means 0.2, 0.4 and 0.9: mean 0.5, squares of deviations 0.09 + 0.01 + 0.16 over n - 1 = 2.
    found = over_seeds({1: [0.1, 0.3], 2: [0.4, 0.4], 3: [0.8, 1.0]})
    assert found.mean == pytest.approx(0.5)
    assert found.sd == pytest.approx(math.sqrt(0.13))
    assert found.n == 3


def test_a_single_seed_has_no_standard_deviation():
    assert over_seeds({1: [0.1, 0.3]}) == (pytest.approx(0.2), None, 1)
    assert over_seeds({1: []}) is None


def test_differences_are_paired_by_seed():
    # 0.6 - 0.5 and 0.9 - 0.7: mean 0.15, deviation 0.1 / sqrt(2); seed 3 has no partner.
    found = paired_difference({1: [0.6], 2: [0.8, 1.0], 3: [0.0]}, {1: [0.5], 2: [0.7], 4: [1.0]})
    assert found == (pytest.approx(0.15), pytest.approx(0.1 / math.sqrt(2)), 2)
    assert paired_difference({1: [0.6]}, {2: [0.5]}) is None
    assert paired_difference({1: [0.6]}, {1: [0.5]}).sd is None


def test_a_common_shift_of_a_seed_leaves_no_deviation_in_differences():
    found = paired_difference({1: [0.5], 2: [0.9]}, {1: [0.25], 2: [0.65]})
    assert found == (pytest.approx(0.25), pytest.approx(0.0), 2)


def test_the_rate_has_the_best_mean_on_dev_or_is_the_smaller_of_equals():
    assert chosen_rate({1e-3: [0.5, 0.7], 2e-3: [0.9, 0.2], 3e-3: [0.1, 0.1]}) == 1e-3
    assert chosen_rate({2e-3: [0.5], 1e-3: [0.5]}) == 1e-3
