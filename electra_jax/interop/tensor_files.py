"""Files in the safetensors format, one or several shards, at any path of `storage.py`.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping

import ml_dtypes  # noqa: F401 — makes bfloat16 known to NumPy, which the library looks types up in.
import numpy as np
import safetensors.numpy

from electra_jax import storage
from electra_jax.errors import InputError

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read(path: str) -> dict[str, np.ndarray]:
    """The tensors of a file, of the types that they have there.

    Raises:
      InputError: no such file, cut off, or something else.
    """
    try:
        # Reads instead of mapping the file, which would end the process if another one truncated it.
        with _local(path) as local, safetensors.safe_open(local, framework="np", backend="pread") as file:
            return file.get_tensors()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path}: is no safetensors file, or was cut off: {error}; copy or download it again"
        ) from error
    except (AttributeError, TypeError) as error:
        raise InputError(f"{path}: has a tensor of a type that NumPy does not know ({error})") from error


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
    in_order = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # transformers asks what wrote a file, and "pt" is the answer for weights in PyTorch's layout.
    storage.write(path, safetensors.numpy.save(in_order, {"format": "pt"}))


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
    """A local path of the file, which the library needs; of a remote file that of a temporary copy."""
    if not storage.is_remote(path):
        yield os.path.expanduser(path)
        return
    with tempfile.NamedTemporaryFile() as copy:
        with storage.open_to_read(path) as file:
            shutil.copyfileobj(file, copy)
        copy.flush()
        yield copy.name
