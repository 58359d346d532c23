"""Communication between the processes of a run, apart from the arrays that they compute together.

Everything goes through the key-value store and the barriers of JAX's coordination service, which process 0 hosts: no
device is used, so that processes can agree while a device waits. A single process is a cluster, too, and waits for no
other.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import jax

from electra_jax.errors import InputError, ProcessLost, RunError
from electra_jax.training.multihost.heartbeat import Ended, Heartbeat, StopAgreement, Store

Value = TypeVar("Value")

WAIT_SECONDS = 600.0  # For the others, where all do the same.
_LEAVE_SECONDS = 20.0  # Until the others have received the reason why the run ends.
_LAST_SECONDS = 1.0  # From a process's notice to its end, at most: JAX aborts those that process 0 leaves behind.
_EXPLAIN_SECONDS = 20.0  # For the reason of a failed computation.
_SHOWN_DIFFERENCES = 8  # Per process.


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Cluster:
    """This process among those of the run.

    Attributes:
      index, count: number of this process, and of processes in the run.
      hosts: host name of each process.
      may_end: whether this process has nothing to save, so that it may end at once when another one has.
    """

    index, count = 0, 1
    hosts: tuple[str, ...] = ()
    may_end: Callable[[], bool]

    def __init__(self) -> None:
        """A single process."""
        self.hosts = (socket.gethostname(),)
        self.may_end = lambda: False

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.index == 0

    def name(self, index: int | None = None) -> str:
        """The name of a process in messages."""
        index = self.index if index is None else index
        return f"process {index} on {self.hosts[index]}"

    def barrier(self, about: str, seconds: float = WAIT_SECONDS) -> None:
        """Returns when all processes have arrived here.

        Raises:
          ProcessLost: some did not arrive within `seconds`; the message names them.
        """

    def from_first(self, make: Callable[[], Value], seconds: float = WAIT_SECONDS) -> Value:
        """The value of `make` from process 0, which alone calls it; it must be serialisable as JSON.

        For all decisions that depend on files, and for all writing: the others continue when it is done.
        """
        return make()

    def from_each(self, value: Value, about: str, seconds: float = WAIT_SECONDS) -> list[Value]:
        """The value of each process, in their order; values must be serialisable as JSON.

        Args:
          value: this process's.
          about: name of the exchange.
          seconds: how long to wait for the others.

        Raises:
          ProcessLost: some did not arrive here within `seconds`.
        """
        return [value]

    def agree(self, about: str, facts: Mapping[str, Any], error: type[RunError] = InputError) -> None:
        """Compares facts between the processes.

        Args:
          about: name of the comparison.
          facts: values by name.
          error: type of the error.

        Raises:
          RunError: a process differs from process 0; all raise the same `error`, which names process and facts.
        """

    def agreement_to_stop(self) -> StopAgreement | None:
        """The agreement on the step at which all stop; None for a single process."""
        return None

    def explained(self, error: BaseException) -> RunError | None:
        """The reason of a library's error if another process has ended or was too slow; waits some seconds for it."""
        return None

    def leave(self, exit_code: int, reason: str) -> NoReturn:
        """Ends the process; the others receive `reason` unless it came from them."""
        sys.exit(exit_code)


class SeveralProcesses(Cluster):
    """Processes connected by JAX's coordination service."""

    def __init__(self, client: Any, index: int, count: int) -> None:
        """Exchanges the names of the hosts and starts the heartbeat.

        Args:
          client: client of the coordination service.
          index: number of this process.
          count: number of processes.
        """
        self.index, self.count = index, count
        self.may_end = lambda: False
        self._client, self._store = client, Store(client)
        self._calls = 0
        self.hosts = ("?",) * count
        self._heartbeat = Heartbeat(self._store, self)
        self._heartbeat.start()
        self._store.set(f"hosts/{index}", socket.gethostname())
        self.hosts = tuple(self._collected("hosts", "names of the hosts", WAIT_SECONDS))

    def barrier(self, about: str, seconds: float = WAIT_SECONDS) -> None:
        """See `Cluster`."""
        self._calls += 1
        place = f"barrier/{self._calls}"
        self._store.set(f"{place}/{self.index}", "here")
        try:
            self._client.wait_at_barrier(place, int(seconds * 1000))
        except jax.errors.JaxRuntimeError as error:
            self._raise_if_ended()
            raise self._missing(place, about, seconds) from error

    def from_first(self, make: Callable[[], Value], seconds: float = WAIT_SECONDS) -> Value:
        """See `Cluster`."""
        self._calls += 1
        key = f"first/{self._calls}"
        if self.is_first:
            value = make()
            self._store.set(key, json.dumps(value))
            return value
        return json.loads(self._awaited(key, 0, "a result of process 0", seconds))

    def from_each(self, value: Value, about: str, seconds: float = WAIT_SECONDS) -> list[Value]:
        """See `Cluster`."""
        self._calls += 1
        place = f"each/{self._calls}"
        self._store.set(f"{place}/{self.index}", json.dumps(value))
        return [json.loads(found) for found in self._collected(place, about, seconds)]

    def agree(self, about: str, facts: Mapping[str, Any], error: type[RunError] = InputError) -> None:
        """See `Cluster`."""
        self._calls += 1
        place = f"facts/{self._calls}"
        self._store.set(f"{place}/{self.index}", json.dumps(facts, default=str))

        def differences() -> str:
            values = [json.loads(value) for value in self._collected(place, about, WAIT_SECONDS)]
            return "\n".join(line for index in range(1, self.count) for line in self._compared(index, values))

        if found := self.from_first(differences):
            raise error(f"{about}: the processes differ and must not:\n{found}")

    def _compared(self, index: int, values: list[dict[str, Any]]) -> list[str]:
        first, own = values[0], values[index]
        names = [name for name in sorted(first.keys() | own.keys()) if first.get(name) != own.get(name)]
        lines = [
            f"  {self.name(index)}: {name} is {own.get(name)!r}, and {first.get(name)!r} at {self.name(0)}"
            for name in names[:_SHOWN_DIFFERENCES]
        ]
        if len(names) > _SHOWN_DIFFERENCES:
            lines.append(f"  {self.name(index)}: and {len(names) - _SHOWN_DIFFERENCES} more")
        return lines

    def agreement_to_stop(self) -> StopAgreement:
        """See `Cluster`."""
        self._calls += 1
        return self._heartbeat.agreement(f"{self._calls}")

    def explained(self, error: BaseException) -> RunError | None:
        """See `Cluster`; an error that does not come from communication is this process's own."""
        if self._heartbeat.ended is not None:
            return self._heartbeat.ended.error()
        # Gloo's errors are ValueErrors, and Orbax raises errors of its own that come from those of JAX.
        if not any(isinstance(part, jax.errors.JaxRuntimeError) or "Gloo" in str(part) for part in _chain(error)):
            return None
        if "RESOURCE_EXHAUSTED" in str(error):
            return None
        self._heartbeat.suspect()
        deadline = time.monotonic() + _EXPLAIN_SECONDS
        while self._heartbeat.ended is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._heartbeat.ended is not None:
            return self._heartbeat.ended.error()
        if any("DEADLINE_EXCEEDED" in str(part) for part in _chain(error)):
            text = " ".join(str(error).split())[:200]
            return ProcessLost(
                f"{self.name()}: the other processes run, and did not answer in time ({text}). Start the same command "
                "on all hosts again."
            )
        return None

    def leave(self, exit_code: int, reason: str) -> NoReturn:
        """See `Cluster`."""
        if exit_code == 0:
            try:
                self.barrier("the end of the run")
            except RunError as error:
                print(f"\n{error}", file=sys.stderr)
                self.leave(error.exit_code, str(error))
            self._heartbeat.stop()
            jax.distributed.shutdown()
            sys.exit(0)
        self._heartbeat.leaving.set()
        self._store.notice("ended", Ended(self.index, f"{self.name()} ended: {reason}", exit_code).as_text())
        self.vanish(exit_code)

    def vanish(self, exit_code: int) -> NoReturn:
        """Ends this process at once; process 0 last, since the others receive all notices through it.

        JAX's own shutdown is a barrier, which would wait for processes that are gone.
        """
        lost = self._heartbeat.ended.process if self._heartbeat.ended else None
        sys.stdout.flush()
        sys.stderr.flush()
        self._store.notice(f"left/{self.index}", "gone")
        deadline = time.monotonic() + _LEAVE_SECONDS
        while self.is_first and time.monotonic() < deadline:
            gone = {int(number) for number in self._store.folder("notice/left")}
            if gone | {lost} >= set(range(self.count)):
                time.sleep(_LAST_SECONDS)
                break
            time.sleep(0.05)
        os._exit(exit_code)

    def _collected(self, place: str, about: str, seconds: float) -> list[str]:
        """The value of each process under a key of the store."""
        deadline = time.monotonic() + seconds
        while len(found := self._store.folder(place)) < self.count:
            self._raise_if_ended()
            if time.monotonic() > deadline:
                raise self._missing(place, about, seconds)
            time.sleep(0.02)
        return [found[str(number)] for number in range(self.count)]

    def _awaited(self, key: str, index: int, about: str, seconds: float) -> str:
        """A value that another process writes to the store."""
        deadline = time.monotonic() + seconds
        while (value := self._store.awaited(key, 1.0)) is None:
            self._raise_if_ended()
            if time.monotonic() > deadline:
                raise ProcessLost(f"{self.name()} waited {seconds:g} seconds for {about} ({self.name(index)})")
        return value

    def _missing(self, place: str, about: str, seconds: float) -> ProcessLost:
        there = self._store.folder(place)
        missing = [self.name(number) for number in range(self.count) if str(number) not in there]
        named = ", ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
        return ProcessLost(
            f"{about}: {self.count - len(missing)} of {self.count} processes arrived within {seconds:g} seconds; "
            f"missing: {named}"
        )

    def _raise_if_ended(self) -> None:
        if self._heartbeat.ended is not None:
            raise self._heartbeat.ended.error()
