"""The door to training, of either task: `python -m electra_jax.main --config=configs/base.py --workdir=DIR`.

Short on purpose: it reads flags, checks everything that can be checked at once, and hands over to `training/`.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags
from ml_collections import config_flags

from electra_jax import allocator, entry_point, storage
from electra_jax import config as configs
from electra_jax.errors import InputError, MismatchError, RunError
from electra_jax.progress import ProgressLine, QuietLine

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True, help_string="What to do: a file of configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; made if it is not there, resumed if it is.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "eval scores the newest checkpoint of the workdir.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, of a run of several processes.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes the run has.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_START_TIMEOUT = flags.DEFINE_float("start_timeout", 300.0, "Seconds that processes wait for each other at the start.")
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "A:B writes a trace of updates A to B, from 1, to profile/."
)
_ALLOW = flags.DEFINE_list(
    "allow_config_change", [], "Fields, such as steps, in which a resumed run may differ from its first start."
)

_PREPARING_SECONDS = 7 * 86400.0  # For process 0 to prepare the text; that it is alive is watched meanwhile.
_SHARED_STORAGE_SECONDS = 30.0  # Until a file that one host wrote is seen by another.


def main() -> None:
    """Prepares the text if need be, then trains or evaluates; see `doors` for exit codes."""
    config = _CONFIG.value
    if config is None or not _WORKDIR.value:
        raise InputError("Two flags are needed, for example --config=configs/quickstart.py --workdir=runs/quickstart")
    if "://" in _WORKDIR.value:
        raise InputError(f"--workdir={_WORKDIR.value}: expected a local path; object storage cannot be used yet")
    if _START_TIMEOUT.value <= 0:
        raise InputError(f"--start_timeout={_START_TIMEOUT.value:g}: expected a number of seconds above 0")
    workdir = pathlib.Path(_WORKDIR.value).expanduser().absolute()
    allocator.keep_freed_memory()
    # Imported here so that a mistyped flag answers at once.
    from electra_jax.training.multihost import processes
    from electra_jax.training.profiling import ProfiledSteps

    profiled = ProfiledSteps.parse(_PROFILE_STEPS.value)
    places = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    processes.check_flags(*places)
    with processes.telling_why():
        cluster = processes.join(*places, seconds=_START_TIMEOUT.value)
        line = _line_of(cluster)
        _run(config, workdir, profiled, line)


def _run(config: Any, workdir: pathlib.Path, profiled: Any, line: ProgressLine) -> None:
    """Checks the config for the devices at hand, and hands over to the task."""
    import jax

    from electra_jax.training.multihost import processes

    count = processes.cluster().count
    if config.task == "finetuning":
        configs.validate(config, jax.device_count(), count)
        _finetune(config, workdir, profiled, line)
        return
    model = _model_to_start_from(config, workdir, line)
    configs.validate(config, jax.device_count(), count)
    if profiled:
        profiled.check(config.steps)
    _pretrain(config, workdir, model, profiled, line)


def _line_of(cluster: Any) -> ProgressLine:
    """Where this process says what happens, after its first line and after all have the same program and flags."""
    import jax

    from electra_jax.training import telemetry
    from electra_jax.training.multihost import processes

    if cluster.count > 1 or jax.default_backend() != "cpu":
        print(processes.first_line(), flush=True)
    if cluster.count > 1:
        given = {f"config.{name}": value for name, value in configs.flatten(_CONFIG.value).items()}
        named = {"--mode": _MODE.value, "--allow_config_change": _ALLOW.value, "--profile_steps": _PROFILE_STEPS.value}
        where = {"--workdir": _WORKDIR.value}
        cluster.agree("program, config or flags", telemetry.program_facts() | given | named | where)
    return ProgressLine() if cluster.is_first else QuietLine()


def _pretrain(config: Any, workdir: pathlib.Path, model: Any, profiled: Any, line: ProgressLine) -> None:
    import jax

    from electra_jax.finetuning import probe
    from electra_jax.interop.warm_start import pretraining_params
    from electra_jax.pretraining.pretraining_job import pretraining_job
    from electra_jax.reporting.probe_results import probe_lines
    from electra_jax.training import facts, loop, partitioning, telemetry
    from electra_jax.training.multihost import processes
    from electra_jax.training.trainer import make_trainer

    cluster = processes.cluster()
    workdir = _shared_workdir(workdir, config)
    processes.use_compile_cache(config.compile_cache, workdir)
    dataset = _shared_dataset(config, line)
    configs.check_vocabulary(config, dataset.tokenizer.vocabulary_size)
    cluster.from_first(lambda: _check_tokenizer(workdir / "tokenizer", dataset))
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

    def describe() -> None:
        dataset.tokenizer.save(workdir / "tokenizer")
        environment = {"config": flags.FLAGS["config"].config_filename, **telemetry.environment()}
        storage.write_json(workdir / "environment.json", environment)

    cluster.from_first(describe)
    line.print(facts.screen(trainer))
    probed = probe.prepare(config, workdir, line)
    with _reported(workdir, line):
        loop.train(trainer, workdir, line, profiled)
        if probed:
            probed.run()
    for text in probe_lines(workdir):
        line.print(text)


def _shared_dataset(config: Any, line: ProgressLine) -> Any:
    """The dataset, prepared by process 0 if it is not there, and the same at all processes.

    Raises:
      InputError: a process does not find it, so that the storage is not shared and holds no copy either.
      MismatchError: a process finds another one.
    """
    from electra_jax.reporting.dataset_card import write_card
    from electra_jax.text.dataset import dataset, writer
    from electra_jax.training.multihost import processes

    cluster = processes.cluster()
    opened: list[Any] = []

    def prepare() -> None:
        prepared, is_new = writer.ensure(config.data, line)
        if is_new:
            line.print(f"Card of the dataset: {write_card(prepared.directory)}")
        opened.append(prepared)

    cluster.from_first(prepare, seconds=_PREPARING_SECONDS)
    if not opened:
        if not _seen(lambda: dataset.is_prepared(config.data.directory)):
            raise InputError(
                f"config.data.directory: {config.data.directory} is prepared where {cluster.name(0)} looks, and not "
                f"there where {cluster.name()} does; use storage that all hosts share, or prepare it on each host: "
                "python -m electra_jax.prepare --config=…"
            )
        opened.append(writer.ensure(config.data, line)[0])
    shards = {name: [shard["sha256"] for shard in split["shards"]]
              for name, split in opened[0].manifest["splits"].items()}  # fmt: skip
    facts = {
        f"rows of {name}": hashlib.sha256(json.dumps(value).encode()).hexdigest() for name, value in shards.items()
    }
    cluster.agree("dataset", facts | {"tokenizer": opened[0].tokenizer.sha256}, MismatchError)
    return opened[0]


def _finetune(config: Any, workdir: pathlib.Path, profiled: Any, line: ProgressLine) -> None:
    from electra_jax.finetuning import run
    from electra_jax.reporting.summary import summary_lines
    from electra_jax.training.multihost import processes

    examples = run.read_examples(config, line)
    beginning = run.start(config, workdir, line)
    tasks = run.make_tasks(config, examples, beginning.tokenizer)
    trainer = run.make_trainer(config, run.make_job(config, tasks, beginning), line)
    if profiled:
        profiled.check(trainer.optimizer_config.steps)
    workdir = _shared_workdir(workdir, config)
    processes.use_compile_cache(config.compile_cache, workdir)
    processes.cluster().agree("examples", run.data_facts(trainer.job, beginning), MismatchError)
    trials = run.make_trials(config, trainer, beginning, workdir, flags.FLAGS["config"].config_filename, line)
    trials = dataclasses.replace(trials, profiled=profiled)
    if _MODE.value == "eval":
        line.print(json.dumps(trials.evaluate()["summary"], indent=2))
        return
    line.print(run.screen(config, trainer))
    with _reported(workdir, line):
        line.print("\n".join(summary_lines(trials.run())))


@contextlib.contextmanager
def _reported(workdir: pathlib.Path, line: ProgressLine) -> Iterator[None]:
    """Writes the report when its block ends: a run that was stopped has something to show, too."""
    from electra_jax.training.multihost import processes

    try:
        yield
    finally:
        if processes.cluster().is_first:
            _report(workdir, line)


def _report(workdir: pathlib.Path, line: ProgressLine) -> None:
    from electra_jax.reporting.pretraining_page import write_report

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
    from electra_jax.interop import checkpoints, warm_start

    recorded = workdir / "config.json"
    if recorded.exists() and any((workdir / "checkpoints").glob("*")):
        try:
            warm_start.repeat(config, json.loads(recorded.read_text()))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"--workdir={workdir}: config.json cannot be used: {error}") from error
        return None
    model = checkpoints.open_model(config.init_from)
    for change in warm_start.fit(config, model):
        line.print(f"from {config.init_from}: {change}")
    return model


def _check_tokenizer(folder: pathlib.Path, dataset: Any) -> None:
    """Raises MismatchError when the weights of a run learned other pieces than the dataset's."""
    from electra_jax.text.tokenizers import tokenizer

    if folder.exists() and (before := tokenizer.load(folder)).sha256 != dataset.tokenizer.sha256:
        raise MismatchError(
            f"{folder}: this run began with another tokenizer (SHA-256 {before.sha256[:12]}…) than the one that made "
            f"{dataset.directory} ({dataset.tokenizer.sha256[:12]}…). Give the old --config.data.directory, or another "
            "--workdir."
        )


def _shared_workdir(workdir: pathlib.Path, config: Any) -> pathlib.Path:
    """Has process 0 open the workdir when all have read what they need of it, and checks that all see the same.

    Raises:
      InputError, MismatchError: see `_opened_workdir`; or a process does not see what process 0 wrote.
    """
    from electra_jax.training.multihost import processes

    cluster = processes.cluster()
    cluster.barrier("the opening of the workdir")
    cluster.from_first(lambda: str(_opened_workdir(workdir, config)))
    if not _seen((workdir / "config.json").exists):
        raise InputError(
            f"--workdir={workdir}: {cluster.name()} does not see what {cluster.name(0)} wrote there; use storage that "
            "all hosts share"
        )
    return workdir


def _seen(is_there: Callable[[], bool]) -> bool:
    """Whether something that another host wrote can be seen here, at the latest after a while."""
    deadline = time.monotonic() + _SHARED_STORAGE_SECONDS
    while not (found := is_there()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _opened_workdir(workdir: pathlib.Path, config: Any) -> pathlib.Path:
    """Makes the workdir and its config.json, or checks that it belongs to this config.

    Raises:
      InputError: it cannot be written, or is a folder of something else.
      MismatchError: it belongs to another config.
    """

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
            storage.write_json(path, ours | {"fingerprint": configs.fingerprint(ours)})
    except (OSError, ValueError) as error:
        raise InputError(f"--workdir={workdir}: cannot be used: {error}") from error
    return workdir


def _leave(exit_code: int) -> None:
    from electra_jax.training.multihost import processes

    processes.leave(exit_code)


if __name__ == "__main__":
    entry_point.enter(main, leave=_leave)
