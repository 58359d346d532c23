"""The interface between `training/` and what it trains: a pre-training objective or a fine-tuning task."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from electra_jax.models.draws import WHOLE_BATCH, Microbatch

Params = Any  # A tree of arrays.
Batch = Any  # A tree of arrays whose first axis is the batch's rows.
Sums = dict[str, jax.Array]
Weights = dict[str, jax.Array]


class Work(NamedTuple):
    """Tokens and FLOPs of one update.

    Attributes:
      tokens: positions in the global batch, padding included.
      flops: forward and backward, matrix products only.
    """

    tokens: int
    flops: float


class Job(Protocol):
    """A model, its loss, its batches and its evaluation.

    `init`, `loss`, `loss_weights` and `evaluate` are pure and traced by `jax.jit`; the other methods run on the host.
    """

    @property
    def name(self) -> str:
        """Name of the objective or the task."""

    @property
    def batch_size(self) -> int:
        """Rows in a global batch."""

    @property
    def shown_scores(self) -> tuple[str, ...]:
        """Scores of `summarise` to print after an evaluation; all if empty."""

    def batch_shapes(self) -> Sequence[Batch]:
        """Shapes and dtypes of every global batch that a run may have; a step is compiled for each."""

    def work(self, batch: Batch) -> Work:
        """Tokens and FLOPs of the update over a global batch, from any process's rows of it."""

    def facts(self, steps: int) -> dict[str, str]:
        """Facts to print before a run starts, by name: what one step reads, and what all steps add up to."""

    def init(self, key: jax.Array) -> Params:
        """Initial parameters, boxed with their logical axes."""

    def at(self, step: jax.Array) -> "Job":
        """The job for the update from `step` to `step + 1`: itself, unless its loss follows a schedule."""

    def loss(
        self,
        params: Params,
        batch: Batch,
        key: jax.Array,
        weights: Weights | None = None,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> tuple[jax.Array, Sums]:
        """The scalar to minimise, and metrics as float32 pairs (sum, weight); draws follow from `key` alone.

        Args:
          params: as `init` returns them, unboxed.
          batch: rows.
          key: key of the step.
          weights: `loss_weights` of the full batch, if `batch` is a microbatch; the scalars of all microbatches then
            add up to that of the full batch, as the metrics do.
          microbatch: which rows of the full batch `batch` has; their draws are the same as in the full batch.
        """

    def loss_weights(self, batch: Batch, key: jax.Array) -> Weights:
        """The denominators of `loss`; they follow from rows and draws, not from parameters."""

    def evaluate(self, params: Params, batch: Batch, key: jax.Array) -> Any:
        """A tree of arrays for `summarise` from one held-out batch; no dropout."""

    def summarise(self, results: Sequence[Any]) -> dict[str, float]:
        """Named scores from the results of `evaluate` on all held-out batches, on the host and in order."""

    def training_batches(self, start: int) -> Iterator[Batch]:
        """This process's rows of global batches `start`, `start + 1`, …"""

    def texts(self, batch: Batch) -> list[str]:
        """The text of each row of a global batch, on the host."""

    def evaluation_batches(self) -> Iterator[Batch]:
        """This process's rows of the held-out batches; rows of padding fill up the last one."""

    def sample_batch(self) -> Batch:
        """A few held-out rows to show, the same at each call."""

    def inspect(self, params: Params, batch: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """The model's predictions for the rows of `sample_batch`; traced."""

    def warning(self, scores: Mapping[str, float]) -> str:
        """A warning about the scores of `summarise` after the warm-up, with what to change; empty if they are fine."""

    def describe(self, inspected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """One JSON object for each sample row."""
