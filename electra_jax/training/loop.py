"""The training loop: restore, step, log, evaluate, save, stop.

`state.step == s` means that s updates were applied or skipped; everything labelled with step s (a checkpoint, a line of
metrics) was taken after update s. The loop does not depend on the number of devices.
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
from electra_jax.training.divergence import Divergence, Trouble
from electra_jax.training.multihost import processes
from electra_jax.training.profiling import ProfiledSteps, Profiler
from electra_jax.training.recorder import Recorder
from electra_jax.training.run_context import RunContext
from electra_jax.training.state import TrainState
from electra_jax.training.step import TrainStep
from electra_jax.training.stopping import StopRequest, stop_on_signals
from electra_jax.training.trainer import Trainer


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
      Preempted: a process of the run received SIGTERM or Ctrl-C; the state is saved.
      Diverged: too many updates were skipped, or the held-out loss is not finite, and the rollbacks are used up.
      InputError: a checkpoint failed to be written.
      MismatchError: the newest checkpoint does not fit this config.
    """
    steps, line = trainer.optimizer_config.steps, context.line
    processes.check_rows(partitioning.batch_sharding(trainer.mesh), trainer.job.batch_size)
    with (
        opened_checkpoints(trainer, context) as checkpoints,
        trainer.placed(),
        stop_on_signals(context.cluster) as stop,
    ):
        newest = checkpoints.resumable_step()
        if newest is not None and newest >= steps:
            line.print(
                f"This run is complete: {newest:,} of {steps:,} steps. To train from scratch, give another --workdir."
            )
            return
        if newest is None:
            state, progress = trainer.initial_state(), Progress(next_batch=0, started_at=time.time())
        else:
            state, progress = checkpoints.restore(newest, trainer.abstract, trainer.shardings)
            line.print(f"Resumed from checkpoint {newest:,}.")
        divergence = Divergence(trainer, context, checkpoints)
        train_step: TrainStep | None = None
        while True:
            step = int(state.step)
            recorder = Recorder(trainer, context, step, progress)
            if train_step is None:
                train_step = _compiled(trainer, recorder, line)
            with contextlib.closing(Profiler(profiled, context, step)) as profiler:
                trouble = _update(
                    trainer, train_step, state, progress, checkpoints, recorder, divergence, stop, profiler
                )
            if trouble is None:
                break
            recorder.close()
            del state  # There may be no memory for two.
            state, progress = divergence.rolled_back(trouble, progress)
        checkpoints.wait()
        recorder.finished()


def _update(
    trainer: Trainer,
    train_step: TrainStep,
    state: TrainState,
    progress: Progress,
    checkpoints: Checkpoints,
    recorder: Recorder,
    divergence: Divergence,
    stop: StopRequest,
    profiler: Profiler,
) -> Trouble | None:
    """Runs the loop to the last step, which is saved, or until the run must go back; its evidence is recorded then."""
    config, steps, root_key = trainer.config, trainer.optimizer_config.steps, trainer.root_key
    batches = trainer.job.training_batches(progress.next_batch)
    step = int(state.step)
    trouble: Trouble | None = None
    if step % config.log_every_steps == 0:
        # A run that was stopped here has not looked back.
        trouble = divergence.among_updates(state.recent, step, progress)
    # The order matters: metrics and scores of step s must be written before checkpoint s.
    while True:
        last = step == steps
        if (step % config.evaluate_every_steps == 0 or last) and not recorder.holds(step, "eval/loss"):
            with recorder.timed("evaluation"):
                scores = evaluate(trainer, state, should_stop=stop.reached)
            if scores is not None:
                recorder.evaluated(step, scores, trainer.inspected(state))
                trouble = trouble or divergence.among_scores(scores, step, progress)
        checkpoints.preferred = recorder.best_step(config.best_metric)
        # Read once for all that depends on it: a signal may come at any moment.
        stopping = stop.reached()
        saving = last or (step and step % config.save_every_steps == 0)
        if saving:
            trouble = trouble or divergence.among_updates(state.recent, step, progress)
        if trouble:
            divergence.record(trouble, state, progress)
            return trouble
        # A state that the last update did not fit is no good place to go back to.
        postponed = saving and not last and divergence.skipped_last(state.recent, step)
        if stopping or (saving and not postponed):
            with recorder.timed("save"):
                checkpoints.save(state, progress)
        if last:
            divergence.report(recorder.skipping_line(), state.recent, progress)
            return None
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
            rows = trainer.put(batch)
            # A transfer that nobody asked for would make every step wait.
            with jax.transfer_guard_host_to_device("disallow"), jax.transfer_guard_device_to_host("disallow"):
                state, metrics = train_step(state, rows, root_key)
        step, progress.next_batch = step + 1, progress.next_batch + 1
        profiler.after(step, metrics)
        recorder.stepped(step, metrics, trainer.job.work(batch))
        trouble = divergence.report(recorder.skipping_line(), state.recent, progress)


def _compiled(trainer: Trainer, recorder: Recorder, line: ProgressLine) -> TrainStep:
    shapes = len(trainer.job.batch_shapes())
    line.print(f"Compiling the training step{f' for {shapes} batch shapes' if shapes > 1 else ''} …")
    with CompiledPrograms() as programs, recorder.timed("compile"):
        train_step = trainer.compile()
    recorder.compiled(programs)
    return train_step


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
