"""ELECTRA's optimizer: Adam without bias correction, decoupled weight decay, warm-up times decay.

Source: Google's `optimization.py`.
"""

import dataclasses
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from electra_jax.training.job import Params

# Parameters without weight decay, by their path; embeddings do decay. As in Google's code.
_NOT_DECAYED = re.compile(r"layer_norm|bias|slopes")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Fields of `config.optimizer`, and the number of updates in the run."""

    steps: int
    learning_rate: float
    warmup_steps: int
    decay_power: float
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    clip_norm: float


class MomentsState(NamedTuple):
    """Adam's running moments, float32 like the parameters."""

    first: Params
    second: Params


def learning_rate(config: OptimizerConfig, step: jax.Array | int) -> jax.Array:
    """The rate of the update that takes `step` updates to `step + 1`.

    peak · (1 - step/steps)^power · min(1, step/warmup): warm-up multiplies the decay, so the peak is not quite reached,
    and the very first update moves the moments only.
    """
    step = jnp.asarray(step, jnp.float32)
    decay = jnp.maximum(1.0 - step / config.steps, 0.0) ** config.decay_power
    warmup = jnp.minimum(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    return config.learning_rate * decay * warmup


def scale_by_moments(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformation:
    """Adam without bias correction, u = m / (sqrt(v) + epsilon): the first updates are small by themselves."""

    def init(params: Params) -> MomentsState:
        return MomentsState(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Params, state: MomentsState, params: Params | None = None) -> tuple[Params, MomentsState]:
        del params
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.first, gradients)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * jnp.square(g), state.second, gradients)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), first, second)
        return updates, MomentsState(first, second)

    return optax.GradientTransformation(init, update)


def decayed(params: Params) -> Params:
    """A tree of bools: which parameters weight decay pulls towards zero."""
    return jax.tree_util.tree_map_with_path(lambda path, _: not _NOT_DECAYED.search(jax.tree_util.keystr(path)), params)


def optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clips by the global norm, then Adam, then decay; to be scaled by `learning_rate` where it is applied."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        scale_by_moments(config.beta1, config.beta2, config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
    )
