"""One owner of a directory at a time: a lock file with the owner's host, process and heartbeat.

The lock of a process that is gone is taken over at once on the same machine, and elsewhere when its heartbeat has not
changed for a while. That is measured by the clock of the process that waits, so that clocks may differ and jump. On
local storage `flock` keeps two processes from writing the file at the same time; object storage has no such thing, so
that an owner reads back what it wrote.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.stop_signals import StopSignals

_BEAT_SECONDS = 15.0
_STALE_SECONDS = 90.0  # Several heartbeats, and what NFS caches.
_READ_BACK_SECONDS = 1.0  # For another process that wrote at the same time, at addresses.
_POLL_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that owns a directory.

    Attributes:
      host: name of its machine.
      machine: what tells whether process ids there are those seen from here: the machine's boot, the container.
      process: its id.
      started: when it started, in ticks since boot; another process may get its id.
      token: different for each owner.
      since: seconds since 1970, to print.
    """

    host: str
    machine: str
    process: int
    started: int
    token: str
    since: float

    @classmethod
    def here(cls) -> "Owner":
        """This process, with a new token."""
        process = os.getpid()
        return cls(socket.gethostname(), _machine(), process, _started(process) or 0, uuid.uuid4().hex, time.time())

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.process} on {self.host}, since {since}"

    @property
    def is_gone(self) -> bool:
        """Whether the process certainly ended; False if it cannot be seen from here."""
        return self.machine == _machine() and _started(self.process) != self.started


@contextlib.contextmanager
def owned(
    directory: storage.Path,
    name: str,
    complaint: str,
    note: Callable[[str], None],
    stop: StopSignals,
    *,
    beat_seconds: float = _BEAT_SECONDS,
    stale_seconds: float = _STALE_SECONDS,
    read_back_seconds: float = _READ_BACK_SECONDS,
) -> Iterator[Callable[[], bool]]:
    """Owns a directory while its block runs; gives a function that tells whether this process still owns it.

    Args:
      directory: an existing directory, or an address.
      name: file name of the lock.
      complaint: what is wrong if another process owns it, and what to do; "{owner}" becomes its name.
      note: called with what the user should know.
      stop: requests that may end the process within the block; the lock is released then, too.
      beat_seconds, stale_seconds, read_back_seconds: times of the protocol.

    Raises:
      InputError: another process owns it.
      OSError: the lock cannot be read or written.
    """
    path, own = storage.join(directory, name), Owner.here()
    file = _RemoteFile(path) if storage.is_remote(path) else _LocalFile(path)
    claimed, ended, lost = threading.Event(), threading.Event(), threading.Event()
    claiming = threading.Lock()

    def claim(replaceable: tuple[Owner, int] | None) -> tuple[Owner, int] | None:
        with claiming:
            wait_for_the_end()
            if (found := file.claim(own, replaceable)) is None:
                claimed.set()
            return found

    def wait_for_the_end() -> None:
        """Never returns if a request is ending this process, and has released the lock."""
        while ended.is_set():
            time.sleep(_POLL_SECONDS)

    def beat() -> None:
        count = 0
        while not ended.wait(beat_seconds):
            count += 1
            with contextlib.suppress(OSError):  # A full disk is reported by what the run writes itself.
                if not file.refresh(own, count):
                    lost.set()
                    note(f"{path}: another process has taken over, as this one gave no heartbeat for too long.")
                    return

    thread = threading.Thread(target=beat, name="ownership", daemon=True)

    def release() -> None:
        with claiming:
            ended.set()
        if not claimed.is_set():
            return
        if thread.is_alive():
            thread.join(timeout=beat_seconds)
        with contextlib.suppress(OSError):
            file.release(own)

    # From before the claim on: a request may come right after the file appears.
    with stop.releasing(release):
        try:
            seen: tuple[Owner, int] | None = None
            seen_at = time.monotonic()
            while (found := claim(seen if _is_old(seen_at, stale_seconds) else None)) is not None:
                owner, count = found
                if seen is not None and seen[0] == owner and seen[1] != count:
                    raise InputError(complaint.replace("{owner}", str(owner)))
                if owner.machine == own.machine:  # It runs: `claim` takes over from those that are gone.
                    raise InputError(complaint.replace("{owner}", str(owner)))
                if seen is None or seen[0] != owner:
                    note(f"{path}: owned by {owner}; waiting up to {stale_seconds:g} s for a heartbeat of it.")
                    seen, seen_at = found, time.monotonic()
                time.sleep(min(_POLL_SECONDS, stale_seconds / 10))
            if isinstance(file, _RemoteFile):
                time.sleep(read_back_seconds)
                there = file.read()
                wait_for_the_end()
                if there is None or there[0].token != own.token:
                    raise InputError(complaint.replace("{owner}", str(there[0]) if there else "another process"))
            thread.start()
            yield lambda: not lost.is_set()
        finally:
            release()


def _is_old(seen_at: float, seconds: float) -> bool:
    return time.monotonic() - seen_at >= seconds


class _LocalFile:
    """A lock file that is read and written under `flock`."""

    def __init__(self, path: str) -> None:
        self._path = os.path.expanduser(path)

    def claim(self, own: Owner, replaceable: tuple[Owner, int] | None) -> tuple[Owner, int] | None:
        """Makes this process the owner, or returns the owner and its heartbeat if there is another."""
        with self._opened() as file:
            found = _parsed(file.read())
            if found and not found[0].is_gone and found != replaceable:
                return found
            self._write(file, own, 0)
        return None

    def refresh(self, own: Owner, beat: int) -> bool:
        """Writes a heartbeat; False if this process is no longer the owner."""
        with self._opened() as file:
            found = _parsed(file.read())
            if found and found[0].token != own.token:
                return False
            self._write(file, own, beat)
        return True

    def release(self, own: Owner) -> None:
        """Deletes the file if it is this process's."""
        if not os.path.exists(self._path):
            return  # Opening would create it.
        with self._opened() as file:
            found = _parsed(file.read())
            if found and found[0].token == own.token:
                os.unlink(self._path)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        while True:
            with open(self._path, "a+b") as file:
                # Not supported everywhere; the file's contents then decide alone.
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_there(self._path, file.fileno()):
                    continue  # Deleted by its owner while this process waited.
                file.seek(0)
                yield file
                return

    @staticmethod
    def _write(file: Any, own: Owner, beat: int) -> None:
        file.seek(0)
        file.truncate()
        file.write(_text(own, beat))
        file.flush()


class _RemoteFile:
    """A lock at an address, which appears whole."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> tuple[Owner, int] | None:
        """The owner and its heartbeat; None without one."""
        try:
            return _parsed(storage.read(self._path))
        except FileNotFoundError:
            return None

    def claim(self, own: Owner, replaceable: tuple[Owner, int] | None) -> tuple[Owner, int] | None:
        """See `_LocalFile`; the caller reads back whether another process was faster."""
        found = self.read()
        if found and not found[0].is_gone and found != replaceable:
            return found
        storage.write(self._path, _text(own, 0))
        return None

    def refresh(self, own: Owner, beat: int) -> bool:
        """See `_LocalFile`."""
        found = self.read()
        if found and found[0].token != own.token:
            return False
        storage.write(self._path, _text(own, beat))
        return True

    def release(self, own: Owner) -> None:
        """See `_LocalFile`."""
        found = self.read()
        if found and found[0].token == own.token:
            storage.remove(self._path)


def _text(own: Owner, beat: int) -> bytes:
    return json.dumps(dataclasses.asdict(own) | {"beat": beat}).encode()


def _parsed(content: bytes) -> tuple[Owner, int] | None:
    """The owner and its heartbeat; None if a killed process left no complete text."""
    try:
        fields = json.loads(content)
        beat = fields.pop("beat")
        return Owner(**fields), int(beat)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_there(path: str, descriptor: int) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (found.st_ino, found.st_dev) == (opened.st_ino, opened.st_dev)


def _machine() -> str:
    """What two processes have in common that see each other's process ids."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        parts.append(file.read().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(process: int) -> int | None:
    """When a process of this machine started; None if there is none."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # After the name, which may hold anything: state, parent, …; the start time is the 22nd field.
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return None
    except (OSError, ValueError, IndexError):
        return None
    try:  # Without /proc, such as on macOS.
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0
