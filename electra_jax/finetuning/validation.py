"""Rules for several fields of a fine-tuning config; opens no files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from electra_jax.config.finetuning import (
    SHORTEST_ROW,
    AnsweringConfig,
    ClassificationConfig,
    FinetuningConfig,
    TaggingConfig,
    TaskConfig,
)
from electra_jax.finetuning.data import reading
from electra_jax.finetuning.tasks.kinds import KINDS


def problems(config: FinetuningConfig) -> Iterator[str]:
    """Yields one line for each problem: field, what was found, what was expected."""
    if not config.init_from:
        yield (
            "config.init_from: is empty, expected the model to fine-tune: a workdir of a pre-training run, a Hugging "
            "Face folder or a checkpoint of Google's ELECTRA"
        )
    if not config.tasks:
        yield "config.tasks: is empty, expected at least one; choose one with a variant, --config=….py:NAME"
    for name, task in config.tasks.items():
        if not re.fullmatch(r"\w+", name):
            yield f"config.tasks.{name}: expected a name of letters, digits and _"
        yield from _task_problems(name, task)


def _task_problems(name: str, task: TaskConfig) -> Iterator[str]:
    place = f"config.tasks.{name}"
    known = KINDS[task.kind].metrics
    if not task.metrics:
        yield f"{place}.metrics: is empty, expected some of {', '.join(known)}"
    for metric in task.metrics:
        if metric not in known:
            yield f"{place}.metrics: found {metric!r}, expected some of {', '.join(known)}"
        elif isinstance(task, TaggingConfig) and not task.spans and metric.startswith("span_"):
            yield f"{place}.metrics: {metric!r} scores spans, and {place}.spans is False"
        elif isinstance(task, AnsweringConfig) and not task.unanswerable and metric.startswith(("best_", "no_answer_")):
            yield f"{place}.metrics: {metric!r} scores questions without an answer, and {place}.unanswerable is False"
    if task.metrics[:1] == ("mse",):
        yield f"{place}.metrics: found 'mse' first, expected a metric of which more is better"
    in_one_file = task.dev_fraction or (isinstance(task, ClassificationConfig) and task.split_column)
    if not task.dev and not in_one_file:
        yield (
            f"{place}.dev: is empty, expected labelled examples to score, held out of training; of a single file, "
            f"--{place}.dev_fraction=0.1 holds a tenth out"
        )
    if isinstance(task, AnsweringConfig):
        yield from _answering_problems(name, task)
    yield from reading.problems_of_fields(name, task)


def _answering_problems(name: str, task: AnsweringConfig) -> Iterator[str]:
    place = f"config.tasks.{name}"
    if task.longest_question + SHORTEST_ROW > task.max_length:
        yield (
            f"{place}.longest_question: found {task.longest_question}, which leaves no room for a context in "
            f"{place}.max_length={task.max_length}"
        )
    if task.unanswerable and task.head == "huggingface" and task.null_threshold < 0:
        yield (
            f"{place}.null_threshold: found {task.null_threshold}, a threshold for the paper's head; that of "
            f"transformers compares the scores of an answer and of none, set --config.tasks.{name}.null_threshold=0.0"
        )


def check_positions(config: FinetuningConfig, positions: int) -> Iterator[str]:
    """Yields one line for each task whose rows are longer than the model can read."""
    for name, task in config.tasks.items():
        if task.max_length > positions:
            yield (
                f"config.tasks.{name}.max_length: found {task.max_length}, expected at most {positions}, the positions "
                f"of {config.init_from}; set --config.tasks.{name}.max_length={positions}"
            )
