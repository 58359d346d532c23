"""The runtime of exported ONNX folders: onnxruntime computes their networks, and nothing is compiled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from electra_jax import storage
from electra_jax.inference.runtime import Output, PaddedRows
from electra_jax.interop import tensor_files
from electra_jax.interop.finetuned import JOINT_ANSWERS
from electra_jax.interop.huggingface_folder import CORRECTOR
from electra_jax.interop.onnx_network import FOLDER, OnnxNetwork, find

# What the class of a network in config.json computes; a class that is not named has a task's head.
_OUTPUTS: Mapping[str, Output] = {
    "ElectraForPreTraining": "replaced",
    "ElectraForMaskedLM": "generator_words",
    "ElectraModel": "hidden",
}
_WORDS = ("generator_words", "corrective_words")
# The joint answer head's outputs that `runtime.Output` names.
_JOINT = ("start_ids", "start_scores", "end_ids", "end_scores", "impossible_logits")


class Network(NamedTuple):
    """An exported network.

    Attributes:
      folder: its config.json and tokenizer are there.
      file: its .onnx file.
    """

    folder: str
    file: str


def networks(path: str) -> dict[str, Network]:
    """The networks of an export for onnxruntime by the name of their folder, the main one last.

    Empty if it is something else. A folder that holds weights, too, is read from these; a .onnx file is taken as it is,
    of several precisions in a folder the most exact one.
    """
    if path.endswith(".onnx"):
        folder = os.path.dirname(path)
        folder = os.path.dirname(folder) if os.path.basename(folder) == FOLDER else folder
        return {"": Network(folder, path)} if storage.is_file(path) else {}
    if (network := _network(path)) is not None:
        return {"": network}
    inner = {name: _network(storage.join(path, name)) for name in ("generator", CORRECTOR, "discriminator")}
    return {name: network for name, network in inner.items() if network is not None}


def _network(folder: str) -> Network | None:
    """The network of a folder; None if it has none, or weights as well."""
    file = find(folder)
    if file is None or storage.exists(storage.join(folder, tensor_files.FILE)):
        return None
    return Network(folder, file)


def output_of(architecture: str, folder: str) -> Output:
    """What the network in a folder of that name computes."""
    if folder == CORRECTOR:
        return "corrective_words"
    return _OUTPUTS.get(architecture, "task")


class OnnxRuntime:
    """Implements `runtime.Runtime` for exported networks."""

    def __init__(self, files: Mapping[Output, str], architecture: str) -> None:
        """Loads the files.

        Args:
          files: a .onnx file for each output.
          architecture: class of the network of the output "task", if there is one.

        Raises:
          InputError: onnxruntime is not installed, or cannot load a file.
        """
        self._networks = {output: OnnxNetwork(path) for output, path in files.items()}
        self._is_joint = architecture == JOINT_ANSWERS
        self.outputs: frozenset[Output] = frozenset(self._networks)

    def compute(self, output: Output, rows: PaddedRows) -> Mapping[str, np.ndarray]:
        """See `runtime.Runtime`."""
        length = rows.tokens_BxL.shape[1]
        found = self._networks[output](
            {
                "input_ids": rows.tokens_BxL,
                "attention_mask": np.arange(length) < rows.lengths_B[:, None],
                "token_type_ids": rows.segments_BxL,
                "allowed": rows.allowed_BxL,
            }
        )
        if output == "hidden":
            return {"hidden": found["last_hidden_state"]}
        if output in _WORDS:
            return {"logits": np.take_along_axis(found["logits"], rows.positions_BxM[:, :, None], axis=1)}
        if output == "task" and self._is_joint:
            return {name: found[name] for name in _JOINT}
        return found
