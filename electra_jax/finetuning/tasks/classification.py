"""Classification of sentences and pairs of sentences into one class or several, and regression of a grade."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from electra_jax.config.finetuning import ClassificationConfig
from electra_jax.errors import InputError
from electra_jax.finetuning.data import text_rows
from electra_jax.finetuning.data.examples import TextExample, in_order, is_answered
from electra_jax.finetuning.data.rows import Rows
from electra_jax.finetuning.metrics import label_metrics
from electra_jax.finetuning.tasks.task import Arrays, Predicted, Task, pair
from electra_jax.models.encoder import EncoderConfig
from electra_jax.models.task_heads import ClassificationHead
from electra_jax.text.tokenizers.tokenizer import Tokenizer
from electra_jax.training.job import Sums

# Predicted grades whose spread is below this fraction of the labels' are constant.
_CONSTANT = 0.01
_LEAST_PROBABILITY = 1e-9


class ClassificationTask(Task[Rows[TextExample]]):
    """Implements `task.Task` for the kinds "classification", "multilabel" and "regression".

    Attributes:
      labels: names of the classes, in the order of the logits; empty for regression.
    """

    def __init__(
        self,
        name: str,
        settings: ClassificationConfig,
        splits: Mapping[str, Sequence[TextExample]],
        tokenizer: Tokenizer,
        classifier_dropout_rate: float,
    ) -> None:
        """Turns examples into rows.

        Args:
          name: name of the task.
          settings: fields of `config.tasks.NAME`.
          splits: examples by split; "train" gives the classes unless the settings name them.
          tokenizer: the model's tokenizer.
          classifier_dropout_rate: dropout rate of the head.

        Raises:
          InputError: a metric does not suit the classes.
        """
        self.name, self.kind, self.metric, self.weight = name, settings.kind, settings.metrics[0], settings.weight
        self.curves = ("loss", "accuracy") if self.kind == "classification" else ("loss",)
        self._settings, self._dropout_rate = settings, classifier_dropout_rate
        self.labels = () if self.kind == "regression" else tuple(settings.labels) or _labels_of(splits["train"])
        if "f1" in settings.metrics and self.kind == "classification" and len(self.labels) != 2:
            raise InputError(
                f"config.tasks.{name}.metrics: found 'f1', which scores the second of two classes, and "
                f"{len(self.labels)} classes ({', '.join(self.labels[:5])} …); set "
                f"--config.tasks.{name}.metrics='(\"macro_f1\",)'"
            )
        self.splits = {
            split: _rows(examples, tokenizer, settings.max_length, self._targets(examples))
            for split, examples in splits.items()
        }

    def _targets(self, examples: Sequence[TextExample]) -> np.ndarray:
        """Targets of the loss; -1, no classes or NaN where the label is unknown, or not among those of training."""
        if self.kind == "regression":
            grades_N = [np.nan if example.label is None else example.label for example in examples]
            return np.array(grades_N, np.float32) / np.float32(self._settings.label_scale)
        numbers = {label: number for number, label in enumerate(self.labels)}
        if self.kind == "classification":
            known_N = [numbers.get(e.label, -1) if isinstance(e.label, str) else -1 for e in examples]
            return np.array(known_N, np.int32)
        chosen_NxC = np.zeros((len(examples), len(self.labels)), np.float32)
        for row_C, example in zip(chosen_NxC, examples, strict=True):
            row_C[[numbers[label] for label in _classes(example) if label in numbers]] = 1.0
        return chosen_NxC

    def head(self, encoder: EncoderConfig) -> nn.Module:
        """See `Task`."""
        return ClassificationHead(
            classes=len(self.labels) or 1,
            dropout_rate=self._dropout_rate,
            hidden_layer=self._settings.head == "huggingface",
            dtype=encoder.dtype,
        )

    def loss(self, outputs: Arrays, batch: Arrays) -> Sums:
        """See `Task`: cross-entropy, its mean over the classes of a multi-label task, or squared error."""
        weights_B = batch["weight"]
        if self.kind == "classification":
            weights_B = weights_B * (batch["label"] >= 0)  # Held-out examples of a class that training does not have.
        losses_B = self._losses(outputs["logits"], batch["label"])
        sums = {"loss": pair(losses_B, weights_B)}
        if self.kind == "classification":
            right_B = jnp.argmax(outputs["logits"], axis=-1) == batch["label"]
            sums["accuracy"] = pair(right_B.astype(jnp.float32), weights_B)
        return sums

    def _losses(self, logits_BxC: jax.Array, labels: jax.Array) -> jax.Array:
        """Losses of the rows, float32 [B]; finite even where a label is unknown."""
        if self.kind == "regression":
            return jnp.square(logits_BxC[:, 0] - jnp.nan_to_num(labels))
        if self.kind == "multilabel":
            return optax.sigmoid_binary_cross_entropy(logits_BxC, labels).mean(axis=-1)
        return optax.softmax_cross_entropy_with_integer_labels(logits_BxC, jnp.maximum(labels, 0))

    def loss_weight(self, batch: Arrays) -> jax.Array:
        """See `Task`: the number of rows."""
        return jnp.sum(batch["weight"])

    def predict(self, outputs: Arrays, batch: Arrays) -> dict[str, jax.Array]:
        """See `Task`."""
        return {"logits": outputs["logits"], "loss": self._losses(outputs["logits"], batch["label"])}

    def score(self, rows: Rows[TextExample], predicted: Predicted) -> dict[str, float]:
        """See `Task`."""
        labels, decisions, wanted = rows.by_row["label"], self._decisions(predicted), self._settings.metrics
        if self.kind == "regression":
            return label_metrics.regression_scores(labels * self._settings.label_scale, decisions, wanted)
        if self.kind == "multilabel":
            others_NxU = self._other_classes(rows.examples)
            never_NxU = np.zeros_like(others_NxU)
            labels_NxC = np.concatenate([labels > 0, others_NxU], axis=1)
            return label_metrics.multilabel_scores(labels_NxC, np.concatenate([decisions, never_NxU], axis=1), wanted)
        return label_metrics.classification_scores(labels, decisions, len(self.labels), wanted)

    def _other_classes(self, examples: Sequence[TextExample]) -> np.ndarray:
        """Which examples have each of the classes that training does not have, bool [N, U]."""
        others = in_order({label for example in examples for label in _classes(example)} - set(self.labels))
        return (
            np.array([[other in _classes(example) for other in others] for example in examples])
            .reshape(len(examples), len(others))
            .astype(bool)
        )

    def _decisions(self, predicted: Predicted) -> np.ndarray:
        """Numbers of classes, int [N]; chosen classes, bool [N, C]; or grades, float [N]."""
        logits_NxC = predicted["logits"]
        if self.kind == "regression":
            return logits_NxC[:, 0].astype(np.float64) * self._settings.label_scale
        return logits_NxC > 0 if self.kind == "multilabel" else logits_NxC.argmax(axis=-1)

    def records(self, rows: Rows[TextExample], predicted: Predicted) -> Iterator[dict[str, Any]]:
        """See `Task`; graded examples have no "right"."""
        decisions = self._decisions(predicted)
        probabilities_NxC = self._probabilities(predicted["logits"])
        for number, example in enumerate(rows.examples):
            record: dict[str, Any] = {"key": example.key, "texts": list(example.texts)}
            record["prediction"] = self._worded(decisions[number])
            if self.kind != "regression":
                rounded = (round(float(p), 5) for p in probabilities_NxC[number])
                record["probabilities"] = dict(zip(self.labels, rounded, strict=True))
            if is_answered(example):
                label = sorted(_classes(example)) if self.kind == "multilabel" else example.label
                loss = float(predicted["loss"][number])
                if self.kind == "classification" and label not in self.labels:
                    # As much as the least probable class would cost.
                    loss = -math.log(max(float(probabilities_NxC[number].min()), _LEAST_PROBABILITY))
                record |= {"label": label, "loss": round(loss, 5)}
                if self.kind != "regression":
                    record["right"] = record["prediction"] == label
            yield record

    def _worded(self, decision: Any) -> str | float | list[str]:
        if self.kind == "regression":
            return round(float(decision), 5)
        if self.kind == "multilabel":
            return sorted(label for label, chosen in zip(self.labels, decision, strict=True) if chosen)
        return self.labels[decision]

    def _probabilities(self, logits_NxC: np.ndarray) -> np.ndarray:
        if self.kind == "multilabel":
            return 1 / (1 + np.exp(-logits_NxC))
        exponentials_NxC = np.exp(logits_NxC - logits_NxC.max(axis=-1, keepdims=True))
        return exponentials_NxC / exponentials_NxC.sum(axis=-1, keepdims=True)

    def collapsed(self, rows: Rows[TextExample], predicted: Predicted) -> str:
        """See `Task`."""
        labels, decisions = rows.by_row["label"], self._decisions(predicted)
        if self.kind == "regression":
            spread = float(np.std(decisions)), float(np.std(labels) * self._settings.label_scale)
            return f"all grades are about {np.mean(decisions):.3g}" if spread[0] < _CONSTANT * spread[1] else ""
        if (decisions != decisions[0]).any() or not (labels != labels[0]).any():
            return ""
        return f"every example is predicted {self._worded(decisions[0])!r}"

    def confusion(self, rows: Rows[TextExample], predicted: Predicted) -> np.ndarray | None:
        """Counts by true and predicted class, int64 [C, C]; None unless each example has one class."""
        if self.kind != "classification":
            return None
        return label_metrics.confusion(rows.by_row["label"], self._decisions(predicted), len(self.labels))

    def description(self) -> dict[str, Any]:
        """See `Task`."""
        settings = self._settings
        return {
            "kind": self.kind,
            "head": settings.head,
            "labels": list(self.labels),
            "label_scale": settings.label_scale,
            "max_length": settings.max_length,
        }


def _classes(example: TextExample) -> tuple[str, ...]:
    """The classes of an example; none if they are not known."""
    if isinstance(example.label, str):
        return (example.label,)
    return example.label if isinstance(example.label, tuple) else ()


def _labels_of(examples: Sequence[TextExample]) -> tuple[str, ...]:
    return tuple(in_order(label for example in examples for label in _classes(example)))


def _rows(
    examples: Sequence[TextExample], tokenizer: Tokenizer, max_length: int, targets: np.ndarray
) -> Rows[TextExample]:
    encoded = text_rows.encoded_texts([example.texts for example in examples], tokenizer, max_length)
    return Rows(
        examples=examples,
        example_N=np.arange(len(examples), dtype=np.int32),
        tokens_T=np.concatenate([row.tokens_L for row in encoded]),
        segments_T=np.concatenate([row.segments_L for row in encoded]),
        lengths_N=np.array([len(row.tokens_L) for row in encoded], np.int64),
        by_row={"label": targets},
        by_token={},
        truncated=sum(row.left_out > 0 for row in encoded),
    )
