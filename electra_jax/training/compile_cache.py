"""JAX's persistent compilation cache, and a count of its hits and misses."""

import collections
import logging
import re
import warnings
from typing import TextIO

import jax

from electra_jax import storage
from electra_jax.errors import InputError


def use_compile_cache(directory: str, workdir: storage.Path) -> None:
    """Caches compiled programs on disk, so that the next start of the same run need not compile.

    Args:
      directory: path or address of the cache; "workdir" for a directory in the workdir.
      workdir: directory of the run.

    Raises:
      InputError: JAX cannot reach that kind of address.
    """
    path = storage.join(workdir, "compiled") if directory == "workdir" else storage.absolute(directory)
    protocol = path.partition("://")[0] if storage.is_remote(path) else ""
    if protocol and protocol not in _PROTOCOLS:
        raise InputError(
            f"config.compile_cache: found {directory}, expected a local path or an address that begins with "
            f"{' or '.join(f'{name}://' for name in _PROTOCOLS)}"
        )
    if problem := storage.problem(path):
        raise InputError(f"config.compile_cache: {problem}")
    jax.config.update("jax_compilation_cache_dir", path)
    _delete_unreadable(path)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


# Of the addresses that JAX reaches, through etils. It takes any other for the name of a local folder.
_PROTOCOLS = ("gs", "s3")


# How JAX reports an entry that it could read and could not understand; it compiles then, and keeps the entry.
_UNREADABLE = re.compile(
    r"Error reading persistent compilation cache entry for '(.*?)': ((?:Zstd|JaxRuntime|XlaRuntime|Value)?[eE]rror): "
)


def _delete_unreadable(directory: str) -> None:
    """Deletes an entry, from now on, when JAX cannot understand it, so that JAX writes a new one in its place."""
    show_others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        found = _UNREADABLE.match(str(message))
        if not found:
            show_others(message, category, filename, lineno, file, line)
            return
        # The warning names the program alone. Others of that name are compiled again as well, at most once.
        entries = [name for name in storage.names(directory) if name.startswith(f"{found[1]}-")]
        logging.getLogger(__name__).warning(
            "%s: an entry of %s is damaged (%s); it is deleted and made again", directory, found[1], found[2]
        )
        for name in entries:
            storage.remove(storage.join(directory, name))

    warnings.filterwarnings("always", message="Error reading persistent compilation cache entry")
    warnings.showwarning = show  # type: ignore[assignment]  # mypy asks for the names of typeshed's arguments.


class CompiledPrograms:
    """Counts the programs that were compiled, and those read from the cache, while its block runs."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> "CompiledPrograms":
        jax.monitoring.register_event_listener(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_listener(self._count)

    def _count(self, event: str, **_: object) -> None:
        self._counts[event] += 1

    @property
    def from_cache(self) -> int:
        """Programs that were read from the cache."""
        return self._counts["/jax/compilation_cache/cache_hits"]

    @property
    def compiled(self) -> int:
        """Programs that the cache did not have; those that compile in less than a second are not cached."""
        return self._counts["/jax/compilation_cache/compile_requests_use_cache"] - self.from_cache

    def values(self) -> dict[str, float]:
        """Both counts, by their names in metrics.jsonl."""
        return {"performance/programs_from_cache": self.from_cache, "performance/programs_compiled": self.compiled}
