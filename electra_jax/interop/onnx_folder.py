"""Exports for onnxruntime: a folder for each network with its ONNX files, config.json, tokenizer and model card.

The files have the names that Hugging Face's Optimum and transformers.js look for:

    onnx/model.onnx             float32
    onnx/model_fp16.onnx        float16
    onnx/model_quantized.onnx   8-bit weights
"""

from __future__ import annotations

from collections.abc import Sequence

from electra_jax import storage
from electra_jax.errors import MismatchError
from electra_jax.interop import huggingface_folder, onnx_graph, program_folder
from electra_jax.interop.model import Model
from electra_jax.interop.onnx_network import FILES, FOLDER, OnnxNetwork

_TOLERANCE = 1e-4  # Of float32 logits; sums are added up in another order.


def write(model: Model, directory: str, precisions: Sequence[str]) -> tuple[str, ...]:
    """Writes the folders; returns notes for the user.

    Args:
      model: the model.
      directory: the folder of the export.
      precisions: keys of `FILES`, at least one.

    Raises:
      InputError: a network is too large for one ONNX file.
      OSError: a file cannot be written.
    """
    notes = huggingface_folder.notes_on_task(model.task_head)
    for program in program_folder.programs(model, directory):
        for precision in precisions:
            path = storage.join(program.folder, FOLDER, FILES[precision])
            storage.write(path, onnx_graph.build(program.model, program.network, precision))
        notes += program_folder.describe(program, "onnx")
    return tuple(dict.fromkeys(notes))


def compare(model: Model, directory: str, precisions: Sequence[str]) -> dict[str, float]:
    """The largest difference between onnxruntime's outputs and ours, by network and precision.

    Raises:
      MismatchError: it is above 1e-4 in float32, or an output is not finite.
    """
    largest = {}
    for program in program_folder.programs(model, directory):
        for precision in precisions:
            path = storage.join(program.folder, FOLDER, FILES[precision])
            found = largest[f"{program.name} {precision}"] = max(program_folder.differences(program, OnnxNetwork(path)))
            # Negated, so that NaN fails.
            if precision == "fp32" and not found <= _TOLERANCE:
                raise MismatchError(
                    f"{path}: found a difference of {found:.1e} between onnxruntime's outputs and ours, expected at "
                    f"most {_TOLERANCE}"
                )
    return largest
