"""The parts of a fine-tuning run, built from its config: examples, encoder, tasks, trainer, trials."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from electra_jax import foreign_json, storage
from electra_jax.config import schema
from electra_jax.config.finetuning import ClassificationConfig, FinetuningConfig, TaggingConfig
from electra_jax.errors import InputError, MismatchError
from electra_jax.finetuning import validation
from electra_jax.finetuning.data import reading
from electra_jax.finetuning.data.examples import Example
from electra_jax.finetuning.data.labelled_file import LeftOut
from electra_jax.finetuning.finetuning_job import FinetuningJob, job_of
from electra_jax.finetuning.tasks.kinds import KINDS
from electra_jax.finetuning.tasks.task import Task
from electra_jax.finetuning.trials import Trials
from electra_jax.foreign_json import Record
from electra_jax.interop import checkpoints, warm_start
from electra_jax.interop.model import sizes_as_fields, sizes_of_fields
from electra_jax.models.encoder import EncoderConfig, compute_dtype, for_machine
from electra_jax.progress import ProgressLine
from electra_jax.text.tokenizers import self_check
from electra_jax.text.tokenizers import tokenizer as tokenizers
from electra_jax.text.tokenizers.tokenizer import Tokenizer
from electra_jax.training import facts, partitioning, telemetry
from electra_jax.training.optimizer import OptimizerConfig
from electra_jax.training.run_context import RunContext
from electra_jax.training.trainer import LoopConfig, Trainer, shared_fields

Examples = Mapping[str, Mapping[str, Sequence[Example]]]  # By task and split.

_TASKS = "tasks.json"
_WIDTHS = {"small": 256, "base": 768, "large": 1024}  # Hidden sizes, by the sizes that have a recipe.


class ReadExamples(NamedTuple):
    """The labelled examples of all tasks.

    Attributes:
      by_task: examples by task and split.
      left_out: those that cannot be used and were left out, by task.
    """

    by_task: Examples
    left_out: Mapping[str, Sequence[LeftOut]]


@dataclasses.dataclass(frozen=True)
class Start:
    """The warm start of a run: what it reads from the model that it fine-tunes.

    Attributes:
      encoder: the model's sizes with the config's rates.
      sizes: the model's own sizes and rates.
      tokenizer: the model's tokenizer, or the one that the config names.
      params: reads "embeddings" and "encoder"; returns no arrays if the config asks for random weights.
    """

    encoder: EncoderConfig
    sizes: EncoderConfig
    tokenizer: Tokenizer
    params: Callable[[], Mapping[str, Any]]


def read_examples(config: FinetuningConfig, line: ProgressLine) -> ReadExamples:
    """Reads the labelled examples of all tasks.

    Raises:
      InputError: lists the problems with the files of all tasks.
    """
    examples, left_out, problems = {}, {}, []
    for name, task in config.tasks.items():
        try:
            found = reading.read_splits(name, task, config.data.directory, config.data.download_cache)
        except InputError as error:
            problems.append(str(error))
            continue
        examples[name], left_out[name] = found.splits, found.left_out
        for note in found.notes:
            line.print(note)
    if problems:
        raise InputError("\n".join(problems))
    return ReadExamples(examples, left_out)


def as_begun(config: FinetuningConfig, workdir: storage.Path, line: ProgressLine) -> FinetuningConfig:
    """The config with which a run goes on that an earlier version began, on the rows and batches of that version."""
    path = storage.join(workdir, "config.json")
    if not storage.exists(path):
        return config
    recorded = foreign_json.read_as(dict[str, Any], path, "restore the file, or give another --workdir")
    if recorded.get("task") != config.task:
        return config

    def note(field: str, value: object) -> None:
        line.print(
            f"config.{field}: goes on as {value!r}, since the run in {workdir} was begun before the field existed"
        )

    if "last_batch" not in recorded and config.last_batch != "drop":
        note("last_batch", "drop")
        config = dataclasses.replace(config, last_batch="drop")
    before, tasks = recorded.get("tasks"), dict(config.tasks)
    for name, task in config.tasks.items():
        began = before.get(name) if isinstance(before, Mapping) else None
        if isinstance(task, TaggingConfig) and task.windows and isinstance(began, Mapping) and "windows" not in began:
            note(f"tasks.{name}.windows", False)
            tasks[name] = dataclasses.replace(task, windows=False)
    return dataclasses.replace(config, tasks=tasks)


def start(config: FinetuningConfig, workdir: storage.Path, line: ProgressLine) -> Start:
    """Opens the model of `config.init_from`.

    A resumed run reads the sizes and the tokenizer from its workdir, and opens the model only if a trial has not
    started.

    Raises:
      InputError: there is no such model, it has no tokenizer, or rows are longer than its positions.
    """

    def opened() -> tuple[Mapping[str, Any], EncoderConfig, Tokenizer | None]:
        model = checkpoints.open_model(config.init_from)
        params, sizes, report = warm_start.finetuning_params(model)
        line.print("\n".join([f"Starting from {config.init_from}:", *(f"  {text}" for text in report)]))
        return params, sizes, model.tokenizer

    recorded, saved = storage.join(workdir, "config.json"), storage.join(workdir, "tokenizer")
    if storage.exists(recorded) and storage.exists(saved):
        sizes = _recorded_sizes(recorded)
        tokenizer: Tokenizer | None = tokenizers.load(saved)

        def params() -> Mapping[str, Any]:
            return opened()[0]

    else:
        given, sizes, models_own = opened()
        named = config.data.tokenizer.source
        tokenizer = tokenizers.load(named, is_foreign=True) if named else models_own
        for text in self_check.contradictions(named, tokenizer) if named and tokenizer else ():
            line.print(text)

        def params() -> Mapping[str, Any]:
            return given

    if tokenizer is None:
        raise InputError(
            f"config.init_from: found no tokenizer next to {config.init_from}; name the one it was trained with: "
            "--config.data.tokenizer.source=PATH"
        )
    if tokenizer.vocabulary_size > sizes.vocabulary_size:
        raise InputError(
            f"config.data.tokenizer.source: found a tokenizer of {tokenizer.vocabulary_size} pieces, expected at most "
            f"{sizes.vocabulary_size}, the rows of the word table of {config.init_from}; name the tokenizer that the "
            "model was trained with"
        )
    if spare := sizes.vocabulary_size - tokenizer.vocabulary_size:
        line.print(f"config.data.tokenizer.source: the word table has {spare:,} more rows; they are kept, and not used")
        tokenizer = tokenizers.with_spare_rows(tokenizer, sizes.vocabulary_size, "config.data.tokenizer.source")
    if problems := list(validation.check_positions(config, sizes.positions)):
        raise InputError("\n".join(problems))
    if config.random_weights:
        line.print("config.random_weights: the encoder starts from random weights; sizes and tokenizer are the model's")
    return Start(_encoder(config, sizes), sizes, tokenizer, (lambda: {}) if config.random_weights else params)


def recorded_fields(config: FinetuningConfig, start: Start) -> dict[str, Any]:
    """Contents of config.json: the config, and under `model` the sizes of the model that the run started from."""
    fields = schema.as_tree(config)
    rates = ("dropout_rate", "attention_dropout_rate")
    sizes = sizes_as_fields(start.sizes)
    fields["model"] |= {name: value for name, value in sizes.items() if name not in rates}
    return json.loads(json.dumps(fields))


def _recorded_sizes(path: str) -> EncoderConfig:
    fields = foreign_json.read_as(dict[str, Any], path, "give another --workdir")
    place = f"{path}: is not the config of a fine-tuning run: model"
    return sizes_of_fields(fields.get("model", {}), place)


def _encoder(config: FinetuningConfig, sizes: EncoderConfig) -> EncoderConfig:
    model, platform = config.model, jax.default_backend()
    encoder = dataclasses.replace(
        sizes,
        dropout_rate=model.dropout_rate,
        attention_dropout_rate=model.attention_dropout_rate,
        saved_activations=model.saved_activations,
        dtype=compute_dtype(model.compute_dtype, platform),
    )
    return for_machine(encoder, platform, attention=model.attention, unrolled_layers=model.unrolled_layers, length=None)


def make_tasks(config: FinetuningConfig, examples: Examples, tokenizer: Tokenizer) -> tuple[Task[Any], ...]:
    """The tasks of a config with their rows."""
    return tuple(
        KINDS[fields.kind].task_class()(name, fields, examples[name], tokenizer, config.model.classifier_dropout_rate)
        for name, fields in config.tasks.items()
    )


def make_job(config: FinetuningConfig, tasks: tuple[Task[Any], ...], start: Start) -> FinetuningJob:
    """The job of the first trial."""
    return FinetuningJob(
        tasks=tasks,
        encoder=start.encoder,
        batch_size=config.batch_size,
        last_batch=config.last_batch,
        seed=config.seed,
        temperature=config.data.mixture_temperature,
        most_lengths=config.data.lengths,
        reduction=config.loss_reduction,
        pad_id=start.tokenizer.pad_id,
    )


def make_trainer(config: FinetuningConfig, job: FinetuningJob, line: ProgressLine) -> Trainer:
    """The trainer of the first trial.

    Raises:
      InputError: there are too few examples for one update.
    """
    rounds = job.order.epoch_batches
    steps = int(rounds * config.epochs)  # Google's code rounds in this order.
    if not steps:
        raise InputError(
            f"config.epochs: {config.epochs:g} epochs of {job.training_rows} training rows in batches of "
            f"{config.batch_size} give no update; lower --config.batch_size or raise --config.epochs"
        )
    optimizer_config = OptimizerConfig.of(
        config.optimizer, steps=steps, warmup_steps=int(config.optimizer.warmup_fraction * steps)
    )
    every = max(1, round(rounds / config.evaluation.per_epoch))
    loop_config = LoopConfig(
        seed=config.seed,
        log_every_steps=config.log.every_steps,
        evaluate_every_steps=every,
        save_every_steps=every,
        keep_last=1,
        keep_every_steps=0,
        **shared_fields(config),
        best_metric=f"eval/{job.metric}" if config.evaluation.chosen == "best" else "",
    )
    sizes = config.mesh.data, config.mesh.fsdp, config.mesh.tensor
    mesh = partitioning.make_mesh(sizes, slices=config.mesh.slices)
    return Trainer(job, optimizer_config, loop_config, mesh, line.print)


def data_facts(job: FinetuningJob, start: Start) -> dict[str, str]:
    """Hashes that all processes of a run must agree on: the examples of each split, and the tokenizer."""
    facts = {f"{task.name}, {split}": rows.sha256 for task in job.tasks for split, rows in task.splits.items()}
    return facts | {"tokenizer": start.tokenizer.sha256}


def make_trials(
    config: FinetuningConfig, trainer: Trainer, start: Start, context: RunContext, config_path: str
) -> Trials:
    """The trials of a config; `config_path` is recorded in environment.json."""
    job = job_of(trainer)
    fields = recorded_fields(config, start)
    described = {
        task.name: task.description() | {"sha256": {split: rows.sha256 for split, rows in task.splits.items()}}
        for task in job.tasks
    }

    def trainer_for(seed: int, from_model: bool) -> Trainer:
        seeded = trainer.for_seed(dataclasses.replace(job, seed=seed), seed)
        if from_model:
            seeded.start_from(start.params())
        return seeded

    def prepare(directory: str, seed: int) -> None:
        if directory != context.workdir:
            storage.write_json(storage.join(directory, "config.json"), fields | {"seed": seed, "trials": 1})
        # In the common workdir of several trials too: resuming then needs no model.
        for place in {context.workdir, directory}:
            start.tokenizer.save(storage.join(place, "tokenizer"))
        _check_examples(storage.join(directory, _TASKS), described)
        storage.write_json(storage.join(directory, _TASKS), described)
        environment = {"config": config_path, **telemetry.environment()}
        storage.write_json(storage.join(directory, "environment.json"), environment)

    return Trials(
        context=context,
        seed=config.seed,
        count=config.trials,
        reseeds=config.reseeds,
        chosen=config.evaluation.chosen,
        submissions={
            name: task.submission if isinstance(task, ClassificationConfig) else {}
            for name, task in config.tasks.items()
        },
        make_trainer=trainer_for,
        prepare=prepare,
    )


class _Described(Record):
    """The part of a description of examples that is compared: their hash by split."""

    sha256: dict[str, str]


def _check_examples(path: str, described: Mapping[str, Any]) -> None:
    """Raises MismatchError if the run was started with other examples."""
    if not storage.exists(path):
        return
    before = foreign_json.read_as(dict[str, _Described], path, "restore the file, or give another --workdir")
    for name, task in described.items():
        for split, sha256 in task["sha256"].items():
            if name in before and before[name].sha256.get(split, sha256) != sha256:
                raise MismatchError(
                    f"config.tasks.{name}: the examples of {split} are not those that the run in "
                    f"{storage.parent(path)} was started with. Restore the old files, or give another --workdir."
                )


def notes(config: FinetuningConfig, job: FinetuningJob) -> list[str]:
    """Notes for the log: truncated examples, and a recipe that is meant for another size of model."""
    width = job.encoder.hidden_size
    nearest = min(_WIDTHS, key=lambda size: abs(math.log(width / _WIDTHS[size])))
    unsuited = [
        f"The recipe is for {config.size.capitalize()}, and a model of width {width} is nearer to "
        f"{nearest.capitalize()}: add +{nearest} to the variant of --config for its learning rate and layer decay."
    ]
    return (unsuited if nearest != config.size else []) + [
        f"{task.name}, {split}: {rows.truncated:,} of {len(rows.examples):,} examples are truncated: longer than "
        f"config.tasks.{task.name}.max_length"
        for task in job.tasks
        for split, rows in task.splits.items()
        if rows.truncated
    ]


def screen(config: FinetuningConfig, trainer: Trainer) -> str:
    """The summary printed at the start of a run."""
    return "\n".join([facts.screen(trainer), *notes(config, job_of(trainer))])
