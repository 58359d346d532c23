"""The training loop: restore, step, log, evaluate, save, stop.

`state.step == s` means that s updates were applied; everything labelled with step s (a checkpoint, a line of metrics)
was taken after update s. The loop does not depend on the number of devices.
"""

import contextlib
import time
from collections.abc import Callable

import jax

from electra_jax.errors import InputError, Preempted
from electra_jax.progress import ProgressLine
from electra_jax.training import partitioning
from electra_jax.training.checkpoint import Checkpoints, Progress
from electra_jax.training.compile_cache import CompiledPrograms
from electra_jax.training.hang_watch import HangWatch
from electra_jax.training.multihost import processes
from electra_jax.training.profiling import ProfiledSteps, Profiler
from electra_jax.training.recorder import Recorder
from electra_jax.training.run_context import RunContext
from electra_jax.training.state import TrainState
from electra_jax.training.step import TrainStep
from electra_jax.training.stopping import StopRequest
from electra_jax.training.trainer import Trainer, shape_of


def evaluate(
    trainer: Trainer, state: TrainState, should_stop: Callable[[], bool] = lambda: False
) -> dict[str, float] | None:
    """Scores on the held-out rows, under names that begin with `eval/`; None if stopped early.

    Every evaluation of a run draws the same masks and samples, so that its curve shows the model and not the draws.
    """
    results = []
    for index, batch in enumerate(trainer.job.evaluation_batches()):
        if should_stop():
            return None
        key = jax.random.fold_in(trainer.evaluation_key, index)
        results.append(trainer.evaluation_step(state, trainer.put(batch), key))
    scores = trainer.job.summarise(jax.device_get(results))
    return {f"eval/{name}": value for name, value in scores.items()}


def train(trainer: Trainer, context: RunContext, profiled: ProfiledSteps | None = None) -> None:
    """Trains to the last step, from the newest checkpoint of the workdir if there is one.

    Args:
      trainer: what to train.
      context: context of the run.
      profiled: updates to trace.

    Raises:
      Preempted: a process of the run was asked to stop, by a signal for example; the state is saved.
      Diverged: a metric is not finite; the state is not saved.
      InputError: a checkpoint failed to be written.
      MismatchError: the newest checkpoint does not fit this config.
    """
    steps, line = trainer.optimizer_config.steps, context.line
    processes.check_rows(partitioning.batch_sharding(trainer.mesh), trainer.job.batch_size)
    with (
        opened_checkpoints(trainer, context) as checkpoints,
        trainer.placed(),
        HangWatch(context, trainer.config.hang_minutes, ends_run=trainer.config.hang_ends_run) as watch,
        StopRequest(context.cluster, context.stop, watch) as stop,
    ):
        newest, restoring = checkpoints.resumable_step(), 0.0
        if newest is not None and newest >= steps:
            line.print(
                f"This run is complete: {newest:,} of {steps:,} steps. To train from scratch, give another --workdir."
            )
            return
        if newest is None:
            state, progress = trainer.initial_state(), Progress(next_batch=0, started_at=context.began)
        else:
            before = time.perf_counter()
            with context.stop.doing(f"restoring checkpoint {newest:,}"):
                state, progress = checkpoints.restore(newest, trainer.abstract, trainer.shardings)
            restoring = time.perf_counter() - before
            line.print(f"Resumed from checkpoint {newest:,}.")
        recorder = Recorder(trainer, context, progress, checkpoints, restoring)
        with contextlib.closing(Profiler(profiled, context, progress.next_batch)) as profiler:
            with context.stop.doing("compiling"):
                train_step = _compiled(trainer, recorder, line)
                if recorder.holds(progress.next_batch, "eval/loss"):
                    with recorder.timed("compile"):
                        _compile_evaluation(trainer, state)
            with context.stop.doing("training"):
                _update(trainer, train_step, state, progress, checkpoints, recorder, stop, profiler)
        with context.stop.doing("completing the last checkpoint"):
            checkpoints.wait()
        recorder.finished()


def _update(
    trainer: Trainer,
    train_step: TrainStep,
    state: TrainState,
    progress: Progress,
    checkpoints: Checkpoints,
    recorder: Recorder,
    stop: StopRequest,
    profiler: Profiler,
) -> None:
    """Runs the loop."""
    config, steps = trainer.config, trainer.optimizer_config.steps
    batches = trainer.job.training_batches(progress.next_batch)
    step, metrics = progress.next_batch, state.metrics
    # The order matters: metrics and scores of step s must be written before checkpoint s.
    while True:
        last = step == steps
        if (step % config.evaluate_every_steps == 0 or last) and not recorder.holds(step, "eval/loss"):
            with recorder.timed("evaluation"):
                scores = evaluate(trainer, state, should_stop=stop.reached)
            if scores is not None:
                recorder.evaluated(step, scores, trainer.inspected(state))
        checkpoints.preferred = recorder.best_step(config.best_metric)
        # Read once for all that depends on it: a signal may come at any moment.
        stopping = stop.reached()
        if stopping or last or (step and step % config.save_every_steps == 0):
            recorder.check(step, metrics)
            with recorder.timed("save"):
                checkpoints.save(state, progress)
            # A request during the save needs no other one.
            stopping = stopping or stop.reached()
        if last:
            return
        if stopping:
            checkpoints.wait()
            raise Preempted(
                f"{stop.reason}: stopped after step {step:,} of {steps:,}; it is saved. "
                f"Run the same command again to resume."
            )
        with recorder.timed("data_wait"):
            batch = next(batches)
        profiler.before(step + 1)
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            state, metrics = train_step(state, trainer.put(batch), trainer.root_key)
        step = progress.next_batch = step + 1
        profiler.after(step, metrics)
        recorder.stepped(step, metrics, trainer.job.work(batch))
        if not stop.is_holding:
            # When the first update is complete all processes have compiled, and there is something to save.
            jax.block_until_ready(metrics)
            stop.hold()


def _compiled(trainer: Trainer, recorder: Recorder, line: ProgressLine) -> TrainStep:
    shapes = len(trainer.job.batch_shapes())
    line.print(f"Compiling the training step{f' for {shapes} batch shapes' if shapes > 1 else ''} …")
    with CompiledPrograms() as programs, recorder.timed("compile"):
        train_step = trainer.compile()
    recorder.compiled(programs)
    return train_step


def _compile_evaluation(trainer: Trainer, state: TrainState) -> None:
    """Compiles what the next evaluation needs, by computing a batch of each shape.

    Otherwise it would be compiled between updates, and a request to stop would wait for that to save them.
    """
    shapes = set()
    for batch in trainer.job.evaluation_batches():
        if (shape := shape_of(batch)) not in shapes:
            shapes.add(shape)
            trainer.evaluation_step(state, trainer.put(batch), trainer.evaluation_key)
    trainer.inspected(state)


def opened_checkpoints(trainer: Trainer, context: RunContext) -> Checkpoints:
    """The checkpoints of a run; the caller closes them."""
    config = trainer.config
    return Checkpoints(context.workdir / "checkpoints", config.keep_last, config.keep_every_steps, context.cluster)


def evaluate_newest(trainer: Trainer, context: RunContext) -> dict[str, float]:
    """The scores of the newest checkpoint of the workdir.

    Raises:
      InputError: there is no checkpoint.
      MismatchError: it does not fit this config.
    """
    with opened_checkpoints(trainer, context) as checkpoints, trainer.placed():
        newest = checkpoints.resumable_step()
        if newest is None:
            raise InputError(f"{context.workdir}: no checkpoint to evaluate; train first, with --mode=train")
        state, _ = checkpoints.restore(newest, trainer.abstract, trainer.shardings)
        return {"step": newest, **(evaluate(trainer, state) or {})}
