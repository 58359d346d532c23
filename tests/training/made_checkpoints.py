"""Small states for tests of checkpoints."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.training.recent_updates import nothing_yet
from electra_jax.training.state import TrainState


def state_at(step):
    """A state with a large array, a small one and a scalar, which all differ between steps."""
    draw = np.random.default_rng(step).standard_normal
    params = {"kernel": jnp.asarray(draw((64, 100)), jnp.float32), "bias": jnp.asarray(draw(3), jnp.float32)}
    metrics = {"loss": jnp.full(2, step, jnp.float32)}
    return TrainState(jnp.int32(step), params, (jnp.zeros((64, 100)),), metrics, nothing_yet(2))


class Before(NamedTuple):
    """A state as versions without statistics of recent updates saved it."""

    step: jax.Array
    params: object
    optimizer: object
    metrics: object


def as_before(state):
    return Before(state.step, state.params, state.optimizer, state.metrics)
