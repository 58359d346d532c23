"""One update, and one evaluation batch, as pure functions.

A step is a function of (state, batch, root key) alone: the key of step s is fold_in(root, s), so that a resumed run
draws what an undisturbed one would have drawn.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from electra_jax.training.job import Job, Params, Sums
from electra_jax.training.optimizer import OptimizerConfig, learning_rate
from electra_jax.training.state import TrainState

TrainStep = Callable[[TrainState, jax.Array, jax.Array], tuple[TrainState, Sums]]


def make_train_step(
    job: Job, optimizer: optax.GradientTransformation, settings: OptimizerConfig, log_every_steps: int
) -> TrainStep:
    """Returns `train_step(state, batch, root_key) -> (state, metrics)`, to be jitted by the caller.

    `metrics` are the sums since the last multiple of `log_every_steps`. They leave the step a second time beside the
    state, because the state's own copy is given away to the next step before the host has read it.
    """

    gradients_of = jax.value_and_grad(job.loss, has_aux=True)
    if settings.gradient_scope == "per_device":
        gradients_of = _per_device(gradients_of, settings.clip_norm)

    def train_step(state: TrainState, batch: jax.Array, root_key: jax.Array) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(root_key, state.step)
        (loss, metrics), gradients = gradients_of(state.params, batch, key)
        with jax.named_scope("optimizer"):
            updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
            rate = learning_rate(settings, state.step)
            params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)

        one = jnp.ones(())
        metrics = metrics | {
            "loss": jnp.stack([loss, one]),
            "gradient_norm": jnp.stack([optax.global_norm(gradients), one]),
        }
        carried = (state.step % log_every_steps != 0).astype(jnp.float32)
        metrics = jax.tree.map(lambda past, now: carried * past + now, state.metrics, metrics)
        return TrainState(state.step + 1, params, optimizer_state, metrics), metrics

    return train_step


def _per_device(gradients_of: Callable, clip_norm: float) -> Callable:
    """Losses normalised and gradients clipped on each device by itself, then averaged, as Google's code does on TPUs.

    Only for replicated weights: each device differentiates the whole model on its own rows.
    """
    axes = ("data", "fsdp")

    def on_one_device(params: Params, batch: jax.Array, key: jax.Array) -> tuple:
        key = jax.random.fold_in(key, jax.lax.axis_index(axes))
        # The axes are in use here, so that the model's own placement has nothing left to say.
        with nn.logical_axis_rules(()):
            (loss, metrics), gradients = gradients_of(params, batch, key)
        gradients, _ = optax.clip_by_global_norm(clip_norm).update(gradients, optax.EmptyState())
        loss, gradients = jax.lax.pmean((loss, gradients), axes)
        return (loss, jax.lax.psum(metrics, axes)), gradients

    everywhere = PartitionSpec()
    # Without `check_vma`, because with it JAX would add the gradients up before they are clipped.
    return jax.shard_map(
        on_one_device, in_specs=(everywhere, PartitionSpec(axes), everywhere), out_specs=everywhere, check_vma=False
    )


def make_evaluation_step(job: Job) -> Callable[[TrainState, jax.Array, jax.Array], Sums]:
    """Returns `evaluation_step(state, batch, key) -> sums` over one held-out batch."""

    def evaluation_step(state: TrainState, batch: jax.Array, key: jax.Array) -> Sums:
        return job.evaluate(state.params, batch, key)

    return evaluation_step
