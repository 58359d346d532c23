"""Networks of exported ONNX folders, computed by onnxruntime; needs neither JAX nor the package onnx."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from electra_jax import storage
from electra_jax.errors import InputError

FOLDER = "onnx"
# File of each precision, by the names that Optimum and transformers.js look for; the first that is there is opened.
FILES = {"fp32": "model.onnx", "int8": "model_quantized.onnx", "fp16": "model_fp16.onnx"}


class OnnxNetwork:
    """A network with its head; calls from several threads are safe.

    Attributes:
      path: path of the file.
      inputs: names of its inputs.
      outputs: names of its outputs.
    """

    def __init__(self, path: str, threads: int | None = None) -> None:
        """Loads a file.

        Args:
          path: a .onnx file, a local path or an address.
          threads: threads that compute one call; None takes as many as this process may use processors.

        Raises:
          InputError: onnxruntime is not installed, or cannot load the file.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                f"{path}: needs the package onnxruntime ({error}); install it with: pip install 'electra_jax[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Stated, as onnxruntime would otherwise pin its threads to processors that the process may not have.
        options.intra_op_num_threads = threads or _processors()
        try:
            content = storage.read(path)
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        # Its exceptions have no common class of their own.
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path}: onnxruntime cannot load it ({reason}); export the model again") from error
        self.path = path
        self.inputs = tuple(each.name for each in self._session.get_inputs())
        self.outputs = tuple(each.name for each in self._session.get_outputs())

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs of the head for a batch of rows.

        Args:
          rows: integers [B, L] by the names of the inputs: "input_ids", "attention_mask" (1 on tokens, 0 on padding),
            "token_type_ids" (0 if left out), and "allowed" for the joint answer head. Others are not read.

        Returns:
          By name, float32 "logits": [B, L] of replaced tokens, [B, L, V] of words, [B, C] of classes, [B, L, C] of
          tags; or "start_logits" and "end_logits" [B, L]; or "last_hidden_state" [B, L, D]. Values on padding are
          arbitrary. The joint answer head's outputs: see `onnx_graph.build`.

        Raises:
          InputError: an input is missing, or onnxruntime cannot compute it, as for rows longer than the network's
            positions.
        """
        given = {"token_type_ids": np.zeros_like(rows["input_ids"]), **rows} if "input_ids" in rows else dict(rows)
        if missing := [name for name in self.inputs if name not in given]:
            raise InputError(f"{self.path}: needs the inputs {', '.join(self.inputs)}; missing: {', '.join(missing)}")
        feeds = {name: np.asarray(given[name], np.int64) for name in self.inputs}
        try:
            return dict(zip(self.outputs, self._session.run(None, feeds), strict=True))
        except Exception as error:
            shape, reason = feeds[self.inputs[0]].shape, str(error).partition("\n")[0]
            raise InputError(f"{self.path}: onnxruntime failed on rows of shape {list(shape)} ({reason})") from error


def _processors() -> int:
    """Processors that this process may use; all of them where the system does not tell (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find(path: str, precision: str = "") -> str | None:
    """The .onnx file that a path stands for, or None.

    Args:
      path: a .onnx file, the folder of an exported network, or its folder `onnx`.
      precision: a key of `FILES`; "" takes the most exact one that is there.
    """
    if path.endswith(".onnx"):
        return path if storage.is_file(path) else None
    names = [FILES[precision]] if precision else list(FILES.values())
    places = [storage.join(path, FOLDER, name) for name in names] + [storage.join(path, name) for name in names]
    return next((place for place in places if storage.is_file(place)), None)
