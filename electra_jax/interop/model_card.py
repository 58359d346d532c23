"""The model card (README.md) of an exported network."""

from __future__ import annotations

from electra_jax import wording
from electra_jax.interop.model import Model
from electra_jax.interop.tensor_map import flatten

_WHAT = {
    "generator": "The generator of an ELECTRA pair: a masked language model, smaller than its discriminator.",
    "discriminator": "The discriminator of an ELECTRA pair: the network to fine-tune.",
}
_ALONE = "A masked language model in ELECTRA's architecture."
_FINETUNED = "An ELECTRA that was fine-tuned for a task."
# The hub's name of the task, and how to reproduce the run's predictions with transformers' pipeline of that name.
_PIPELINES = {
    "ElectraForSequenceClassification": ("text-classification", "With `truncation=True` long texts are cut."),
    "ElectraForTokenClassification": (
        "token-classification",
        'A word has the tag of its first piece: `aggregation_strategy="first"`.',
    ),
    "ElectraForQuestionAnswering": ("question-answering", "Questions come first, their contexts second."),
}


def text(model: Model, network: str, architecture: str) -> str:
    """The model card of one network, as Markdown."""
    config = model.networks[network]
    head = model.task_head if network == "discriminator" else None
    title, what = network, _WHAT[network]
    if network == "generator" and model.discriminator is None:
        title, what = "masked language model", _ALONE
    parts = ("embeddings", network, f"{network}_head")
    count = sum(
        array.size for array in flatten({part: model.params[part] for part in parts if part in model.params}).values()
    )
    facts = {
        "architecture": architecture,
        "parameters": wording.quantity(count),
        "layers": config.layers,
        "hidden size": config.hidden_size,
        "attention heads": config.heads,
        "feed-forward size": config.feed_forward_size,
        "embedding size": config.embedding_size,
        "vocabulary": config.vocabulary_size,
        "positions": config.positions,
        "made from": model.origin,
        "steps of training": "not known" if model.step is None else model.step,
        "text": ", ".join(f"`{source}`" for source in model.sources) or "not known",
    }
    pipeline_tag = ""
    if head:
        pipeline, advice = _PIPELINES.get(architecture, ("question-answering", ""))
        title, pipeline_tag, what = "fine-tuned", f"pipeline_tag: {pipeline}\n", f"{_FINETUNED} {advice}"
        facts["labels"] = ", ".join(dict.fromkeys(head.fields.get("id2label", {}).values())) or "none"
        facts["longest row of its training"] = f"{head.max_length} tokens" if head.max_length else "not known"
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"---\nlibrary_name: transformers\n{pipeline_tag}tags:\n- electra\n---\n\n# ELECTRA, {title}\n\n{what} "
        f"Written by electra_jax.\n\n| | |\n|---|---|\n{rows}\n\n"
        "Licence: not stated; choose one before publishing these weights.\n"
    )
