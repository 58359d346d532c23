"""Runs one stage of a preparation over its units: in this process, in a pool of local processes, or on Apache Beam.

All three call the same function on the same units, whose files are the only result.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.progress import ProgressLine
from electra_jax.text.dataset import stages
from electra_jax.text.dataset.stages import Task
from electra_jax.text.dataset.units import WORK, Settings, Unit
from electra_jax.wording import duration

# A pool takes longer to start than this much text to read.
_BYTES_FOR_ONE_PROCESS = 4 << 20
_SECONDS_BETWEEN_LOOKS = 0.2


@dataclasses.dataclass(frozen=True)
class Runner:
    """Where units are processed.

    Attributes:
      workers: local processes; 0 for one for each available core.
      beam: the name of a Beam runner, such as "DirectRunner"; empty for local processes.
      beam_options: Beam's own command-line flags, such as "--project=…".
    """

    workers: int = 0
    beam: str = ""
    beam_options: tuple[str, ...] = ()

    def run(self, verb: str, task: Task, settings: Settings, todo: Sequence[Unit], line: ProgressLine) -> None:
        """Runs a task on each unit; those that succeed need not be repeated.

        Args:
          verb: label of the progress line.
          task: the work on one unit.
          settings: passed to the task.
          todo: the units.
          line: shows progress.

        Raises:
          InputError: some units failed; every reason is in the message.
        """
        if not todo:
            return
        total = sum(unit.size for unit in todo)
        workers = min(self.workers or _cores(), len(todo))
        if self.beam:
            faults = _run_on_beam(self, task, settings, todo)
        elif workers == 1 or total < _BYTES_FOR_ONE_PROCESS:
            progress = _Progress(verb, total, line)
            faults = [stages.attempt(task, settings, unit, progress.read) for unit in todo]
        else:
            faults = _run_in_pool(workers, task, settings, todo, _Progress(verb, total, line))
        # The same fault, such as a full disk, is reported once.
        if faults := list(dict.fromkeys(filter(None, faults))):
            raise InputError("\n".join(faults))


def _cores() -> int:
    """Cores that this process may use; all of them where the system does not tell (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Progress:
    """Progress line of bytes read: share, rate and time left."""

    def __init__(self, verb: str, total: int, line: ProgressLine) -> None:
        self._verb, self._total, self._line = verb, max(total, 1), line
        self._done = 0
        self._started = time.monotonic()

    def read(self, count: int) -> None:
        """Counts bytes read."""
        self.show(self._done + count)

    def show(self, done: int) -> None:
        """Shows the progress, given all bytes read so far."""
        self._done = done
        seconds = max(time.monotonic() - self._started, 1e-3)
        left = duration(seconds * max(self._total - done, 0) / done) if done else "?"
        self._line.update(
            f"{self._verb}  {min(done / self._total, 1):.0%} of {self._total / 1e6:,.1f} MB  "
            f"{done / 1e6 / seconds:.1f} MB/s  {left} left"
        )


def _run_in_pool(workers: int, task: Task, settings: Settings, todo: Sequence[Unit], progress: _Progress) -> list[str]:
    # Spawned, not forked: TensorFlow and JAX may be running threads here.
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (done,))
    try:
        futures = [pool.submit(_work, task, settings, unit) for unit in todo]
        waiting = set(futures)
        while waiting:
            _, waiting = concurrent.futures.wait(waiting, timeout=_SECONDS_BETWEEN_LOOKS)
            progress.show(done.value)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise InputError(
            f"One of {workers} workers was killed, most often for lack of memory. Run the same command again, which "
            f"continues from here, perhaps with fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# The counter that the workers of a pool share, set once when a worker starts: a process can inherit it, a unit cannot
# carry it.
_counter: list["Synchronized[int]"] = []


def _start_worker(done: "Synchronized[int]") -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # There is a process for each core.
    _counter[:] = [done]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # A worker always has one.
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _work(task: Task, settings: Settings, unit: Unit) -> str:
    (done,) = _counter

    def read(count: int) -> None:
        with done.get_lock():
            done.value += count

    return stages.attempt(task, settings, unit, read)


def _run_on_beam(runner: Runner, task: Task, settings: Settings, todo: Sequence[Unit]) -> list[str]:
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(
            f"--runner={runner.beam}: Apache Beam is not installed; pip install -r requirements-beam.txt"
        ) from error
    beam: Any = apache_beam  # Its transforms are typed in part.
    faults = storage.join(settings.directory, WORK, "faults")
    storage.remove(faults)
    try:
        options = PipelineOptions([f"--runner={runner.beam}", *runner.beam_options])
        with beam.Pipeline(options=options) as pipeline:
            # Reshuffled, because units made in one place would also be worked on in one place.
            units_to_do = pipeline | beam.Create(list(todo)) | beam.Reshuffle()
            _ = units_to_do | beam.Map(_work_on_beam, task, settings)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--runner={runner.beam}: Beam could not run the units: {error}") from error
    return [storage.read(storage.join(faults, name)).decode() for name in storage.names(faults)]


def _work_on_beam(unit: Unit, task: Task, settings: Settings) -> None:
    """Writes failures to files: an exception would make Beam repeat the work, and then hide the reason in its log."""
    if fault := stages.attempt(task, settings, unit, _unread):
        storage.write(storage.join(settings.directory, WORK, "faults", f"{unit.number:05d}.txt"), fault.encode())


def _unread(count: int) -> None:
    """Bytes read on a cluster are not counted."""
