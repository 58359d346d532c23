"""Checkpoints, through Orbax; no other file calls it.

Checkpoint s holds the state after s updates and, in the same commit, the data position s and the clock.
A save runs in the background; if the process is killed meanwhile, the checkpoint before it stays the newest.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from electra_jax.errors import Diverged, InputError, MismatchError, Preempted
from electra_jax.training import recent_updates
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.state import TrainState


@dataclasses.dataclass
class Progress:
    """The part of a checkpoint next to the state: the data position, and the time that the run has taken so far."""

    next_batch: int  # The global batch that the next update reads: the state's step + `batches_passed_over`.
    started_at: float  # Seconds since 1970 at the run's very first start.
    productive_seconds: float = 0.0  # Spent since then on updates that were not lost.
    batches_passed_over: int = 0  # Because the run went back after it diverged, and never reads them again.
    rollbacks: int = 0  # How often it went back.
    rolled_back_to: int = 0  # The step that it went back to the last time.


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
      preferred: a step whose checkpoint is kept in any case; None for none.
    """

    def __init__(self, directory: pathlib.Path, keep_last: int, keep_every_steps: int, cluster: Cluster) -> None:
        """Opens `directory`, which need not exist.

        Args:
          directory: an absolute path.
          keep_last: how many of the newest checkpoints are kept.
          keep_every_steps: checkpoints at multiples of it are always kept; 0 for none.
          cluster: the processes of the run, all of which open it.
        """
        self._directory, self._cluster = directory, cluster
        # When a save fails, asyncio prints every one of its unfinished writes; `save` and `wait` raise the reason once.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self.preferred: int | None = None
        kept = [policies.LatestN(keep_last), _Preferred(self)]
        if keep_every_steps:
            kept.append(policies.EveryNSteps(keep_every_steps))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(kept),
            # The loop decides when to save.
            save_decision_policy=policies.FixedIntervalPolicy(1),
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(directory, options=options, item_names=("state", "progress"))

    def resumable_step(self) -> int | None:
        """The newest complete checkpoint that process 0 finds, from which all processes resume."""
        return self._cluster.from_first(self.latest_step)

    def latest_step(self) -> int | None:
        """The newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """All complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, progress: Progress) -> None:
        """Saves in the background, unless this step is saved already; raises the error of an earlier save.

        Raises:
          InputError: the disk is full or the directory cannot be written.
        """
        step = int(state.step)
        try:
            self._manager.check_for_errors()
            if step not in self._manager.all_steps():
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(state),
                        progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
                    ),
                )
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Returns when the last save is complete; raises like `save`."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def restore(self, step: int, abstract: TrainState, shardings: Any) -> tuple[TrainState, Progress]:
        """The state and progress at a step, placed by `shardings`.

        Raises:
          MismatchError: the checkpoint does not have the parameters of this config's model, or is damaged.
        """
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, shardings
        )
        try:
            restored = self._restored(step, target)
            state = restored["state"]
            if not isinstance(state, TrainState):
                nothing = recent_updates.nothing_yet(len(recent_updates.watched(abstract.metrics)))
                state = TrainState(**state, recent=jax.device_put(nothing, shardings.recent))
        except (ValueError, KeyError, FileNotFoundError, OSError) as error:
            raise MismatchError(
                f"checkpoint {step} in {self._directory} does not fit this config or is damaged: {error}\n"
                f"Resume with the config it was made with, or give another --workdir."
            ) from error
        return state, Progress(**restored["progress"])

    def _restored(self, step: int, target: TrainState) -> Any:
        """The items of a checkpoint; the state of an earlier version as a dictionary without `recent`."""

        def restored(wanted: Any) -> Any:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted), progress=ocp.args.JsonRestore())
            return self._manager.restore(step, args=args)

        try:
            return restored(target)
        except ValueError as error:
            if "recent" not in str(error):
                raise
            try:
                return restored({name: part for name, part in vars(target).items() if name != "recent"})
            except ValueError:
                raise error from None

    def discard_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, from which the run must not resume; called in all processes."""
        for later in self._cluster.from_first(self.steps):
            if later > step:
                self._manager.delete(later)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Closes, unless an error ends this process alone: closing would wait for the others without end."""
        if error is None or isinstance(error, (Preempted, Diverged)) or self._cluster.count == 1:
            self.close()

    def close(self) -> None:
        """Waits for the save in progress and closes the directory."""
        self._manager.close()

    def _failed(self, error: Exception) -> InputError:
        newest = self.latest_step() or "none"
        return InputError(
            f"{self._directory}: failed to write a checkpoint: {str(error)[-300:]}\n"
            f"The newest complete checkpoint is {newest}. Free some space or fix the directory's permissions, "
            f"then run the same command again."
        )


@dataclasses.dataclass
class _Preferred:
    """Keeps the preferred checkpoint; an Orbax preservation policy, asked after every save."""

    checkpoints: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        return [info.step == self.checkpoints.preferred for info in checkpoints]
