"""What the rest of fine-tuning knows of a task: a kind of task is a class of this protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.finetuning.data.rows import Rows
from electra_jax.models.encoder import EncoderConfig
from electra_jax.training.job import Sums

Arrays = Mapping[str, jax.Array]
Predicted = Mapping[str, np.ndarray]
RowsT = TypeVar("RowsT", bound=Rows)


class Task(Protocol[RowsT]):
    """A task with its data.

    Attributes:
      name: as the config calls it.
      kind: its name in `kinds.KINDS`.
      metric: of `score`; checkpoints and runs are compared by it, and more is better.
      splits: "train", "dev" and, where there are files, "test" and more.
      curves: names of what `loss` returns.
      weight: how often it is trained on beside other tasks; see `task_batches.py`.
    """

    name: str
    kind: str
    metric: str
    splits: Mapping[str, RowsT]
    curves: tuple[str, ...]
    weight: float

    def head(self, encoder: EncoderConfig) -> nn.Module:
        """The module that turns hidden states [B, L, D] into outputs.

        It is called as `module(hidden_BxLxD, batch, deterministic=…, microbatch=…)` with the arrays of `Rows.batch`, in
        training and in evaluation; its outputs are a dict of float32 arrays.
        """

    def loss(self, outputs: Arrays, batch: Arrays) -> Sums:
        """Pairs (sum, weight), float32 [2], by the names of `curves`, of which "loss" is one; traced.

        Rows of padding, whose `batch["weight"]` is 0, count nothing.
        """

    def loss_weight(self, batch: Arrays) -> jax.Array:
        """The weight of "loss" over a batch, a scalar; traced."""

    def predict(self, outputs: Arrays, batch: Arrays) -> dict[str, jax.Array]:
        """What the host needs to know of each row, first axis B, in as few numbers as possible; traced."""

    def score(self, rows: RowsT, predicted: Predicted) -> dict[str, float]:
        """Metrics of a split whose answers are known.

        Args:
          rows: the split.
          predicted: what `predict` said of each row, first axis N, in the order of the rows.
        """

    def records(self, rows: RowsT, predicted: Predicted) -> Iterator[dict[str, Any]]:
        """One JSON-ready object for each example, in the order of the file: what is predicted, how surely, and why.

        Each has "key" and "prediction"; where the answer is known, "label", "right" (bool) and "loss" (float, large
        where the model was sure and wrong: the report lists those first), and of the input what a reader needs to
        judge.
        """

    def confusion(self, rows: RowsT, predicted: Predicted) -> np.ndarray | None:
        """Counts by true and by predicted label of `description`, int64 [C, C]; None where there is no such table."""

    def collapsed(self, rows: RowsT, predicted: Predicted) -> str:
        """Why this looks like a run that has learned nothing, such as one class for all; empty if it does not."""

    def answer_files(self, rows: RowsT, predicted: Predicted) -> dict[str, dict[str, Any]]:
        """Files for the task's official evaluation scripts, JSON objects by file name; most kinds have none."""
        return {}

    def description(self) -> dict[str, Any]:
        """What a reader of the weights needs: "kind", "head", the names of classes or tags, scales. JSON-ready."""


def pair(values_B: jax.Array, weights_B: jax.Array) -> jax.Array:
    """A sum over the rows of a batch and their number, as `Task.loss` returns them."""
    return jnp.stack([jnp.sum(values_B * weights_B), jnp.sum(weights_B)])
