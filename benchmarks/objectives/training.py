"""Pre-training in this process, as in `electra_jax.main`, and the step time of each contender."""

from __future__ import annotations

import contextlib
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from electra_jax import config_rules, storage
from electra_jax.config import identity, schema
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.progress import ProgressLine
from electra_jax.stop_signals import StopSignals
from electra_jax.text.dataset import writer
from electra_jax.training import loop, partitioning, telemetry
from electra_jax.training.compile_cache import use_compile_cache
from electra_jax.training.run_context import RunContext
from electra_jax.training.trainer import Trainer, make_trainer

_ROUNDS = 7  # Turns of each contender.
_STEPS = 8  # Updates in a turn.


def pretrain(config: PretrainingConfig, workdir: pathlib.Path, line: ProgressLine) -> dict[str, Any]:
    """Trains to the last step, from the newest checkpoint of the workdir if there is one.

    Args:
      config: config of the run.
      workdir: used by this config alone.
      line: the run's log.

    Returns:
      "seconds": time of the updates; "scores": metrics of the last evaluation; "environment": versions and devices.

    Raises:
      RunError: see `loop.train`.
    """
    trainer, dataset = _trainer(config, workdir, line)
    workdir.mkdir(parents=True, exist_ok=True)
    # Files that `interop/workdir.py` reads in addition to a checkpoint.
    fields = schema.as_tree(config)
    storage.write_json(workdir / "config.json", fields | {"fingerprint": identity.fingerprint(fields)})
    storage.write_json(workdir / "environment.json", telemetry.environment())
    dataset.tokenizer.save(workdir / "tokenizer")
    with stoppable(workdir, line) as context:
        loop.train(trainer, context)
    logged = [json.loads(text) for text in (workdir / "metrics.jsonl").read_text("utf-8").splitlines()]
    timed = [values for values in logged if "time/elapsed_seconds" in values]
    return {
        "seconds": timed[-1]["time/elapsed_seconds"] * timed[-1]["performance/goodput"] if timed else None,
        "scores": {name: value for name, value in logged[-1].items() if name.startswith("eval/")},
        "environment": telemetry.environment(),
    }


@contextlib.contextmanager
def stoppable(workdir: pathlib.Path, line: ProgressLine) -> Iterator[RunContext]:
    """The context of a run in this process, which is one of several: a signal raises Preempted after an update."""
    with StopSignals() as stop:
        stop.hold(lambda name: None)
        yield RunContext(str(workdir), line, stop=stop)


def step_seconds(
    contenders: Mapping[str, PretrainingConfig], workdir: pathlib.Path, line: ProgressLine
) -> dict[str, float]:
    """Median seconds of an update by contender, measured in this process with contenders taking turns.

    Args:
      contenders: configs by name.
      workdir: folder for compiled programs.
      line: the log.
    """
    updates = {name: _updates(_trainer(config, workdir, line)[0]) for name, config in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for update in updates.values():
        update()  # Allocations, and the first use of every kernel.
    for _ in range(_ROUNDS):
        for name, update in updates.items():
            for _ in range(_STEPS):
                begun = time.perf_counter()
                update()
                times[name].append(time.perf_counter() - begun)
    for name, seconds in times.items():
        line.print(f"{name}: {statistics.median(seconds):.4f} s a step, {min(seconds):.4f} to {max(seconds):.4f}")
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _trainer(config: PretrainingConfig, workdir: pathlib.Path, line: ProgressLine) -> tuple[Trainer, Any]:
    use_compile_cache(config.compile_cache, workdir)
    dataset, _ = writer.ensure(config.data, line)
    config_rules.check_vocabulary(config, dataset.tokenizer.vocabulary_size)
    job = pretraining_job(config, dataset, jax.default_backend())
    mesh = partitioning.make_mesh((config.mesh.data, config.mesh.fsdp, config.mesh.tensor))
    return make_trainer(config, job, mesh, line.print), dataset


def _updates(trainer: Trainer) -> Callable[[], None]:
    """Returns a function that reads a batch and applies a compiled update to it."""
    with trainer.placed():
        program, state = trainer.compile(), trainer.initial_state()
    batches = trainer.job.training_batches(0)

    def update() -> None:
        nonlocal state
        with trainer.placed():
            state, measured = program(state, trainer.put(next(batches)), trainer.root_key)
        jax.block_until_ready((state, measured))

    return update
