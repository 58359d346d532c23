"""The protocol of fine-tuning tasks; each kind of task is a class that implements it."""

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
      name: name of the task in the config.
      kind: name of its kind in `kinds.KINDS`.
      metric: the score of `score` by which checkpoints and runs are compared; more is better.
      splits: "train", "dev" and, if files are given, "test" and further splits.
      curves: names of the metrics that `loss` returns.
      weight: how often it is trained on relative to other tasks; see `task_batches.py`.
    """

    name: str
    kind: str
    metric: str
    splits: Mapping[str, RowsT]
    curves: tuple[str, ...]
    weight: float

    def head(self, encoder: EncoderConfig) -> nn.Module:
        """The module that turns hidden states [B, L, D] into outputs.

        Called as `module(hidden_BxLxD, batch, deterministic=…, microbatch=…)` with the arrays of `Rows.batch`, in
        training and in evaluation; its outputs are a dict of float32 arrays.
        """

    def loss(self, outputs: Arrays, batch: Arrays) -> Sums:
        """Pairs (sum, weight), float32 [2], by the names of `curves`, which include "loss"; traced.

        Rows of padding, whose `batch["weight"]` is 0, have weight 0.
        """

    def loss_weight(self, batch: Arrays) -> jax.Array:
        """The weight of "loss" over a batch, a scalar; traced."""

    def predict(self, outputs: Arrays, batch: Arrays) -> dict[str, jax.Array]:
        """Predictions that the host needs for each row, first axis B, as few numbers as possible; traced."""

    def score(self, rows: RowsT, predicted: Predicted) -> dict[str, float]:
        """Metrics of a labelled split.

        Args:
          rows: the split.
          predicted: results of `predict` for each row, first axis N, in the order of the rows.
        """

    def records(self, rows: RowsT, predicted: Predicted) -> Iterator[dict[str, Any]]:
        """One JSON-ready object for each example, in the order of the file: the prediction and its confidence.

        Each has "key", "prediction" and the input as far as a reader needs it; labelled examples also have "label",
        "right" (bool) and "loss" (float; the report lists the largest first: confident and wrong).
        """

    def confusion(self, rows: RowsT, predicted: Predicted) -> np.ndarray | None:
        """Counts by true and predicted label of `description`, int64 [C, C]; None if the kind has no such matrix."""

    def collapsed(self, rows: RowsT, predicted: Predicted) -> str:
        """Why the run seems to have learned nothing, such as one class for all examples; empty if it did learn."""

    def answer_files(self, rows: RowsT, predicted: Predicted) -> dict[str, dict[str, Any]]:
        """Files for the task's official evaluation scripts, JSON objects by file name; most kinds have none."""
        return {}

    def description(self) -> dict[str, Any]:
        """Description for readers of the weights: "kind", "head", names of classes or tags, scales; JSON-ready."""


def pair(values_B: jax.Array, weights_B: jax.Array) -> jax.Array:
    """The pair (sum, weight) of values over the rows of a batch, as `Task.loss` returns it."""
    return jnp.stack([jnp.sum(values_B * weights_B), jnp.sum(weights_B)])
