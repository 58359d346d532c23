"""A pre-training run from its config: open the dataset, build the trainer, train, probe and report."""

import json
from typing import Any

import jax

from electra_jax import config_rules, foreign_json, nested, storage
from electra_jax.config import files, schema
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.config.schema import Problems
from electra_jax.errors import InputError, MismatchError
from electra_jax.finetuning import probe
from electra_jax.interop import checkpoints, warm_start
from electra_jax.interop.model import Model
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.progress import ProgressLine
from electra_jax.reporting.dataset_card import write_card
from electra_jax.reporting.probe_results import probe_lines
from electra_jax.runs.final_report import report_at_end
from electra_jax.runs.run_options import RunOptions
from electra_jax.runs.run_workdir import Workdir
from electra_jax.runs.shared_dataset import shared_dataset
from electra_jax.text.dataset.dataset import Dataset
from electra_jax.text.tokenizers import self_check, tokenizer
from electra_jax.text.tokenizers.tokenizer import Tokenizer
from electra_jax.training import checkpoint_steps, facts, loop, partitioning, telemetry
from electra_jax.training.compile_cache import use_compile_cache
from electra_jax.training.run_context import RunContext, under_way
from electra_jax.training.trainer import Trainer, make_trainer


def pretrain(config: PretrainingConfig, problems: Problems, context: RunContext, options: RunOptions) -> None:
    """Trains, or scores the newest checkpoint of the workdir.

    Args:
      config: the run's config.
      problems: what is wrong with single fields of it.
      context: the run's workdir, progress line and processes.
      options: options from flags.

    Raises:
      RunError: the config or an input does not fit, or the run was stopped; see `errors`.
    """
    config, model = _with_model_to_start_from(config, context)
    config_rules.check(config, jax.device_count(), context.cluster.count, problems=problems)
    if options.profiled:
        options.profiled.check(config.steps)
    with Workdir(context, options).opened(schema.as_tree(config)) as opened:
        _pretrain(config, opened, options, model)


def _pretrain(config: PretrainingConfig, context: RunContext, options: RunOptions, model: Model | None) -> None:
    """Does it in the opened workdir."""
    workdir, line, cluster = context.workdir, context.line, context.cluster
    use_compile_cache(config.compile_cache, workdir)
    dataset = shared_dataset(config.data, context, lambda made: _write_card(made, line))
    config_rules.check_vocabulary(config, dataset.tokenizer.vocabulary_size)
    cluster.from_first(lambda: _check_tokenizer(storage.join(workdir, "tokenizer"), dataset))
    if model and model.tokenizer:
        _say_if_other_ids(config.init_from, model.tokenizer, dataset, line)
    trainer = _trainer(config, context, dataset, model)
    if options.evaluates:
        scores = loop.evaluate_newest(trainer, context)
        line.print(json.dumps(nested.json_ready(scores), indent=2))
        return

    def describe() -> None:
        dataset.tokenizer.save(storage.join(workdir, "tokenizer"))
        environment = {"config": options.config_path, **telemetry.environment()}
        storage.write_json(storage.join(workdir, "environment.json"), environment)

    cluster.from_first(describe)
    line.print(facts.screen(trainer))
    probed = probe.prepare(config, context)
    with report_at_end(context), under_way():
        loop.train(trainer, context, options.profiled)
        if probed:
            probed.run()
    for text in probe_lines(workdir):
        line.print(text)


def _write_card(dataset: Dataset, line: ProgressLine) -> None:
    """Writes the card of a dataset, unless there is one; a dataset that is read-only does without."""
    if storage.exists(storage.join(dataset.directory, "card.html")):
        return
    try:
        line.print(f"Dataset card: {write_card(dataset.directory)}")
    except InputError as error:
        line.print(f"No dataset card: {error}")


def _with_model_to_start_from(config: PretrainingConfig, context: RunContext) -> tuple[PretrainingConfig, Model | None]:
    """Returns the config with the sizes and tokenizer of the model in `config.init_from`, and that model or None.

    A run that has started resumes without the model: its config.json records what was loaded.
    """
    if not config.init_from:
        return config, None
    workdir = context.workdir
    recorded = storage.join(workdir, "config.json")
    if storage.exists(recorded) and checkpoint_steps.steps(storage.join(workdir, checkpoint_steps.FOLDER)):
        fields = foreign_json.read_as(dict[str, Any], recorded, "restore the file, or give another --workdir")
        files.recorded(fields, recorded)  # Checks the types of all fields.
        try:
            return warm_start.repeat(config, fields), None
        except KeyError as error:
            raise InputError(f"--workdir={workdir}: config.json cannot be used: it has no {error}") from error
    model = checkpoints.open_model(config.init_from)
    fitted, changes = warm_start.fit(config, model)
    for change in changes:
        context.line.print(f"from {config.init_from}: {change}")
    return fitted, model


def _check_tokenizer(folder: str, dataset: Dataset) -> None:
    """Raises MismatchError if the run began with another tokenizer than the dataset's."""
    if storage.exists(folder) and (before := tokenizer.load(folder)).sha256 != dataset.tokenizer.sha256:
        raise MismatchError(
            f"{folder}: this run began with another tokenizer (SHA-256 {before.sha256[:12]}…) than the one that made "
            f"{dataset.directory} ({dataset.tokenizer.sha256[:12]}…). Give the old --config.data.directory, or another "
            "--workdir."
        )


def _say_if_other_ids(origin: str, own: Tokenizer, dataset: Dataset, line: ProgressLine) -> None:
    """Prints the first sentence to which the dataset's tokenizer gives other ids than the model was trained on."""
    texts = self_check.sentences()
    one, other = (self_check.ids_of(each, texts) for each in (own, dataset.tokenizer))
    names = (f"by the tokenizer of {origin}", f"by that of {dataset.directory}, which is trained on")
    if difference := self_check.first_difference(texts, one, other, names):
        line.print(f"config.init_from: the model learned other ids: {difference}")


def _trainer(config: PretrainingConfig, context: RunContext, dataset: Dataset, model: Model | None) -> Trainer:
    """Returns the trainer of the config, whose initial state has the weights of `model` if there is one."""
    job = pretraining_job(config, dataset, jax.default_backend())
    mesh = partitioning.make_mesh((config.mesh.data, config.mesh.fsdp, config.mesh.tensor))
    trainer = make_trainer(config, job, mesh, context.line.print)
    if model:
        given, report = warm_start.pretraining_params(model, trainer.abstract.params)
        context.line.print(f"Starting from {config.init_from}:\n" + "\n".join(f"  {text}" for text in report.lines()))
        trainer.start_from(given)
    return trainer
