"""The train state: all that passes from one step to the next."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from electra_jax.training import recent_updates
from electra_jax.training.job import Job, Params, Sums
from electra_jax.training.recent_updates import RecentUpdates


class TrainState(flax.struct.PyTreeNode):
    """`step == s` means that s updates were applied or skipped.

    Attributes:
      step: int32 scalar.
      params: float32 tree.
      optimizer: the optimizer's state.
      metrics: sums since the last logged step; part of the state, so that a resumed run logs the same numbers.
      recent: statistics by which updates are skipped; part of the state, so that a resumed run skips the same ones.
    """

    step: jax.Array
    params: Params
    optimizer: Any
    metrics: Sums
    recent: RecentUpdates


def initial_state(job: Job, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """The state before the first update; parameters are boxed with their logical axes."""
    params = job.init(key)
    _, metrics = jax.eval_shape(job.loss, nn.unbox(params), job.batch_shapes()[0], key)
    names = [*metrics, "loss", "gradient_norm"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=optimizer.init(params),
        metrics={name: jnp.zeros(2) for name in names},
        recent=recent_updates.nothing_yet(len(recent_updates.watched(metrics))),
    )


def parameter_count(params: Params) -> int:
    """The number of parameters in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
