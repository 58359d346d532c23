"""Which updates are skipped: those that are not finite, and those that spike. Pure, inside the compiled step.

An update spikes if one of its losses, or the norm of its gradient, exceeds the mean of recent updates by many standard
deviations. A spiking value enters the statistics as if it were at the limit, so that one spike hardly moves them, and a
lasting change, such as a step in a schedule, is accepted after a few updates. Values that are not finite never enter.
"""

from collections.abc import Iterable

import flax.struct
import jax
import jax.numpy as jnp

from electra_jax.training.job import Sums

REMEMBERED = 64  # Skipped updates whose step and values are kept.
COUNTED_BEFORE = 100  # Updates, before any can spike: the values of the first ones change by themselves.
_DECAY = 0.99  # Of the statistics: they are about those of the last hundred updates.
# Of the mean: deviations below it count as this much. Where a loss hardly varies, a small change is no danger.
_LEAST_DEVIATION = 0.01


class RecentUpdates(flax.struct.PyTreeNode):
    """Statistics of the watched values of recent updates, and the updates that were skipped.

    N watched values, in the order of `watched`; R = REMEMBERED.

    Attributes:
      mean_N, variance_N: float32, exponentially weighted with correction of the bias towards their start.
      counted: int32 scalar, how many updates have entered them.
      skipped: int32 scalar, updates skipped since the last logged step.
      skipped_steps_R: int32, the states' steps before the last skipped updates, newest first; -1 for none.
      skipped_values_RxN: float32, their watched values.
    """

    mean_N: jax.Array
    variance_N: jax.Array
    counted: jax.Array
    skipped: jax.Array
    skipped_steps_R: jax.Array
    skipped_values_RxN: jax.Array


def watched(metrics: Iterable[str]) -> tuple[str, ...]:
    """Names of the values that are watched, from the names of a job's metrics: losses, and the gradient's norm."""
    return ("loss", "gradient_norm", *sorted(name for name in metrics if name.endswith("_loss")))


def nothing_yet(count: int) -> RecentUpdates:
    """The statistics before the first update, of so many watched values."""
    return RecentUpdates(
        mean_N=jnp.zeros(count),
        variance_N=jnp.zeros(count),
        counted=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        skipped_steps_R=jnp.full(REMEMBERED, -1, jnp.int32),
        skipped_values_RxN=jnp.zeros((REMEMBERED, count)),
    )


def limits(recent: RecentUpdates, deviations: float) -> jax.Array:
    """The largest values, float32 [N], that are no spike; infinite while too few updates are counted.

    Args:
      recent: statistics of the updates so far.
      deviations: standard deviations above the mean; 0 for no limit.
    """
    if not deviations:
        return jnp.full_like(recent.mean_N, jnp.inf)
    deviation_N = jnp.maximum(jnp.sqrt(recent.variance_N), _LEAST_DEVIATION * jnp.abs(recent.mean_N))
    return jnp.where(recent.counted < COUNTED_BEFORE, jnp.inf, recent.mean_N + deviations * deviation_N)


def judged(
    recent: RecentUpdates, step: jax.Array, metrics: Sums, deviations: float, *, logged: jax.Array
) -> tuple[jax.Array, RecentUpdates]:
    """Whether to skip an update, bool scalar, and the statistics with it.

    Args:
      recent: statistics of the updates before it.
      step: the state's step before the update.
      metrics: pairs of this update alone, "loss" and "gradient_norm" among them.
      deviations: see `limits`.
      logged: whether the last update ended a line of metrics, so that counting begins again.
    """
    values_N = jnp.stack([metrics[name][0] / jnp.maximum(metrics[name][1], 1.0) for name in watched(metrics)])
    finite = jnp.all(jnp.isfinite(jnp.stack(list(metrics.values()))))
    limits_N = limits(recent, deviations)
    skipped = ~finite | jnp.any(values_N > limits_N)

    # Weights of the past fall by _DECAY with each update; divided by their sum, no start value has any.
    share = jnp.minimum((1 - _DECAY) / (1 - _DECAY ** (recent.counted + 1.0)), 1.0)
    surprise_N = jnp.minimum(values_N, limits_N) - recent.mean_N
    mean_N = recent.mean_N + share * surprise_N
    variance_N = (1 - share) * (recent.variance_N + share * jnp.square(surprise_N))
    return skipped, RecentUpdates(
        mean_N=jnp.where(finite, mean_N, recent.mean_N),
        variance_N=jnp.where(finite, variance_N, recent.variance_N),
        counted=recent.counted + finite,
        skipped=jnp.where(logged, 0, recent.skipped) + skipped,
        skipped_steps_R=jnp.where(skipped, _prepended(step, recent.skipped_steps_R), recent.skipped_steps_R),
        skipped_values_RxN=jnp.where(
            skipped, _prepended(values_N, recent.skipped_values_RxN), recent.skipped_values_RxN
        ),
    )


def _prepended(newest: jax.Array, others: jax.Array) -> jax.Array:
    return jnp.concatenate([newest[None], others[:-1]])
