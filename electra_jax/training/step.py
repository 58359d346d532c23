"""One update, and one evaluation batch, as pure functions.

A step is a function of (state, batch, root key) alone: the key of step s is fold_in(root, s), so that a resumed run
draws what an uninterrupted one would have drawn.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.linen import spmd
from jax.sharding import PartitionSpec

from electra_jax.models.draws import Microbatch
from electra_jax.training import recent_updates
from electra_jax.training.diagnosis import Diagnosis, losses_by_row, module_norms
from electra_jax.training.job import Batch, Job, Params, Sums
from electra_jax.training.optimizer import OptimizerConfig, learning_rate
from electra_jax.training.state import TrainState

TrainStep = Callable[[TrainState, jax.Array, jax.Array], tuple[TrainState, Sums]]


def make_train_step(
    job: Job,
    optimizer: optax.GradientTransformation,
    settings: OptimizerConfig,
    log_every_steps: int,
    accumulation: int = 1,
    shardings: Sequence[Params] = (),
    spike_deviations: float = 0.0,
) -> TrainStep:
    """Returns `train_step(state, batch, root_key) -> (state, metrics)`, to be jitted by the caller.

    An update that is not finite, or spikes, is skipped: parameters and optimizer stay as they are, bit for bit, its
    metrics are not added up, and the step advances, so that its batch is passed over.

    `metrics` are the sums since the last multiple of `log_every_steps`, and as "skipped" how many of these updates were
    skipped. They are returned a second time next to the state, because the state's own copy is donated to the next step
    before the host has read it.

    Args:
      job: what is trained.
      optimizer: see `optimizer.py`.
      settings: settings of the optimizer.
      log_every_steps: see above.
      accumulation: microbatches in a batch, processed one after another.
      shardings: shardings of gradients and updates, trees like the parameters'. Gradients are constrained to each in
        turn, and parameters are updated in the last one; the caller's `jax.jit` decides on the new parameters'
        sharding. An empty sequence leaves it to the compiler.
      spike_deviations: see `recent_updates.limits`.
    """

    placed = _placed(shardings)
    gradients_at = _gradients_at(job, settings, accumulation, placed)

    def train_step(state: TrainState, batch: jax.Array, root_key: jax.Array) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(root_key, state.step)
        (loss, metrics), gradients = gradients_at(state.step)(state.params, batch, key)
        gradients = placed(gradients)
        with jax.named_scope("optimizer"):
            updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
            rate = learning_rate(settings, state.step)
            params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
            if shardings:
                params = jax.lax.with_sharding_constraint(params, shardings[-1])

        one = jnp.ones(())
        metrics = metrics | {
            "loss": jnp.stack([loss, one]),
            "gradient_norm": jnp.stack([optax.global_norm(gradients), one]),
        }
        logged = state.step % log_every_steps == 0
        skipped, recent = recent_updates.judged(state.recent, state.step, metrics, spike_deviations, logged=logged)

        def unless_skipped(new: Params, old: Params) -> Params:
            return jax.tree.map(lambda after, before: jnp.where(skipped, before, after), new, old)

        carried = (~logged).astype(jnp.float32)
        metrics = jax.tree.map(lambda past, now: carried * past + jnp.where(skipped, 0.0, now), state.metrics, metrics)
        after = TrainState(
            state.step + 1,
            unless_skipped(params, state.params),
            unless_skipped(optimizer_state, state.optimizer),
            metrics,
            recent,
        )
        return after, metrics | {"skipped": jnp.stack([recent.skipped.astype(jnp.float32), one])}

    return train_step


def make_diagnosis(
    job: Job, settings: OptimizerConfig, accumulation: int = 1, shardings: Sequence[Params] = ()
) -> Callable[[Params, jax.Array, jax.Array, jax.Array], Diagnosis]:
    """Returns `diagnose(params, step, batch, root_key) -> diagnosis` of the update from `step` to `step + 1`.

    Args:
      job, settings, accumulation, shardings: see `make_train_step`; gradients are those of that step.
    """
    placed = _placed(shardings)

    def diagnose(params: Params, step: jax.Array, batch: jax.Array, root_key: jax.Array) -> Diagnosis:
        key = jax.random.fold_in(root_key, step)
        (loss, metrics), gradients = _gradients_at(job, settings, accumulation, placed)(step)(params, batch, key)
        gradients = placed(gradients)
        return Diagnosis(
            metrics | {"loss": jnp.stack([loss, jnp.ones(())])},
            optax.global_norm(gradients),
            module_norms(gradients),
            module_norms(params),
            losses_by_row(job.at(step), params, batch, key),
            batch,
        )

    return diagnose


def _placed(shardings: Sequence[Params]) -> Callable[[Params], Params]:
    def placed(tree: Params) -> Params:
        for sharding in shardings:
            tree = jax.lax.with_sharding_constraint(tree, sharding)
        return tree

    return placed


def _gradients_at(
    job: Job, settings: OptimizerConfig, accumulation: int, placed: Callable[[Params], Params]
) -> Callable[[jax.Array], Callable]:
    """Returns `gradients_at(step)`, the function that gives loss, metrics and gradients of that update."""
    per_device = settings.gradient_scope == "per_device"

    def gradients_at(step: jax.Array) -> Callable:
        current = job.at(step)
        gradients_of = jax.value_and_grad(current.loss, has_aux=True)
        if accumulation > 1:
            # With gradients per device, each device holds all of its own.
            gradients_of = _accumulated(current, accumulation, (lambda tree: tree) if per_device else placed)
        return _per_device(gradients_of, settings.clip_norm) if per_device else gradients_of

    return gradients_at


def _accumulated(job: Job, count: int, placed: Callable[[Params], Params]) -> Callable:
    """`value_and_grad` of the loss with gradient accumulation: memory for the activations of one microbatch.

    Microbatch i has the rows i, i + count, i + 2 · count, …: equally many from every device, so that no row moves.
    Microbatches draw what the full batch would have drawn and are divided by its weights, so that their sums equal
    those of the full batch.
    """

    def split(leaf: jax.Array) -> jax.Array:
        microbatches = jnp.swapaxes(leaf.reshape(-1, count, *leaf.shape[1:]), 0, 1)
        return spmd.with_logical_constraint(microbatches, (None, "batch", *[None] * (leaf.ndim - 1)))

    def gradients_of(params: Params, batch: Batch, key: jax.Array) -> tuple:
        weights = job.loss_weights(batch, key)
        batches = jax.tree.map(split, batch)

        def add_microbatch(sums: tuple, numbered: tuple[jax.Array, Batch]) -> tuple[tuple, None]:
            number, rows = numbered
            value_and_gradients = jax.value_and_grad(job.loss, has_aux=True)
            values, gradients = value_and_gradients(params, rows, key, weights, Microbatch(number, count))
            return jax.tree.map(jnp.add, sums, (values, placed(gradients))), None

        rows = jax.tree.map(lambda leaf: leaf[0], batches)
        values = jax.eval_shape(lambda: job.loss(params, rows, key, weights))
        nothing = jax.tree.map(lambda value: jnp.zeros(value.shape, value.dtype), values)
        nothing = nothing, placed(jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add_microbatch, nothing, (jnp.arange(count), batches))[0]

    return gradients_of


def _per_device(gradients_of: Callable, clip_norm: float) -> Callable:
    """Normalises losses and clips gradients on each device, then averages them, as Google's code does on TPUs.

    Only for replicated weights: each device differentiates the complete model on its own rows.
    """
    axes = ("data", "fsdp")

    def on_one_device(params: Params, batch: jax.Array, key: jax.Array) -> tuple:
        key = jax.random.fold_in(key, jax.lax.axis_index(axes))
        # The mesh axes are in use here, so the model's own constraints must have no effect.
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
