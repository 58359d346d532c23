"""Opens a model with the runtime that computes it."""

from __future__ import annotations

import dataclasses

from electra_jax.errors import InputError
from electra_jax.inference.jax_runtime import JaxRuntime
from electra_jax.inference.runtime import Runtime
from electra_jax.interop import checkpoints, finetuned
from electra_jax.interop.model import TaskHead
from electra_jax.text.tokenizers.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A model that is ready to predict.

    Attributes:
      runtime: computes its outputs.
      tokenizer: its tokenizer.
      head: what is known of a fine-tuned head, whose tensors only `runtime` reads; None without one, or if there are
        several to choose from.
      heads: names of the heads of a fine-tuning run.
      positions: maximum length of a row in tokens.
      origin: readable description of the source.
      notes: assumptions of the reader.
    """

    runtime: Runtime
    tokenizer: Tokenizer
    head: TaskHead | None
    heads: tuple[str, ...]
    positions: int
    origin: str
    notes: tuple[str, ...] = ()


def open_for_inference(path: str, head: str = "") -> Opened:
    """Opens a model of any format. A runtime other than JAX is a branch here, for the folders that it reads.

    Args:
      path: local path or address; see `checkpoints.open_model`.
      head: for a fine-tuning run of several tasks, the task whose head predicts.

    Raises:
      InputError: nothing readable was found, it is damaged, has no tokenizer, or no such head.
      MismatchError: a checkpoint of a run is damaged, or does not fit the config next to it.
    """
    model = checkpoints.open_model(path)
    if head:
        model = finetuned.choose_head(model, head)
    if model.tokenizer is None:
        raise InputError(
            f"{path}: found no tokenizer next to the weights, expected one; put its tokenizer.json, vocab.txt or "
            "SentencePiece .model there"
        )
    positions = min(sizes.positions for sizes in model.networks.values())
    runtime = JaxRuntime(model)
    return Opened(
        runtime, model.tokenizer, model.task_head, tuple(model.task_heads), positions, model.origin, model.notes
    )
