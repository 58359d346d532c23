"""ELECTRA's optimizer: Adam without bias correction, decoupled weight decay, warm-up and decay of the learning rate.

Source: Google's `optimization.py`, whose own schedule and clipping are options here. Muon is another option.
"""

import dataclasses
import math
import re
from typing import NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import optax.contrib

from electra_jax.config.shared import OptimizerFields
from electra_jax.training.job import Params

# Root mean square of a kernel's update under Muon: about that of Adam's, so that both have one learning rate and one
# weight decay (Liu et al. 2025, "Muon is Scalable for LLM Training", §2.2).
_MUON_RMS = 0.2
# Parameters without weight decay, by their path; embeddings do decay. As in Google's code.
_NOT_DECAYED = re.compile(r"layer_norm|bias|slopes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(OptimizerFields):
    """Fields of `config.optimizer`, with the number of updates in the run and in its warm-up."""

    steps: int
    warmup_steps: int
    name: str = "adam"

    @classmethod
    def of(cls, fields: OptimizerFields, *, steps: int, warmup_steps: int) -> Self:
        """The settings from the optimizer section of a config."""
        own = {field.name for field in dataclasses.fields(cls)} - {"steps", "warmup_steps"}
        given = {name: getattr(fields, name) for name in own if hasattr(fields, name)}
        return cls(steps=steps, warmup_steps=warmup_steps, **given)


class MomentsState(NamedTuple):
    """Adam's running moments, float32 like the parameters."""

    first: Params
    second: Params


def learning_rate(config: OptimizerConfig, step: jax.Array | int) -> jax.Array:
    """The learning rate of the update from `step` to `step + 1`.

    "linear" rises to the peak over the warm-up and falls to zero over the remaining steps, as (remaining share)^power.
    "warmup_times_decay" is Google's: peak · (1 - s/steps)^power · min(1, s/warmup) with s = step + 1. Its peak is not
    quite reached, and the last update has rate 0. Google's formula takes the global step; on CPU its training loop was
    measured to read that step after its increment (docs/fidelity.md).
    """
    step = jnp.asarray(step, jnp.float32)
    warmup_steps = config.warmup_steps
    if config.schedule == "warmup_times_decay":
        decay = jnp.maximum(1.0 - (step + 1) / config.steps, 0.0) ** config.decay_power
        warmup = jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    else:
        left = (config.steps - step) / (config.steps - warmup_steps)
        decay = jnp.clip(left, 0.0, 1.0) ** config.decay_power
        warmup = jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return config.learning_rate * decay * warmup


def scale_by_moments(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformation:
    """Adam without bias correction: u = m / (sqrt(v) + epsilon).

    The first updates are larger than Adam's, not smaller, since sqrt(v) starts further below its final value than m
    does: with betas of 0.9 and 0.999, the first one is 0.1 / sqrt(0.001) = 3.16 for every gradient that is not tiny,
    where Adam's is 1. The warm-up of the learning rate compensates for it.
    """

    def init(params: Params) -> MomentsState:
        return MomentsState(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Params, state: MomentsState, params: Params | None = None) -> tuple[Params, MomentsState]:
        del params
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.first, gradients)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * jnp.square(g), state.second, gradients)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), first, second)
        return updates, MomentsState(first, second)

    return optax.GradientTransformation(init, update)


def muon_dimensions(params: Params) -> Params:
    """The axes of each parameter that form the matrix which Muon orthogonalises; None where Adam is kept.

    Muon updates the kernels of an encoder's layers. Adam updates the rest: tables and heads, as Muon's author does, and
    the generator, which with a quarter of the width reached 5.2 nats under Muon and 4.7 under Adam (2,500 updates of
    the quickstart). Kernels of layers are stacked along the first axis; those of attention have axes for heads and for
    the width of a head, which count as one.

    Args:
      params: a tree as `Electra.init` returns it, unboxed.
    """

    def dimensions(path: tuple, leaf: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        is_kernel = _is_under(path, "layers") and _is_under(path, "kernel") and not _is_under(path, "generator")
        if not is_kernel:
            return None
        inputs = (1, 2) if leaf.ndim == 4 and _is_under(path, "output") else (1,)
        return optax.contrib.MuonDimensionNumbers(inputs, tuple(range(1 + len(inputs), leaf.ndim)))

    return jax.tree_util.tree_map_with_path(dimensions, params)


def _scale_by_muon(others: optax.GradientTransformation) -> optax.GradientTransformation:
    """Muon for kernels of layers (Jordan 2024, https://kellerjordan.github.io/posts/muon), `others` for the rest."""

    def labels(params: Params) -> Params:
        dimensions = muon_dimensions(nn.unbox(params))
        return jax.tree.map(lambda found: "others" if found is None else "muon", dimensions, is_leaf=_is_dimensions)

    def of_kernels(params: Params) -> Params:
        # The other parameters are masked out here, which leaves no leaf.
        return muon_dimensions(nn.unbox(params))

    muon = optax.chain(
        optax.contrib.scale_by_muon(weight_dimension_numbers=of_kernels),
        optax.stateless(lambda updates, _: jax.tree.map(_with_muons_size, updates, of_kernels(updates))),
    )
    return optax.partition({"muon": muon, "others": others}, labels)


def _with_muons_size(update: jax.Array, dimensions: optax.contrib.MuonDimensionNumbers) -> jax.Array:
    """Rescales an orthogonal matrix, whose root mean square is 1 / sqrt(its larger side), to Adam's size."""
    sides = [math.prod(update.shape[axis] for axis in axes) for axes in dimensions]
    return _MUON_RMS * math.sqrt(max(sides)) * update


def _is_dimensions(leaf: object) -> bool:
    return leaf is None or isinstance(leaf, optax.contrib.MuonDimensionNumbers)


def decayed(params: Params) -> Params:
    """A tree of bools: which parameters weight decay pulls towards zero."""
    return jax.tree_util.tree_map_with_path(lambda path, _: not _NOT_DECAYED.search(jax.tree_util.keystr(path)), params)


def optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clips by the global norm, then Adam or Muon, then decay; the caller scales updates by `learning_rate`."""
    moments = scale_by_moments(config.beta1, config.beta2, config.epsilon)
    parts = [
        optax.clip_by_global_norm(config.clip_norm),
        _scale_by_muon(moments) if config.name == "muon" else moments,
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
    ]
    if config.layer_decay != 1.0:
        parts.append(_scale_by_depth(config.layer_decay, config.top_layer_exponent))
    return optax.chain(*parts)


def depth_scales(params: Params, decay: float, top_layer_exponent: int) -> Params:
    """Factors of the learning rate by parameter, smaller for lower layers.

    Heads keep their rate, the top layer has decay^top_layer_exponent, each layer below it one power more, and the
    embeddings with their projection one more than the lowest layer (ELECTRA paper, appendix on fine-tuning; Google's
    `_get_layer_lrs`, where a pooler that was removed left the top layer with exponent 2).

    Args:
      params: a tree as `Electra.init` returns it; parameters under "layers" are stacked along their first axis.
      decay: factor from one layer to the one below.
      top_layer_exponent: 1, or 2 for Google's.

    Returns:
      A tree of the same structure: floats and, for stacked parameters, arrays [layers, 1, …].
    """
    deepest = max(
        (leaf.shape[0] for path, leaf in jax.tree_util.tree_leaves_with_path(params) if _is_under(path, "layers")),
        default=0,
    )

    def scale(path: tuple, leaf: jax.Array) -> jax.Array | float:
        if _is_under(path, "layers"):
            exponents = top_layer_exponent + jnp.arange(leaf.shape[0] - 1, -1, -1)
            return (jnp.float32(decay) ** exponents).reshape(-1, *[1] * (leaf.ndim - 1))
        if _is_under(path, "embeddings") or _is_under(path, "embeddings_project"):
            return decay ** (top_layer_exponent + deepest)
        return 1.0

    return jax.tree_util.tree_map_with_path(scale, params)


def _is_under(path: tuple, name: str) -> bool:
    return any(getattr(key, "key", getattr(key, "name", None)) == name for key in path)


def _scale_by_depth(decay: float, top_layer_exponent: int) -> optax.GradientTransformation:
    def update(updates: Params, params: Params | None = None) -> Params:
        del params
        return jax.tree.map(jnp.multiply, updates, depth_scales(updates, decay, top_layer_exponent))

    return optax.stateless(update)
