"""Files wherever they are: local paths, package data, and gs:// or any other address that fsspec knows.

A path is a string; one with "://" is an address, `package:NAME` is a file in electra_jax/data, and any other is a local
path in which "~" is expanded. Every error is an OSError, whatever library it comes from; but what may pass, such as a
503 or a broken connection, is retried for minutes, and is a StorageLost if it does not.
"""

import concurrent.futures
import contextlib
import errno
import fnmatch
import functools
import glob
import importlib
import io
import json
import logging
import os
import posixpath
import random
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar

from electra_jax.errors import StorageLost

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Path = str | os.PathLike
Value = TypeVar("Value")

PACKAGE_PREFIX = "package:"
ACCESS_CHECK = ".access_check-"  # Begins the names of files that `check_access` writes, and deletes unless killed.
RETRY_SECONDS = 300.0  # For one operation, in addition to what the library beneath retries by itself.

_PACKAGE_DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
_BUFFER_BYTES = 1 << 20
_LONGEST_PAUSE = 32.0  # Seconds between two tries.
_AT_ONCE = 16  # Objects that are copied or deleted at the same time.

# For the libraries beneath, before they are imported. Orbax and JAX reach addresses through etils, which would choose
# TensorFlow's client over fsspec: other credentials, other endpoints, no retries that can be set.
os.environ.setdefault("EPATH_USE_TF", "false")
# gcsfs would first ask Google over gRPC what kind a bucket is, and hang where only HTTPS goes through.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


def is_remote(path: Path) -> bool:
    """Returns whether a path is an address rather than a local path."""
    return "://" in os.fspath(path)


def join(directory: Path, *names: str) -> str:
    """The path of something inside a directory."""
    return "/".join([os.fspath(directory).rstrip("/"), *names])


def name(path: Path) -> str:
    """The last part of a path."""
    return posixpath.basename(os.fspath(path).rstrip("/"))


def parent(path: Path) -> str:
    """The directory that a path lies in."""
    return posixpath.dirname(os.fspath(path).rstrip("/"))


def absolute(path: Path) -> str:
    """A path that means the same in every working directory; an address without slashes at its end."""
    if is_remote(path):
        protocol, _, place = os.fspath(path).partition("://")
        return f"{protocol}://{place.rstrip('/')}"
    return os.path.abspath(_local(path))


def for_orbax(path: Path) -> Any:
    """A path or address as Orbax needs it: its own type, which reaches addresses through fsspec, too."""
    from etils import epath

    if is_remote(path):
        _configure()
    return epath.Path(os.fspath(path))


def problem(path: Path) -> str:
    """Returns why an address can never be reached from here; "" if it may be, and for local paths."""
    if not is_remote(path):
        return ""
    _configure()
    import fsspec

    protocol = os.fspath(path).partition("://")[0]
    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        return f"{path}: {protocol}:// cannot be used ({error})"
    return ""


def check_access(directory: Path) -> None:
    """Writes, reads, lists and deletes a small file in a remote directory; does nothing for a local one.

    Raises:
      RemoteError: the bucket does not exist, or one of these is not allowed.
    """
    if not is_remote(directory):
        return
    probe = join(directory, f"{ACCESS_CHECK}{uuid.uuid4().hex}")
    write(probe, b"")
    read(probe)
    names(directory)
    remove(probe)
    protocol, _, place = os.fspath(directory).partition("://")
    if protocol in ("gs", "gcs"):
        # Orbax asks for the bucket's kind, which needs a permission of its own.
        bucket = place.partition("/")[0]
        _remotely(directory, lambda system, _: system.call("GET", "b/{}", bucket))


def exists(path: Path) -> bool:
    """Returns whether there is a file, a directory, or anything whose address begins with this one and "/"."""
    if not is_remote(path):
        return os.path.exists(_local(path))
    return _remotely(path, _kind) != ""


def is_file(path: Path) -> bool:
    """Returns whether a path is a file."""
    if not is_remote(path):
        return os.path.isfile(_local(path))
    return _remotely(path, _kind) == "file"


def size(path: Path) -> int:
    """Bytes in a file.

    Raises:
      OSError: no such file, or it cannot be reached.
    """
    if not is_remote(path):
        return os.path.getsize(_local(path))
    return _remotely(path, lambda system, name: system.size(name))


def matching(pattern: Path) -> list[str]:
    """Returns the files that match a path or glob, sorted; an existing file whose name holds "[" or "*" is literal."""
    if not is_remote(pattern):
        expanded = _local(pattern)
        found = [expanded] if os.path.exists(expanded) else sorted(glob.glob(expanded, recursive=True))
        files = [path for path in found if not os.path.isdir(path)]
        if not os.fspath(pattern).startswith(PACKAGE_PREFIX):
            return files
        # Their address, which is the same wherever the package is installed.
        return [PACKAGE_PREFIX + os.path.relpath(path, _PACKAGE_DATA) for path in files]

    def found_in(system: Any, name: str) -> list[str]:
        found = [name] if _kind(system, name) == "file" else sorted(system.glob(name))
        return [system.unstrip_protocol(path) for path in found if _kind(system, path) == "file"]

    return _remotely(pattern, found_in)


def files_in(directory: Path, pattern: str) -> list[str]:
    """Files in a directory whose path within it matches a pattern such as "seed_*/metrics.jsonl", sorted.

    Only the pattern is one: the directory's own name may hold "[" or "*".
    """
    part, _, rest = pattern.partition("/")
    found = [part] if not glob.has_magic(part) else fnmatch.filter(names(directory), part)
    paths = [join(directory, name) for name in found]
    if rest:
        return [file for path in paths for file in files_in(path, rest)]
    return [path for path in paths if is_file(path)]


def is_directory(path: Path) -> bool:
    """Returns whether a path is a directory."""
    if not is_remote(path):
        return os.path.isdir(_local(path))
    return _remotely(path, _kind) == "directory"


def names(directory: Path) -> list[str]:
    """Sorted names of what is directly in a directory; empty when there is none."""
    if not is_remote(directory):
        local = _local(directory)
        return sorted(os.listdir(local)) if os.path.isdir(local) else []
    return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in _entries(directory))


def sizes(directory: Path) -> dict[str, int]:
    """Bytes in each file that is directly in a directory, by name, from one listing; empty when there is none."""
    if not is_remote(directory):
        local = _local(directory)
        if not os.path.isdir(local):
            return {}
        with os.scandir(local) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    return {entry["name"].rpartition("/")[2]: entry["size"] for entry in _entries(directory) if entry["type"] == "file"}


def _kind(system: Any, name: str) -> str:
    """What is at a name: "file", "directory" or "". fsspec's own functions say "no" when a request fails, too."""
    try:
        return system.info(name)["type"]
    except FileNotFoundError:
        return ""


def _entries(directory: Path) -> list[dict[str, Any]]:
    """What is directly in a remote directory."""

    def listed(system: Any, name: str) -> list[dict[str, Any]]:
        system.invalidate_cache(name)
        try:
            found = system.ls(name, detail=True)
        except FileNotFoundError:
            return []
        return [entry for entry in found if entry["name"].rstrip("/") != name.rstrip("/")]

    return _remotely(directory, listed)


def open_to_read(path: Path) -> io.BufferedReader:
    """A file's bytes as a stream that can seek.

    Raises:
      OSError: no such file, it cannot be reached, or it is a named pipe or a device.
    """
    if not is_remote(path):
        return open(_local(path), "rb", opener=_open_regular)
    file = _remotely(path, lambda system, name: system.open(name, "rb"))
    return io.BufferedReader(_RemoteFile(os.fspath(path), file), _BUFFER_BYTES)


def read(path: Path) -> bytes:
    """Reads a file."""
    if not is_remote(path):
        with open_to_read(path) as file:
            return file.read()
    return _remotely(path, lambda system, name: system.cat_file(name))


def read_ranges(paths: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
    """Reads bytes start to end - 1 of each of several files of one remote file system, all at once.

    Raises:
      OSError: one of them cannot be read.
    """
    if not paths:
        return []

    def read_all(system: Any, _: str) -> list[bytes]:
        names = [system._strip_protocol(path) for path in paths]
        # Neighbouring requests stay apart: rows are asked for in random order, and lie far from each other.
        return system.cat_ranges(names, list(starts), list(ends), on_error="raise")

    return _remotely(paths[0], read_all)


@contextlib.contextmanager
def open_to_write(path: Path) -> Iterator[IO[bytes]]:
    """A stream to a new file, which appears complete when the block succeeds, and not at all otherwise."""
    if not is_remote(path):
        local = _local(path)
        os.makedirs(os.path.dirname(local) or ".", exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(
            prefix=f".{os.path.basename(local)}.", dir=os.path.dirname(local) or "."
        )
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, local)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        return
    with tempfile.NamedTemporaryFile() as file:
        yield file
        file.flush()
        upload(file.name, path)


def upload(local: str, path: Path) -> None:
    """Writes a local file to an address, where it appears complete when its upload is, or not at all."""
    try:
        _remotely(path, lambda system, name: system.put_file(local, name))
    except FileNotFoundError as error:
        raise RemoteError(f"{path}: cannot be written; there is no such bucket ({error})") from error


def upload_directory(local: str, directory: Path) -> None:
    """Writes all files in a local directory to an address, the smallest last; see `upload`."""
    files = [os.path.join(folder, file) for folder, _, files in os.walk(local) for file in files]
    for path in sorted(files, key=lambda path: (-os.path.getsize(path), path)):
        upload(path, join(directory, os.path.relpath(path, local)))


def write(path: Path, content: bytes) -> None:
    """Writes a file, which appears complete or not at all."""
    with open_to_write(path) as file:
        file.write(content)


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """Writes a value as a JSON file, which appears complete or not at all."""
    write(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode())


def make_directory(path: Path) -> None:
    """Makes a local directory and its parents, unless they exist; an object store has none to make."""
    if not is_remote(path):
        os.makedirs(_local(path), exist_ok=True)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[str]:
    """A local directory, which becomes `path` when the block succeeds and is deleted otherwise.

    To an address it is uploaded then, file by file, the smallest last: those say what the others are.

    Raises:
      OSError: there is something at `path` other than an empty directory, or nothing can be written there.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as temporary:
            yield temporary
            upload_directory(temporary, path)
        return
    local = os.path.abspath(_local(path))
    os.makedirs(os.path.dirname(local), exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=f".{os.path.basename(local)}.", dir=os.path.dirname(local))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.rename(temporary, local)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def move(source: Path, target: Path) -> None:
    """Gives a file or a directory another name on the same storage.

    At an address everything is copied, then deleted: if that is interrupted, moving again completes it.

    Raises:
      OSError: there is nothing at `source`, a local `target` exists, or it is not permitted.
    """
    if not is_remote(source):
        if os.path.lexists(_local(target)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
        os.rename(_local(source), _local(target))
        return
    place = os.fspath(source)

    def copy(path: str) -> None:
        copied = os.fspath(target) + path[len(place) :]
        _remotely(path, lambda system, name: system.cp_file(name, system._strip_protocol(copied)))

    _for_each(copy, _all_files(place))
    remove(source)


def remove(path: Path) -> None:
    """Deletes a file, or a directory with all that is in it; does nothing if there is none."""
    if not is_remote(path):
        local = _local(path)
        if os.path.isdir(local) and not os.path.islink(local):
            shutil.rmtree(local)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local)
        return

    def delete(file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            _remotely(file, lambda system, name: system.rm_file(name))

    # One by one: fsspec takes a name with "[" or "*" for a pattern where it deletes several at once.
    _for_each(delete, _all_files(path))


def _all_files(path: Path) -> list[str]:
    """The addresses of all files that a remote file or directory consists of."""

    def found(system: Any, name: str) -> list[str]:
        system.invalidate_cache(name)
        return [system.unstrip_protocol(file) for file in system.find(name)]

    return _remotely(path, found)


def _for_each(action: Callable[[str], None], paths: Sequence[str]) -> None:
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as threads:
        for done in [threads.submit(action, path) for path in paths]:
            done.result()


def _local(path: Path) -> str:
    text = os.fspath(path)
    if text.startswith(PACKAGE_PREFIX):
        return os.path.join(_PACKAGE_DATA, text.removeprefix(PACKAGE_PREFIX))
    return os.path.expanduser(text)


def _open_regular(path: str, flags: int) -> int:
    """Opens a file, but nothing that may block or never end, such as a named pipe or /dev/zero."""
    # Without O_NONBLOCK, opening a pipe waits for a writer. For regular files it has no effect.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # `open` itself refuses a directory.
        os.close(descriptor)
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device" if stat.S_ISCHR(mode) else "no regular file"
        raise OSError(errno.EINVAL, f"is {kind}, expected a regular file; copy the content into one", path)
    return descriptor


@functools.cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class RemoteError(OSError):
    """An address cannot be reached, or does not support what was requested."""


class _MayPass(Exception):
    """An address cannot be reached, for a reason that may be gone after a while."""


class _RemoteFile(io.RawIOBase):
    """A remote file opened by fsspec, all of whose errors are OSErrors."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view, place = memoryview(buffer), self._file.tell()

        def read_again() -> bytes:
            self._file.seek(place)
            return self._file.read(len(view))

        content = _retried(self._path, read_again)
        view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def _remotely(path: Path, action: Callable[[Any, str], Value]) -> Value:
    """What `action` returns, given the file system of an address and the name in it; retried, so it may run twice."""
    return _retried(path, lambda: action(*_file_system(path)))


def _file_system(path: Path) -> tuple[Any, str]:
    _configure()
    import fsspec  # Imported here: slow, and local files do not need it.

    return fsspec.core.url_to_fs(os.fspath(path))


def _configure() -> None:
    """Sets what all file systems of fsspec must have, before the first one is made."""
    import fsspec

    for protocol in ("gs", "s3"):
        # Others write there too: tensorstore, other hosts. A listing from a cache would not show it, and Orbax would
        # take a checkpoint for complete that a kill has left without its end.
        fsspec.config.conf.setdefault(protocol, {}).setdefault("use_listings_cache", False)
    # It prints a traceback whenever it gives up; what is raised says the same once.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)


def _retried(path: Path, action: Callable[[], Value]) -> Value:
    """What `action` returns; tried again, ever less often, while it fails for a reason that may pass.

    Raises:
      StorageLost: it still fails after RETRY_SECONDS.
      OSError: it fails for another reason.
    """
    deadline, pause = time.monotonic() + RETRY_SECONDS, 1.0
    while True:
        try:
            with _os_errors(path):
                return action()
        except _MayPass as error:
            if time.monotonic() + pause > deadline:
                raise StorageLost(
                    f"{error}; tried for {RETRY_SECONDS:g} seconds. Run the same command again once the storage "
                    "answers; it continues from what is complete."
                ) from error
            logging.getLogger(__name__).warning("%s; trying again", error)
            # Spread, so that the hosts of a pod do not all come back at once.
            time.sleep(pause * random.Random().uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)


@contextlib.contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """Turns what goes wrong in its block into an OSError, or into _MayPass."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, ImportError, ValueError, *_library_errors())):
            raise
        if _may_pass(error):
            raise _MayPass(f"{path}: {_described(error)}") from error
        # gcsfs raises bare OSErrors, for example where access is forbidden.
        if isinstance(error, OSError) and type(error) is not OSError:
            raise
        raise RemoteError(f"{path}: {_described(error)}") from error


def _described(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _may_pass(error: Exception) -> bool:
    """Whether an error of storage may be gone after a while: overload, a broken connection, a timeout."""
    response = getattr(error, "response", None)
    for status in (
        getattr(error, "code", None),
        getattr(error, "status", None),
        getattr(response, "status_code", None),
    ):
        if str(status).isdigit():
            return int(str(status)) in (408, 429) or int(str(status)) >= 500
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    # By name, since most of these libraries may be missing: aiohttp, requests, google.auth, httpx, botocore.
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(kinds & _PASSING) or bool(getattr(error, "retryable", False))


_PASSING = {
    "aiohttp.ClientError",
    "requests.RequestException",
    "google.TransportError",
    "httpx.TransportError",
    "botocore.HTTPClientError",
    "gcsfs.ChecksumError",
}


@functools.cache
def _library_errors() -> tuple[type[Exception], ...]:
    """Exceptions of the libraries beneath fsspec that are no OSErrors."""
    import aiohttp
    import gcsfs.retry
    import google.auth.exceptions

    found: list[type[Exception]] = [
        aiohttp.ClientError,
        gcsfs.retry.HttpError,
        gcsfs.retry.ChecksumError,
        google.auth.exceptions.GoogleAuthError,
    ]
    for module, error in (("botocore.exceptions", "BotoCoreError"), ("httpx", "HTTPError")):
        with contextlib.suppress(ImportError):
            found.append(getattr(importlib.import_module(module), error))
    return tuple(found)
