"""Compiled programs that are kept on disk, and a count of those that were found there."""

import collections
import pathlib

import jax


def use_compile_cache(directory: str, workdir: pathlib.Path) -> None:
    """Keeps compiled programs on disk, so that the next start of the same run does not compile again.

    Args:
      directory: where; "workdir" for the run's own.
      workdir: of the run.
    """
    path = workdir / "compiled" if directory == "workdir" else pathlib.Path(directory).expanduser()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


class CompiledPrograms:
    """Counts programs that were compiled, and those that came from the cache instead, while its block runs."""

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
        """Programs that the cache was asked for in vain; those that compile in less than a second are not kept."""
        return self._counts["/jax/compilation_cache/compile_requests_use_cache"] - self.from_cache

    def values(self) -> dict[str, float]:
        """For metrics.jsonl."""
        return {"performance/programs_from_cache": self.from_cache, "performance/programs_compiled": self.compiled}
