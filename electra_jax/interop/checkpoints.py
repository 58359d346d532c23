"""Opens models of any supported format."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable

from electra_jax import hub_names, storage
from electra_jax.errors import InputError, MismatchError
from electra_jax.interop import google_checkpoint, huggingface_folder, native_format, tensor_files, workdir
from electra_jax.interop.model import Model, shape_problems

_READABLE = (
    "a workdir or checkpoint of electra_jax, a folder that --to=electra_jax wrote, a Hugging Face folder (config.json "
    "with model.safetensors, or generator/ and discriminator/ with them), or a TensorFlow 1 checkpoint of Google's "
    "ELECTRA (model.ckpt-… or its folder, followed by #heads=N unless it has a width that Google published)"
)
_SHOWN_PROBLEMS = 8
_SHOWN_NAMES = 8
# Given instead of their folder.
_FILES_OF_MODELS = (
    tensor_files.FILE, huggingface_folder.CONFIG, native_format.MANIFEST, "pytorch_model.bin", "tf_model.h5",
    "vocab.txt", "tokenizer.json",
)  # fmt: skip


def open_model(path: str) -> Model:
    """Reads a model; the files determine the format.

    Args:
      path: local path or address; Google checkpoints are local alone. `#heads=N` may follow the path of a Google
        checkpoint, see `split_heads`.

    Raises:
      InputError: nothing readable was found, it is damaged, or its parts do not belong together.
      MismatchError: a checkpoint of a run is damaged, or does not fit the config next to it.
    """
    path, heads = split_heads(path)
    path = path if storage.is_remote(path) else os.path.expanduser(path)
    path = path.rstrip("/") or path
    if problem := storage.problem(path):
        raise InputError(problem)
    if place := workdir.find(path):
        _check_unstated(path, heads)
        model = workdir.read(*place)
        if problems := shape_problems(model):
            raise MismatchError(
                f"{path}: checkpoint {model.step} does not fit the config next to it:\n{_listed(problems)}"
            )
    else:
        model = _read_external(path, heads)
        if problems := shape_problems(model):
            raise InputError(f"{path}: the weights do not fit the sizes next to them:\n{_listed(problems)}")
    return _with_spare_rows(model, path)


def _with_spare_rows(model: Model, path: str) -> Model:
    """The model with a tokenizer of as many pieces as its word table has rows.

    Raises:
      InputError: the tokenizer has more.
    """
    tokenizer, rows = model.tokenizer, model.vocabulary_size
    if tokenizer is None:
        return model
    if tokenizer.vocabulary_size > rows:
        raise InputError(
            f"{path}: found a tokenizer of {tokenizer.vocabulary_size} pieces, expected at most {rows}, the rows of "
            "the word table; put the model's own tokenizer there"
        )
    from electra_jax.text.tokenizers import tokenizer as tokenizers

    filled = tokenizers.with_spare_rows(tokenizer, rows, path)
    if not (spare := tokenizers.spare_rows(filled)):
        return model
    counted = f"{spare:,} rows of the word table have" if spare > 1 else "1 row of the word table has"
    note = f"tokenizer: {counted} no piece, or one that another row has; kept, with names that no text gives"
    return dataclasses.replace(model, tokenizer=filled, notes=(*model.notes, note))


def split_heads(path: str) -> tuple[str, int | None]:
    """Splits a model's path from `#heads=N`; N, the attention heads of the main network, is None if not stated.

    Raises:
      InputError: N is not a number above 0.
    """
    place, mark, number = path.rpartition("#heads=")
    if not mark:
        return path, None
    if not re.fullmatch("[1-9][0-9]*", number):
        raise InputError(f"{path}: found heads={number}, expected a number of attention heads above 0, as in #heads=4")
    return place, int(number)


def _check_unstated(path: str, heads: int | None) -> None:
    if heads is not None:
        raise InputError(
            f"{path}: found #heads={heads}, which is only for Google's checkpoints; this model states its number of "
            "heads. Leave it out."
        )


def _read_external(path: str, heads: int | None) -> Model:
    reader: Callable[[str], Model] | None = None
    if storage.exists(storage.join(path, native_format.MANIFEST)) and storage.exists(
        storage.join(path, tensor_files.FILE)
    ):
        reader = native_format.read
    elif huggingface_folder.is_folder(path):
        reader = huggingface_folder.read
    if reader:
        _check_unstated(path, heads)
        return reader(path)
    if not storage.is_remote(path) and (prefix := google_checkpoint.find(path)):
        return google_checkpoint.read(prefix, heads)
    raise InputError(f"{path}: found {_found(path)}; expected {_READABLE}")


def _found(path: str) -> str:
    """What is at a path where no model is, with advice if the user may have meant something else."""
    if storage.is_file(path):
        return f"a file{', give the folder that it is in' if storage.name(path) in _FILES_OF_MODELS else ''}"
    if not storage.exists(path):
        return f"nothing{hub_names.advice(path)}"
    return ", ".join(storage.names(path)[:_SHOWN_NAMES]) or "an empty folder"


def _listed(problems: list[str]) -> str:
    shown = [f"  - {problem}" for problem in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        shown.append(f"  … and {len(problems) - _SHOWN_PROBLEMS} more")
    return "\n".join(shown)
