"""electra_jax's own export format: electra_jax.json, model.safetensors, tokenizer/."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.interop import tensor_files, tensor_map, tokenizer_files
from electra_jax.interop.model import Model, TaskHead, sizes_as_fields
from electra_jax.models.encoder import EncoderConfig

MANIFEST = "electra_jax.json"
FORMAT = 1

_TOKENIZER = "tokenizer"
_TASK_HEAD = "task_head/"


def manifest(model: Model) -> dict[str, Any]:
    """Contents of electra_jax.json."""
    return {
        "format": FORMAT,
        "task": "electra" if len(model.networks) == 2 else ("mlm" if model.generator else "encoder"),
        **{network: sizes_as_fields(config) for network, config in model.networks.items()},
        "origin": model.origin,
        "step": model.step,
        "sources": list(model.sources),
        "tokenizer_sha256": model.tokenizer.sha256 if model.tokenizer else None,
        "casing": tokenizer_files.casing(model.tokenizer) if model.tokenizer else None,
        "task_head": model.task_head and _task_head_fields(model.task_head),
    }


def _task_head_fields(head: TaskHead) -> dict[str, Any]:
    about = {name: getattr(head, name) for name in ("architecture", "token_type", "max_length")}
    return about | dict(head.fields)


def write(model: Model, directory: str) -> tuple[str, ...]:
    """Writes an exported folder; returns no notes.

    Raises:
      OSError: a file cannot be written.
    """
    tensors = tensor_map.flatten(model.params)
    if model.task_head:
        tensors |= {_TASK_HEAD + name: np.asarray(array) for name, array in model.task_head.tensors.items()}
    tensor_files.write(storage.join(directory, tensor_files.FILE), tensors)
    write_manifest(model, directory)
    if model.tokenizer:
        model.tokenizer.save(storage.join(directory, _TOKENIZER))
    return ()


def write_manifest(model: Model, directory: str) -> None:
    """Writes only electra_jax.json, which adds to an external format what it lacks."""
    storage.write_json(storage.join(directory, MANIFEST), manifest(model))


def read(directory: str) -> Model:
    """Reads an exported folder.

    Raises:
      InputError: a file is missing or damaged, or they do not belong together.
    """
    fields = read_manifest(directory)
    flat = dict(tensor_files.read_folder(directory))
    task_head = None
    if head := fields["task_head"]:
        names = [name for name in flat if name.startswith(_TASK_HEAD)]
        tensors = {name.removeprefix(_TASK_HEAD): flat.pop(name) for name in names}
        # Exports of earlier versions lack the last two.
        about = (head.pop("token_type", 0), head.pop("max_length", None))
        task_head = TaskHead(head.pop("architecture"), tensors, head, *about)
    tokenizer = tokenizer_files.load_saved(storage.join(directory, _TOKENIZER))
    if (tokenizer and tokenizer.sha256) != fields["tokenizer_sha256"]:
        raise InputError(
            f"{directory}/{_TOKENIZER}: found SHA-256 {tokenizer and tokenizer.sha256}, expected "
            f"{fields['tokenizer_sha256']} as in {MANIFEST}; copy the folder again"
        )
    return Model(
        discriminator=fields.get("discriminator"),
        generator=fields.get("generator"),
        params=tensor_map.unflatten(flat),
        tokenizer=tokenizer,
        step=fields["step"],
        origin=fields["origin"],
        sources=tuple(fields["sources"]),
        task_head=task_head,
    )


def read_manifest(directory: str) -> dict[str, Any]:
    """The contents of electra_jax.json, with the sizes of each network as an `EncoderConfig`.

    Raises:
      InputError: it is missing, damaged, or of another format.
    """
    path = storage.join(directory, MANIFEST)
    try:
        fields = json.loads(storage.read(path))
        if fields["format"] != FORMAT:
            raise InputError(f"{path}: found format {fields['format']}, expected {FORMAT}; export the model again")
        sizes = {name: EncoderConfig(**fields[name]) for name in tensor_map.NETWORKS if name in fields}
        expected = ("origin", "step", "sources", "tokenizer_sha256", "casing", "task_head")
        return {name: fields[name] for name in expected} | sizes
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error!r}); copy the folder again") from error
