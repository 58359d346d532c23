"""What an update computes, by row and by module. Pure; compiled only when a run has diverged."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from electra_jax.models.draws import Microbatch
from electra_jax.training.job import Batch, Job, Params, Sums


class Diagnosis(NamedTuple):
    """An update, not applied.

    Attributes:
      metrics: pairs, "loss" among them.
      gradient_norm: float32 scalar.
      gradient_norms, parameter_norms: see `module_norms`.
      row_losses_B: float32, the share of each row in the loss.
      batch: the global batch, of which each process read a part.
    """

    metrics: Sums
    gradient_norm: jax.Array
    gradient_norms: dict[str, jax.Array]
    parameter_norms: dict[str, jax.Array]
    row_losses_B: jax.Array
    batch: Batch


def module_norms(tree: Params) -> dict[str, jax.Array]:
    """Euclidean norms by module, such as "discriminator/embeddings": scalars, or [layers] for stacked layers.

    Args:
      tree: parameters or gradients; what is under "layers" is stacked along its first axis.
    """
    norms: dict[str, jax.Array] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
        stacked = "layers" in names
        module = "/".join(names[: names.index("layers") + 1] if stacked else names[:2])
        axes = tuple(range(1 if stacked else 0, leaf.ndim))
        # Parameters that have run away are finite, and their squares are not.
        largest = jnp.max(jnp.abs(leaf), axis=axes, keepdims=True)
        shares = leaf / jnp.where(largest > 0, largest, 1.0)
        norm = jnp.squeeze(largest, axes) * jnp.sqrt(jnp.sum(jnp.square(shares), axis=axes))
        norms[module] = jnp.hypot(norms.get(module, jnp.zeros(())), norm)
    return norms


def losses_by_row(job: Job, params: Params, batch: Batch, key: jax.Array) -> jax.Array:
    """The share of each row in the loss of a batch, float32 [B], with the draws of that batch.

    One row at a time, each as a microbatch of its own: slow, and in the memory of one row.
    """
    weights = job.loss_weights(batch, key)
    count = jax.tree.leaves(batch)[0].shape[0]

    def loss_of(numbered: tuple[jax.Array, Batch]) -> jax.Array:
        number, row = numbered
        rows = jax.tree.map(lambda leaf: leaf[None], row)
        # One row cannot be sharded over devices as the model's own constraints would have it.
        with nn.logical_axis_rules(()):
            return job.loss(params, rows, key, weights, Microbatch(number, count))[0]

    return jax.lax.map(loss_of, (jnp.arange(count), batch))
