"""Files in the safetensors format, in one or several shards, at any path that `storage.py` supports.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Annotated

import ml_dtypes  # noqa: F401 — registers bfloat16 with NumPy, where the library looks up types.
import numpy as np
import pydantic
import safetensors.numpy

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Record

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# The name of a file in the same folder: no other folder can be reached.
_FileName = Annotated[str, pydantic.Field(pattern=r"^[^/\\\x00]+\.safetensors$")]


class _Index(Record):
    """The part of model.safetensors.index.json that is read: the file of each tensor."""

    weight_map: dict[str, _FileName]


def read(path: str) -> dict[str, np.ndarray]:
    """The tensors of a file, with their types in the file.

    Raises:
      InputError: there is no such file, it is truncated, or it has another format.
    """
    try:
        storage.open_to_read(path).close()  # Refuses a named pipe, for which the library would wait.
        # Reads the file instead of mapping it: a mapped file that is truncated meanwhile would kill the process.
        with _local(path) as local, safetensors.safe_open(local, framework="np", backend="pread") as file:
            return file.get_tensors()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    # Shapes that NumPy cannot have are ValueErrors, names that are not UTF-8 too.
    except (safetensors.SafetensorError, ValueError, OverflowError, MemoryError) as error:
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
    fix = 'copy the folder again; expected "weight_map", a file for each tensor'
    places = foreign_json.read_as(_Index, index, fix).weight_map
    tensors: dict[str, np.ndarray] = {}
    for file in sorted(set(places.values())):
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
