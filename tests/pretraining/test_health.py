"""Geometry and detection scores against numpy, scikit-learn and values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from electra_jax.pretraining.health import average_precision, geometry, moments, recall_at_base_rate
from electra_jax.pretraining.objectives import separation_histogram


def geometry_of(*states, weights=None):
    hidden_BxLxD = jnp.asarray(states, jnp.float32)[None]
    weights_BxL = jnp.ones(hidden_BxLxD.shape[:2]) if weights is None else jnp.asarray([weights], jnp.float32)
    return geometry(moments(hidden_BxLxD, weights_BxL))


def test_identical_states_have_cosine_1_and_no_direction():
    assert geometry_of([3.0, 4.0], [3.0, 4.0], [3.0, 4.0]) == (pytest.approx(1.0), 0.0)


def test_states_on_a_line_have_rank_1():
    cosine, rank = geometry_of([1.0, 0.0], [2.0, 0.0], [6.0, 0.0])
    assert (cosine, rank) == (pytest.approx(1.0), pytest.approx(1.0))


def test_isotropic_states_have_the_rank_of_their_width():
    corners = np.concatenate([np.eye(4), -np.eye(4)])
    cosine, rank = geometry_of(*corners)
    # Each state has one opposite among the seven others and is orthogonal to the rest.
    assert (cosine, rank) == (pytest.approx(-1 / 7), pytest.approx(4.0))


def test_unequal_directions_count_by_participation():
    # Variances 4 and 1 around the mean: (4 + 1)² / (4² + 1²).
    _, rank = geometry_of([12.0, 5.0], [8.0, 5.0], [10.0, 6.0], [10.0, 4.0])
    assert rank == pytest.approx((2 + 0.5) ** 2 / (2**2 + 0.5**2))


def test_sums_over_batches_equal_numpy_without_padding():
    rng = np.random.default_rng(0)
    hidden_BxLxD = rng.normal(0.5, rng.uniform(0.5, 2.0, 6), (4, 5, 6)).astype(np.float32)
    weights_BxL = (rng.random((4, 5)) < 0.7).astype(np.float32)
    parts = [moments(jnp.asarray(hidden_BxLxD[part]), jnp.asarray(weights_BxL[part])) for part in ([0, 1], [2, 3])]
    cosine, rank = geometry(jax.tree.map(np.add, *parts))

    states_NxD = hidden_BxLxD[weights_BxL > 0]
    unit_NxD = states_NxD / np.linalg.norm(states_NxD, axis=1, keepdims=True)
    pairs = np.triu_indices(len(states_NxD), 1)
    values_D = np.linalg.eigvalsh(np.cov(states_NxD.T))
    assert cosine == pytest.approx((unit_NxD @ unit_NxD.T)[pairs].mean(), abs=1e-6)
    assert rank == pytest.approx(values_D.sum() ** 2 / np.square(values_D).sum(), rel=1e-4)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, 0.0]])
def test_fewer_than_two_states_have_no_geometry(weights):
    assert geometry_of([1.0, 0.0], [0.0, 1.0], weights=weights) == (0.0, 0.0)


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    labels = rng.random(400) < 0.2
    # On the bins' grid, so that ties are the same ones here and there.
    logits = np.round(rng.normal(labels * 1.5, 1.0) * 8) / 8
    histogram = np.asarray(
        separation_histogram(jnp.asarray(logits[None]), jnp.asarray(labels[None]), jnp.ones((1, 400)))
    )
    assert average_precision(histogram) == pytest.approx(sklearn.metrics.average_precision_score(labels, logits))


def histogram_of(*bins):
    """Counts of (negatives, positives) from the lowest logit up."""
    return np.array(bins, float).T


@pytest.mark.parametrize(
    ("bins", "precision", "recall"),
    [
        ([(6, 0), (0, 2)], 1.0, 1.0),
        ([(6, 2)], 0.25, 0.25),  # All alike: the base rate.
        ([(5, 0), (0, 1), (1, 0), (0, 1)], (1 + 2 / 3) / 2, 0.5),
        ([(4, 0), (2, 1), (0, 1)], (1 + 2 / 4) / 2, (1 + 1 / 3) / 2),  # A third of the middle bin is flagged.
        ([(6, 0), (0, 0)], 0.0, 0.0),
    ],
)
def test_scores_without_threshold_by_hand(bins, precision, recall):
    assert average_precision(histogram_of(*bins)) == pytest.approx(precision)
    assert recall_at_base_rate(histogram_of(*bins)) == pytest.approx(recall)
