"""The model card (README.md) of an export, with the YAML head that Hugging Face's hub reads.

It says what is known. What is not known, such as the licence, is a comment in the head, to be filled in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from electra_jax import wording
from electra_jax.interop.model import Model, Score
from electra_jax.interop.tensor_map import flatten

_WHAT = {
    "generator": "The generator of an ELECTRA pair: a masked language model, smaller than its discriminator.",
    "discriminator": "The discriminator of an ELECTRA pair: the network to fine-tune.",
}
_ALONE = "A masked language model in ELECTRA's architecture."
_FINETUNED = "An ELECTRA that was fine-tuned for a task."
_JOINT = "JointAnswerHead"
# The hub's name of the task, and how to reproduce the run's predictions with transformers' pipeline of that name.
_PIPELINES = {
    "ElectraForSequenceClassification": ("text-classification", "With `truncation=True` long texts are cut."),
    "ElectraForTokenClassification": (
        "token-classification",
        'A word has the tag of its first piece: `aggregation_strategy="first"`.',
    ),
    "ElectraForQuestionAnswering": ("question-answering", "Questions come first, their contexts second."),
    _JOINT: ("question-answering", "Questions come first, their contexts second."),
    "ElectraForMaskedLM": ("fill-mask", ""),
    "ElectraModel": ("feature-extraction", ""),
}
# The hub's names of metrics; others keep theirs.
_METRICS = {
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "exact": "exact_match",
    "span_f1": "f1",
    "macro_f1": "f1",
    "micro_f1": "f1",
}
_LIBRARIES = {"huggingface": "transformers", "onnx": "onnx", "stablehlo": "jax", "google": "tensorflow"}
_TAGS = {"onnx": ("onnx", "transformers.js"), "stablehlo": ("jax", "stablehlo")}
_LIMITS = {
    "generator": (
        "It fills masked positions and generates no text. What it prefers is what its training text had more of."
    ),
    "discriminator": (
        "It was trained to find replaced tokens, so that its outputs say how usual a word is in its place, not whether "
        "a statement is true."
    ),
    "fine-tuned": (
        "It was scored on text like that of its training; on other text, measure before you rely on it. It has the "
        "biases of its training text."
    ),
}
_CITATION = """```bibtex
@inproceedings{clark2020electra,
  title = {{ELECTRA}: Pre-training Text Encoders as Discriminators Rather Than Generators},
  author = {Kevin Clark and Minh-Thang Luong and Quoc V. Le and Christopher D. Manning},
  booktitle = {International Conference on Learning Representations},
  year = {2020},
  url = {https://arxiv.org/abs/2003.10555}
}
```"""


def text(model: Model, network: str, architecture: str, form: str = "huggingface") -> str:
    """The model card of one network, as Markdown.

    Args:
      model: the model.
      network: "generator" or "discriminator".
      architecture: transformers' class of the network, or the name of a head that transformers does not have.
      form: the export format.
    """
    head = model.task_head if network == "discriminator" else None
    title, what, limits = network, _WHAT[network], _LIMITS[network]
    if network == "generator" and model.discriminator is None:
        title, what = "masked language model", _ALONE
    pipeline, advice = _PIPELINES.get(architecture, ("", ""))
    if head:
        title, what, limits = "fine-tuned", f"{_FINETUNED} {advice}", _LIMITS["fine-tuned"]
    facts = {"architecture": architecture, **_sizes(model, network)}
    if head:
        facts["labels"] = ", ".join(dict.fromkeys(head.fields.get("id2label", {}).values())) or "none"
        facts["longest row of its training"] = f"{head.max_length} tokens" if head.max_length else "not known"
    return _card(model, title, what, limits, facts, form, pipeline)


def text_of_all(model: Model, form: str) -> str:
    """The model card of a folder that holds all networks of a model."""
    what = " ".join(_WHAT[network] for network in model.networks) if len(model.networks) > 1 else ""
    (network, *_), head = reversed(model.networks), model.task_head
    kind = "fine-tuned" if head else network
    title = "fine-tuned" if head else " and ".join(model.networks)
    what = _FINETUNED if head else (what or (_ALONE if network == "generator" else _WHAT[network]))
    facts: dict[str, Any] = {}
    for name in model.networks:
        of = f", {name}" if len(model.networks) > 1 else ""
        facts |= {f"{fact}{of}": value for fact, value in _sizes(model, name).items()}
    if head:
        facts |= {"head": head.architecture}
        facts["labels"] = ", ".join(dict.fromkeys(head.fields.get("id2label", {}).values())) or "none"
    return _card(model, title, what, _LIMITS[kind], facts, form, "")


def _card(model: Model, title: str, what: str, limits: str, facts: dict[str, Any], form: str, pipeline: str) -> str:
    training = model.training
    facts = {
        **facts,
        "made from": model.origin,
        "steps of training": "not known" if model.step is None else model.step,
        "text": ", ".join(f"`{source}`" for source in model.sources) or "not known",
    }
    sections = [
        "\n".join(["---", *_head(model, title, form, pipeline), "---"]),
        f"# ELECTRA, {title}",
        f"{what} Written by electra_jax.",
        _table(("", ""), facts.items()),
    ]
    if training.recipe:
        sections += ["## Recipe", _table(("field", "value"), training.recipe.items())]
    if training.scores:
        rows = [(f"{score.dataset}, {score.split}", score.metric, f"{score.value:.4g}") for score in training.scores]
        sections += ["## Results", _table(("data", "metric", "value"), rows)]
    sections += [
        "## Limits",
        limits,
        "## Licence",
        "Licence: not stated; choose one before publishing these weights.",
        "## Citation",
        _CITATION,
    ]
    return "\n\n".join(sections) + "\n"


def _head(model: Model, title: str, form: str, pipeline: str) -> Iterator[str]:
    """Lines of the YAML head; strings are quoted as in JSON, which YAML includes."""
    training = model.training
    yield "# language: en  # to be filled in: the run does not record it"
    yield "# license: apache-2.0  # to be filled in: choose one before publishing"
    yield f"library_name: {_LIBRARIES.get(form, 'electra_jax')}"
    if pipeline:
        yield f"pipeline_tag: {pipeline}"
    if training.base_model:
        yield f"# base_model: OWNER/NAME  # to be filled in: fine-tuned from {_comment(training.base_model)}"
    if model.sources:
        yield f"# datasets: [NAME]  # to be filled in: read from {_comment(', '.join(model.sources))}"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("electra", *_TAGS.get(form, ())))
    if not training.scores:
        return
    metrics = dict.fromkeys(_metric(score) for score in training.scores)
    yield "metrics:"
    yield from (f"- {metric}" for metric in metrics)
    yield "model-index:"
    yield f"- name: {json.dumps(f'ELECTRA, {title}')}"
    yield "  results:"
    for dataset, split in dict.fromkeys((score.dataset, score.split) for score in training.scores):
        yield "  - task:"
        yield f"      type: {pipeline or 'other'}"
        yield "    dataset:"
        yield f"      name: {json.dumps(dataset, ensure_ascii=False)}"
        yield f"      type: {json.dumps(dataset, ensure_ascii=False)}"
        yield f"      split: {json.dumps(split, ensure_ascii=False)}"
        yield "    metrics:"
        for score in training.scores:
            if (score.dataset, score.split) == (dataset, split):
                yield f"    - type: {_metric(score)}"
                yield f"      name: {json.dumps(score.metric)}"
                yield f"      value: {score.value:.6g}"


def _metric(score: Score) -> str:
    return _METRICS.get(score.metric, score.metric)


def _comment(value: str) -> str:
    """A text in one line."""
    return " ".join(value.split())


def _sizes(model: Model, network: str) -> dict[str, Any]:
    config = model.networks[network]
    parts = ("embeddings", network, f"{network}_head")
    count = sum(
        array.size for array in flatten({part: model.params[part] for part in parts if part in model.params}).values()
    )
    return {
        "parameters": wording.quantity(count),
        "layers": config.layers,
        "hidden size": config.hidden_size,
        "attention heads": config.heads,
        "feed-forward size": config.feed_forward_size,
        "embedding size": config.embedding_size,
        "vocabulary": config.vocabulary_size,
        "positions": config.positions,
    }


def _table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        # A bar would end a cell.
        return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(heading), "|" + "---|" * len(heading), *map(line, rows)])
