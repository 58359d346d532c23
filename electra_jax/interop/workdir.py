"""Reads models from workdirs of runs: weights only, on any machine."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from electra_jax import storage
from electra_jax.config.files import recorded
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.errors import InputError, MismatchError
from electra_jax.interop import finetuned, tokenizer_files
from electra_jax.interop.model import Model, in_float32, sizes_of_fields
from electra_jax.models.encoder import EncoderConfig

_CHECKPOINTS, _CONFIG = "checkpoints", "config.json"
_COMMITTED = "commit_success.txt"  # Orbax's mark of a complete checkpoint in an object store.
# Files of a fine-tuning run: its tasks, the result of a trial, and the results of all trials.
_TASKS, _RESULT, _RESULTS = "tasks.json", "result.json", "results.json"
# The masked language model has one network, a generator of full size.
_MLM_PARTS = (("embeddings", "embeddings"), ("generator", "encoder"), ("generator_head", "head"))


def find(path: str) -> tuple[str, int | None] | None:
    """The workdir, and the step if the path names one; None if the path is not in a workdir.

    Args:
      path: a workdir, its checkpoints folder, or one checkpoint.
    """
    path = path if storage.is_remote(path) else os.path.normpath(path)
    if _is_workdir(path) or _holds_trials(path):
        return path, None
    parent, name = storage.parent(path) or ".", storage.name(path)
    if name == _CHECKPOINTS and _is_workdir(parent):
        return parent, None
    workdir, folder = storage.parent(parent) or ".", storage.name(parent)
    if folder == _CHECKPOINTS and name.isdigit() and _is_workdir(workdir):
        return workdir, int(name)
    return None


def read(workdir: str, step: int | None = None) -> Model:
    """Reads the weights of a run's checkpoint at a step, by default the newest.

    Without a step, a fine-tuning run gives the checkpoint that it reports, and several trials give the best one.

    Raises:
      InputError: there is no such checkpoint, config.json is not from a run, or the trials are unfinished.
      MismatchError: the checkpoint is damaged, or does not fit the files next to it.
    """
    fields = _json(workdir, _CONFIG)
    if fields.get("task") == "finetuning":
        return _read_finetuned(workdir, step)
    config = recorded(fields, storage.join(workdir, _CONFIG))
    if not isinstance(config, PretrainingConfig):
        raise InputError(f"{workdir}/{_CONFIG}: found task {config.task!r}, expected pretraining or finetuning")
    step, params = _checkpoint(workdir, step)
    discriminator, generator = _sizes(config)
    if config.objective.name == "mlm":
        params = {ours: params[theirs] for ours, theirs in _MLM_PARTS if theirs in params}
    return Model(
        discriminator=discriminator,
        generator=generator,
        params=params,
        tokenizer=tokenizer_files.load_saved(storage.join(workdir, "tokenizer")),
        step=step,
        origin=f"electra_jax run {storage.name(storage.absolute(workdir))}",
        sources=tuple(map(str, config.data.sources)),
    )


def _read_finetuned(workdir: str, step: int | None) -> Model:
    name, notes = storage.name(storage.absolute(workdir)), []
    if not storage.is_directory(storage.join(workdir, _CHECKPOINTS)):
        trial, note = _best_trial(workdir)
        workdir, name = storage.join(workdir, trial), f"{name}/{trial}"
        notes.append(note)
    fields = _json(workdir, _CONFIG)
    if step is None and storage.is_file(storage.join(workdir, _RESULT)):
        step = _json(workdir, _RESULT).get("step")
    elif step is None:
        notes.append("the run is unfinished: read its newest checkpoint")
    step, params = _checkpoint(workdir, step)
    place = storage.join(workdir, _CONFIG)
    try:
        model = fields["model"]
        sizes, dropout_rate = sizes_of_fields(model), model["classifier_dropout_rate"]
        sources = tuple(task["train"] for task in fields["tasks"].values())
        begin = "random weights" if fields.get("random_weights") else fields["init_from"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place}: is not the config of a fine-tuning run ({error!r})") from error
    if missing := {"embeddings", "encoder", "heads"} - params.keys():
        raise MismatchError(
            f"{workdir}: checkpoint {step} has no {', '.join(sorted(missing))}; it belongs to another run"
        )
    heads = finetuned.task_heads(_json(workdir, _TASKS), params["heads"], dropout_rate, storage.join(workdir, _TASKS))
    return Model(
        discriminator=sizes,
        generator=None,
        params={"embeddings": params["embeddings"], "discriminator": params["encoder"]},
        tokenizer=tokenizer_files.load_saved(storage.join(workdir, "tokenizer")),
        step=step,
        origin=f"electra_jax run {name}, fine-tuned from {begin}",
        sources=sources,
        notes=tuple(notes),
        task_head=next(iter(heads.values())) if len(heads) == 1 else None,
        task_heads=heads,
    )


def _best_trial(workdir: str) -> tuple[str, str]:
    """The directory of the best trial on dev, relative to the workdir, and a note about it."""
    trials = _trials(workdir)
    if not storage.is_file(storage.join(workdir, _RESULTS)):
        raise InputError(
            f"{workdir}: found no {_RESULTS}, so the trials are unfinished; run the command again, or name one of "
            f"{', '.join(trials)}"
        )
    try:
        metrics = {name: task["metrics"][0] for name, task in _json(workdir, _CONFIG)["tasks"].items()}
        return finetuned.best_trial(_json(workdir, _RESULTS), metrics)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"{workdir}/{_RESULTS}: has no scores of the trials ({error!r}); name one of {', '.join(trials)}"
        ) from error


def _trials(workdir: str) -> list[str]:
    paths = (storage.join(workdir, name) for name in storage.names(workdir))
    return [path for path in paths if storage.is_directory(storage.join(path, _CHECKPOINTS))]


def _checkpoint(workdir: str, step: int | None) -> tuple[int, dict[str, Any]]:
    """Step and parameters of a checkpoint, by default the newest."""
    directory = storage.join(workdir, _CHECKPOINTS)
    steps = sorted(int(name) for name in storage.names(directory) if name.isdigit() and _is_complete(directory, name))
    if not steps or (step is not None and step not in steps):
        raise InputError(f"{directory}: has no checkpoint {'yet' if step is None else step}; found {steps or 'none'}")
    step = steps[-1] if step is None else step
    return step, _params(storage.join(directory, str(step)))


def _is_complete(directory: str, name: str) -> bool:
    """Whether a checkpoint was written to its end: Orbax renames a local one then, and marks one at an address."""
    return not storage.is_remote(directory) or storage.exists(storage.join(directory, name, _COMMITTED))


def _is_workdir(path: str) -> bool:
    return storage.is_file(storage.join(path, _CONFIG)) and storage.is_directory(storage.join(path, _CHECKPOINTS))


def _holds_trials(path: str) -> bool:
    """Whether a path is the workdir of several trials, with a workdir for each trial in it."""
    if not storage.is_file(storage.join(path, _CONFIG)):
        return False
    return storage.is_file(storage.join(path, _RESULTS)) or any(map(_is_workdir, _trials(path)))


def _json(workdir: str, name: str) -> dict[str, Any]:
    path = storage.join(workdir, name)
    try:
        fields = json.loads(storage.read(path).decode())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path}: cannot be read (found a {type(fields).__name__}, expected an object)")
    return fields


def _sizes(config: PretrainingConfig) -> tuple[EncoderConfig | None, EncoderConfig]:
    """Sizes of discriminator and generator; for a masked language model, None and the encoder."""
    from electra_jax.pretraining.jobs import encoder_config

    encoder = in_float32(encoder_config(config, "cpu"))
    if config.objective.name == "mlm":
        return None, encoder
    return encoder, encoder.scaled(config.model.generator_width, config.model.generator_depth)


def _params(checkpoint: str) -> dict[str, Any]:
    """The parameters of a checkpoint as NumPy arrays; reads nothing else."""
    import jax
    import orbax.checkpoint as ocp

    state = storage.for_orbax(storage.join(storage.absolute(checkpoint), "state"))
    handler = ocp.PyTreeCheckpointHandler()
    try:
        present = handler.metadata(state).tree["params"]
        wanted = {"params": jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), present)}
        as_numpy = {"params": jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), present)}
        arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        return handler.restore(state, args=arguments)["params"]
    except (ValueError, KeyError, TypeError, FileNotFoundError, OSError) as error:
        raise MismatchError(f"{checkpoint}: is damaged ({error}); name another checkpoint of the run") from error
    finally:
        handler.close()
