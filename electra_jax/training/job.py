"""What `training/` knows of the thing that it trains: an objective or a task is a value of this protocol."""

from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np

Params = Any  # A tree of arrays.
Sums = dict[str, jax.Array]


class Job(Protocol):
    """A model, its loss, its batches and its evaluation.

    `init`, `loss` and `evaluate` are pure and traced by `jax.jit`; the other methods run on the host.
    """

    name: str
    batch_size: int  # Rows in a global batch.
    row_length: int
    flops_per_step: float  # Of one update over a global batch, forward and backward, matrix products only.
    paper_flops_per_step: float  # The same as the ELECTRA paper counts them.

    def init(self, key: jax.Array) -> Params:
        """Initial parameters, boxed with their logical axes."""

    def loss(self, params: Params, batch: jax.Array, key: jax.Array) -> tuple[jax.Array, Sums]:
        """The scalar to minimise and metrics as float32 pairs (sum, weight); draws follow from `key` alone."""

    def evaluate(self, params: Params, batch: jax.Array, key: jax.Array) -> Sums:
        """Sums over one held-out batch, to be added up over batches; no dropout."""

    def summarise(self, sums: dict[str, np.ndarray]) -> dict[str, float]:
        """Named scores from the sums of a whole evaluation."""

    def training_batches(self, start: int) -> Iterator[np.ndarray]:
        """This process's part of global batches `start`, `start + 1`, …, int32 [rows, length]."""

    def evaluation_batches(self) -> Iterator[np.ndarray]:
        """This process's part of the held-out batches; rows of padding fill the last one."""

    def sample_batch(self) -> np.ndarray:
        """A few held-out rows to show, the same at each call."""

    def inspect(self, params: Params, batch: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """What the model makes of the rows of `sample_batch`; traced."""

    def describe(self, inspected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """One JSON-ready object for each shown row."""
