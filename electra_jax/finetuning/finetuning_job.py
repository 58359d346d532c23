"""Fine-tuning as a job: one encoder, the heads of its tasks, their batches, and their evaluation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.finetuning.data import task_batches
from electra_jax.finetuning.data.examples import text_of
from electra_jax.finetuning.data.task_batches import Batch, Order
from electra_jax.finetuning.tasks.task import Arrays, Predicted, Task
from electra_jax.models import flops
from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.encoder import Embeddings, Encoder, EncoderConfig
from electra_jax.training.job import Params, Sums, Weights, Work
from electra_jax.training.trainer import Trainer
from electra_jax.wording import quantity

# Streams folded into the step's key, so that no two draws of a step share bits.
_EMBEDDINGS, _ENCODER, _HEAD = range(3)

DEV = "dev"

TracedBatch = Mapping[str, Arrays]  # A `Batch` inside a compiled function.


@dataclasses.dataclass(frozen=True)
class FinetuningJob:
    """Implements `training/job.py: Job` for one task, or for several that share the encoder.

    The parameter tree has the parts "embeddings", "encoder" and "heads"; a task's head is "NAME_head".

    Attributes:
      tasks: tasks with their data.
      encoder: the encoder's sizes and rates.
      batch_size: rows in a global batch.
      last_batch: see `task_batches.Order`.
      seed: seed of the order of rows.
      temperature: temperature of the mixture of tasks.
      most_lengths: maximum number of different row lengths in a task's batches.
      reduction: "mean" or "sum" of the losses of a batch.
      pad_id: id of the padding token.
    """

    tasks: tuple[Task[Any], ...]
    encoder: EncoderConfig
    batch_size: int
    last_batch: str
    seed: int
    temperature: float
    most_lengths: int
    reduction: str
    pad_id: int

    @property
    def name(self) -> str:
        """Names of the tasks, joined by commas."""
        return ", ".join(task.name for task in self.tasks)

    @property
    def metric(self) -> str:
        """Name of the score by which checkpoints and runs are compared."""
        return self.tasks[0].metric if len(self.tasks) == 1 else "score"

    @property
    def shown_scores(self) -> tuple[str, ...]:
        """See `Job`: every score is shown."""
        return ()

    @functools.cached_property
    def order(self) -> Order:
        """Order of the training rows."""
        return Order(
            rows={task.name: task.splits["train"] for task in self.tasks},
            weights={task.name: task.weight for task in self.tasks},
            temperature=self.temperature,
            batch_size=self.batch_size,
            last_batch=self.last_batch,
            seed=self.seed,
        )

    @functools.cached_property
    def _by_name(self) -> dict[str, Task[Any]]:
        return {task.name: task for task in self.tasks}

    @functools.cached_property
    def _lengths(self) -> dict[str, tuple[int, ...]]:
        """Padded row lengths of each task's batches."""
        return {
            task.name: task_batches.padded_lengths(
                np.concatenate([rows.lengths_N for rows in task.splits.values()]), self.most_lengths
            )
            for task in self.tasks
        }

    @property
    def training_rows(self) -> int:
        """Number of rows in all training splits."""
        return sum(len(rows) for rows in self.order.rows.values())

    def batch_shapes(self) -> Sequence[Batch]:
        """See `Job`: for each task, one shape for each padded length that its training rows need."""
        shapes = []
        for name, rows in self.order.rows.items():
            padding_B = np.full(self.batch_size, -1)
            lengths = self._lengths[name]
            for length in sorted({task_batches.fitting(lengths, int(needed)) for needed in np.unique(rows.lengths_N)}):
                arrays = {name: rows.batch(padding_B, length, self.pad_id)}
                shapes.append(jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arrays))
        return shapes

    def work(self, batch: Batch) -> Work:
        """See `Job`; excludes the heads."""
        (arrays,) = batch.values()
        length = arrays["tokens"].shape[1]
        forward = self.batch_size * flops.encoder_flops(self.encoder, length)
        return Work(self.batch_size * length, flops.training_flops(forward))

    def facts(self, steps: int) -> dict[str, str]:
        """See `Job`."""
        facts = {}
        for name, rows in self.order.rows.items():
            *shorter, longest = map(str, self._lengths[name])
            lengths = f"{', '.join(shorter)} or {longest}" if shorter else longest
            sizes = ", ".join(
                f"{split} {len(rows.examples):,}"
                + (f" in {len(rows):,} rows" if len(rows) != len(rows.examples) else "")
                for split, rows in self._by_name[name].splits.items()
            )
            facts[name] = f"{sizes}; {self.batch_size} rows of {lengths} tokens a step"
        most_flops = max(self.work(shapes).flops for shapes in self.batch_shapes())
        facts["in all"] = (
            f"{self.order.passes(steps):.3g} passes over the examples, at most {quantity(steps * most_flops)}FLOPs"
        )
        return facts

    def init(self, key: jax.Array) -> Params:
        """See `Job`."""
        config = self.encoder
        row = jnp.zeros((1, 8), jnp.int32)
        embedded, hidden = (jnp.zeros((1, 8, width)) for width in (config.embedding_size, config.hidden_size))
        heads = {}
        for number, task in enumerate(self.tasks):
            arrays = task.splits["train"].batch(np.array([-1]), 8, self.pad_id)
            head_key = jax.random.fold_in(jax.random.fold_in(key, _HEAD), number)
            head = task.head(config)
            heads[f"{task.name}_head"] = head.init(head_key, hidden, arrays, deterministic=True)["params"]
        return {
            "embeddings": Embeddings(config).init(
                jax.random.fold_in(key, _EMBEDDINGS), row, row, deterministic=True
            )["params"],
            "encoder": Encoder(config).init(
                jax.random.fold_in(key, _ENCODER), embedded, row, deterministic=True
            )["params"],
            "heads": heads,
        }  # fmt: skip

    def _outputs(
        self,
        params: Params,
        task: Task[Any],
        arrays: Arrays,
        key: jax.Array,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> dict[str, jax.Array]:
        """Outputs of the task's head for a batch."""
        tokens_BxL = arrays["tokens"]

        def apply(module: Any, part: Params, stream: int, *inputs: Any) -> Any:
            rngs = {"dropout": jax.random.fold_in(key, stream)}
            rows = dict(deterministic=deterministic, microbatch=microbatch)
            return module.apply({"params": part}, *inputs, **rows, rngs=rngs)

        documents_BxL = (tokens_BxL != self.pad_id).astype(jnp.int32)
        embeddings, encoder = Embeddings(self.encoder), Encoder(self.encoder)
        embedded_BxLxE = apply(embeddings, params["embeddings"], _EMBEDDINGS, tokens_BxL, arrays["segments"])
        hidden_BxLxD = apply(encoder, params["encoder"], _ENCODER, embedded_BxLxE, documents_BxL)
        head = task.head(self.encoder)
        with jax.named_scope(f"{task.name}_head"):
            return apply(head, params["heads"][f"{task.name}_head"], _HEAD, hidden_BxLxD, arrays)

    def at(self, step: jax.Array) -> FinetuningJob:
        """See `Job`: the loss is the same throughout."""
        del step
        return self

    def warning(self, scores: Mapping[str, float]) -> str:
        """See `Job`: bad trials are recognised by `trials`."""
        del scores
        return ""

    def loss_weights(self, batch: TracedBatch, key: jax.Array) -> Weights:
        """See `Job`."""
        del key
        ((name, arrays),) = batch.items()
        return {"loss": self._by_name[name].loss_weight(arrays)}

    def loss(
        self,
        params: Params,
        batch: TracedBatch,
        key: jax.Array,
        weights: Weights | None = None,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> tuple[jax.Array, Sums]:
        """See `Job`; metrics of the other tasks have weight 0."""
        ((name, arrays),) = batch.items()
        task = self._by_name[name]
        sums = task.loss(self._outputs(params, task, arrays, key, False, microbatch), arrays)
        total, weight = sums["loss"]
        if weights is not None:
            weight = weights["loss"]
        loss = total if self.reduction == "sum" else total / jnp.maximum(weight, 1.0)
        return loss, {
            f"{self._prefix(other)}{curve}": sums[curve] if other is task else jnp.zeros(2)
            for other in self.tasks
            for curve in other.curves
            # The step logs the total loss, which is the loss of a single task.
            if curve != "loss" or len(self.tasks) > 1
        }

    def _prefix(self, task: Task[Any]) -> str:
        return "" if len(self.tasks) == 1 else f"{task.name}/"

    def evaluate(self, params: Params, batch: TracedBatch, key: jax.Array) -> dict[str, dict[str, Any]]:
        """See `Job`: predictions for each row, and the loss."""
        ((name, arrays),) = batch.items()
        task = self._by_name[name]
        outputs = self._outputs(params, task, arrays, key, deterministic=True)
        loss = task.loss(outputs, arrays)["loss"]
        return {name: {"row": arrays["row"], "loss_sum": loss, "predicted": task.predict(outputs, arrays)}}

    def summarise(self, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """See `Job`: scores on the dev split, prefixed with the task's name if there are several tasks."""
        scores: dict[str, float] = {}
        for task in self.tasks:
            prefix = self._prefix(task)
            total, weight = np.sum([result[task.name]["loss_sum"] for result in results if task.name in result], axis=0)
            own = task.score(task.splits[DEV], self.predictions(task, DEV, results))
            scores |= {f"{prefix}{metric}": float(value) for metric, value in own.items()}
            scores[f"{prefix}loss"] = float(total / max(weight, 1.0))
        if len(self.tasks) > 1:
            mean = np.mean([scores[f"{task.name}/{task.metric}"] for task in self.tasks])
            scores = {"score": float(mean)} | scores
        return scores

    def predictions(self, task: Task[Any], split: str, results: Sequence[Mapping[str, Any]]) -> Predicted:
        """Predictions for each row of a split, first axis N, in the rows' order.

        Args:
          task: one of the job's tasks.
          split: one of the task's splits.
          results: return values of `evaluate` for the split's batches.
        """
        own = [result[task.name] for result in results if task.name in result]
        rows_M = np.concatenate([result["row"] for result in own])
        ordered: dict[str, np.ndarray] = {}
        for name in own[0]["predicted"]:
            values = _joined([np.asarray(result["predicted"][name]) for result in own])
            ordered[name] = np.empty((len(task.splits[split]), *values.shape[1:]), values.dtype)
            ordered[name][rows_M[rows_M >= 0]] = values[rows_M >= 0]
        return ordered

    def _part(self) -> slice:
        """Rows of a global batch that this process reads."""
        size = self.batch_size // jax.process_count()
        return slice(jax.process_index() * size, (jax.process_index() + 1) * size)

    def training_batches(self, start: int) -> Iterator[Batch]:
        """See `Job`."""
        return task_batches.training_batches(self.order, self._lengths, self.pad_id, start, self._part())

    def texts(self, batch: Batch) -> list[str]:
        """See `Job`; rows of the training split, with where they were read."""
        ((name, arrays),) = batch.items()
        rows = self.order.rows[name]
        return [text_of(rows.examples[rows.example_N[row]]) if row >= 0 else "" for row in arrays["row"]]

    def evaluation_batches(self) -> Iterator[Batch]:
        """See `Job`: dev splits of all tasks."""
        for task in self.tasks:
            yield from self.batches_of(task, DEV)

    def batches_of(self, task: Task[Any], split: str) -> Iterator[Batch]:
        """Yields this process's rows of the batches of one split of a task."""
        return task_batches.evaluation_batches(
            task.name, task.splits[split], self._lengths[task.name], self.batch_size, self.pad_id, self._part()
        )

    def sample_batch(self) -> dict[str, np.ndarray]:
        """Returns an empty batch: predictions for all examples are written at the end of training."""
        return {}

    def inspect(self, params: Params, batch: Any, key: jax.Array) -> dict[str, jax.Array]:
        """See `sample_batch`."""
        return {}

    def describe(self, inspected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """See `sample_batch`."""
        return []


def job_of(trainer: Trainer) -> FinetuningJob:
    """The job of a trainer that fine-tunes.

    Raises:
      TypeError: it trains something else.
    """
    if not isinstance(trainer.job, FinetuningJob):
        raise TypeError(f"found a trainer of {type(trainer.job).__name__}, expected one of FinetuningJob")
    return trainer.job


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates arrays of several batches, padding those with shorter rows with zeros."""
    shape = np.max([part.shape[1:] for part in parts], axis=0)
    return np.concatenate(
        [np.pad(part, [(0, 0), *((0, int(most - size)) for most, size in zip(shape, part.shape[1:], strict=True))])
         for part in parts]
    )  # fmt: skip
