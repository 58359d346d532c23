"""Reads models from workdirs of runs: weights only, on any machine."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pydantic

from electra_jax import foreign_json, nested, storage
from electra_jax.config.files import recorded
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.errors import InputError, MismatchError
from electra_jax.foreign_json import Record
from electra_jax.interop import finetuned, tokenizer_files
from electra_jax.interop.model import Model, Score, Training, in_float32, sizes_of_fields
from electra_jax.models.encoder import EncoderConfig
from electra_jax.training import checkpoint_record, checkpoint_steps
from electra_jax.training.checkpoint_record import Damaged

_CHECKPOINTS, _CONFIG = "checkpoints", "config.json"
# Files of a fine-tuning run: its tasks, the result of a trial, and the results of all trials.
_TASKS, _RESULT, _RESULTS = "tasks.json", "result.json", "results.json"
# The masked language model has one network, a generator of full size.
_MLM_PARTS = (("embeddings", "embeddings"), ("generator", "encoder"), ("generator_head", "head"))
# What a model card shows of a config.
_PRETRAINING_RECIPE = (
    "objective.name", "objective.mask_fraction", "objective.discriminator_weight", "steps", "batch_size",
    "data.sequence_length", "data.tokenizer.kind", "optimizer.learning_rate", "optimizer.warmup_steps",
    "optimizer.weight_decay", "model.dropout_rate", "seed",
)  # fmt: skip
_HELD_OUT_METRICS = (
    "discriminator_auc", "discriminator_auc_unigram", "discriminator_average_precision", "generator_accuracy",
    "generator_loss", "corrective_accuracy", "accuracy", "loss",
)  # fmt: skip
_FINETUNING_RECIPE = (
    "epochs", "batch_size", "optimizer.learning_rate", "optimizer.layer_decay", "optimizer.warmup_fraction",
    "optimizer.weight_decay", "seed",
)  # fmt: skip


class _ScoresOfTrial(Record):
    """The part of a trial's result that a model card shows."""

    scores: dict[str, dict[str, Annotated[float, pydantic.AllowInfNan(True)]]] = pydantic.Field(default_factory=dict)


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
    if folder == _CHECKPOINTS and name.isascii() and name.isdigit() and _is_workdir(workdir):
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
    step, params, notes = _checkpoint(workdir, step)
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
        notes=notes,
        training=Training(_recipe(fields, _PRETRAINING_RECIPE), _held_out_scores(workdir, step)),
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
    step, params, damaged = _checkpoint(workdir, step)
    notes.extend(damaged)
    place = storage.join(workdir, _CONFIG)
    try:
        model = fields["model"]
        about = f"{place}: is not the config of a fine-tuning run: model"
        sizes, dropout_rate = sizes_of_fields(model, about), model["classifier_dropout_rate"]
        sources = tuple(task["train"] for task in fields["tasks"].values())
        text_columns = {task: settings.get("text_columns", ()) for task, settings in fields["tasks"].items()}
        begin = "random weights" if fields.get("random_weights") else fields["init_from"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place}: is not the config of a fine-tuning run ({error!r})") from error
    if missing := {"embeddings", "encoder", "heads"} - params.keys():
        raise MismatchError(
            f"{workdir}: checkpoint {step} has no {', '.join(sorted(missing))}; it belongs to another run"
        )
    place = storage.join(workdir, _TASKS)
    heads = finetuned.task_heads(_json(workdir, _TASKS), params["heads"], dropout_rate, place, text_columns)
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
        training=Training(_recipe(fields, _FINETUNING_RECIPE), _scores(workdir, tuple(heads)), str(begin)),
    )


def _recipe(fields: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The values of a config's fields, by their names; without those that it does not have."""
    flat = nested.flatten(fields, ".")
    return {name: flat[name] for name in names if name in flat}


def _held_out_scores(workdir: str, step: int) -> tuple[Score, ...]:
    """The scores of a pre-training run on its held-out text at a step; none if it was not evaluated there."""
    from electra_jax.training import telemetry

    values = telemetry.values_at(storage.join(workdir, "metrics.jsonl"), step)
    shown = {metric: values.get(f"eval/{metric}") for metric in _HELD_OUT_METRICS}
    return tuple(
        Score("the run's own text", "held out", metric, float(value))
        for metric, value in shown.items()
        if isinstance(value, int | float) and math.isfinite(value)
    )


def _scores(workdir: str, tasks: Sequence[str]) -> tuple[Score, ...]:
    """The scores that a trial reports; none if it has not ended."""
    place = storage.join(workdir, _RESULT)
    if not storage.is_file(place):
        return ()
    result = foreign_json.checked(_ScoresOfTrial, _json(workdir, _RESULT), place, "restore the file")
    found = []
    for key, values in result.scores.items():
        task, _, split = key.rpartition("/")
        found += [
            Score(task or ", ".join(tasks), split, metric, value)
            for metric, value in values.items()
            if math.isfinite(value)
        ]
    return tuple(found)


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


def _checkpoint(workdir: str, step: int | None) -> tuple[int, dict[str, Any], tuple[str, ...]]:
    """Step and parameters of a checkpoint, by default the newest that is intact, and notes about damaged ones.

    Raises:
      InputError: there is no such checkpoint.
      MismatchError: it is damaged, or all are.
    """
    directory = storage.join(workdir, _CHECKPOINTS)
    steps = checkpoint_steps.steps(directory)
    if not steps or (step is not None and step not in steps):
        raise InputError(f"{directory}: has no checkpoint {'yet' if step is None else step}; found {steps or 'none'}")
    damaged: dict[int, str] = {}
    for candidate in reversed(steps) if step is None else [step]:
        try:
            params = _params(directory, candidate)
        except Damaged as error:
            damaged[candidate] = str(error)
            continue
        return (
            candidate,
            params,
            tuple(
                f"checkpoint {passed} is damaged ({reason}); read the one before" for passed, reason in damaged.items()
            ),
        )
    listed = "\n".join(
        f"  {checkpoint_steps.place(directory, passed)}: is damaged: {text}" for passed, text in damaged.items()
    )
    raise MismatchError(f"{listed}\nName another checkpoint of the run, or restore it from a copy")


def _is_workdir(path: str) -> bool:
    return storage.is_file(storage.join(path, _CONFIG)) and storage.is_directory(storage.join(path, _CHECKPOINTS))


def _holds_trials(path: str) -> bool:
    """Whether a path is the workdir of several trials, with a workdir for each trial in it."""
    if not storage.is_file(storage.join(path, _CONFIG)):
        return False
    return storage.is_file(storage.join(path, _RESULTS)) or any(map(_is_workdir, _trials(path)))


def _json(workdir: str, name: str) -> dict[str, Any]:
    # Scores may be NaN.
    return foreign_json.read_as(dict[str, Any], storage.join(workdir, name), "restore the file", finite=False)


def _sizes(config: PretrainingConfig) -> tuple[EncoderConfig | None, EncoderConfig]:
    """Sizes of discriminator and generator; for a masked language model, None and the encoder."""
    from electra_jax.pretraining.jobs import encoder_config

    encoder = in_float32(encoder_config(config, "cpu"))
    if config.objective.name == "mlm":
        return None, encoder
    return encoder, encoder.scaled(config.model.generator_width, config.model.generator_depth)


def _params(directory: str, step: int) -> dict[str, Any]:
    """The verified parameters of a checkpoint as NumPy arrays; reads nothing else.

    Raises:
      Damaged: they are not as they were written.
      InputError: storage cannot be read.
    """
    import jax
    import orbax.checkpoint as ocp

    from electra_jax.training import array_digests, checkpoint_errors

    def read() -> Any:
        with checkpoint_steps.plain(directory) as plain, contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
            place = checkpoint_steps.place(storage.absolute(plain), step)
            state = storage.for_orbax(storage.join(place, checkpoint_steps.STATE))
            present = handler.metadata(state).tree["params"]
            wanted = {"params": jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), present)}
            as_numpy = {"params": jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), present)}
            arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
            return handler.restore(state, args=arguments)

    try:
        record = checkpoint_steps.read_record(directory, step)
        read_back = checkpoint_errors.read_plainly(read)
    except OSError as error:
        reason = checkpoint_errors.in_a_line(error)
        raise InputError(f"{checkpoint_steps.place(directory, step)}: cannot be read ({reason})") from error
    if record.arrays is not None:
        digests = array_digests.digests(read_back)
        if missing := {name for name in record.arrays if name.startswith("params/")} ^ digests.keys():
            raise Damaged(f"its arrays are not those that were written: {', '.join(sorted(missing)[:3])}")
        checkpoint_record.check_digests(record.arrays, digests)
    return read_back["params"]
