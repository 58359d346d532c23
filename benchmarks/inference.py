"""Latency of one row: ours in JAX, ONNX in fp32 and int8, transformers with PyTorch; and sizes on disk.

    python -m benchmarks.inference --size=small --threads=1

Needs requirements-interop.txt. Weights are random, as the time does not depend on them. The sides take turns, so that a
busy machine slows all of them alike.
"""

import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import app, flags

from electra_jax.interop import export, huggingface_folder, onnx_network, tensor_files
from electra_jax.interop.model import Model, network_function, weights
from electra_jax.models.electra import Electra
from electra_jax.models.encoder import EncoderConfig

_SIZE = flags.DEFINE_enum("size", "small", ["small", "base"], "Sizes of the paper.")
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of onnxruntime and PyTorch; JAX takes all that it may use.")
_REPEATS = flags.DEFINE_integer("repeats", 15, "Measurements of each, of which the median is shown.")

_SIZES = {
    "small": EncoderConfig(30_522, 128, 256, 12, 4, 1024, 512),
    "base": EncoderConfig(30_522, 768, 768, 12, 12, 3072, 512),
}
_LENGTHS = (16, 32, 128, 512)
_MEBIBYTE = 1 << 20


def _random_model(config: EncoderConfig) -> Model:
    """A discriminator with its head."""
    row = jax.ShapeDtypeStruct((1, 8), np.int32)
    narrow = dataclasses.replace(config.scaled(1 / 4), layers=1)
    shapes = nn.unbox(jax.eval_shape(Electra(config, narrow).init, jax.random.key(0), row, row, row, row)["params"])
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.02 * draw.standard_normal(leaf.shape, np.float32), shapes)
    parts = {name: params[name] for name in ("embeddings", "discriminator", "discriminator_head")}
    return Model(config, None, parts, tokenizer=None, step=None, origin="random weights")


def _sides(model: Model, folder: str) -> dict[str, Callable[[np.ndarray], object]]:
    """What computes a batch of token ids, by name."""
    import torch
    import transformers

    torch.set_num_threads(_THREADS.value)
    theirs: Any = transformers.ElectraForPreTraining.from_pretrained(f"{folder}/hf/discriminator")
    theirs.eval()
    compute, params = jax.jit(network_function(model, "discriminator")), weights(model, "discriminator")
    params = jax.device_put(params)

    def in_jax(tokens: np.ndarray) -> object:
        return np.asarray(compute(params, tokens, np.zeros_like(tokens), np.ones_like(tokens)))

    def in_torch(tokens: np.ndarray) -> object:
        with torch.inference_mode():
            return theirs(torch.from_numpy(tokens)).logits.numpy()

    sides: dict[str, Callable[[np.ndarray], object]] = {
        "transformers, PyTorch fp32": in_torch,
        "ours, JAX fp32": in_jax,
    }
    for precision in ("fp32", "int8"):
        path = onnx_network.find(f"{folder}/onnx/discriminator", precision)
        sides[f"ONNX {precision}"] = functools.partial(_in_onnx, onnx_network.OnnxNetwork(path or "", _THREADS.value))
    return sides


def _in_onnx(network: onnx_network.OnnxNetwork, tokens: np.ndarray) -> object:
    return network({"input_ids": tokens, "attention_mask": np.ones_like(tokens)})


def main(_: list[str]) -> None:
    """Prints a table of median milliseconds, and the sizes of the files."""
    model = _random_model(_SIZES[_SIZE.value])
    with tempfile.TemporaryDirectory() as folder:
        huggingface_folder.write(model, f"{folder}/hf")
        export.write(model, f"{folder}/onnx", "onnx", ("fp32", "int8"))
        sides = _sides(model, folder)
        print(f"{_SIZE.value}, 1 row, {_THREADS.value} threads; median of {_REPEATS.value}, milliseconds")
        print(f"{'':<28}" + "".join(f"{length:>10}" for length in _LENGTHS))
        times: dict[str, list[float]] = {name: [] for name in sides}
        for length in _LENGTHS:
            tokens = np.random.default_rng(0).integers(5, 30_000, (1, length), dtype=np.int32)
            measured: dict[str, list[float]] = {name: [] for name in sides}
            for repeat in range(_REPEATS.value + 2):  # The first two compile, and fill caches.
                for name, compute in sides.items():
                    start = time.perf_counter()
                    compute(tokens)
                    if repeat > 1:
                        measured[name].append(time.perf_counter() - start)
            for name in sides:
                times[name].append(1e3 * float(np.median(measured[name])))
        for name, row in times.items():
            print(f"{name:<28}" + "".join(f"{milliseconds:>10.1f}" for milliseconds in row))
        files = {"safetensors fp32": f"{folder}/hf/discriminator/{tensor_files.FILE}"}
        for precision in ("fp32", "int8"):
            files[f"ONNX {precision}"] = onnx_network.find(f"{folder}/onnx/discriminator", precision) or ""
        print("MiB: " + ", ".join(f"{name} {os.path.getsize(path) / _MEBIBYTE:.1f}" for name, path in files.items()))


if __name__ == "__main__":
    app.run(main)
