"""A thread that notices when a training loop no longer gets ahead, and writes down where every thread is."""

import faulthandler
import os
import sys
import tempfile
import threading
import time
from types import TracebackType

from electra_jax import storage
from electra_jax.training.run_context import RunContext

_LOOKS = 20  # Within the time without progress.


class HangWatch:
    """Reports once, in the log and in the workdir, that there has been no progress for too long.

    Progress is what `beat` is called for: an update, or a batch of an evaluation. A save that does not end is therefore
    found too, and compiling must be over when the watch starts.
    """

    def __init__(self, context: RunContext, minutes: float, *, ends_run: bool) -> None:
        """Watches nothing before `start`.

        Args:
          context: the run's context.
          minutes: the longest time without progress; 0 watches nothing at all.
          ends_run: whether to end the process then, so that it is started again.
        """
        self._context, self._seconds, self._ends_run = context, 60 * minutes, ends_run
        self._beat_at = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "HangWatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def start(self) -> None:
        """Begins to watch, after the first update."""
        self.beat()
        if self._seconds and self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="hang_watch", daemon=True)
            self._thread.start()

    def beat(self) -> None:
        """Notes that there is progress."""
        self._beat_at = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(self._seconds / _LOOKS):
            if time.monotonic() - self._beat_at > self._seconds:
                self._report()
                return

    def _report(self) -> None:
        name = self._context.cluster.name()
        stacks = _stacks()
        path = storage.join(self._context.workdir, f"hang_of_process_{self._context.cluster.index}.txt")
        headline = f"{name}: no update has ended for {self._seconds / 60:g} minutes (config.hang.minutes)"
        print(f"\n{headline}; the stacks of all threads, also in {path}:\n{stacks}", file=sys.stderr, flush=True)
        # The log has it already, and it may be the storage that hangs.
        try:
            storage.write(path, f"{headline}\n{stacks}".encode())
        except OSError as error:
            print(f"{path}: {error}", file=sys.stderr, flush=True)
        if self._ends_run:
            self._context.stop.request(headline, at_once=True)


def _stacks() -> str:
    """The stacks of all threads as text; needs no lock that a thread could hold."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0, os.SEEK_SET)
        return file.read().decode("utf-8", "replace")
