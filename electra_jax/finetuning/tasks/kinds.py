"""The kinds of fine-tuning task, an entry each: what reads its files, what scores it, what trains it.

Starts neither JAX nor anything that takes long, so that configs can be checked at once.
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
      implementation: "MODULE.CLASS" of this folder, which implements `task.Task`.
      metrics: names of its scores. More is better, of all but "mse".
      reader: module of `finetuning/data` with `read`, `examples` and `field_problems`.
      formats: names of the file formats that the reader knows.
      suffixes: which of them a file has by the end of its name.
    """

    implementation: str
    metrics: tuple[str, ...]
    reader: types.ModuleType
    formats: tuple[str, ...]
    suffixes: Mapping[str, str]

    def task_class(self) -> MakeTask:
        """The class of its tasks; importing it starts JAX."""
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
        formats=("columns", "conllu", "tokens"),
        suffixes={".conllu": "conllu", ".conll": "columns", ".txt": "columns", ".iob": "columns", ".bio": "columns"},
    ),
    "answering": Kind(
        implementation="answering.AnsweringTask",
        metrics=answer_metrics.ANSWERING,
        reader=questions,
        formats=("squad", "mrqa"),
        suffixes={".json": "squad", ".jsonl": "mrqa"},
    ),
}
