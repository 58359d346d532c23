"""The door to training, of either task: `python -m electra_jax.main --config=configs/base.py --workdir=DIR`.

Short on purpose: it reads flags, checks everything that can be checked at once, and hands over to `training/`.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import flags
from ml_collections import config_flags

from electra_jax import allocator, doors
from electra_jax import config as configs
from electra_jax.errors import InputError, MismatchError, RunError
from electra_jax.progress import ProgressLine

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True, help_string="What to do: a file of configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; made if it is not there, resumed if it is.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "eval scores the newest checkpoint of the workdir.")
_ALLOW = flags.DEFINE_list(
    "allow_config_change", [], "Fields, such as steps, in which a resumed run may differ from its first start."
)


def main() -> None:
    """Prepares the text if need be, then trains or evaluates; see `doors` for exit codes."""
    config = _CONFIG.value
    if config is None or not _WORKDIR.value:
        raise InputError("Two flags are needed, for example --config=configs/quickstart.py --workdir=runs/quickstart")
    allocator.keep_freed_memory()
    # Imported here so that a mistyped flag answers at once.
    import jax

    if "://" in _WORKDIR.value:
        raise InputError(f"--workdir={_WORKDIR.value}: expected a local path; object storage cannot be used yet")
    workdir = pathlib.Path(_WORKDIR.value).expanduser().absolute()
    line = ProgressLine()
    if config.task == "finetuning":
        configs.validate(config, jax.device_count())
        _finetune(config, workdir, line)
        return
    model = _model_to_start_from(config, workdir, line)
    configs.validate(config, jax.device_count())
    _pretrain(config, workdir, model, line)


def _pretrain(config: Any, workdir: pathlib.Path, model: Any, line: ProgressLine) -> None:
    import jax

    from electra_jax.interop.initialization import pretraining_params
    from electra_jax.pretraining.job import pretraining_job
    from electra_jax.reporting.card import write_card
    from electra_jax.text import writer
    from electra_jax.training import facts, loop, partitioning, processes, telemetry
    from electra_jax.training.trainer import make_trainer

    workdir = _opened_workdir(workdir, config)
    processes.use_compile_cache(os.path.expanduser(config.compile_cache))

    dataset, is_new = writer.ensure(config.data, line)
    if is_new:
        line.print(f"Card of the dataset: {write_card(dataset.directory)}")
    configs.check_vocabulary(config, dataset.tokenizer.vocabulary_size)
    _check_tokenizer(workdir / "tokenizer", dataset)
    job = pretraining_job(config, dataset, jax.default_backend())
    mesh = partitioning.make_mesh((config.mesh.data, config.mesh.fsdp, config.mesh.tensor))
    trainer = make_trainer(config, job, mesh, line.print)
    if model:
        given, report = pretraining_params(model, trainer.abstract.params)
        line.print(f"Starting from {config.init_from}:\n" + "\n".join(f"  {text}" for text in report.lines()))
        trainer.start_from(given)
    if _MODE.value == "eval":
        scores = loop.evaluate_newest(trainer, workdir)
        line.print(json.dumps(scores, indent=2))
        return
    dataset.tokenizer.save(workdir / "tokenizer")
    environment = {"config": flags.FLAGS["config"].config_filename, **telemetry.environment()}
    telemetry.write_json(workdir / "environment.json", environment)
    line.print(facts.screen(trainer))
    with _reported(workdir, line):
        loop.train(trainer, workdir, line)


def _finetune(config: Any, workdir: pathlib.Path, line: ProgressLine) -> None:
    from electra_jax.finetuning import run
    from electra_jax.reporting.summary import summary_lines
    from electra_jax.training import processes

    examples = run.read_examples(config, line)
    beginning = run.start(config, workdir, line)
    tasks = run.make_tasks(config, examples, beginning.tokenizer)
    trainer = run.make_trainer(config, run.make_job(config, tasks, beginning), line)
    workdir = _opened_workdir(workdir, config)
    processes.use_compile_cache(os.path.expanduser(config.compile_cache))
    trials = run.make_trials(config, trainer, beginning, workdir, flags.FLAGS["config"].config_filename, line)
    if _MODE.value == "eval":
        line.print(json.dumps(trials.evaluate()["summary"], indent=2))
        return
    line.print(run.screen(config, trainer))
    with _reported(workdir, line):
        line.print("\n".join(summary_lines(trials.run())))


@contextlib.contextmanager
def _reported(workdir: pathlib.Path, line: ProgressLine) -> Iterator[None]:
    """Writes the report when its block ends: a run that was stopped has something to show, too."""
    from electra_jax.reporting.page import write_report

    try:
        yield
    finally:
        # What ails the report must not hide why the run stopped.
        try:
            line.print(f"Report: {write_report(workdir)}")
        except (RunError, OSError) as error:
            line.print(f"No report: {error}")


def _model_to_start_from(config: Any, workdir: pathlib.Path, line: ProgressLine) -> Any:
    """The model that `config.init_from` names, whose sizes and tokenizer the config takes; None when there is none.

    A run that was started goes on without the model: its config.json knows what was taken.
    """
    if not config.init_from:
        return None
    from electra_jax.interop import checkpoints, starting

    recorded = workdir / "config.json"
    if recorded.exists() and any((workdir / "checkpoints").glob("*")):
        try:
            starting.repeat(config, json.loads(recorded.read_text()))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"--workdir={workdir}: config.json cannot be used: {error}") from error
        return None
    model = checkpoints.open_model(config.init_from)
    for change in starting.fit(config, model):
        line.print(f"from {config.init_from}: {change}")
    return model


def _check_tokenizer(folder: pathlib.Path, dataset: Any) -> None:
    """Raises MismatchError when the weights of a run learned other pieces than the dataset's."""
    from electra_jax.text import tokenizer

    if folder.exists() and (before := tokenizer.load(folder)).sha256 != dataset.tokenizer.sha256:
        raise MismatchError(
            f"{folder}: this run began with another tokenizer (SHA-256 {before.sha256[:12]}…) than the one that made "
            f"{dataset.directory} ({dataset.tokenizer.sha256[:12]}…). Give the old --config.data.directory, or another "
            "--workdir."
        )


def _opened_workdir(workdir: pathlib.Path, config: Any) -> pathlib.Path:
    """Makes the workdir and its config.json, or checks that it belongs to this config.

    Raises:
      InputError: it cannot be written, or is a folder of something else.
      MismatchError: it belongs to another config.
    """
    from electra_jax.training import telemetry

    ours = json.loads(config.to_json_best_effort())
    path = workdir / "config.json"
    try:
        if path.exists():
            before = json.loads(path.read_text())
            before.pop("fingerprint", None)
            allowed = {name.removeprefix("config.") for name in _ALLOW.value}
            changes = [
                change
                for change in configs.difference(before, ours)
                if change.split(":")[0].removeprefix("config.") not in allowed
            ]
            if changes:
                raise MismatchError(
                    f"{workdir} belongs to a run with another config:\n"
                    + "\n".join(f"  {change}" for change in changes)
                    + "\nGive another --workdir, or the old values; or name the fields in --allow_config_change."
                )
        elif workdir.exists() and any(workdir.iterdir()):
            raise InputError(f"--workdir={workdir}: is not empty and holds no config.json, so it is not a run of ours")
        elif _MODE.value == "eval":
            raise InputError(f"--workdir={workdir}: no run to evaluate there")
        if _MODE.value == "train":
            workdir.mkdir(parents=True, exist_ok=True)
            telemetry.write_json(path, ours | {"fingerprint": configs.fingerprint(ours)})
    except (OSError, ValueError) as error:
        raise InputError(f"--workdir={workdir}: cannot be used: {error}") from error
    return workdir


if __name__ == "__main__":
    doors.enter(main)
