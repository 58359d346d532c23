"""Opens a model with the runtime that computes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from electra_jax.errors import InputError
from electra_jax.inference import onnx_runtime
from electra_jax.inference.onnx_runtime import Network, OnnxRuntime
from electra_jax.inference.runtime import Runtime
from electra_jax.interop import checkpoints, finetuned, huggingface_folder
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
    if networks := onnx_runtime.networks(path):
        return _opened_for_onnx(path, networks, head)
    from electra_jax.inference.jax_runtime import JaxRuntime

    model = checkpoints.open_model(path)
    if head:
        model = finetuned.choose_head(model, head)
    tokenizer = _present(path, model.tokenizer)
    positions = min(sizes.positions for sizes in model.networks.values())
    runtime = JaxRuntime(model)
    return Opened(runtime, tokenizer, model.task_head, tuple(model.task_heads), positions, model.origin, model.notes)


def _present(path: str, tokenizer: Tokenizer | None) -> Tokenizer:
    if tokenizer is None:
        raise InputError(
            f"{path}: found no tokenizer next to the weights, expected one; put its tokenizer.json, vocab.txt or "
            "SentencePiece .model there"
        )
    return tokenizer


def _opened_for_onnx(path: str, networks: Mapping[str, Network], head: str) -> Opened:
    """Opens an export for onnxruntime.

    Args:
      path: the export.
      networks: see `onnx_runtime.networks`.
      head: name of a head that was asked for; such an export has one head at most.
    """
    described = {name: huggingface_folder.description(network.folder) for name, network in networks.items()}
    main = list(described.values())[-1]
    if head and head != (main.head.settings.name if main.head and main.head.settings else ""):
        raise InputError(f"{path}: found no head {head!r}; an export for onnxruntime has one head, so export that one")
    files = {onnx_runtime.output_of(about.architecture, name): networks[name].file for name, about in described.items()}
    tokenizer = _present(path, next((each.tokenizer for each in reversed(described.values()) if each.tokenizer), None))
    positions = min(each.sizes.positions for each in described.values())
    runtime = OnnxRuntime(files, main.architecture)
    return Opened(runtime, tokenizer, main.head, (), positions, main.origin, main.notes)
