"""The context of a run, passed from an entry point to all of its parts."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from electra_jax.errors import ProcessLost, StorageLost
from electra_jax.progress import ProgressLine
from electra_jax.stop_signals import StopSignals
from electra_jax.training.multihost.cluster import Cluster


@dataclasses.dataclass(frozen=True)
class RunContext:
    """The workdir of a run, its progress line, its processes, and whether it is asked to stop.

    Attributes:
      workdir: an absolute path, or an address such as gs://bucket/run.
      line: what the user sees; silent in all processes but the first.
      cluster: this process among those of the run.
      stop: the requests to stop this process; none are noticed unless an entry point has entered it.
      began: when the process began to work on this run, in seconds since 1970.
      owns_workdir: whether this process may still write there; process 0 of a run that trains owns it.
      restarts: whether a run whose checkpoints are gone may begin again.
    """

    workdir: str
    line: ProgressLine = dataclasses.field(default_factory=ProgressLine)
    cluster: Cluster = dataclasses.field(default_factory=Cluster)
    stop: StopSignals = dataclasses.field(default_factory=StopSignals)
    began: float = dataclasses.field(default_factory=time.time)
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
        """The context of a part of the run that has a directory of its own, such as a trial, and begins now."""
        return dataclasses.replace(self, workdir=directory, began=time.time())


@contextlib.contextmanager
def under_way() -> Iterator[None]:
    """The part of a run in which an error of storage is no mistake of the user's: everything worked before.

    Raises:
      StorageLost: in place of such an error.
    """
    try:
        yield
    except OSError as error:
        raise StorageLost(
            f"Storage failed during the run: {error}. Free some space, or check the disk or the network, then run the "
            "same command again; it continues from what is complete."
        ) from error
