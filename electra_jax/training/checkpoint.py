"""Checkpoints, through Orbax; no other file writes or restores one.

Checkpoint s holds the state after s updates and, in the same commit, the data position, the clock, and a digest of each
array, which is verified whenever the checkpoint is read. A save runs in the background; if the process is killed
meanwhile, the checkpoint before it stays the newest.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import orbax.checkpoint as ocp
import tensorstore
from absl import logging as absl_logging
from orbax.checkpoint import checkpoint_managers as policies

from electra_jax import storage
from electra_jax.errors import Diverged, InputError, MismatchError, Preempted, RunError, StorageLost
from electra_jax.training import (
    array_digests,
    checkpoint_errors,
    checkpoint_record,
    checkpoint_steps,
    recent_updates,
)
from electra_jax.training.checkpoint_record import Damaged, Progress, Record
from electra_jax.training.checkpoint_steps import PROGRESS, STATE
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.state import TrainState

# Seconds before storage that failed is tried again; after the last, the run stops.
PAUSES = (2.0, 8.0, 30.0)
_READ_BACK_BYTES = 256 * 2**20  # At a time, next to the state that is being trained.
_STATISTICS = "recent"  # A part of the state.


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was restored and verified."""

    step: int
    state: TrainState
    progress: Progress


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
      preferred: a step whose checkpoint is kept in any case; None for none.
    """

    def __init__(
        self,
        directory: storage.Path,
        keep_last: int,
        keep_every_steps: int,
        cluster: Cluster,
        note: Callable[[str], None] = absl_logging.warning,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """Reads and writes nothing yet.

        Args:
          directory: an absolute path or an address; need not exist.
          keep_last: how many of the newest checkpoints are kept.
          keep_every_steps: checkpoints at multiples of it are always kept; 0 for none.
          cluster: the processes of the run, all of which open it.
          note: called with what a user should know, in a line or two.
          pauses: seconds before each repetition of what storage refused.

        Raises:
          InputError: checkpoints cannot be written under such a name.
        """
        if problem := checkpoint_steps.problem(directory):
            raise InputError(problem)
        self._directory, self._cluster, self._note, self._pauses = os.fspath(directory), cluster, note, pauses
        self._keep_last, self._keep_every_steps = keep_last, keep_every_steps
        # Orbax and asyncio print the stack of each unfinished write; what is raised here has the reason, once.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        absl_logging.get_absl_logger().addFilter(_is_not_orbax)
        # Orbax reads tensorstore's counters eight times in a save, to log the throughput. Each call leaks 8 kB of host
        # memory, as does each value that tensorstore turns from JSON into Python (0.1.76 to 0.1.86).
        tensorstore.experimental_collect_matching_metrics = _no_counters
        self.preferred: int | None = None
        self._resources = contextlib.ExitStack()
        self._opened: ocp.CheckpointManager | None = None
        self._failures = 0  # Of saves in the background, since the last that succeeded.
        self._is_proven = False  # Whether a checkpoint of this run was read back from this storage.

    @functools.cached_property
    def _plain_directory(self) -> str:
        """The path for Orbax, which must exist."""
        if not storage.is_remote(self._directory):
            os.makedirs(self._directory, exist_ok=True)
        return self._resources.enter_context(checkpoint_steps.plain(self._directory))

    @property
    def _manager(self) -> ocp.CheckpointManager:
        """Orbax's manager, opened when the folder holds nothing but what it may read."""
        if self._opened is None:
            kept = [policies.LatestN(self._keep_last), _Preferred(self)]
            if self._keep_every_steps:
                kept.append(policies.EveryNSteps(self._keep_every_steps))
            options = ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(kept),
                # The loop decides when to save.
                save_decision_policy=policies.FixedIntervalPolicy(1),
                enable_async_checkpointing=True,
            )
            self._opened = ocp.CheckpointManager(
                storage.for_orbax(self._plain_directory), options=options, item_names=(STATE, PROGRESS)
            )
        return self._opened

    def latest_step(self) -> int | None:
        """The newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """All complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def open(self) -> None:
        """Prepares the folder for writing, and removes what a killed process left half-written.

        Raises:
          InputError: the folder cannot be written.
        """
        self._cluster.from_first(self._prepare)
        self._is_proven = self._cluster.from_first(self._was_read_back)

    def _prepare(self) -> None:
        probe = storage.join(self._directory, ".probe")
        try:
            for name in checkpoint_steps.remove_unfinished(self._directory):
                self._note(f"Removed {name}, which a process had not finished when it ended.")
            storage.write(probe, b"")
            storage.remove(probe)
        except OSError as error:
            raise InputError(
                f"{self._directory}: cannot be written ({checkpoint_errors.in_a_line(error)}); nothing was trained. "
                "Free some space, fix the permissions or give another --workdir."
            ) from error

    def restore_newest(self, abstract: TrainState, shardings: Any, *, sets_aside: bool = True) -> Restored | None:
        """Restores the newest checkpoint that is intact; all processes agree on it.

        A damaged one is set aside under another name by process 0 and the one before is tried.

        Args:
          abstract: shapes and dtypes of the state.
          shardings: where its leaves are placed.
          sets_aside: whether damaged ones get another name; false where another process may be training.

        Returns:
          The checkpoint; None if there is none.

        Raises:
          MismatchError: the newest intact one is of another config, or all are damaged.
          StorageLost: storage cannot be read.
          InputError: it must not be read.
        """
        passed: dict[int, str] = {}

        def newest() -> int | None:
            return max(set(checkpoint_steps.steps(self._directory)) - passed.keys(), default=None)

        while (step := self._cluster.from_first(lambda: self._retried(newest))) is not None:
            try:
                state, progress = self._restored(step, abstract, shardings)
                return Restored(step, state, progress)
            except Damaged as error:
                passed[step] = str(error)
                self._cluster.from_first(functools.partial(self._pass_over, step, str(error), sets_aside))
        if passed:
            listed = "\n".join(f"  {step}: {reason}" for step, reason in passed.items())
            raise MismatchError(
                f"{self._directory}: no checkpoint of this run can be used:\n{listed}\n"
                "Copy an intact one there, or train from the beginning with --restart or in another --workdir."
            )
        return None

    def _pass_over(self, step: int, reason: str, sets_aside: bool) -> None:
        if not sets_aside:
            self._note(f"Checkpoint {step:,} is damaged and left out: {reason}.")
            return
        try:
            name = checkpoint_steps.set_aside(self._directory, str(step))
        except OSError as error:
            raise InputError(
                f"{checkpoint_steps.place(self._directory, step)} is damaged ({reason}) and cannot be renamed "
                f"({checkpoint_errors.in_a_line(error)}); move it elsewhere, then run the same command again"
            ) from error
        self._note(f"Checkpoint {step:,} is damaged and set aside as {name}: {reason}.")

    def restore(self, step: int, abstract: TrainState, shardings: Any) -> tuple[TrainState, Progress]:
        """The state and progress at a step, placed by `shardings`.

        Raises:
          MismatchError: the checkpoint does not have the parameters of this config's model, or is damaged.
          StorageLost: storage cannot be read.
        """
        try:
            return self._restored(step, abstract, shardings)
        except Damaged as error:
            raise MismatchError(
                f"checkpoint {step} in {self._directory} is damaged: {error}\n"
                "Restore it from a copy, or train again in another --workdir."
            ) from error

    def _restored(self, step: int, abstract: TrainState, shardings: Any) -> tuple[TrainState, Progress]:
        """Reads and verifies a checkpoint; all processes raise the same Damaged or RunError, or none."""
        record = self._agreed(step, lambda: checkpoint_steps.read_record(self._directory, step))
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, shardings
        )
        if not _has_statistics(record):
            target = {name: part for name, part in vars(target).items() if name != _STATISTICS}
        if record.arrays is not None:
            place = f"checkpoint {step} in {self._directory}"
            checkpoint_record.check_fits(record.arrays, array_digests.names_of(target), place)
        read = self._agreed(step, lambda: self._read(step, target, record))
        # Together: the digest of an array that several processes hold is computed by all of them.
        digests = array_digests.digests(read)
        state = read if isinstance(read, TrainState) else _with_statistics(read, abstract, shardings)
        self._agreed(step, lambda: _verify(state, record, digests, step))
        if record.arrays is None:
            self._note(f"Checkpoint {step:,} was written without checksums; it was restored unverified.")
        return state, record.progress

    def _read(self, step: int, target: Any, record: Record) -> Any:
        """The arrays of a checkpoint, unverified; leaves of the target may be left out as `ocp.PLACEHOLDER`."""
        folder = storage.join(checkpoint_steps.place(self._plain_directory, step), STATE)
        handler = ocp.PyTreeCheckpointHandler()
        arguments = ocp.args.PyTreeRestore(
            item=target,
            restore_args=jax.tree.map(
                lambda leaf: (
                    leaf
                    if leaf is ocp.PLACEHOLDER
                    else ocp.ArrayRestoreArgs(sharding=leaf.sharding, dtype=leaf.dtype, global_shape=leaf.shape)
                ),
                target,
            ),
        )

        def restore() -> Any:
            try:
                return handler.restore(storage.for_orbax(folder), args=arguments)
            except ValueError as error:
                if record.arrays is None and _is_mismatch(error):
                    raise MismatchError(
                        f"checkpoint {step} in {self._directory} does not fit this config or is damaged: {error}\n"
                        f"Resume with the config it was made with, or give another --workdir."
                    ) from error
                raise

        with contextlib.closing(handler):
            return checkpoint_errors.read_plainly(restore)

    def _agreed(self, step: int, make: Callable[[], Any]) -> Any:
        """The result of `make` in each process; if one finds damage, all raise it.

        Raises:
          Damaged: some process found the checkpoint damaged.
          RunError: some process found another reason to end, or storage cannot be read.
        """
        value, outcome = None, ("", "")
        try:
            value = self._retried(make)
        except Damaged as error:
            outcome = ("damaged", str(error))
        except RunError as error:
            if self._cluster.count == 1:
                raise
            outcome = (type(error).__name__, str(error))
        outcomes = self._cluster.from_each(outcome, f"reading checkpoint {step}")
        for kind in (MismatchError, InputError, StorageLost):
            for name, text in outcomes:
                if name == kind.__name__:
                    raise kind(text)
        for index, (name, text) in enumerate(outcomes):
            if name:
                raise Damaged(text if self._cluster.count == 1 else f"{text} ({self._cluster.name(index)})")
        return value

    def _retried(self, make: Callable[[], Any]) -> Any:
        """The result of `make`, tried again if storage cannot be read.

        Raises:
          StorageLost: it cannot be read at all.
          InputError: it must not be read.
        """
        for pause in (*self._pauses, None):
            try:
                return make()
            except (OSError, ValueError) as error:
                if isinstance(error, PermissionError):
                    raise InputError(
                        f"{error.filename or self._directory}: must not be read; fix its permissions"
                    ) from error
                if not checkpoint_errors.is_trouble(error):
                    raise
                reason = checkpoint_errors.in_a_line(error)
                if pause is None:
                    raise StorageLost(
                        f"{self._directory}: failed to read checkpoints: {reason}\n"
                        "Nothing was changed. Check the storage, then run the same command again."
                    ) from error
                self._note(f"Failed to read checkpoints ({reason}); trying again in {pause:g} s.")
                time.sleep(pause)
        raise AssertionError("unreachable")

    def discard_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, from which the run must not resume; called in all processes.

        Raises:
          OSError, StorageLost: one cannot be deleted.
        """

        def delete() -> None:
            # The newest first: what a kill leaves is then what the run once had.
            for later in reversed(checkpoint_steps.steps(self._directory)):
                if later > step:
                    storage.remove(checkpoint_steps.place(self._directory, later))

        self._cluster.from_first(delete)
        self._reopen()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Saves in the background, unless this step is saved already; the first of a run is read back at once.

        Raises:
          StorageLost: the disk is full, or the directory cannot be written any more.
          InputError: storage does not return what was written.
        """
        if self._is_proven:
            self._written(lambda: self._begin(state, progress))
        else:
            self.finish(state, progress)
            self._read_back(int(state.step), state)

    def finish(self, state: TrainState, progress: Progress) -> None:
        """Saves unless this step is saved already, and returns when it is complete; raises like `save`."""

        def whole() -> None:
            self._begin(state, progress)
            self._wait()

        self._written(whole)
        if not self._is_proven:
            self._cluster.from_first(lambda: self._mark(int(state.step), read_back=False))

    def wait(self) -> None:
        """Returns when the last save is complete.

        Raises:
          StorageLost: it failed.
        """
        try:
            self._wait()
        except Exception as error:
            self._give_up(self._reason(error), error)

    def _wait(self) -> None:
        self._manager.wait_until_finished()
        self._manager.check_for_errors()

    def lost_a_save(self) -> bool:
        """Whether a save in the background has failed, so that another is due; asked now and then.

        Raises:
          StorageLost: too many have failed one after the other.
        """
        if self._manager.is_saving_in_progress():
            return False
        try:
            # Of `check_for_errors` Orbax's own thread has already taken the error.
            self._wait()
            return False
        except Exception as error:
            self._failures += 1
            reason = self._reason(error)
            # Several processes wait for each other within a save, and could not begin another one alone.
            if self._failures > len(self._pauses) or self._cluster.count > 1:
                self._give_up(reason, error)
            self._note(f"A checkpoint failed to be written ({reason}); the next step is saved instead.")
            self._reopen()
            return True

    def _begin(self, state: TrainState, progress: Progress) -> None:
        """Starts a save; raises the error of the one before."""
        step = int(state.step)
        self._manager.check_for_errors()
        if step in self._manager.all_steps():
            return
        arrays = checkpoint_record.arrays_of(array_digests.names_of(state), array_digests.digests(state))
        began = self._manager.save(
            step,
            args=ocp.args.Composite(
                **{
                    STATE: ocp.args.StandardSave(state),
                    PROGRESS: ocp.args.JsonSave(checkpoint_record.to_json(step, progress, arrays)),
                }
            ),
        )
        if not began:
            # Orbax passes over steps below the newest that it knows of, without a word.
            raise ValueError(f"Orbax refused to save step {step}; it knows {self._manager.all_steps()}")

    def _written(self, write: Callable[[], None]) -> None:
        """Calls `write`, and again after a pause if storage refuses."""
        for pause in (*self._pauses, None):
            try:
                write()
                self._failures = 0
                return
            except Exception as error:
                reason = self._reason(error)
                if pause is None or self._cluster.count > 1:
                    self._give_up(reason, error)
                self._note(f"Failed to write a checkpoint ({reason}); trying again in {pause:g} s.")
                self._reopen()
                time.sleep(pause)

    def _reason(self, error: Exception) -> str:
        """The reason of a failed save; raises what is none: an error of the devices, or a process that is gone."""
        cause: BaseException | None = error
        while isinstance(cause, Exception):
            if (explained := self._cluster.explained(cause)) is not None:
                raise explained from error
            if isinstance(cause, RunError | jax.errors.JaxRuntimeError):
                raise error
            cause = cause.__cause__
        return checkpoint_errors.in_a_line(error)

    def _reopen(self) -> None:
        """Forgets what Orbax believes to be saved, as after a failed commit, and reads it again from storage."""
        if self._opened is not None:
            with contextlib.suppress(Exception):  # The error of the same save, once more.
                self._opened.close()
            self._opened = None

    def _give_up(self, reason: str, error: Exception) -> NoReturn:
        try:
            newest = checkpoint_steps.newest_complete(self._directory)
            kept = (
                "No checkpoint was completed yet" if newest is None else f"The newest complete checkpoint is {newest}"
            )
        except OSError:
            kept = "What was saved before stays"
        raise StorageLost(
            f"{self._directory}: failed to write a checkpoint: {reason}\n"
            f"{kept}. Free some space or fix the directory's permissions, then run the same command again."
        ) from error

    def _read_back(self, step: int, state: TrainState) -> None:
        """Compares the complete checkpoint of a state with the state; both remain.

        Raises:
          InputError: they differ.
        """
        try:
            record = self._agreed(step, lambda: checkpoint_steps.read_record(self._directory, step))
            for part in _parts(state, _READ_BACK_BYTES):
                read = self._agreed(step, functools.partial(self._read, step, part, record))
                kept = {
                    name: leaf for name, leaf in array_digests.names_of(read).items() if leaf is not ocp.PLACEHOLDER
                }
                digests = array_digests.digests(kept)
                self._agreed(step, functools.partial(checkpoint_record.check_digests, record.arrays or {}, digests))
        except Damaged as error:
            raise InputError(
                f"{self._directory}: the first checkpoint, {step}, was read back and is not what was written: {error}\n"
                "This storage cannot be trusted; give a --workdir on another."
            ) from error
        self._cluster.from_first(lambda: self._mark(step, read_back=True))
        self._is_proven = True

    def _mark(self, step: int, read_back: bool) -> None:
        storage.write_json(mark_of(self._directory), {"checkpoint": step, "read_back": read_back})

    def _was_read_back(self) -> bool:
        mark = mark_of(self._directory)
        try:
            return storage.exists(mark) and bool(json.loads(storage.read(mark))["read_back"])
        except (ValueError, KeyError, TypeError):
            return False

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Closes, unless an error ends this process alone: closing would wait for the others without end."""
        if isinstance(error, StorageLost) and self._cluster.count == 1:
            with contextlib.suppress(Exception):  # The same error again.
                self.close()
        elif error is None or isinstance(error, (Preempted, Diverged)) or self._cluster.count == 1:
            self.close()

    def close(self) -> None:
        """Waits for the save in progress and closes the directory."""
        with self._resources:
            if self._opened is not None:
                self._opened.close()


def mark_of(directory: storage.Path) -> str:
    """The file next to a folder of checkpoints which says that a checkpoint of the run was complete."""
    return f"{os.fspath(directory)}.json"


@dataclasses.dataclass
class _Preferred:
    """Keeps the preferred checkpoint; an Orbax preservation policy, asked after every save."""

    checkpoints: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        return [info.step == self.checkpoints.preferred for info in checkpoints]


def _no_counters(metric_prefix: str = "", include_zero_metrics: bool | None = False) -> list[Any]:
    """Stands in for tensorstore's function of that signature."""
    return []


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return "/orbax/checkpoint/" not in record.pathname or absl_logging.level_info()


def _is_mismatch(error: ValueError) -> bool:
    """Whether Orbax compared a tree or a shape with what was asked for, and found another one."""
    return any(
        text in str(error) for text in ("do not match", "not compatible", "Truncating/padding", "Structure mismatch")
    )


def _has_statistics(record: Record) -> bool:
    """Whether a checkpoint has those of recent updates; earlier versions, and all before digests, saved none."""
    return record.arrays is not None and any(name.startswith(f"{_STATISTICS}/") for name in record.arrays)


def _with_statistics(parts: Mapping[str, Any], abstract: TrainState, shardings: Any) -> TrainState:
    """The state of all other parts, with the statistics of a run before its first update."""
    nothing = recent_updates.nothing_yet(len(recent_updates.watched(abstract.metrics)))
    return TrainState(**parts, **{_STATISTICS: jax.device_put(nothing, shardings.recent)})


def _verify(state: TrainState, record: Record, digests: Mapping[str, int], step: int) -> None:
    """Raises Damaged if a restored state is not the one that was saved."""
    if record.arrays is not None:
        checkpoint_record.check_digests(record.arrays, digests)
    if int(state.step) != step:
        raise Damaged(f"its state is of step {int(state.step)}")


def _parts(state: TrainState, size: int) -> list[Any]:
    """Trees like the state's in which all leaves but some of at most `size` bytes are left out."""
    leaves, structure = jax.tree.flatten(state)
    groups: list[list[int]] = [[]]
    filled = 0
    for index, leaf in enumerate(leaves):
        if groups[-1] and filled + leaf.nbytes > size:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += leaf.nbytes
    return [
        jax.tree.unflatten(
            structure,
            [
                jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
                if index in chosen
                else ocp.PLACEHOLDER
                for index, leaf in enumerate(leaves)
            ],
        )
        for chosen in map(set, groups)
    ]
