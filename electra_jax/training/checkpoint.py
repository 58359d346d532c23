"""Checkpoints, through Orbax; no other file calls it.

Checkpoint s holds the state after s updates and, in the same commit, the data position s and the clock.
A save runs in the background; if the process is killed meanwhile, the checkpoint before it stays the newest.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from electra_jax import storage
from electra_jax.errors import Diverged, InputError, MismatchError, Preempted
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.state import TrainState


@dataclasses.dataclass
class Progress:
    """The part of a checkpoint next to the state: the data position, and the time that the run has taken so far."""

    next_batch: int  # The global batch that the next update reads; equals the state's step.
    started_at: float  # Seconds since 1970 at the run's very first start.
    productive_seconds: float = 0.0  # Spent since then on updates that were not lost.


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
      preferred: a step whose checkpoint is kept in any case; None for none.
    """

    def __init__(self, directory: str, keep_last: int, keep_every_steps: int, cluster: Cluster) -> None:
        """Opens `directory`, which need not exist.

        Args:
          directory: an absolute path, or an address gs://….
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
        self._manager = ocp.CheckpointManager(
            storage.for_orbax(directory), options=options, item_names=("state", "progress")
        )

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
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()),
            )
        except (ValueError, KeyError, FileNotFoundError, OSError) as error:
            raise MismatchError(
                f"checkpoint {step} in {self._directory} does not fit this config or is damaged: {error}\n"
                f"Resume with the config it was made with, or give another --workdir."
            ) from error
        return restored["state"], Progress(**restored["progress"])

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
