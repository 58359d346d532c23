"""Files in the safetensors format: a JSON header that says where each tensor lies, then the bytes.

Written out here, as it is two pages of code where the library would be one more requirement.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from electra_jax import storage
from electra_jax.errors import InputError

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 8


def read(path: str) -> dict[str, np.ndarray]:
    """The tensors of a file, read-only and of the types that they have there.

    Raises:
      InputError: no such file, cut off, or something else.
    """
    try:
        content = storage.read(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) < 8:
        raise _damaged(path, f"has {len(content)} bytes")
    (length,) = struct.unpack("<Q", content[:8])
    try:
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        places = {name: (_DTYPES[at["dtype"]], at["shape"], *at["data_offsets"]) for name, at in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"its header cannot be read: {error!r}") from error
    start, tensors = 8 + length, {}
    for name, (dtype, shape, begin, end) in places.items():
        if start + end > len(content):
            raise _damaged(path, f"{name} should end at byte {start + end}, and the file has {len(content)}")
        if end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
            raise _damaged(path, f"{name} has {end - begin} bytes, which the shape {shape} does not fill")
        tensors[name] = np.frombuffer(content, dtype, math.prod(shape), start + begin).reshape(shape)
    return tensors


def read_folder(directory: str) -> dict[str, np.ndarray]:
    """The tensors of model.safetensors, or of all files that model.safetensors.index.json names.

    Raises:
      InputError: neither is there, or a file is missing, damaged, or lacks a tensor.
    """
    index = storage.join(directory, INDEX)
    if storage.exists(storage.join(directory, FILE)) or not storage.exists(index):
        return read(storage.join(directory, FILE))
    try:
        places = json.loads(storage.read(index))["weight_map"]
        files = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{index}: cannot be read ({error!r}); expected "weight_map", a file for each tensor'
        ) from error
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        tensors |= read(storage.join(directory, file))
    if missing := sorted(places.keys() - tensors.keys()):
        raise InputError(f"{index}: names tensors that no file holds: {', '.join(missing)}; copy the folder anew")
    return tensors


def write(path: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file, which appears whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    # Widest types first, so that every tensor is aligned, as the reference implementation does it.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    # transformers asks what wrote a file, and "pt" is the answer for weights in PyTorch's layout.
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in ordered:
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    with storage.open_to_write(path) as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _damaged(path: str, what: str) -> InputError:
    return InputError(f"{path}: is no safetensors file, or was cut off: {what}; copy or download it anew")
