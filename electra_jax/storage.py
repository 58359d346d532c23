"""Files wherever they are: local paths, package data, and gs:// or any other address that fsspec knows.

A path is a string; one with "://" is an address, `package:NAME` is a file in electra_jax/data, and any other is a local
path in which "~" is expanded. Every error is an OSError, whatever library it comes from.
"""

import contextlib
import errno
import functools
import glob
import io
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Path = str | os.PathLike

PACKAGE_PREFIX = "package:"

_PACKAGE_DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
_BUFFER_BYTES = 1 << 20


def is_remote(path: Path) -> bool:
    """Returns whether a path is an address rather than a local path."""
    return "://" in os.fspath(path)


def join(directory: Path, *names: str) -> str:
    """The path of something inside a directory."""
    return "/".join([os.fspath(directory).rstrip("/"), *names])


def problem(path: Path) -> str:
    """Returns why an address can never be reached from here; "" if it may be, and for local paths."""
    if not is_remote(path):
        return ""
    import fsspec

    protocol = os.fspath(path).partition("://")[0]
    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        return f"{path}: {protocol}:// cannot be used ({error})"
    return ""


def exists(path: Path) -> bool:
    """Returns whether there is a file, a directory, or anything whose address begins with this one and "/"."""
    if not is_remote(path):
        return os.path.exists(_local(path))
    with _remote(path) as (system, name):
        return system.exists(name)


def size(path: Path) -> int:
    """Bytes in a file.

    Raises:
      OSError: no such file, or it cannot be reached.
    """
    if not is_remote(path):
        return os.path.getsize(_local(path))
    with _remote(path) as (system, name):
        return system.size(name)


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
    with _remote(pattern) as (system, name):
        found = [name] if system.isfile(name) else sorted(system.glob(name))
        return [system.unstrip_protocol(path) for path in found if not system.isdir(path)]


def is_directory(path: Path) -> bool:
    """Returns whether a path is a directory."""
    if not is_remote(path):
        return os.path.isdir(_local(path))
    with _remote(path) as (system, name):
        return system.isdir(name)


def names(directory: Path) -> list[str]:
    """Sorted names of what is directly in a directory; empty when there is none."""
    if not is_remote(directory):
        local = _local(directory)
        return sorted(os.listdir(local)) if os.path.isdir(local) else []
    with _remote(directory) as (system, name):
        system.invalidate_cache(name)
        listed = system.ls(name, detail=False) if system.exists(name) else []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in listed if path.rstrip("/") != name.rstrip("/"))


def sizes(directory: Path) -> dict[str, int]:
    """Bytes in each file that is directly in a directory, by name, from one listing; empty when there is none."""
    if not is_remote(directory):
        local = _local(directory)
        if not os.path.isdir(local):
            return {}
        with os.scandir(local) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    with _remote(directory) as (system, name):
        system.invalidate_cache(name)
        listed = system.ls(name, detail=True) if system.exists(name) else []
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in listed if entry["type"] == "file"}


def open_to_read(path: Path) -> io.BufferedReader:
    """A file's bytes as a stream that can seek.

    Raises:
      OSError: no such file, or it cannot be reached.
    """
    if not is_remote(path):
        return open(_local(path), "rb")
    with _remote(path) as (system, name):
        return io.BufferedReader(_RemoteFile(os.fspath(path), system.open(name, "rb")), _BUFFER_BYTES)


def read(path: Path) -> bytes:
    """Reads a file."""
    if not is_remote(path):
        return pathlib.Path(_local(path)).read_bytes()
    with _remote(path) as (system, name):
        return system.cat_file(name)


def read_ranges(paths: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
    """Reads bytes start to end - 1 of each of several files of one remote file system, all at once.

    Raises:
      OSError: one of them cannot be read.
    """
    if not paths:
        return []
    with _remote(paths[0]) as (system, _):
        names = [system._strip_protocol(path) for path in paths]
        # Neighbouring requests stay apart: rows are asked for in random order, and lie far from each other.
        return system.cat_ranges(names, list(starts), list(ends), on_error="raise")


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
    # Uploaded in one piece: an object appears when its upload is complete.
    with tempfile.NamedTemporaryFile() as file:
        yield file
        file.flush()
        with _remote(path) as (system, name):
            system.put_file(file.name, name)


def write(path: Path, content: bytes) -> None:
    """Writes a file, which appears complete or not at all."""
    with open_to_write(path) as file:
        file.write(content)


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """Writes a value as a JSON file, which appears complete or not at all."""
    write(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode())


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[str]:
    """A directory under another name, which becomes `path`, local, when the block succeeds and is deleted otherwise.

    Raises:
      OSError: there is something at `path` other than an empty directory, or nothing can be written there.
    """
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
    """Gives a file or a directory another name on the same storage; at an address, by copying and deleting.

    Raises:
      OSError: there is nothing at `source`, something at `target`, or it is not permitted.
    """
    if exists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    if not is_remote(source):
        os.rename(_local(source), _local(target))
        return
    with _remote(source) as (system, name):
        system.mv(name, system._strip_protocol(os.fspath(target)), recursive=True)


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
    with _remote(path) as (system, name):
        if system.exists(name):
            system.rm(name, recursive=True)


def _local(path: Path) -> str:
    text = os.fspath(path)
    if text.startswith(PACKAGE_PREFIX):
        return os.path.join(_PACKAGE_DATA, text.removeprefix(PACKAGE_PREFIX))
    return os.path.expanduser(text)


@functools.cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class RemoteError(OSError):
    """An address cannot be reached, or does not support what was requested."""


class _RemoteFile(io.RawIOBase):
    """A remote file opened by fsspec, all of whose errors are OSErrors."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        with _os_errors(self._path):
            content = self._file.read(len(view))
        view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def _remote(path: Path) -> Iterator[tuple[Any, str]]:
    """The file system of an address and the name in it; whatever goes wrong in the block becomes an OSError."""
    import fsspec  # Imported here: slow, and local files do not need it.

    # gcsfs would first ask Google over gRPC what kind a bucket is, and hang where only HTTPS goes through.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    with _os_errors(path):
        yield fsspec.core.url_to_fs(os.fspath(path))


@contextlib.contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (ImportError, ValueError) as error:
        raise RemoteError(f"{path}: {error}") from error
    except _library_errors() as error:
        raise RemoteError(f"{path}: {error}") from error


@functools.cache
def _library_errors() -> tuple[type[Exception], ...]:
    """Exceptions of the libraries beneath fsspec that are no OSErrors."""
    import aiohttp
    import gcsfs.retry
    import google.auth.exceptions

    return (aiohttp.ClientError, gcsfs.retry.HttpError, google.auth.exceptions.GoogleAuthError)
