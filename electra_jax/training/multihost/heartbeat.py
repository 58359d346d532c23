"""A heartbeat thread: detects that a process ended or is lost, and agrees with the others on when to stop.

The main thread may wait for a device that waits for a process that is gone. JAX detects that after a while and aborts
without naming the process; this thread is faster, names it, and exits with the code that a launcher understands.
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

# Since the last heartbeat. JAX's own limit is higher, so that it applies only where this thread fails.
LOST_SECONDS = 30.0
_SUSPECTED_SECONDS = 8.0  # The same, once a computation failed as if a process were gone.
_PERIOD_SECONDS = 0.25
_BEAT_SECONDS = 1.0  # Between two heartbeats.
_GRACE_SECONDS = 10.0  # For the main thread to exit and write its report once another process has ended.
_SHORT_GRACE_SECONDS = 2.0  # The same, where there is nothing to save.
_PROCESSES_PER_SECOND = 400  # Heartbeat requests that process 0 has to answer, at most.
_LOST_EXIT_CODE = ProcessLost.exit_code


class Store:
    """The key-value store of the coordination service; its client is JAX's, which has no public name for it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def set(self, key: str, value: str) -> None:
        """Writes a value, replacing an existing one."""
        self._client.key_value_set(f"electra_jax/{key}", value, allow_overwrite=True)

    def notice(self, key: str, value: str) -> None:
        """Writes a value unless there is one; does nothing if the service is gone."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"electra_jax/notice/{key}", value)

    def folder(self, place: str) -> dict[str, str]:
        """All values whose keys begin with `place`, by the rest of the key."""
        prefix = f"electra_jax/{place}/"
        return {key.removeprefix(prefix): value for key, value in self._client.key_value_dir_get(prefix)}

    def awaited(self, key: str, seconds: float) -> str | None:
        """A value, as soon as it is there; None if it is not after `seconds`."""
        try:
            return self._client.blocking_key_value_get(f"electra_jax/{key}", int(seconds * 1000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error) or "NOT_FOUND" in str(error):
                return None
            raise


@dataclasses.dataclass(frozen=True)
class Ended:
    """The reason why the run is over: the process that ended or is lost, a message, and the exit code for all."""

    process: int
    text: str
    exit_code: int

    def as_text(self) -> str:
        """The reason as JSON, for the store."""
        return json.dumps(dataclasses.asdict(self))

    def error(self) -> RunError:
        """The error for another process to raise."""
        error = RunError(self.text)
        error.exit_code = self.exit_code
        return error


class StopAgreement:
    """An agreement on the poll at which the loop stops in every process, once one of them is asked to stop.

    All processes make the same polls in the same order. When one is asked, each reports how many polls it has made and
    waits at the next one until all have reported; all stop at the poll after the largest number.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.requested = ""  # The signal to this process, as text.
        self.reason = ""  # The first request received, from any process.
        self._lock = threading.Lock()
        self._polls = 0
        self._answer: int | None = None  # The number of polls when the request was received.
        self._stop_at = 0
        self._decided = threading.Event()

    def poll(self) -> bool:
        """Whether to stop here; the main thread calls it at each step and each batch of an evaluation."""
        with self._lock:
            self._polls += 1
            if self._answer is None:
                return False
        self._decided.wait()
        return self._polls >= self._stop_at

    def freeze(self) -> int:
        """Makes the next poll wait for the decision; returns the number of polls before it, the same at each call."""
        with self._lock:
            if self._answer is None:
                self._answer = self._polls
            return self._answer

    def decide(self, polls: list[int]) -> None:
        """Decides on the poll at which all stop, from the numbers of all processes."""
        self._stop_at = max(polls) + 1
        self._decided.set()


class Member(Protocol):
    """The part of `Cluster` that the heartbeat needs."""

    index: int
    count: int

    def name(self, index: int | None = None) -> str:
        """The name of a process in messages."""

    def may_end(self) -> bool:
        """Whether there is nothing to save here."""

    def vanish(self, exit_code: int) -> None:
        """Ends this process."""


class Heartbeat(threading.Thread):
    """The heartbeat thread of one process.

    Attributes:
      ended: why the run is over, once it is.
      leaving: set when the main thread is about to end the process.
    """

    def __init__(self, store: Store, member: Member) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.ended: Ended | None = None
        self.leaving = threading.Event()
        self._store, self._member = store, member
        self._finished = threading.Event()
        self._agreement: StopAgreement | None = None
        self._period = max(_PERIOD_SECONDS, member.count / _PROCESSES_PER_SECOND)
        self._beat = 0
        self._beat_at = -_BEAT_SECONDS
        self._beats = dict.fromkeys(range(member.count), ("", time.monotonic()))

    def agreement(self, key: str) -> StopAgreement:
        """Begins an agreement, which replaces the one before."""
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
        """Beats and reads the store until it is stopped or the run is over."""
        while not self._finished.wait(self._period):
            try:
                self._beat_and_read()
            except jax.errors.JaxRuntimeError:
                continue  # Process 0 is not reachable; if that lasts, JAX ends this process.
            if self.ended is not None:
                self._end(self.ended)
                return

    def _beat_and_read(self) -> None:
        now = time.monotonic()
        if now - self._beat_at >= _BEAT_SECONDS:
            self._beat, self._beat_at = self._beat + 1, now
            self._store.set(f"heartbeats/{self._member.index}", str(self._beat))
        notices = self._store.folder("notice")
        if self._member.index == 0 and "ended" not in notices:
            self._find_lost(now, _SUSPECTED_SECONDS if "suspicion" in notices else LOST_SECONDS)
        if "ended" in notices:
            self.ended = Ended(**json.loads(notices["ended"]))
            return
        if (agreement := self._agreement) is not None:
            self._agree(agreement, notices)

    def suspect(self) -> None:
        """Reports that a computation failed, so that a process without heartbeat is given up sooner."""
        self._store.notice("suspicion", self._member.name())

    def _find_lost(self, now: float, limit: float) -> None:
        beats = self._store.folder("heartbeats")
        for number, (last, since) in self._beats.items():
            found = beats.get(str(number), "")
            if found != last:
                self._beats[number] = found, now
            elif now - since > limit:
                text = (
                    f"{self._member.name(number)} is lost: no heartbeat for {now - since:.0f} seconds. "
                    f"Start the same command on all hosts again; the run resumes from its newest checkpoint."
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
        """Reports this process's number of polls, also when it is past the last poll of an agreement."""
        self._store.set(f"polls/{agreement.key}/{self._member.index}", str(agreement.freeze()))

    def _end(self, ended: Ended) -> None:
        """Ends the process if its main thread does not."""
        # A compiler holds the main thread for longer than the host of a preempted process may live.
        grace = _SHORT_GRACE_SECONDS if self._member.may_end() else _GRACE_SECONDS
        if self.leaving.wait(grace) or self._finished.is_set():
            return
        print(f"\n{ended.text}", file=sys.stderr, flush=True)
        try:
            self._member.vanish(ended.exit_code)
        finally:
            os._exit(ended.exit_code)
