"""Our training step compared with a recording of Google's: same rows, masks, samples and initial weights.

    python -m benchmarks.google_replay
    python -m benchmarks.google_replay --updates=10 --trace=tests/golden/google_trace.npz

Prints a Markdown table of the largest differences by range of updates. tests/golden/README.md explains how the
recording was made. Except for the random draws, everything is production code under the settings of `:google_compat`:
segments and labels, both networks, losses, gradients, clipping, moments, weight decay and learning rate. Weights are
set once, at the start, so rounding errors accumulate from update to update.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from electra_jax import entry_point
from electra_jax.config.files import typed_pretraining
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.configs import small
from electra_jax.errors import InputError
from electra_jax.interop import tensor_map
from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.pretraining import corruption, objectives
from electra_jax.pretraining.electra_job import ElectraJob
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.training import recent_updates
from electra_jax.training.job import Params, Sums, Weights
from electra_jax.training.optimizer import OptimizerConfig, optimizer
from electra_jax.training.state import TrainState
from electra_jax.training.step import make_train_step

_TRACE = flags.DEFINE_string("trace", "tests/golden/google_trace.npz", "The recording.")
_UPDATES = flags.DEFINE_integer("updates", 60, "Number of its updates to replay.", lower_bound=1)

_INITIAL, _RECORDED = "initial/", "recorded/"
# Last update of each row of the table.
_RANGES = (1, 10, 20, 30, 40, 50, 60)


class Draws(NamedTuple):
    """One batch and the random draws of Google's code for it; all int32 except the weights."""

    tokens_BxL: jax.Array
    shown_BxL: jax.Array  # What the generator reads.
    positions_BxM: jax.Array
    targets_BxM: jax.Array
    weights_BxM: jax.Array
    samples_BxM: jax.Array


class Trace(NamedTuple):
    """A recording.

    Attributes:
      initial: weights before the first update, under our parameter names.
      draws: arrays with a leading axis of steps.
      segments: int32 [steps, B, L].
      replaced: labels of the discriminator, bool [steps, B, L].
      probabilities: predicted probability of replacement, float32 [first steps, B, L].
      values: float64 [steps] by name: "generator_loss", "discriminator_loss", "loss" and "gradient_norm", the last one
        before clipping.
    """

    initial: Params
    draws: Draws
    segments: np.ndarray
    replaced: np.ndarray
    probabilities: np.ndarray
    values: Mapping[str, np.ndarray]


class Replay(NamedTuple):
    """Results of our code on a recording. Fields as in `Trace`, and:

    Attributes:
      real: false on padding, bool [steps, B, L].
      slots: number of positions of a row that our masking predicts, int32 [steps, B].
    """

    real: np.ndarray
    segments: np.ndarray
    replaced: np.ndarray
    slots: np.ndarray
    probabilities: np.ndarray
    values: Mapping[str, np.ndarray]


def load(path: str) -> Trace:
    """Reads a recording.

    Raises:
      InputError: the file is missing or incomplete.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        recorded = {name.removeprefix(_RECORDED): array for name, array in arrays.items() if name.startswith(_RECORDED)}
        initial = {name.removeprefix(_INITIAL): array for name, array in arrays.items() if name.startswith(_INITIAL)}
        # Google's code logs the generator loss and the sum with weights 1 and 50 (`configure_pretraining.py`).
        generator, total = (recorded[name].astype(np.float64) for name in ("generator_loss", "total_loss"))
        fields = {field: recorded[field.rsplit("_", 1)[0]] for field in Draws._fields}
        return Trace(
            initial=tensor_map.unflatten(initial),
            draws=Draws(
                **{name: array.astype(np.int32) for name, array in fields.items() if name != "weights_BxM"},
                weights_BxM=fields["weights_BxM"],
            ),
            segments=recorded["segments"].astype(np.int32),
            replaced=recorded["replaced"],
            probabilities=recorded["probabilities"],
            values={
                "generator_loss": generator,
                "discriminator_loss": (total - generator) / 50,
                "loss": total,
                "gradient_norm": recorded["gradient_norm"].astype(np.float64),
            },
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"--trace={path}: found no recording ({error}); expected the repository's .npz file"
        ) from error


def recorded_config() -> PretrainingConfig:
    """The settings under which Google's code was recorded."""
    config = small.get_config("google_compat")
    config.steps, config.batch_size = 250, 16
    config.data.sequence_length = 64
    config.data.tokenizer.vocabulary_size = 2048
    model = config.model
    model.layers, model.heads, model.hidden_size, model.feed_forward_size = 2, 4, 128, 512
    model.embedding_size, model.positions = 128, 64
    model.dropout_rate = model.attention_dropout_rate = 0.0
    config.optimizer.learning_rate, config.optimizer.warmup_steps = 1e-3, 50
    # Equal to "per_device" on one device, but reports the norm before clipping.
    config.optimizer.gradient_scope = "global"
    return typed_pretraining(config)


@dataclasses.dataclass(frozen=True)
class ReplayedJob:
    """The loss of a job on batches that contain their random draws; the part of `Job` that a training step uses."""

    job: ElectraJob

    def at(self, step: jax.Array) -> "ReplayedJob":
        """See `Job`."""
        return dataclasses.replace(self, job=self.job.at(step))

    def loss(
        self,
        params: Params,
        batch: Draws,
        key: jax.Array,
        weights: Weights | None = None,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> tuple[jax.Array, Sums]:
        """See `Job`."""
        with _instead_of_drawing(batch):
            return self.job.loss(params, batch.tokens_BxL, key, weights, microbatch)

    def outputs(self, params: Params, batch: Draws) -> objectives.ElectraOutputs:
        """Outputs of both networks for a batch."""
        job = self.job
        with _instead_of_drawing(batch):
            return objectives.electra_outputs(
                job.model, job.objective, params, batch.tokens_BxL, jax.random.key(0), deterministic=True
            )


@contextlib.contextmanager
def _instead_of_drawing(batch: Draws) -> Iterator[None]:
    """Makes objectives that are traced in this context use the recorded masks and samples."""
    masked = corruption.Masked(batch.shown_BxL, batch.positions_BxM, batch.targets_BxM, batch.weights_BxM)
    with (
        mock.patch.object(objectives, "mask_rows", return_value=masked),
        mock.patch.object(objectives, "sample_tokens_by_gumbel", return_value=batch.samples_BxM),
    ):
        yield


def replay(trace: Trace, config: PretrainingConfig, steps: int) -> Replay:
    """Repeats the recorded updates with our code.

    Args:
      trace: the recording.
      config: see `recorded_config`.
      steps: number of updates.

    Raises:
      InputError: `steps` is larger than the number of recorded updates.
    """
    if steps > len(trace.segments):
        raise InputError(f"--updates={steps}: the recording has {len(trace.segments)} updates; give at most as many")
    job = pretraining_job(config, None, "cpu")
    if not isinstance(job, ElectraJob):
        raise TypeError(f"found {type(job).__name__}, expected the config of an ElectraJob")
    replayed = ReplayedJob(job)
    settings = OptimizerConfig.of(config.optimizer, steps=config.steps, warmup_steps=config.optimizer.warmup_steps)
    transformation = optimizer(settings)
    key = jax.random.key(0)

    def batch(step: int) -> Draws:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[step]), trace.draws)

    _, metrics = jax.eval_shape(replayed.loss, trace.initial, batch(0), key)
    nothing = {name: jnp.zeros(2) for name in (*metrics, "loss", "gradient_norm")}
    recent = recent_updates.nothing_yet(len(recent_updates.watched(metrics)))
    params = jax.tree.map(jnp.asarray, trace.initial)
    state = TrainState(jnp.zeros((), jnp.int32), params, transformation.init(params), nothing, recent)
    step_of_replay = make_train_step(
        replayed,  # type: ignore[arg-type]  # has the members of `Job` that a step uses: at, loss
        transformation,
        settings,
        log_every_steps=1,
    )
    update = jax.jit(step_of_replay)
    outputs = jax.jit(replayed.outputs)
    slots = jax.jit(lambda row: _slots_used(job.objective, row, key))
    values: dict[str, list[float]] = {name: [] for name in trace.values}
    seen: dict[str, list[jax.Array]] = {name: [] for name in Replay._fields if name != "values"}
    for step in range(steps):
        made = outputs(state.params, batch(step))
        state, metrics = update(state, batch(step), key)
        for name, series in values.items():
            series.append(float(metrics[name][0]) / float(metrics[name][1]))
        seen["real"].append(made.row.document_ids_BxL > 0)
        seen["segments"].append(made.row.segments_BxL)
        seen["replaced"].append(made.replaced_BxL)
        seen["slots"].append(slots(made.row))
        seen["probabilities"].append(jax.nn.sigmoid(made.discriminator_logits_BxL))
    return Replay(**{name: np.stack(arrays) for name, arrays in seen.items()}, values=jax.tree.map(np.asarray, values))


def _slots_used(objective: objectives.Objective, row: corruption.Row, key: jax.Array) -> jax.Array:
    """Number of positions of each row that our masking predicts, int32 [B]; which ones does not matter."""
    masked = corruption.mask_rows(
        key,
        row,
        objective.special,
        mask_fraction=objective.mask_fraction,
        kept_fraction=objective.kept_fraction,
        with_replacement=objective.with_replacement,
    )
    return masked.weights_BxM.sum(1).astype(jnp.int32)


def relative_differences(trace: Trace, replayed: Replay) -> dict[str, np.ndarray]:
    """Difference of each value at each update, relative to Google's."""
    return {
        name: np.abs(series - trace.values[name][: len(series)]) / trace.values[name][: len(series)]
        for name, series in replayed.values.items()
    }


def table(trace: Trace, replayed: Replay) -> Iterator[str]:
    """Yields the lines of a Markdown table: the largest differences by range of updates."""
    differences, probabilities = relative_differences(trace, replayed), probability_differences(trace, replayed)
    steps = len(replayed.segments)
    yield "| updates | generator loss | discriminator loss | loss | gradient norm | probabilities | labels, segments |"
    yield "|---|---|---|---|---|---|---|"
    for first, end in _ranges(steps):
        part = slice(first, end)
        figures = [f"{differences[name][part].max():.1e}" for name in trace.values]
        # Probabilities are recorded for the first updates only.
        figures.append(f"{probabilities[part].max():.1e}" if end <= len(probabilities) else "–")
        wrong = sum(int(different[part].sum()) for different in wrong_integers(trace, replayed))
        updates = f"{first + 1}–{end}" if end > first + 1 else f"{end}"
        yield f"| {' | '.join([updates, *figures, f'{wrong} differ' if wrong else 'equal'])} |"


def probability_differences(trace: Trace, replayed: Replay) -> np.ndarray:
    """Absolute difference of the discriminator's probabilities, [first steps, B, L]; 0 on padding."""
    steps = min(len(trace.probabilities), len(replayed.probabilities))
    # On padding the networks differ, but nothing depends on it.
    return np.abs(replayed.probabilities[:steps] - trace.probabilities[:steps]) * replayed.real[:steps]


def wrong_integers(trace: Trace, replayed: Replay) -> Sequence[np.ndarray]:
    """Where labels, segments and the number of predicted positions differ from Google's; bool [steps, …]."""
    steps = len(replayed.segments)
    slots = trace.draws.weights_BxM[:steps].sum(-1)
    return (
        replayed.replaced != trace.replaced[:steps],
        replayed.segments != trace.segments[:steps],
        replayed.slots != slots,
    )


def _ranges(steps: int) -> Iterator[tuple[int, int]]:
    ends = [*(end for end in _RANGES if end < steps), steps]
    return itertools.pairwise([0, *ends])


def main() -> None:
    """Replays the recording and prints the table."""
    # Like the recording; accelerators may round products to fewer bits.
    jax.config.update("jax_platforms", "cpu")
    trace = load(_TRACE.value)
    replayed = replay(trace, recorded_config(), _UPDATES.value)
    print("\n".join(table(trace, replayed)))


if __name__ == "__main__":
    entry_point.enter(main)
