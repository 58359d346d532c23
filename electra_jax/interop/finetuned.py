"""Results of fine-tuning runs: the best trial, and the heads of the tasks in the layout of transformers."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pydantic

from electra_jax import foreign_json
from electra_jax.errors import InputError, MismatchError
from electra_jax.foreign_json import Record, Size
from electra_jax.interop import huggingface, tensor_map
from electra_jax.interop.model import Model, TaskHead, TaskKind, TaskSettings

# The paper's head for question answering, which transformers does not have.
JOINT_ANSWERS = "JointAnswerHead"

_PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}
# BIOES letters of spans that transformers' pipeline cannot join, with the IOB2 letters that replace them.
_JOINED = {"S": "B", "E": "I"}
_TYPE_TABLE = "token_type_embeddings"


class _Trial(Record):
    """The part of a trial's result that is read; its directory is one of the workdir's own."""

    scores: dict[str, dict[str, Annotated[float, pydantic.AllowInfNan(True)]]]
    directory: Annotated[str, pydantic.Field(pattern=r"^(\.|\w[^/\\]*)$", max_length=200)]


class _Results(Record):
    """The part of results.json that is read."""

    trials: list[_Trial]


class _Description(Record):
    """A task in tasks.json; which fields there are depends on its kind."""

    kind: TaskKind
    labels: list[str] = pydantic.Field(default_factory=list)
    max_length: Size
    head: str = ""
    spans: bool = False
    segment: Annotated[int, pydantic.Field(ge=0, le=1)] = 0
    label_scale: float = 1.0


def best_trial(results: Mapping[str, Any], metrics: Mapping[str, str]) -> tuple[str, str]:
    """The directory of the best trial on the dev splits, and a note about it.

    Args:
      results: contents of results.json.
      metrics: the score of each task to compare by; more is better.

    Raises:
      KeyError: scores are missing.
      InputError: the results have another form.
    """
    trials = foreign_json.checked(_Results, results, "results.json", "name a trial").trials

    def score(trial: _Trial) -> float:
        several = len(metrics) > 1
        return statistics.fmean(
            trial.scores[f"{task}/dev" if several else "dev"][metric] for task, metric in metrics.items()
        )

    best = max(trials, key=score)
    what = "mean of " + ", ".join(f"{task} {name}" for task, name in metrics.items())
    if len(metrics) == 1:
        (what,) = metrics.values()
    return best.directory, f"{best.directory}: the best of {len(trials)} trials on dev, {what} {score(best):.4g}"


def task_heads(
    descriptions: Mapping[str, Mapping[str, Any]],
    params: Mapping[str, Any],
    dropout_rate: float,
    place: str,
    text_columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, TaskHead]:
    """The heads of a run's tasks, by the tasks' names.

    Args:
      descriptions: results of `finetuning/tasks/task.py: Task.description`, by task name.
      params: parameters of the heads, as "NAME_head".
      dropout_rate: dropout rate of a head's input.
      place: the file of the descriptions, for messages.
      text_columns: columns of the texts that a task was trained on, by task name; None if unknown.

    Raises:
      InputError: a description lacks a field.
      MismatchError: a head does not have the shape in its description.
    """
    heads = {}
    for name, description in descriptions.items():
        about, fix = f"{place}: task {name}", "restore the file that the run wrote"
        foreign_json.checked(_Description, description, about, fix)
        fields = {**description, "name": name, "text_columns": list((text_columns or {}).get(name, ()))}
        settings = foreign_json.checked(TaskSettings, fields, about, fix)
        try:
            head = _task_head(name, description, params[f"{name}_head"], dropout_rate)
            heads[name] = dataclasses.replace(head, settings=settings)
        except KeyError as error:
            raise InputError(f"{place}: task {name} has no {error}; restore the file that the run wrote") from error
        labels, outputs = len(heads[name].fields.get("id2label", "")), len(_last_bias(heads[name]))
        if labels and labels != outputs:
            raise MismatchError(
                f"{place}: task {name} has {labels} labels, but its head {outputs} outputs; it is from another run"
            )
    return heads


def choose_head(model: Model, name: str) -> Model:
    """The model with the head of one task.

    Args:
      model: a model, perhaps from a run with several tasks.
      name: name of the task; "" for the only one.

    Raises:
      InputError: there are several tasks and none is named, or there is no such task.
    """
    known = ", ".join(model.task_heads)
    if not name:
        if model.task_heads and model.task_head is None:
            raise InputError(f"--head: the run was trained on several tasks; choose one of {known}, as --head=NAME")
        return model
    if name not in model.task_heads:
        raise InputError(
            f"--head={name}: " + (f"expected one of {known}" if known else "the model is not from a fine-tuning run")
        )
    return dataclasses.replace(model, task_head=model.task_heads[name])


def in_first_token_type(model: Model) -> Model:
    """The model as a function of rows of token type 0, which transformers gives to a single text.

    Google's code tags in token type 1; for such a model, swaps the two rows of the table of token types.
    """
    head = model.task_head
    if head is None or not head.token_type:
        return model
    embeddings = {**model.params["embeddings"]}
    embeddings[_TYPE_TABLE] = np.ascontiguousarray(embeddings[_TYPE_TABLE][::-1])
    return dataclasses.replace(
        model,
        params={**model.params, "embeddings": embeddings},
        task_head=dataclasses.replace(head, token_type=0),
    )


def _task_head(name: str, description: Mapping[str, Any], params: Mapping[str, Any], dropout_rate: float) -> TaskHead:
    kind, labels, length = description["kind"], description.get("labels", []), description["max_length"]
    if kind == "answering":
        if description["head"] == "paper":
            return TaskHead(JOINT_ANSWERS, tensor_map.flatten(params), {}, max_length=length)
        tensors = _linear("qa_outputs", params["output"])
        return TaskHead("ElectraForQuestionAnswering", tensors, {}, max_length=length)
    prediction = params["prediction"]
    if kind == "tagging":
        shown = [_joined(label) for label in labels] if description["spans"] else labels
        # The reverse map keeps BIOES, as its names must be distinct.
        fields = {**_labels(shown), **_label_numbers(labels), "classifier_dropout": dropout_rate}
        tensors = _linear("classifier", prediction)
        return TaskHead(
            "ElectraForTokenClassification", tensors, fields, token_type=description["segment"], max_length=length
        )
    # The loss divides grades by it.
    scale = np.float32(description["label_scale"] if kind == "regression" else 1)
    prediction = {part: array * scale for part, array in prediction.items()}
    if description["head"] == "paper":
        tensors = huggingface.classification_head_state(prediction["kernel"], prediction["bias"])
    else:
        tensors = _linear("classifier.dense", params["dense"]) | _linear("classifier.out_proj", prediction)
    labels = [name] if kind == "regression" else labels
    fields = {
        **_labels(labels),
        **_label_numbers(labels),
        "problem_type": _PROBLEM_TYPES[kind],
        "classifier_dropout": dropout_rate,
    }
    return TaskHead("ElectraForSequenceClassification", tensors, fields, max_length=length)


def _last_bias(head: TaskHead) -> np.ndarray:
    names = ("classifier.out_proj.bias", "classifier.bias")
    return next((head.tensors[name] for name in names if name in head.tensors), np.zeros(0))


def _linear(name: str, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ascontiguousarray(params["kernel"].T), f"{name}.bias": np.array(params["bias"])}


def _joined(label: str) -> str:
    return _JOINED.get(label[:1], label[:1]) + label[1:]


def _labels(names: list[str]) -> dict[str, Any]:
    return {"id2label": {str(number): name for number, name in enumerate(names)}}


def _label_numbers(names: list[str]) -> dict[str, Any]:
    return {"label2id": {name: number for number, name in enumerate(names)}}
