"""Files in the safetensors format, in one or several shards, at any path that `storage.py` supports.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping

import ml_dtypes  # noqa: F401 — registers bfloat16 with NumPy, where the library looks up types.
import numpy as np
import safetensors.numpy

from electra_jax import storage
from electra_jax.errors import InputError

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read(path: str) -> dict[str, np.ndarray]:
    """The tensors of a file, with their types in the file.

    Raises:
      InputError: there is no such file, it is truncated, or it has another format.
    """
    try:
        # Reads the file instead of mapping it: a mapped file that is truncated meanwhile would kill the process.
        with _local(path) as local, safetensors.safe_open(local, framework="np", backend="pread") as file:
            return file.get_tensors()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path}: is not a safetensors file or is truncated: {error}; copy or download it again"
        ) from error
    except (AttributeError, TypeError) as error:
        raise InputError(f"{path}: has a tensor of a type that NumPy does not support ({error})") from error


def read_folder(directory: str) -> dict[str, np.ndarray]:
    """The tensors of model.safetensors, or of all files that model.safetensors.index.json names.

    Raises:
      InputError: there is neither, or a file is missing, damaged, or lacks a tensor.
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
        raise InputError(f"{index}: names tensors that are in no file: {', '.join(missing)}; copy the folder again")
    return tensors


def write(path: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file atomically.

    Raises:
      OSError: the file cannot be written.
    """
    in_order = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # transformers checks the framework of a file; "pt" means weights in PyTorch's layout.
    storage.write(path, safetensors.numpy.save(in_order, {"format": "pt"}))


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
    """Yields a local path of the file, as the library needs one; remote files are copied to a temporary file."""
    if not storage.is_remote(path):
        yield os.path.expanduser(path)
        return
    with tempfile.NamedTemporaryFile() as copy:
        with storage.open_to_read(path) as file:
            shutil.copyfileobj(file, copy)
        copy.flush()
        yield copy.name
