"""A thread beside the computation: it sees that a process ended or vanished, and agrees with the others when to stop.

The main thread may wait for a device that waits for a process that is gone. JAX notices that after a while and aborts
without a name; this thread is quicker, names the process, and gives the exit code that a launcher understands.
"""

import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
from typing import Any, Protocol

import jax

from electra_jax.errors import ProcessLost, RunError

# From the last sign of life. JAX's own limit is higher, so that it comes into play only where this thread does not.
LOST_SECONDS = 30.0
_SUSPECTED_SECONDS = 8.0  # The same, once a computation broke off as if somebody were gone.
_PERIOD_SECONDS = 0.25
_SIGN_SECONDS = 1.0  # Between two signs of life.
_GRACE_SECONDS = 10.0  # For the main thread to end by itself and write its report, when another process has ended.
_PROCESSES_PER_SECOND = 400  # Askings that process 0 has to answer for, at most.
_LOST_EXIT_CODE = ProcessLost.exit_code


class Store:
    """The key-value store of the coordination service; its client is JAX's, which has no public name for it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def set(self, key: str, value: str) -> None:
        """Writes a value, over one that is there."""
        self._client.key_value_set(f"electra_jax/{key}", value, allow_overwrite=True)

    def notice(self, key: str, value: str) -> None:
        """Writes a value unless there is one, and does not mind when nobody can be told any more."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"electra_jax/notice/{key}", value)

    def folder(self, place: str) -> dict[str, str]:
        """All values below a place, by the rest of their keys."""
        prefix = f"electra_jax/{place}/"
        return {key.removeprefix(prefix): value for key, value in self._client.key_value_dir_get(prefix)}

    def awaited(self, key: str, seconds: float) -> str | None:
        """A value, when there is one; None when there is none after `seconds`."""
        try:
            return self._client.blocking_key_value_get(f"electra_jax/{key}", int(seconds * 1000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error) or "NOT_FOUND" in str(error):
                return None
            raise


@dataclasses.dataclass(frozen=True)
class Ended:
    """Why the run is over: which process ended or is gone, in words, and with which exit code all end."""

    process: int
    text: str
    exit_code: int

    def as_text(self) -> str:
        """For the store."""
        return json.dumps(dataclasses.asdict(self))

    def error(self) -> RunError:
        """To be raised by another process."""
        error = RunError(self.text)
        error.exit_code = self.exit_code
        return error


class StopAgreement:
    """At which of its polls the loop stops, the same at every process, if one of them is asked to stop.

    All processes poll equally often on the same way. When one is asked, each writes down how many polls it has behind
    it and holds at the next one until all have done so; all stop at the poll after the largest number.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.requested = ""  # By a signal to this process, in words.
        self.reason = ""  # The request that was heard first, of whichever process.
        self._lock = threading.Lock()
        self._polls = 0
        self._answer: int | None = None  # The polls when the request was heard.
        self._stop_at = 0
        self._decided = threading.Event()

    def poll(self) -> bool:
        """Whether to stop here; the main thread's question at each step and each batch of an evaluation."""
        with self._lock:
            self._polls += 1
            if self._answer is None:
                return False
        self._decided.wait()
        return self._polls >= self._stop_at

    def hear(self) -> int:
        """Lets the next poll wait for the decision; returns the polls before it, the same number at each call."""
        with self._lock:
            if self._answer is None:
                self._answer = self._polls
            return self._answer

    def decide(self, polls: list[int]) -> None:
        """Takes the numbers of all processes."""
        self._stop_at = max(polls) + 1
        self._decided.set()


class Member(Protocol):
    """What this thread has to know of the cluster."""

    index: int
    count: int

    def name(self, index: int | None = None) -> str:
        """How a process is called in messages."""

    def vanish(self, exit_code: int) -> None:
        """Ends this process."""


class Watch(threading.Thread):
    """The thread.

    Attributes:
      ended: why the run is over, once it is.
      leaving: set when the main thread is about to end the process.
    """

    def __init__(self, store: Store, member: Member) -> None:
        super().__init__(name="watch", daemon=True)
        self.ended: Ended | None = None
        self.leaving = threading.Event()
        self._store, self._member = store, member
        self._finished = threading.Event()
        self._agreement: StopAgreement | None = None
        self._period = max(_PERIOD_SECONDS, member.count / _PROCESSES_PER_SECOND)
        self._sign = 0
        self._sign_at = -_SIGN_SECONDS
        self._signs = dict.fromkeys(range(member.count), ("", time.monotonic()))

    def agreement(self, key: str) -> StopAgreement:
        """Begins an agreement, which takes the place of the one before."""
        agreement = StopAgreement(key)
        before, self._agreement = self._agreement, agreement
        if before is not None:
            self._answer(before)
        return agreement

    def stop(self) -> None:
        """Ends the thread."""
        self._finished.set()
        self.join()

    def run(self) -> None:
        """Looks around until it is stopped or the run is over."""
        while not self._finished.wait(self._period):
            try:
                self._look()
            except jax.errors.JaxRuntimeError:
                continue  # Process 0 cannot be reached; if that lasts, JAX ends this process.
            if self.ended is not None:
                self._end(self.ended)
                return

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._sign_at >= _SIGN_SECONDS:
            self._sign, self._sign_at = self._sign + 1, now
            self._store.set(f"signs/{self._member.index}", str(self._sign))
        notices = self._store.folder("notice")
        if self._member.index == 0 and "ended" not in notices:
            self._find_lost(now, _SUSPECTED_SECONDS if "suspicion" in notices else LOST_SECONDS)
        if "ended" in notices:
            self.ended = Ended(**json.loads(notices["ended"]))
            return
        if (agreement := self._agreement) is not None:
            self._agree(agreement, notices)

    def suspect(self) -> None:
        """Says that a computation broke off, so that a process that gives no sign is given up sooner."""
        self._store.notice("suspicion", self._member.name())

    def _find_lost(self, now: float, limit: float) -> None:
        signs = self._store.folder("signs")
        for number, (last, since) in self._signs.items():
            found = signs.get(str(number), "")
            if found != last:
                self._signs[number] = found, now
            elif now - since > limit:
                text = (
                    f"{self._member.name(number)} is lost: it gave no sign of life for {now - since:.0f} seconds. "
                    f"Start the same command on all hosts again; the run goes on from its newest checkpoint."
                )
                self._store.notice("ended", Ended(number, text, _LOST_EXIT_CODE).as_text())
                return

    def _agree(self, agreement: StopAgreement, notices: dict[str, str]) -> None:
        key = f"stop/{agreement.key}"
        if agreement.requested and key not in notices:
            self._store.notice(key, agreement.requested)
            notices = self._store.folder("notice")
        if key not in notices:
            return
        agreement.reason = notices[key]
        self._answer(agreement)
        polls = self._store.folder(f"polls/{agreement.key}")
        if len(polls) == self._member.count:
            agreement.decide([int(number) for number in polls.values()])

    def _answer(self, agreement: StopAgreement) -> None:
        """Tells the others how far this process has come, also when it is past the last poll of an agreement."""
        self._store.set(f"polls/{agreement.key}/{self._member.index}", str(agreement.hear()))

    def _end(self, ended: Ended) -> None:
        """Ends the process, if its main thread does not."""
        if self.leaving.wait(_GRACE_SECONDS) or self._finished.is_set():
            return
        print(f"\n{ended.text}", file=sys.stderr, flush=True)
        try:
            self._member.vanish(ended.exit_code)
        finally:
            os._exit(ended.exit_code)
