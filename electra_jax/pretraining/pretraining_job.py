"""The part of a job that all pre-training objectives share: rows, initial parameters, work of an update, facts."""

import abc
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.models import flops
from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.encoder import EncoderConfig
from electra_jax.pretraining import health, local_start, objectives
from electra_jax.pretraining.corruption import Row
from electra_jax.pretraining.objectives import Objective
from electra_jax.text.dataset import row_batches
from electra_jax.text.dataset.dataset import Dataset
from electra_jax.training.job import Params, Sums, Weights, Work
from electra_jax.wording import quantity

Evaluated = dict[str, Any]  # By name: metric pairs, `…_histogram` arrays and `…_moments` trees, to be added up.


@dataclasses.dataclass(frozen=True)
class PretrainingJob(abc.ABC):
    """A `training/job.py: Job` without model and loss, which each objective adds."""

    shown_scores: ClassVar[tuple[str, ...]]

    name: str
    objective: Objective
    encoder: EncoderConfig
    row_length: int
    batch_size: int
    evaluation_rows: int
    shown_rows: int
    seed: int
    dataset: Dataset | None  # None for a job whose step is compiled but not run.
    starts_locally: bool  # See `local_start.py`.
    weights: tuple[float, ...]  # Weight of each source in the mixture.
    temperature: float  # Temperature of the mixture.

    @property
    @abc.abstractmethod
    def model(self) -> nn.Module:
        """The networks; called with tokens, segments, document ids and masked positions."""

    @property
    @abc.abstractmethod
    def flops_per_step(self) -> float:
        """Operations of one update over a global batch, forward and backward, matrix products only."""

    @property
    @abc.abstractmethod
    def _networks(self) -> dict[str, EncoderConfig]:
        """Sizes by head, as `flops.paper_training_flops` takes them."""

    @property
    @abc.abstractmethod
    def _encoders(self) -> dict[str, EncoderConfig]:
        """Sizes by the part of the parameter tree that holds the encoder."""

    @abc.abstractmethod
    def loss(
        self,
        params: Params,
        batch: jax.Array,
        key: jax.Array,
        weights: Weights | None = None,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> tuple[jax.Array, Sums]:
        """See `Job`."""

    @abc.abstractmethod
    def evaluate(self, params: Params, batch: jax.Array, key: jax.Array) -> Evaluated:
        """See `Job`."""

    @abc.abstractmethod
    def summarise(self, results: Sequence[Evaluated]) -> dict[str, float]:
        """See `Job`."""

    @abc.abstractmethod
    def warning(self, scores: Mapping[str, float]) -> str:
        """See `Job`."""

    @abc.abstractmethod
    def inspect(self, params: Params, batch: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """See `Job`."""

    @abc.abstractmethod
    def describe(self, inspected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """See `Job`."""

    @property
    def _text(self) -> Dataset:
        if self.dataset is None:
            raise ValueError("dataset: found None, expected a dataset; this job can only be compiled")
        return self.dataset

    def at(self, step: jax.Array) -> Self:
        """See `Job`."""
        return dataclasses.replace(self, objective=self.objective.at(step)) if self.objective.scheduled else self

    def _slots(self) -> int:
        return self.objective.slots(self.row_length)

    @property
    def _evaluated(self) -> Objective:
        """The objective of evaluations, whatever trains: constant values, and samples at temperature 1."""
        return dataclasses.replace(self.objective, temperature=1.0, scheduled=())

    def _example_inputs(self) -> tuple[jax.Array, ...]:
        row = jnp.zeros((1, self.row_length), jnp.int32)
        return row, row, row, row[:, : self._slots()]

    def init(self, key: jax.Array) -> Params:
        """See `Job`."""
        params = self.model.init(key, *self._example_inputs())["params"]
        if not self.starts_locally:
            return params
        started = local_start.local_start(nn.unbox(params), self.encoder.embedding_size, self._encoders)
        is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)  # noqa: E731
        return jax.tree.map(lambda box, value: box.replace_boxed(value), params, started, is_leaf=is_box)

    def _trained(self, params: Params) -> Params:
        return local_start.with_fixed_positions(params) if self.starts_locally else params

    def batch_shapes(self) -> Sequence[jax.ShapeDtypeStruct]:
        """See `Job`; rows of token ids, all of one length."""
        return [jax.ShapeDtypeStruct((self.batch_size, self.row_length), jnp.int32)]

    def loss_weights(self, batch: jax.Array, key: jax.Array) -> Weights:
        """See `Job`."""
        return objectives.loss_weights(self.objective, batch, key)

    def work(self, batch: np.ndarray) -> Work:
        """See `Job`."""
        return Work(self.batch_size * self.row_length, self.flops_per_step)

    @property
    def paper_flops_per_step(self) -> float:
        """Operations of one update as the ELECTRA paper counts them."""
        return flops.paper_training_flops(self._networks, self.row_length, self.batch_size)

    def facts(self, steps: int) -> dict[str, str]:
        """See `Job`."""
        tokens, operations = self.batch_size * self.row_length, self.flops_per_step
        passes = steps * self.batch_size / self._text.train.num_rows
        return {
            "a step": f"{self.batch_size:,} rows × {self.row_length} = {tokens:,} tokens, {quantity(operations)}FLOPs",
            "in all": (
                f"{quantity(steps * tokens)} tokens, {passes:.3g} passes over the text, "
                f"{quantity(steps * operations)}FLOPs; {steps * self.paper_flops_per_step:.2e} as the paper counts"
            ),
        }

    def _words(self, row: Row) -> jax.Array:
        return objectives.words(row, row.tokens_BxL, self.objective.special)

    def training_batches(self, start: int) -> Iterator[np.ndarray]:
        """See `Job`."""
        return row_batches.training_batches(
            self._text.train,
            batch_size=self.batch_size,
            seed=self.seed,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            weights=self.weights,
            temperature=self.temperature,
        )

    def texts(self, batch: np.ndarray) -> list[str]:
        """See `Job`; with special tokens, without padding."""
        return [self._text.tokenizer.decode(row[row != self.objective.special.pad]) for row in batch]

    def evaluation_batches(self) -> Iterator[np.ndarray]:
        """See `Job`."""
        return row_batches.evaluation_batches(
            self._text.heldout,
            batch_size=self.batch_size,
            max_rows=self.evaluation_rows,
            pad_id=self.objective.special.pad,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def sample_batch(self) -> np.ndarray:
        """See `Job`."""
        spread = np.linspace(0, self._text.heldout.num_rows, self.shown_rows, endpoint=False, dtype=np.int64)
        return self._text.heldout.rows(spread)


def added_up(results: Sequence[Evaluated]) -> Evaluated:
    """The sums over all held-out batches."""
    return functools.reduce(lambda one, other: jax.tree.map(np.add, one, other), results)


def mean_scores(sums: Evaluated) -> dict[str, float]:
    """Quotients of metric pairs, and cosine and rank from moments; histograms are skipped."""
    scores = {}
    for name, value in sums.items():
        if name.endswith("_moments"):
            network = name.removesuffix("_moments")
            scores[f"{network}_cosine"], scores[f"{network}_rank"] = health.geometry(value)
        elif not name.endswith("_histogram"):
            scores[name] = float(value[0]) / max(float(value[1]), 1.0)
    return scores
