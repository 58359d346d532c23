"""Runs the missing pieces of work, one by one or in several processes, and forecasts the time left."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import statistics
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from benchmarks.objectives.work import Piece, Store
from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.errors import InputError, Preempted, RunError
from electra_jax.progress import ProgressLine
from electra_jax.wording import duration


class Forecast:
    """Forecast of the time that pieces take, from finished ones of the same kind."""

    def __init__(self) -> None:
        self._rates: dict[str, list[float]] = {}

    def note(self, piece: Piece, seconds: float) -> None:
        """Records the time of a finished piece."""
        self._rates.setdefault(piece.kind, []).append(seconds / piece.amount)

    def seconds(self, piece: Piece) -> float | None:
        """Expected time of a piece by itself; None before one of its kind has finished."""
        rates = self._rates.get(piece.kind)
        return statistics.median(rates) * piece.amount if rates else None


def worded_forecast(forecast: Forecast, pieces: Sequence[Piece], jobs: int) -> str:
    """Expected time of these pieces as text; "at least" if some are of a kind that has not finished yet."""
    known = [forecast.seconds(piece) for piece in pieces]
    if not any(known):
        return "duration not known yet"
    at_least = "at least " if None in known else ""
    return f"{at_least}{duration(sum(filter(None, known)) / jobs)} left"


class Executor:
    """Runs the pieces that are not done yet.

    Attributes:
      planned: all known pieces of a comparison, for the count and the forecast.
      failures: one reason per failed piece; pieces that depend on it are not run.
    """

    def __init__(self, store: Store, jobs: int, line: ProgressLine) -> None:
        """Starts no process yet.

        Args:
          store: holds the results.
          jobs: pieces in parallel; if several, each in its own process with its share of the cores.
          line: reports progress.
        """
        self._store, self._jobs, self._line = store, jobs, line
        self._forecast = Forecast()
        self._finetuner: list[Any] = []
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        self.failures: list[str] = []
        self.planned: dict[str, Piece] = {}
        self._done: set[str] = set()  # By path, like `_running`.
        self._running: set[str] = set()

    def expect(self, pieces: Sequence[Piece]) -> None:
        """Replaces the pieces that are counted; the times of finished ones enter the forecast."""
        self.planned = {piece.path: piece for piece in pieces}
        for piece in self.planned.values():
            if piece.path not in self._done and (record := self._store.record(piece)):
                self._note(piece, record["seconds"])

    def run(self, pieces: Sequence[Piece]) -> None:
        """Runs those of the pieces that are not done.

        Raises:
          Preempted: a signal stopped it; saved state is kept.
        """
        todo = [piece for piece in pieces if self._store.record(piece) is None]
        for piece, started, error in self._results(todo):
            self._running.discard(piece.path)
            if isinstance(error, (Preempted, KeyboardInterrupt)):
                raise Preempted(f"{piece.name}: {error}".removesuffix(": ")) from error
            if error is not None:
                self.failures.append(str(error))
                self._line.print(f"  failed: {piece.name}: {error}\n  log: {self._store.log(piece)}")
                continue
            seconds = time.monotonic() - started
            self._note(piece, seconds)
            self._line.print(f"  done in {duration(seconds)}: {piece.name}")

    def _note(self, piece: Piece, seconds: float) -> None:
        self._done.add(piece.path)
        self._forecast.note(piece, seconds)

    def close(self) -> None:
        """Ends the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _results(self, todo: Sequence[Piece]) -> Iterator[tuple[Piece, float, BaseException | None]]:
        if self._jobs == 1:
            yield from self._one_by_one(todo)
        elif todo:
            yield from self._in_pool(todo)

    def _one_by_one(self, todo: Sequence[Piece]) -> Iterator[tuple[Piece, float, BaseException | None]]:
        for piece in todo:
            self._announce(piece)
            started = time.monotonic()
            yield piece, started, attempt(piece, self._store, self._finetuner)

    def _in_pool(self, todo: Sequence[Piece]) -> Iterator[tuple[Piece, float, BaseException | None]]:
        if self._pool is None:
            # Spawned, not forked: JAX may be running threads here.
            context = multiprocessing.get_context("spawn")
            numbers = context.SimpleQueue()
            for number in range(self._jobs):
                numbers.put(number)
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self._jobs, context, _start_worker, (numbers, self._jobs)
            )
        waiting: dict[concurrent.futures.Future, tuple[Piece, float]] = {}
        left = list(todo)
        try:
            while left or waiting:
                while left and len(waiting) < self._jobs:
                    piece = left.pop(0)
                    self._announce(piece)
                    waiting[self._pool.submit(_attempt_in_worker, piece, self._store)] = piece, time.monotonic()
                done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    piece, started = waiting.pop(future)
                    yield piece, started, future.result()
        except BrokenProcessPool as error:
            raise InputError(
                f"One of {self._jobs} processes was killed, probably because memory ran out. Run the same command "
                "again to resume from here, if needed with fewer --jobs."
            ) from error

    def _announce(self, piece: Piece) -> None:
        self._running.add(piece.path)
        left = [other for path, other in self.planned.items() if path not in self._done]
        number = len(self.planned) - len(left) + len(self._running)
        own = self._forecast.seconds(piece)
        took = f"about {duration(own)}; " if own else ""
        everything = worded_forecast(self._forecast, left, self._jobs)
        self._line.print(f"[{number}/{len(self.planned)}] {piece.name} ({took}{everything})")


def attempt(piece: Piece, store: Store, finetuner: list[Any]) -> BaseException | None:
    """Runs a piece and stores its result; returns the error if it failed.

    Args:
      piece: the piece to run.
      store: receives the result.
      finetuner: holds the `scoring.Finetuner` of this process once it is needed.
    """
    started = time.monotonic()
    log = store.log(piece)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        try:
            result = _perform(piece, store, ProgressLine(stream), finetuner)
            store.finish(piece, result, time.monotonic() - started)
        except (RunError, KeyboardInterrupt) as error:
            stream.write(f"{error}\n")
            return error
        # Other pieces may still succeed; the log has the details.
        except Exception as error:
            traceback.print_exc(file=stream)
            return RunError(f"{type(error).__name__}: {error}")
    return None


def _perform(piece: Piece, store: Store, line: ProgressLine, finetuner: list[Any]) -> dict[str, Any]:
    # Imported here, so that JAX does not start if nothing is left to do.
    from benchmarks.objectives import scoring, training

    folder = store.folder(piece)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(piece.config, PretrainingConfig):
        return training.pretrain(piece.config, folder, line)
    if not isinstance(piece.config, FinetuningConfig):
        return training.step_seconds(piece.config, folder, line)
    if piece.work == "similarity":
        return scoring.similarity(piece.config, folder, line)
    if not finetuner:
        finetuner.append(scoring.Finetuner())
    return finetuner[0].run(piece.config, folder, line)


# The fine-tuner of a worker; filled when it is first needed.
_worker_finetuner: list[Any] = []


def _start_worker(numbers: Any, jobs: int) -> None:
    from electra_jax import allocator

    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        number = numbers.get()
        # XLA starts one thread per core that it may use.
        first, end = (place * len(cores) // jobs for place in (number, number + 1))
        own = cores[first : max(end, first + 1)]
        os.sched_setaffinity(0, own)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    allocator.keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent has ended, for whatever reason."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _attempt_in_worker(piece: Piece, store: Store) -> BaseException | None:
    return attempt(piece, store, _worker_finetuner)
