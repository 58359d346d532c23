import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.training import recent_updates
from electra_jax.training.recent_updates import COUNTED_BEFORE, REMEMBERED, judged, nothing_yet, watched

step_of = jax.jit(judged, static_argnames="deviations")


def metrics(loss, norm=1.0, of_generator=2.0):
    values = {"loss": loss, "gradient_norm": norm, "generator_loss": of_generator, "accuracy": 0.5}
    return {name: jnp.array([value, 1.0]) for name, value in values.items()}


def after(losses, deviations=0.0, recent=None, first=0):
    """The statistics after updates with these losses, and which were skipped."""
    recent, skipped = recent or nothing_yet(3), []
    for number, loss in enumerate(losses, first):
        skip, recent = step_of(recent, jnp.int32(number), metrics(loss), deviations=deviations, logged=False)
        skipped.append(bool(skip))
    return recent, skipped


def steady():
    return 5.0 + 0.1 * np.random.default_rng(0).standard_normal(COUNTED_BEFORE)


def test_losses_and_the_gradient_norm_are_watched():
    names = ["loss", "gradient_norm", "generator_loss", "accuracy", "discriminator_loss"]
    assert watched(names) == ("loss", "gradient_norm", "discriminator_loss", "generator_loss")


def test_statistics_are_exponential_means_without_bias():
    losses = np.array([4.0, 7.0, 1.0, 3.0])
    recent, _ = after(losses)
    weights = 0.99 ** np.arange(3, -1, -1)
    mean = np.average(losses, weights=weights)
    np.testing.assert_allclose(recent.mean_N, [mean, 1.0, 2.0], rtol=1e-5)
    variance = np.average((losses - mean) ** 2, weights=weights)
    np.testing.assert_allclose(recent.variance_N, [variance, 0.0, 0.0], rtol=1e-4, atol=1e-6)


def test_value_that_is_not_finite_is_skipped_and_leaves_statistics():
    before, _ = after([5.0, 6.0])
    for loss in (float("nan"), float("inf")):
        recent, skipped = after([loss], recent=before, first=7)
        assert skipped == [True]
        np.testing.assert_array_equal(recent.mean_N, before.mean_N)
        np.testing.assert_array_equal(recent.variance_N, before.variance_N)
        assert (int(recent.counted), int(recent.skipped), int(recent.skipped_steps_R[0])) == (2, 1, 7)


def test_metric_that_is_not_watched_must_be_finite_too():
    broken = metrics(5.0) | {"accuracy": jnp.array([jnp.nan, 1.0])}
    skipped, _ = step_of(nothing_yet(3), jnp.int32(0), broken, deviations=0.0, logged=False)
    assert bool(skipped)


def test_spike_is_skipped_only_above_the_limit():
    recent, skipped = after(steady(), 6.0)
    assert not any(skipped)
    limit = float(recent_updates.limits(recent, 6.0)[0])
    assert 5.5 < limit < 5.8
    assert after([limit - 0.01], 6.0, recent)[1] == [False]
    assert after([limit + 0.01], 6.0, recent)[1] == [True]
    assert after([limit + 0.01], 0.0, recent)[1] == [False]


def test_nothing_spikes_before_enough_updates_are_counted():
    recent, _ = after(steady()[1:], 6.0)
    assert after([1e9], 6.0, recent)[1] == [False]


def test_spike_of_the_gradient_norm_alone_is_skipped():
    recent, _ = after(steady(), 6.0)
    skipped, _ = step_of(recent, jnp.int32(0), metrics(5.0, norm=1.5), deviations=6.0, logged=False)
    assert bool(skipped)
    # A deviation of less than a hundredth of the mean counts as that much.
    skipped, _ = step_of(recent, jnp.int32(0), metrics(5.0, norm=1.05), deviations=6.0, logged=False)
    assert not bool(skipped)


def test_lasting_change_is_accepted_after_a_few_updates():
    recent, _ = after(steady(), 6.0)
    _, skipped = after([8.0] * 40, 6.0, recent)
    assert 2 <= sum(skipped) <= 20
    assert not any(skipped[20:])


def test_skipped_updates_are_remembered_newest_first():
    recent, _ = after([float("nan")] * (REMEMBERED + 6))
    expected = np.arange(REMEMBERED + 5, 5, -1)
    np.testing.assert_array_equal(recent.skipped_steps_R, expected)
    assert np.isnan(recent.skipped_values_RxN[:, 0]).all()
    assert (recent.skipped_values_RxN[:, 1] == 1.0).all()


def test_count_of_skipped_updates_restarts_after_a_logged_step():
    recent, _ = after([float("nan")] * 3)
    _, recent = step_of(recent, jnp.int32(3), metrics(float("nan")), deviations=0.0, logged=True)
    assert int(recent.skipped) == 1
