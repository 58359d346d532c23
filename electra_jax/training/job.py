"""What `training/` knows of the thing that it trains: an objective or a task is a value of this protocol."""

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
    """What one update takes.

    Attributes:
      tokens: positions of the global batch, padding included.
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
        """Shapes and types of every kind of global batch that a run has; each is compiled once."""

    def work(self, batch: Batch) -> Work:
        """Of the update over a global batch, from any process's part of it."""

    def facts(self, steps: int) -> dict[str, str]:
        """Lines of a run's first screen: what a step reads, and what all steps come to."""

    def init(self, key: jax.Array) -> Params:
        """Initial parameters, boxed with their logical axes."""

    def at(self, step: jax.Array) -> "Job":
        """The job of the update that takes `step` updates to `step + 1`: itself, unless its loss changes on the way."""

    def loss(
        self,
        params: Params,
        batch: Batch,
        key: jax.Array,
        weights: Weights | None = None,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> tuple[jax.Array, Sums]:
        """The scalar to minimise and metrics as float32 pairs (sum, weight); draws follow from `key` alone.

        Args:
          params: as of `init`, unboxed.
          batch: rows.
          key: of the step.
          weights: what `loss_weights` says of the whole batch, if `batch` is a microbatch; the scalars of all
            microbatches then add up to that of the whole batch, as the metrics do.
          microbatch: which rows of the whole batch `batch` is; they draw what they would have drawn in it.
        """

    def loss_weights(self, batch: Batch, key: jax.Array) -> Weights:
        """What `loss` divides by; follows from rows and draws, not from parameters."""

    def evaluate(self, params: Params, batch: Batch, key: jax.Array) -> Any:
        """What an evaluation has to know of one held-out batch, a tree of arrays; no dropout."""

    def summarise(self, results: Sequence[Any]) -> dict[str, float]:
        """Named scores from what `evaluate` said of each held-out batch, on the host and in their order."""

    def training_batches(self, start: int) -> Iterator[Batch]:
        """This process's part of global batches `start`, `start + 1`, …"""

    def evaluation_batches(self) -> Iterator[Batch]:
        """This process's part of the held-out batches; rows of padding fill the last one."""

    def sample_batch(self) -> Batch:
        """A few held-out rows to show, the same at each call."""

    def inspect(self, params: Params, batch: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """What the model makes of the rows of `sample_batch`; traced."""

    def warning(self, scores: Mapping[str, float]) -> str:
        """What the scores of `summarise` say is wrong after the warm-up, with what to change; empty if nothing is."""

    def describe(self, inspected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """One JSON-ready object for each shown row."""
