import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from electra_jax.pretraining import health
from electra_jax.pretraining.objectives import separation_histogram


def geometry_of(hidden_NxD, weights_N=None):
    hidden_BxLxD = jnp.asarray(hidden_NxD, jnp.float32)[None]
    weights_BxL = jnp.ones((1, len(hidden_NxD))) if weights_N is None else jnp.asarray(weights_N)[None]
    return health.geometry({name: np.asarray(sum_) for name, sum_ in health.moments(hidden_BxLxD, weights_BxL).items()})


def test_equal_states_have_cosine_1_and_no_rank():
    cosine, rank = geometry_of([[1.0, 2.0, 2.0]] * 4)
    assert cosine == pytest.approx(1)
    assert rank == 0


def test_states_along_the_axes_use_all_directions_alike():
    cosine, rank = geometry_of(np.concatenate([np.eye(6), -np.eye(6)]))
    assert cosine == pytest.approx(-1 / 11)
    assert rank == pytest.approx(6)


def test_cosine_and_rank_are_those_of_all_pairs_and_of_the_covariance():
    draw = np.random.default_rng(0)
    states_NxD = draw.normal(size=(40, 5)) * [3, 2, 1, 0.5, 0.1] + [1, 0, 0, 2, 0]
    unit_NxD = states_NxD / np.linalg.norm(states_NxD, axis=1, keepdims=True)
    pairs_NxN = unit_NxD @ unit_NxD.T
    values_D = np.linalg.eigvalsh(np.cov(states_NxD.T, bias=True))
    expected = pairs_NxN[~np.eye(40, dtype=bool)].mean(), values_D.sum() ** 2 / (values_D**2).sum()
    assert geometry_of(states_NxD) == pytest.approx(expected, rel=1e-4)


def test_tokens_without_weight_do_not_count():
    states_NxD = np.random.default_rng(1).normal(size=(10, 4))
    weights_N = np.array([1.0] * 7 + [0.0] * 3)
    assert geometry_of(states_NxD, weights_N) == pytest.approx(geometry_of(states_NxD[:7]), rel=1e-5)
    assert geometry_of(states_NxD, np.zeros(10)) == (0, 0)


def histogram_of(logits, replaced):
    return np.asarray(separation_histogram(jnp.asarray([logits]), jnp.asarray([replaced]), jnp.ones((1, len(logits)))))


def test_average_precision_is_scikit_learn_s():
    draw = np.random.default_rng(2)
    replaced = draw.random(400) < 0.2
    logits = np.round(draw.normal(size=400) + replaced, 1)
    expected = average_precision_score(replaced, logits)
    assert health.average_precision(histogram_of(logits, replaced)) == pytest.approx(expected, abs=1e-6)


def test_recall_at_the_base_rate_by_hand():
    # Three words were replaced; of the three likeliest, two.
    histogram = histogram_of([5.0, 4.0, 3.0, 2.0, 1.0, 0.0], [True, False, True, False, False, True])
    assert health.recall_at_base_rate(histogram) == pytest.approx(2 / 3)
    nothing = np.zeros_like(histogram)
    assert health.recall_at_base_rate(nothing) == health.average_precision(nothing) == 0
