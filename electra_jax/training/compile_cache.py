"""JAX's persistent compilation cache, and a count of its hits and misses."""

import collections
import pathlib

import jax


def use_compile_cache(directory: str, workdir: pathlib.Path) -> None:
    """Caches compiled programs on disk, so that the next start of the same run need not compile.

    Args:
      directory: path of the cache; "workdir" for a directory in the workdir.
      workdir: directory of the run.
    """
    path = workdir / "compiled" if directory == "workdir" else pathlib.Path(directory).expanduser()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


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
