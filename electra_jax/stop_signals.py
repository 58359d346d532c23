"""Signals that ask this process to stop, answered at any moment.

Python runs its signal handlers in the main thread alone, which may wait for minutes in a compiler or for another
process. A thread of its own reads the signals here. As long as there is nothing to save, it ends the process at once;
a training loop with updates that are not saved yet holds the exit, and is told of the request instead.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

# SIGUSR1 is what many batch scripts ask Slurm to send before the time limit.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_EXIT_CODE = os.EX_TEMPFAIL  # 75, that of `errors.Preempted`.
_RELEASE_SECONDS = 3.0  # For what others would wait for: a spot VM is gone 30 s after its notice.


def _exit(reason: str) -> None:
    """Ends a process that has no others to tell."""
    os._exit(_EXIT_CODE)


class StopSignals:
    """Requests to stop this process: by a signal, or by a thread that learned of one from elsewhere.

    The first request stops the process as soon as its state is saved. Ctrl-C a second time ends it at once, without the
    save. Other signals are not counted again: whoever stops jobs repeats them, and has SIGKILL for more.

    Attributes:
      requested: what asked first, such as "SIGTERM"; "" before.
      activity: what the process does at present, in words that follow "stopped while".
    """

    def __init__(self, leave: Callable[[str], None] = _exit) -> None:
        """Handles no signal until it is entered as a context.

        Args:
          leave: ends the process with exit code 75, given the reason; called in another thread.
        """
        self.requested = ""
        self.activity = "starting"
        self._leave = leave
        self._note: Callable[[str], None] | None = None
        self._closed = False
        self._before: dict[int, Any] = {}  # Handlers by signal.
        self._releases: list[Callable[[], None]] = []
        # Held by the thread that ends the process: nothing else begins meanwhile.
        self._lock = threading.RLock()

    def __enter__(self) -> "StopSignals":
        """Handles signals from here on; call in the main thread."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        self._before = {number: signal.signal(number, _ignore) for number in SIGNALS}
        # The number of each signal is written there when it arrives, whatever the main thread does.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=self._read, args=(read,), name="stop_signals", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restores the handlers of before."""
        os.close(signal.set_wakeup_fd(-1))
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _read(self, source: int) -> None:
        while numbers := os.read(source, 1):
            number = numbers[0]
            if number in SIGNALS:
                again = number == signal.SIGINT and bool(self.requested)
                self.request(signal.Signals(number).name, at_once=again)
        os.close(source)

    def request(self, name: str, *, at_once: bool = False) -> None:
        """Asks the process to stop.

        Args:
          name: what asks: a signal, or the words of a notice.
          at_once: end it now, even if the last updates are lost.
        """
        with self._lock:
            if self._closed:
                return
            is_first, self.requested = not self.requested, self.requested or name
            if at_once:
                self._end(f"{name}: stopped at once while {self.activity}, without a checkpoint")
            elif is_first and self._note is not None:
                self._note(name)
            elif is_first:
                self._end(f"{self.requested}: stopped while {self.activity}, with nothing to save")

    @property
    def is_held(self) -> bool:
        """Whether there is something to save before the process may end."""
        return self._note is not None

    def hold(self, note: Callable[[str], None]) -> None:
        """From here on there is something to save.

        Args:
          note: called with the request, in another thread; now, if it came during an earlier hold.
        """
        with self._lock:
            self._note = note
            if self.requested:
                note(self.requested)

    def release(self, *, ends: bool = True) -> None:
        """Everything is saved; ends the process if it was asked to stop meanwhile.

        Args:
          ends: false if an error is about to end it anyway.
        """
        with self._lock:
            was_held, self._note = self.is_held, None
            if ends and was_held and self.requested and not self._closed:
                self._end(f"{self.requested}: stopped when everything was saved")

    @contextlib.contextmanager
    def doing(self, activity: str) -> Iterator[None]:
        """Names what the process does while its block runs."""
        before, self.activity = self.activity, activity
        try:
            yield
        finally:
            self.activity = before

    @contextlib.contextmanager
    def releasing(self, release: Callable[[], None]) -> Iterator[None]:
        """Calls `release`, in another thread, if a request ends the process while the block runs.

        Args:
          release: gives back what other processes would otherwise wait for; the process ends when it takes too long.
        """
        self._releases.append(release)
        try:
            yield
        finally:
            self._releases.remove(release)

    def close(self) -> None:
        """Ignores requests from here on: the process ends with an exit code that they must not change."""
        with self._lock:
            self._closed = True

    def _end(self, text: str) -> None:
        reason = f"{text}. What was saved before stays; run the same command again to go on."
        print(f"\n{reason}", file=sys.stderr, flush=True)
        threads = [threading.Thread(target=release, daemon=True) for release in self._releases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_RELEASE_SECONDS)
        try:
            self._leave(reason)
        finally:
            os._exit(_EXIT_CODE)


def _ignore(number: int, frame: object) -> None:
    """Does nothing: the thread that reads signals acts on them."""


class Interrupts:
    """Ctrl-C, which is remembered: an exception that is raised in a callback of a library may end there."""

    def __init__(self) -> None:
        """Takes over the signal, in the main thread, until it is left as a context."""
        self._asked = self._held = False
        self._before = signal.signal(signal.SIGINT, self._take)

    def __enter__(self) -> "Interrupts":
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _take(self, number: int, frame: object) -> None:
        self._asked = True
        if not self._held:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raises KeyboardInterrupt if it was asked for, also earlier."""
        if self._asked:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """In its block nothing is raised; `check` does so after it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
