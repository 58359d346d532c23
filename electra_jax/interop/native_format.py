"""electra_jax's own export format: electra_jax.json, model.safetensors, tokenizer/."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Count, Record, Sha256, Size
from electra_jax.interop import model_card, tensor_files, tensor_map, tokenizer_files
from electra_jax.interop.model import Model, NetworkFields, Rate, TaskHead, TaskSettings, sizes_as_fields
from electra_jax.models.encoder import EncoderConfig
from electra_jax.text.tokenizers.casing import observed

MANIFEST = "electra_jax.json"
FORMAT = 1

_TOKENIZER = "tokenizer"
_TASK_HEAD = "task_head/"
_FIX = "copy the folder again"


class Casing(Record):
    """How a tokenizer treats capitals and accents."""

    lowercase: bool
    strip_accents: bool


class HeadFields(Record):
    """The head of a fine-tuned model; exports of earlier versions lack `token_type`, `max_length` and `settings`."""

    architecture: str
    token_type: Annotated[int, pydantic.Field(ge=0, le=1)] = 0
    max_length: Size | None = None
    settings: TaskSettings | None = None
    id2label: dict[str, str] | None = None
    label2id: dict[str, int] | None = None
    problem_type: str | None = None
    classifier_dropout: Rate | None = None

    def about(self) -> dict[str, Any]:
        """The fields that transformers' config.json has too."""
        return self.model_dump(exclude_unset=True, exclude={"architecture", "token_type", "max_length", "settings"})


class ManifestFields(Record):
    """Contents of electra_jax.json."""

    format: Literal[1]
    generator: NetworkFields | None = None
    discriminator: NetworkFields | None = None
    origin: str
    step: Count | None
    sources: list[str]
    tokenizer_sha256: Sha256 | None
    casing: Casing | None
    task_head: HeadFields | None

    def sizes(self) -> dict[str, EncoderConfig]:
        """Sizes of the networks by name."""
        stated = {name: getattr(self, name) for name in tensor_map.NETWORKS}
        return {name: fields.encoder for name, fields in stated.items() if fields is not None}


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
        "casing": observed(model.tokenizer.normalize) if model.tokenizer else None,
        "task_head": model.task_head and _task_head_fields(model.task_head),
    }


def _task_head_fields(head: TaskHead) -> dict[str, Any]:
    about = {name: getattr(head, name) for name in ("architecture", "token_type", "max_length")}
    settings = {"settings": head.settings.model_dump()} if head.settings else {}
    return about | settings | dict(head.fields)


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
    storage.write(storage.join(directory, "README.md"), model_card.text_of_all(model, "electra_jax").encode())
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
    if head := fields.task_head:
        names = [name for name in flat if name.startswith(_TASK_HEAD)]
        tensors = {name.removeprefix(_TASK_HEAD): flat.pop(name) for name in names}
        task_head = TaskHead(head.architecture, tensors, head.about(), head.token_type, head.max_length, head.settings)
    tokenizer = tokenizer_files.load_saved(storage.join(directory, _TOKENIZER))
    if (tokenizer and tokenizer.sha256) != fields.tokenizer_sha256:
        raise InputError(
            f"{directory}/{_TOKENIZER}: found SHA-256 {tokenizer and tokenizer.sha256}, expected "
            f"{fields.tokenizer_sha256} as in {MANIFEST}; copy the folder again"
        )
    try:
        params = tensor_map.unflatten(flat)
    except ValueError as error:
        raise InputError(f"{directory}/{tensor_files.FILE}: {error}; copy the folder again") from error
    sizes = fields.sizes()
    return Model(
        discriminator=sizes.get("discriminator"),
        generator=sizes.get("generator"),
        params=params,
        tokenizer=tokenizer,
        step=fields.step,
        origin=fields.origin,
        sources=tuple(fields.sources),
        task_head=task_head,
    )


def read_manifest(directory: str) -> ManifestFields:
    """The contents of electra_jax.json.

    Raises:
      InputError: it is missing, damaged, or of another format.
    """
    path = storage.join(directory, MANIFEST)
    value = foreign_json.read(path, _FIX)
    found = value.get("format", FORMAT) if isinstance(value, dict) else FORMAT
    if found != FORMAT:
        raise InputError(f"{path}: found format {foreign_json.shown(found)}, expected {FORMAT}; export the model again")
    return foreign_json.checked(ManifestFields, value, f"{path}: cannot be read", _FIX)
