"""Exports a model to another format and compares the export with the model; exports that differ are deleted."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from electra_jax import storage
from electra_jax.errors import InputError, MismatchError
from electra_jax.interop import finetuned, tokenizer_files
from electra_jax.interop.checkpoints import open_model
from electra_jax.interop.export_formats import FORMATS
from electra_jax.interop.model import CORRECTIVE_HEAD, Model, outputs, without_corrective_head
from electra_jax.interop.tensor_map import flatten
from electra_jax.text.tokenizers import self_check

_PRECISION = "fp32"  # The only one of formats that hold weights.
# In float32; the same weights in the same program give equal numbers, so this is generous.
_TOLERANCE = 1e-5
_ROWS, _LENGTH = 2, 32


class Copy(NamedTuple):
    """The result of an export.

    Attributes:
      difference: largest difference between the logits of the model and the export, by network; for a format with
        several precisions by network and precision, such as "generator int8".
      notes: notes for the user.
      skipped: names of what the format cannot hold, with the reason.
      tokenizer_files: how many tokenizer.json gave the same ids as the model's tokenizer when the `tokenizers` library
        ran them on `sentences` sentences.
      sentences: see there.
    """

    difference: dict[str, float]
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    tokenizer_files: int = 0
    sentences: int = 0


def check_target(target: str) -> None:
    """Checks a target before any slow work.

    Raises:
      InputError: the target exists, or is an address that cannot be used.
    """
    if problem := storage.problem(target):
        raise InputError(f"--target={problem}")
    if storage.exists(target) or os.path.lexists(os.path.expanduser(target)):
        raise InputError(f"--target={target}: exists; give another path, or delete it")


def check_form(form: str, precisions: Sequence[str]) -> None:
    """Checks a format before any slow work.

    Args:
      form: one of `FORMATS`.
      precisions: the number formats that are wanted.

    Raises:
      InputError: a package that it needs is not installed, or it cannot have such a precision.
    """
    format_ = FORMATS[form]
    if missing := format_.missing_packages():
        raise InputError(
            f"--to={form}: needs the packages {' and '.join(format_.packages)}, found no {' and no '.join(missing)}; "
            f"install what is missing with: pip install 'electra_jax[{format_.extra}]'"
        )
    possible = format_.precisions or (_PRECISION,)
    if not precisions or len(set(precisions)) < len(precisions) or not set(precisions) <= set(possible):
        several = ", one or several of them, separated by commas" if format_.precisions else f" for --to={form}"
        raise InputError(
            f"--precision={','.join(precisions)}: found {', '.join(precisions) or 'nothing'}, expected "
            f"{', '.join(possible)}{several}"
        )


def write(model: Model, target: str, form: str, precisions: Sequence[str] = (_PRECISION,)) -> Copy:
    """Exports a model to a new directory, which appears only if the export reads back equal.

    Args:
      model: a model from `open_model`.
      target: local path or address; must not exist.
      form: one of `FORMATS`.
      precisions: number formats to write, of those that the format can have.

    Raises:
      InputError: the target exists or cannot be created, the format cannot hold the model, or as in `check_form`.
      MismatchError: the export differs from the model and was deleted.
    """
    check_target(target)
    check_form(form, precisions)
    format_ = FORMATS[form]
    wanted = (tuple(precisions),) if format_.precisions else ()
    skipped: tuple[tuple[str, str], ...] = ()
    if format_.no_corrective_head and CORRECTIVE_HEAD in model.params:
        skipped += ((CORRECTIVE_HEAD, format_.no_corrective_head),)
        model = without_corrective_head(model)
    with storage.new_directory(target) as temporary:
        notes = format_.write(model, temporary, *wanted)
        if model.task_head and format_.no_task_head:
            skipped += ((f"head of {model.task_head.architecture}", format_.no_task_head),)
            model = dataclasses.replace(model, task_head=None)
        if format_.is_program:
            difference = format_.compare(model, temporary, *wanted)
        else:
            difference = _compare(model, open_model(temporary), temporary)
        checked = _check_tokenizer(model, temporary)
    return Copy(difference, notes, skipped, checked, len(self_check.sentences()))


def _check_tokenizer(model: Model, place: str) -> int:
    """How many tokenizer.json of an export were checked; raises MismatchError if one gives other ids."""
    try:
        return self_check.check_written(model.tokenizer, place) if model.tokenizer else 0
    except InputError as error:
        raise MismatchError(str(error)) from error


def _compare(model: Model, copy: Model, place: str) -> dict[str, float]:
    """Largest difference of the networks' outputs on random rows; raises MismatchError above the tolerance."""
    model, copy = finetuned.in_first_token_type(model), finetuned.in_first_token_type(copy)
    before, after = _arrays(model), _arrays(copy)
    changed = [
        path
        for path in sorted(before.keys() | after.keys())
        if path not in before or path not in after or before[path].tobytes() != after[path].tobytes()
    ]
    if changed:
        raise MismatchError(f"{place}: these weights read back differ from those written: {', '.join(changed)}")
    if model.tokenizer and copy.tokenizer and not tokenizer_files.same_ids(model.tokenizer, copy.tokenizer):
        raise MismatchError(f"{place}: the tokenizer read back differs from the one written")
    if _head_facts(model) != _head_facts(copy):
        raise MismatchError(f"{place}: the task's head read back is {_head_facts(copy)}, expected {_head_facts(model)}")
    draw = np.random.default_rng(0)
    length = min(_LENGTH, *(config.positions for config in model.networks.values()))
    tokens_BxL = draw.integers(0, model.vocabulary_size, (_ROWS, length), dtype=np.int32)
    segments_BxL = np.broadcast_to(np.arange(length, dtype=np.int32) >= length // 2, tokens_BxL.shape).astype(np.int32)
    theirs = outputs(copy, tokens_BxL, segments_BxL)
    difference = {
        network: float(np.abs(ours - theirs[network]).max())
        for network, ours in outputs(model, tokens_BxL, segments_BxL).items()
    }
    # Negated, so that NaN fails.
    if bad := [network for network, largest in difference.items() if not largest <= _TOLERANCE]:
        raise MismatchError(
            f"{place}: found differences {difference} in the outputs of {', '.join(bad)}, expected at most {_TOLERANCE}"
        )
    return difference


def _arrays(model: Model) -> dict[str, np.ndarray]:
    """All weights by path, including a task's head."""
    head = model.task_head.tensors if model.task_head else {}
    return flatten(model.params) | {f"task_head/{name}": np.asarray(array) for name, array in head.items()}


def _head_facts(model: Model) -> tuple[str, dict[str, Any]] | None:
    head = model.task_head
    return None if head is None else (head.architecture, dict(head.fields))
