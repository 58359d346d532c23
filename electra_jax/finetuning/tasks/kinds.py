"""The registry of fine-tuning tasks by kind: file reader, metrics, implementation.

Imports neither JAX nor anything else slow, so that configs can be checked at once.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from electra_jax.finetuning.data import columns, questions, tables
from electra_jax.finetuning.metrics import answer_metrics, label_metrics

if TYPE_CHECKING:
    from electra_jax.config.finetuning import TaskConfig
    from electra_jax.finetuning.data.examples import Example
    from electra_jax.finetuning.tasks.task import Task
    from electra_jax.text.tokenizers.tokenizer import Tokenizer

    # Takes the task's name, its settings, its examples by split, the tokenizer, and the dropout rate of the head.
    MakeTask = Callable[[str, TaskConfig, Mapping[str, Sequence[Example]], Tokenizer, float], Task[Any]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of task.

    Attributes:
      implementation: "MODULE.CLASS" in this package, which implements `task.Task`.
      metrics: names of its scores; more is better, except for "mse".
      reader: module in `finetuning/data` with `read`, `examples` and `field_problems`.
      formats: names of the file formats that the reader supports.
      suffixes: file formats by suffix of the file name.
    """

    implementation: str
    metrics: tuple[str, ...]
    reader: types.ModuleType
    formats: tuple[str, ...]
    suffixes: Mapping[str, str]

    def task_class(self) -> MakeTask:
        """The class of its tasks; imports JAX."""
        module, _, name = self.implementation.partition(".")
        return getattr(importlib.import_module(f"{__package__}.{module}"), name)


_CLASSIFICATION = Kind(
    implementation="classification.ClassificationTask",
    metrics=label_metrics.CLASSIFICATION,
    reader=tables,
    formats=("tsv", "csv", "jsonl", "lines"),
    suffixes={".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".txt": "lines"},
)
KINDS: Mapping[str, Kind] = {
    "classification": _CLASSIFICATION,
    "multilabel": dataclasses.replace(_CLASSIFICATION, metrics=label_metrics.MULTILABEL),
    "regression": dataclasses.replace(_CLASSIFICATION, metrics=label_metrics.REGRESSION),
    "tagging": Kind(
        implementation="tagging.TaggingTask",
        metrics=label_metrics.TAGGING,
        reader=columns,
        formats=("columns", "conllu", "tokens", "jsonl"),
        suffixes={
            **dict.fromkeys((".conll", ".txt", ".iob", ".bio"), "columns"),
            ".conllu": "conllu",
            ".jsonl": "jsonl",
        },
    ),
    "answering": Kind(
        implementation="answering.AnsweringTask",
        metrics=answer_metrics.ANSWERING,
        reader=questions,
        formats=("squad", "mrqa"),
        suffixes={".json": "squad", ".jsonl": "mrqa"},
    ),
}
