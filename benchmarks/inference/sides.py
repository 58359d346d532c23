"""What computes the discriminator's logits of one exported model: five programs with one signature.

Nothing of the others is imported by the one that runs, so that its memory can be measured.
"""

import pathlib
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

Compute = Callable[[np.ndarray], object]

# In the folder of a benchmark; `write` makes all of them.
_HUGGINGFACE = "hf/discriminator"
_TORCH_ONNX = "torch.onnx"
_OPSET = 17  # As our own files.


def write(model: Any, folder: pathlib.Path) -> None:
    """Exports a discriminator in every format that a side reads."""
    from electra_jax.interop import export, huggingface_folder

    huggingface_folder.write(model, str(folder / "hf"))
    export.write(model, str(folder / "onnx"), "onnx", ("fp32", "int8"))
    _export_from_torch(folder)


def _export_from_torch(folder: pathlib.Path) -> None:
    import torch

    network = _transformers_network(folder)
    example = torch.ones((2, 16), dtype=torch.int64)
    axes = {0: "batch_size", 1: "sequence_length"}
    with warnings.catch_warnings():
        # The exporter by tracing is deprecated for one that needs a further package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example, example),
            str(folder / _TORCH_ONNX),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes=dict.fromkeys(("input_ids", "attention_mask", "logits"), axes),
            opset_version=_OPSET,
            dynamo=False,
        )


def _transformers_network(folder: pathlib.Path) -> Any:
    import transformers

    network: Any = transformers.ElectraForPreTraining.from_pretrained(str(folder / _HUGGINGFACE))
    return network.eval()


def _torch(folder: pathlib.Path, threads: int) -> Compute:
    import torch

    torch.set_num_threads(threads)
    network = _transformers_network(folder)

    def compute(tokens_BxL: np.ndarray) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(tokens_BxL)).logits.numpy()

    return compute


def _jax(folder: pathlib.Path, threads: int) -> Compute:
    import jax

    from electra_jax.interop import checkpoints
    from electra_jax.interop.model import network_function, weights

    model = checkpoints.open_model(str(folder / _HUGGINGFACE))
    program = jax.jit(network_function(model, "discriminator"))
    params = jax.device_put(weights(model, "discriminator"))
    return lambda tokens_BxL: np.asarray(
        program(params, tokens_BxL, np.zeros_like(tokens_BxL), np.ones_like(tokens_BxL))
    )


def _onnx(folder: pathlib.Path, threads: int, precision: str) -> Compute:
    from electra_jax.interop import onnx_network

    path = onnx_network.find(str(folder / "onnx" / "discriminator"), precision) if precision else None
    network = onnx_network.OnnxNetwork(path or str(folder / _TORCH_ONNX), threads)
    return lambda tokens_BxL: network({"input_ids": tokens_BxL, "attention_mask": np.ones_like(tokens_BxL)})


# By name, what loads a side: the folder and a number of threads (JAX takes all processors that it may use) → `Compute`.
SIDES: Mapping[str, Callable[[pathlib.Path, int], Compute]] = MappingProxyType(
    {
        "transformers, PyTorch fp32": _torch,
        "ours, JAX fp32": _jax,
        "ours, ONNX fp32": lambda folder, threads: _onnx(folder, threads, "fp32"),
        "ours, ONNX int8": lambda folder, threads: _onnx(folder, threads, "int8"),
        "torch.onnx, ONNX fp32": lambda folder, threads: _onnx(folder, threads, ""),
    }
)


def files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The file of the weights, by what it is."""
    from electra_jax.interop import onnx_network, tensor_files

    exported = folder / "onnx" / "discriminator" / onnx_network.FOLDER
    return {
        "safetensors": folder / _HUGGINGFACE / tensor_files.FILE,
        "ours, ONNX fp32": exported / onnx_network.FILES["fp32"],
        "ours, ONNX int8": exported / onnx_network.FILES["int8"],
        "torch.onnx, ONNX fp32": folder / _TORCH_ONNX,
    }
