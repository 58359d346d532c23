"""When a run diverges: too many updates are skipped, or the loss on held-out rows is not finite.

The run then goes back to its newest checkpoint from before that, and passes over the batches that it has read since;
when its rollbacks are used up, it ends. Each time, a file in the workdir's divergence/ says which batches it was, with
their text, losses and norms.

What is decided follows from the state and from steps alone, never from when a process looks, so that all processes, and
a run that was stopped and resumed, decide the same.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from electra_jax import storage
from electra_jax.errors import Diverged
from electra_jax.nested import json_ready
from electra_jax.training import goodput
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.diagnosis import Diagnosis
from electra_jax.training.optimizer import learning_rate
from electra_jax.training.recent_updates import RecentUpdates, limits, watched
from electra_jax.training.run_context import RunContext
from electra_jax.training.state import TrainState
from electra_jax.training.trainer import Trainer

FOLDER = "divergence"
WINDOW = 100  # Updates among which `max_skipped` counts.
_DIAGNOSED = 3  # Skipped updates that are computed once more.
_SHOWN_ROWS = 8  # Rows of each with the largest losses.
_NAMED = 3  # Skipped updates that one line of the log names.


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An update that was skipped.

    Attributes:
      step: the state's step before it.
      batch: the global batch that it read.
      values: its losses and the norm of its gradient, by name.
      reason: why it was skipped.
    """

    step: int
    batch: int
    values: Mapping[str, float]
    reason: str


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Why a run cannot continue from where it is.

    Attributes:
      step: updates of the run when it was found.
      cause: what happened, as a clause.
      good_until: the last step whose state is from before it.
      next_batch: the first global batch that is read after going back.
      skipped: updates that were skipped, in their order; empty if held-out rows are the cause.
      scores: held-out scores if they are the cause.
    """

    step: int
    cause: str
    good_until: int
    next_batch: int
    skipped: tuple[Skipped, ...] = ()
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Divergence:
    """Finds trouble, records its evidence, and takes the run back."""

    def __init__(self, trainer: Trainer, context: RunContext, checkpoints: Checkpoints) -> None:
        self._trainer, self._context, self._checkpoints = trainer, context, checkpoints
        self._config = trainer.config.divergence
        self._evidence = ""  # Path of the last file.
        self._names = watched(trainer.abstract.metrics)

    def skipped_updates(self, recent: RecentUpdates, before: int, progress: Progress) -> list[Skipped]:
        """The remembered updates that were skipped before a step and since the last rollback, in their order.

        Args:
          recent: statistics of a state at that step or later.
          before: the step.
          progress: the data position of that state.
        """
        steps, values = jax.device_get((recent.skipped_steps_R, recent.skipped_values_RxN))
        skipped = []
        for step, row in zip(map(int, steps[::-1]), values[::-1], strict=True):
            if progress.rolled_back_to <= step < before:
                by_name = dict(zip(self._names, map(float, row), strict=True))
                skipped.append(Skipped(step, step + progress.batches_passed_over, by_name, self._reason(by_name)))
        return skipped

    def _reason(self, values: Mapping[str, float]) -> str:
        if broken := [name for name, value in values.items() if not math.isfinite(value)]:
            return f"{', '.join(broken)} not finite"
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        deviations = self._config.spike_deviations
        return f"{shown}: {f'a spike of more than {deviations:g} deviations' if deviations else 'a metric not finite'}"

    def among_updates(self, recent: RecentUpdates, step: int, progress: Progress) -> Trouble | None:
        """Trouble if more than `max_skipped` of a hundred updates before `step` were skipped."""
        skipped = self.skipped_updates(recent, step, progress)
        most = self._config.max_skipped
        for first, last in reversed(list(zip(skipped, skipped[most:], strict=False))):
            if last.step - first.step < WINDOW:
                counted = tuple(update for update in skipped if last.step - WINDOW < update.step <= last.step)
                return Trouble(
                    step=step,
                    cause=f"{len(counted)} of {WINDOW} updates were skipped ({last.reason}); "
                    f"--config.divergence.max_skipped={most}",
                    good_until=counted[0].step,
                    next_batch=last.batch + 1,
                    skipped=counted,
                )
        return None

    def skipped_last(self, recent: RecentUpdates, step: int) -> bool:
        """Whether the update to `step`, the step of that state, was skipped."""
        return int(jax.device_get(recent.skipped_steps_R)[0]) == step - 1

    def report(self, line_step: int | None, recent: RecentUpdates, progress: Progress) -> Trouble | None:
        """Prints which updates of a line of metrics were skipped, and returns trouble if these were too many.

        Args:
          line_step: the step of the line; None if there is none, or nothing was skipped.
          recent: statistics of a state at that step or later.
          progress: the data position of that state.
        """
        if line_step is None:
            return None
        since = line_step - self._trainer.config.log_every_steps
        skipped = [update for update in self.skipped_updates(recent, line_step, progress) if update.step >= since]
        if skipped:
            named = "; ".join(f"batch {update.batch:,}, {update.reason}" for update in skipped[:_NAMED])
            more = f"; and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
            self._context.line.print(f"Skipped {len(skipped)} of the updates to step {line_step:,}: {named}{more}.")
        return self.among_updates(recent, line_step, progress)

    def among_scores(self, scores: Mapping[str, float], step: int, progress: Progress) -> Trouble | None:
        """Trouble if a held-out loss is not finite."""
        broken = [name for name, value in scores.items() if name.split("/")[-1] == "loss" and not math.isfinite(value)]
        if not broken:
            return None
        cause = f"{', '.join(broken)} is not finite on held-out rows"
        return Trouble(step, cause, good_until=step - 1, next_batch=progress.next_batch, scores=scores)

    def record(self, trouble: Trouble, state: TrainState, progress: Progress) -> None:
        """Writes the evidence; called in all processes, in the mesh's context."""
        number = progress.rollbacks + 1
        self._evidence = storage.join(self._context.workdir, FOLDER, f"{number}.json")
        evidence = json_ready(self._evidence_of(trouble, state, progress))

        def write() -> str:
            # Evidence that cannot be written must not hide what happened.
            try:
                storage.write_json(self._evidence, evidence)
            except OSError as error:
                return str(error)
            return ""

        if problem := self._context.cluster.from_first(write):
            self._context.line.print(f"No evidence: {problem}")

    def rolled_back(self, trouble: Trouble, progress: Progress) -> tuple[TrainState, Progress]:
        """The state and progress from which the run continues; deletes newer checkpoints; called in all processes.

        Raises:
          Diverged: the rollbacks are used up, or there is nothing to go back to.
          ProcessLost: another process has taken the workdir over.
          StorageLost: checkpoints cannot be read or written.
          MismatchError: all checkpoints are damaged.
        """
        self._checkpoints.wait()
        steps = self._context.cluster.from_first(self._checkpoints.steps)
        if progress.rollbacks >= self._config.rollbacks or trouble.good_until < 0:
            raise Diverged(self._message(trouble, progress, max(steps, default=None)))
        self._context.check_owner()
        restored = None
        if (target := _target(trouble, progress, steps)) is not None:
            self._checkpoints.discard_after(target)
            # If it is damaged, it is set aside for the one before.
            restored = self._checkpoints.restore_newest(self._trainer.abstract, self._trainer.shardings)
        if restored:
            step, state, before = restored.step, restored.state, restored.progress
        else:
            step, state = 0, self._trainer.initial_state()
            before = Progress(next_batch=0, started_at=progress.started_at)
        self._context.line.print(
            f"Step {trouble.step:,}: {trouble.cause}. Back to "
            f"{f'checkpoint {step:,}' if restored else 'the start'} (rollback {progress.rollbacks + 1} of "
            f"{self._config.rollbacks}); batches {before.next_batch:,} to {trouble.next_batch - 1:,} are passed over. "
            f"Evidence: {self._evidence}"
        )
        return state, dataclasses.replace(
            before,
            next_batch=trouble.next_batch,
            seconds=goodput.seconds_after_going_back(progress, before),
            batches_passed_over=trouble.next_batch - step,
            rollbacks=progress.rollbacks + 1,
            rolled_back_to=step,
        )

    def _message(self, trouble: Trouble, progress: Progress, newest: int | None) -> str:
        kept = f"The newest checkpoint is {newest:,}." if newest is not None else "No checkpoint was written yet."
        after = f" after {progress.rollbacks} rollbacks" if progress.rollbacks else ""
        return (
            f"step {trouble.step}: {trouble.cause}{after}. {kept} Evidence: {self._evidence}, and in report.html\n"
            f"{self._advice}"
        )

    @property
    def _advice(self) -> str:
        settings = self._trainer.optimizer_config
        return (
            f"Lower --config.optimizer.learning_rate ({settings.learning_rate:g} now), lengthen the warm-up, lower "
            f"--config.optimizer.clip_norm ({settings.clip_norm:g} now), or compute in float32 with "
            f"--config.model.compute_dtype=float32, and start in a new --workdir."
        )

    def _evidence_of(self, trouble: Trouble, state: TrainState, progress: Progress) -> dict[str, Any]:
        trainer = self._trainer
        recent = jax.device_get(state.recent)
        limits_N = np.asarray(limits(recent, self._config.spike_deviations))
        deviation_N = np.sqrt(recent.variance_N)
        chosen = _spread(trouble.skipped, _DIAGNOSED)
        if not chosen and progress.next_batch > progress.rolled_back_to:
            # The last update before the evaluation.
            chosen = [Skipped(trouble.step - 1, progress.next_batch - 1, {}, trouble.cause)]
        return {
            "step": trouble.step,
            "cause": trouble.cause,
            "ends_the_run": progress.rollbacks >= self._config.rollbacks or trouble.good_until < 0,
            "rollbacks_before": progress.rollbacks,
            "advice": self._advice,
            "learning_rate": float(learning_rate(trainer.optimizer_config, trouble.step - 1)),
            "clip_norm": trainer.optimizer_config.clip_norm,
            "scores": dict(trouble.scores),
            "recent": {
                name: {
                    "mean": float(recent.mean_N[index]),
                    "standard_deviation": float(deviation_N[index]),
                    "limit": float(limits_N[index]),
                }
                for index, name in enumerate(self._names)
            },
            "skipped": [
                {"step": update.step, "batch": update.batch, "reason": update.reason, "values": dict(update.values)}
                for update in trouble.skipped
            ],
            "diagnosed": [self._diagnosed(update, state) for update in chosen],
        }

    def _diagnosed(self, update: Skipped, state: TrainState) -> dict[str, Any]:
        """Losses, norms and text of an update, computed once more with the parameters of now."""
        trainer = self._trainer
        batch = trainer.put(next(iter(trainer.job.training_batches(update.batch))))
        found: Diagnosis = jax.device_get(
            trainer.diagnose(state.params, np.int32(update.step), batch, trainer.root_key)
        )
        losses_B = found.row_losses_B
        # Those that are not finite first, then the largest.
        order_B = np.argsort(np.where(np.isfinite(losses_B), -losses_B, -np.inf), kind="stable")[:_SHOWN_ROWS]
        texts = trainer.job.texts(found.batch)
        return {
            "step": update.step,
            "batch": update.batch,
            "metrics": {
                name: float(total) / max(float(weight), 1.0) for name, (total, weight) in found.metrics.items()
            },
            "gradient_norm": float(found.gradient_norm),
            "gradient_norms": {name: norm.tolist() for name, norm in found.gradient_norms.items()},
            "parameter_norms": {name: norm.tolist() for name, norm in found.parameter_norms.items()},
            "rows": len(losses_B),
            "rows_not_finite": int((~np.isfinite(losses_B)).sum()),
            "largest": [
                {"row": int(row), "share_of_loss": float(losses_B[row]), "text": texts[row]} for row in order_B
            ],
        }


def _spread(updates: Sequence[Skipped], most: int) -> list[Skipped]:
    """The first, the last, and evenly some between them."""
    indices = np.unique(np.linspace(0, len(updates) - 1, min(most, len(updates))).round().astype(int))
    return [updates[index] for index in indices]


def _target(trouble: Trouble, progress: Progress, steps: Sequence[int]) -> int | None:
    """The checkpoint to go back to, of those at `steps`, ascending; None for the start of the run.

    Where the last rollback went is no use a second time if there is an older one.
    """
    good = [step for step in steps if step <= trouble.good_until]
    if progress.rollbacks and good and good[-1] == progress.rolled_back_to and len(good) > 1:
        good.pop()
    # All from within the trouble: their parameters are good, too, since skipped updates do not change them.
    return good[-1] if good else min(steps, default=None)
