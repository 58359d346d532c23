"""The training loop: restore, step, log, evaluate, save, stop.

`state.step == s` means that s updates were applied or skipped; everything labelled with step s (a checkpoint, a line of
metrics) was taken after update s. The loop does not depend on the number of devices.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

import jax

from electra_jax import storage
from electra_jax.errors import InputError, Preempted
from electra_jax.progress import ProgressLine
from electra_jax.training import checkpoint_steps, partitioning, restart
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.compile_cache import CompiledPrograms
from electra_jax.training.divergence import Divergence, Trouble
from electra_jax.training.hang_watch import HangWatch
from electra_jax.training.job import Batch
from electra_jax.training.multihost import processes
from electra_jax.training.profiling import ProfiledSteps, Profiler
from electra_jax.training.recorder import Recorder
from electra_jax.training.run_context import RunContext, under_way
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
      Diverged: too many updates were skipped, or the held-out loss is not finite, and the rollbacks are used up.
      StorageLost: checkpoints cannot be read or written any more.
      InputError: the workdir cannot be written.
      MismatchError: the newest checkpoint does not fit this config, or none can be used.
    """
    steps, line = trainer.optimizer_config.steps, context.line
    processes.check_rows(partitioning.batch_sharding(trainer.mesh), trainer.job.batch_size)
    _check_restart(trainer, context)
    with (
        under_way(),
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
        del restored  # The only reference to a state is to be `state`: there may be no memory for two.
        divergence = Divergence(trainer, context, checkpoints)
        train_step: TrainStep | None = None
        began = context.began
        while True:
            step = int(state.step)
            with (
                Recorder(trainer, context, step, progress, began, restoring) as recorder,
                contextlib.closing(Profiler(profiled, context, step)) as profiler,
            ):
                if train_step is None:
                    with context.stop.doing("compiling"):
                        train_step = _compiled(trainer, state, recorder, line)
                updates = _Updates(trainer, context, checkpoints, divergence, stop, train_step, recorder, profiler)
                with context.stop.doing("training"):
                    trouble = updates.run(state, progress)
                if trouble is None:
                    recorder.finished()
                    return
                began = time.time()
            del state
            with context.stop.doing("going back to a checkpoint"):
                state, progress = divergence.rolled_back(trouble, progress)
            restoring = time.time() - began
            if profiled and trouble.step >= profiled.first:
                profiled = None  # These are traced already.


@dataclasses.dataclass(frozen=True)
class _Updates:
    """The updates from one state on: the initial one, or that of a checkpoint."""

    trainer: Trainer
    context: RunContext
    checkpoints: Checkpoints
    divergence: Divergence
    stop: StopRequest
    train_step: TrainStep
    recorder: Recorder
    profiler: Profiler

    def run(self, state: TrainState, progress: Progress) -> Trouble | None:
        """Updates to the last step, which is saved, or until the run must go back, whose evidence is then recorded.

        Raises:
          Preempted: see `train`.
        """
        config, steps, divergence = self.trainer.config, self.trainer.optimizer_config.steps, self.divergence
        schedule = SaveSchedule(
            config.save_every_steps, config.save_every_minutes, config.log_every_steps, self.context.cluster
        )
        batches = self.trainer.job.training_batches(progress.next_batch)
        step, postponed = int(state.step), False
        # A run that was stopped at a line of metrics has not looked back.
        is_logged = step % config.log_every_steps == 0
        trouble = divergence.among_updates(state.recent, step, progress) if is_logged else None
        # The order matters: metrics and scores of step s must be written before checkpoint s.
        while True:
            last = step == steps
            if (step % config.evaluate_every_steps == 0 or last) and not self.recorder.holds(step, "eval/loss"):
                found = self._evaluate(state, step, progress)
                trouble = trouble or found
            self.checkpoints.preferred = self.recorder.best_step(config.best_metric)
            # Read once for all that depends on it: a signal may come at any moment.
            stopping = self.stop.reached()
            due = (
                last or schedule.is_due(step) or (step % config.log_every_steps == 0 and self.checkpoints.lost_a_save())
            )
            if due:
                trouble = trouble or divergence.among_updates(state.recent, step, progress)
            if trouble:
                with self.recorder.timed("evaluation"):
                    divergence.record(trouble, state, progress)
                return trouble
            due = due or postponed
            # A state that the last update did not fit is no good place to go back to; a later one is saved instead.
            postponed = due and not last and divergence.skipped_last(state.recent, step)
            if stopping or (due and not postponed):
                stopping = self._save(state, progress, stopping=stopping, last=last)
            if last:
                divergence.report(self.recorder.skipping_line(), state.recent, progress)
                return None
            if stopping:
                raise Preempted(
                    f"{self.stop.reason}: stopped after step {step:,} of {steps:,}; it is saved. "
                    f"Run the same command again to resume."
                )
            step, progress.next_batch = step + 1, progress.next_batch + 1
            state = self._update(state, step, batches)
            trouble = divergence.report(self.recorder.skipping_line(), state.recent, progress)

    def _evaluate(self, state: TrainState, step: int, progress: Progress) -> Trouble | None:
        """Records the scores of a state, unless the run is asked to stop meanwhile."""
        with self.recorder.timed("evaluation"):
            scores = evaluate(self.trainer, state, should_stop=self.stop.reached)
        if scores is None:
            return None
        self.recorder.evaluated(step, scores, self.trainer.inspected(state))
        return self.divergence.among_scores(scores, step, progress)

    def _save(self, state: TrainState, progress: Progress, *, stopping: bool, last: bool) -> bool:
        """Saves in the background, or to the end if the run ends here; returns whether it is asked to stop."""
        self.recorder.publish()
        self.context.check_owner()
        with self.recorder.timed("save"):
            if not stopping:
                self.checkpoints.save(state, progress)
                stopping = self.stop.reached()  # A request during the save needs no other one.
            if stopping or last:
                self.checkpoints.finish(state, progress)
        return stopping

    def _update(self, state: TrainState, step: int, batches: Iterator[Batch]) -> TrainState:
        """The state after update number `step`, which reads the next batch."""
        with self.recorder.timed("data_wait"):
            batch = next(batches)
        self.profiler.before(step)
        root_key = self.trainer.root_key
        with jax.profiler.StepTraceAnnotation("train", step_num=step - 1):
            rows = self.trainer.put(batch)
            # A transfer that nobody asked for would make every step wait.
            with jax.transfer_guard_host_to_device("disallow"), jax.transfer_guard_device_to_host("disallow"):
                state, metrics = self.train_step(state, rows, root_key)
        self.profiler.after(step, metrics)
        self.recorder.stepped(step, metrics, self.trainer.job.work(batch))
        if not self.stop.is_holding:
            # When the first update is complete all processes have compiled, and there is something to save.
            jax.block_until_ready(metrics)
            self.stop.hold()
        return state


def _compiled(trainer: Trainer, state: TrainState, recorder: Recorder, line: ProgressLine) -> TrainStep:
    """The training step, compiled; and the evaluation, if the first update comes before it."""
    shapes = len(trainer.job.batch_shapes())
    line.print(f"Compiling the training step{f' for {shapes} batch shapes' if shapes > 1 else ''} …")
    with CompiledPrograms() as programs, recorder.timed("compile"):
        train_step = trainer.compile()
    recorder.compiled(programs)
    if recorder.holds(int(state.step), "eval/loss"):
        with recorder.timed("compile"):
            _compile_evaluation(trainer, state)
    return train_step


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
