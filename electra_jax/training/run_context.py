"""The context of a run, passed from an entry point to all of its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from electra_jax.errors import ProcessLost
from electra_jax.progress import ProgressLine
from electra_jax.training.multihost.cluster import Cluster


@dataclasses.dataclass(frozen=True)
class RunContext:
    """The workdir of a run, its progress line and its processes.

    Attributes:
      workdir: an absolute path, or an address such as gs://bucket/run.
      line: what the user sees; silent in all processes but the first.
      cluster: this process among those of the run.
      owns_workdir: whether this process may still write there; process 0 of a run that trains owns it.
      restarts: whether a run whose checkpoints are gone may begin again.
    """

    workdir: str
    line: ProgressLine = dataclasses.field(default_factory=ProgressLine)
    cluster: Cluster = dataclasses.field(default_factory=Cluster)
    restarts: bool = False
    owns_workdir: Callable[[], bool] = lambda: True

    def check_owner(self) -> None:
        """Raises ProcessLost if another process has taken the workdir over, as this one was suspended for example."""
        if not self.owns_workdir():
            raise ProcessLost(
                f"--workdir={self.workdir}: another process has taken over; this one ends and writes nothing more. "
                "Run the same command again if the other has ended."
            )

    def within(self, directory: str) -> RunContext:
        """The context of a part of the run that has a directory of its own, such as a trial."""
        return dataclasses.replace(self, workdir=directory)
