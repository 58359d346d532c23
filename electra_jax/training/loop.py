"""The training loop: restore, step, log, evaluate, save, stop.

`state.step == s` means that s updates were applied; everything labelled with step s (a checkpoint, a line of metrics)
was taken after update s. The loop does not depend on the number of devices.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import jax

from electra_jax import storage
from electra_jax.errors import InputError, Preempted, StorageLost
from electra_jax.progress import ProgressLine
from electra_jax.training import checkpoint_steps, partitioning, restart
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.compile_cache import CompiledPrograms
from electra_jax.training.hang_watch import HangWatch
from electra_jax.training.multihost import processes
from electra_jax.training.profiling import ProfiledSteps, Profiler
from electra_jax.training.recorder import Recorder
from electra_jax.training.run_context import RunContext
from electra_jax.training.save_schedule import SaveSchedule
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
      StorageLost: checkpoints cannot be read or written any more.
      InputError: the workdir cannot be written.
      MismatchError: the newest checkpoint does not fit this config, or none can be used.
    """
    steps, line = trainer.optimizer_config.steps, context.line
    processes.check_rows(partitioning.batch_sharding(trainer.mesh), trainer.job.batch_size)
    _check_restart(trainer, context)
    with (
        _under_way(),
        opened_checkpoints(trainer, context) as checkpoints,
        trainer.placed(),
        HangWatch(context, trainer.config.hang_minutes, ends_run=trainer.config.hang_ends_run) as watch,
        StopRequest(context.cluster, context.stop, watch) as stop,
    ):
        checkpoints.open()
        before = time.perf_counter()
        with context.stop.doing("restoring the newest checkpoint"):
            restored = checkpoints.restore_newest(trainer.abstract, trainer.shardings)
        restoring = time.perf_counter() - before if restored else 0.0
        if restored and restored.step >= steps:
            line.print(
                f"This run is complete: {restored.step:,} of {steps:,} steps. To train from scratch, give another "
                "--workdir."
            )
            return
        if restored:
            state, progress = restored.state, restored.progress
            line.print(f"Resumed from checkpoint {restored.step:,}.")
        else:
            state, progress = trainer.initial_state(), Progress(next_batch=0, started_at=context.began)
        with (
            Recorder(trainer, context, progress, checkpoints, restoring) as recorder,
            contextlib.closing(Profiler(profiled, context, progress.next_batch)) as profiler,
        ):
            with context.stop.doing("compiling"):
                train_step = _compiled(trainer, recorder, line)
                if recorder.holds(progress.next_batch, "eval/loss"):
                    with recorder.timed("compile"):
                        _compile_evaluation(trainer, state)
            with context.stop.doing("training"):
                _update(trainer, train_step, state, progress, checkpoints, recorder, stop, profiler, context)
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
    context: RunContext,
) -> None:
    """Runs the loop."""
    config, steps = trainer.config, trainer.optimizer_config.steps
    schedule = SaveSchedule(config.save_every_steps, config.save_every_minutes, config.log_every_steps, context.cluster)
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
        due = schedule.is_due(step) or (step % config.log_every_steps == 0 and checkpoints.lost_a_save())
        if stopping or last or due:
            recorder.check(step, metrics)
            context.check_owner()
            with recorder.timed("save"):
                if not stopping:
                    checkpoints.save(state, progress)
                    stopping = stop.reached()  # A request during the save needs no other one.
                if stopping or last:
                    checkpoints.finish(state, progress)
        if last:
            return
        if stopping:
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


@contextlib.contextmanager
def _under_way() -> Iterator[None]:
    """The part of a run in which an error of storage is no mistake of the user's: everything worked before.

    Raises:
      StorageLost: in place of such an error.
    """
    try:
        yield
    except OSError as error:
        raise StorageLost(
            f"Storage failed during the run: {error}. Free some space, or check the disk or the network, then run the "
            "same command again; it continues from the newest checkpoint."
        ) from error


def _check_restart(trainer: Trainer, context: RunContext) -> None:
    every, restarts = trainer.config.save_every_steps, context.restarts
    context.cluster.from_first(lambda: restart.check(context.workdir, every, restarts, context.line.print))


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
    return Checkpoints(
        storage.join(context.workdir, checkpoint_steps.FOLDER),
        config.keep_last,
        config.keep_every_steps,
        context.cluster,
        context.line.print,
    )


def evaluate_newest(trainer: Trainer, context: RunContext) -> dict[str, float]:
    """The scores of the newest checkpoint of the workdir.

    Raises:
      InputError: there is no checkpoint.
      MismatchError: it does not fit this config.
    """
    with opened_checkpoints(trainer, context) as checkpoints, trainer.placed():
        restored = checkpoints.restore_newest(trainer.abstract, trainer.shardings, sets_aside=False)
        if restored is None:
            raise InputError(f"{context.workdir}: no checkpoint to evaluate; train first, with --mode=train")
        return {"step": restored.step, **(evaluate(trainer, restored.state) or {})}
