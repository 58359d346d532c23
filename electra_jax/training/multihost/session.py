"""The session of a process in a run, from joining the others to its exit."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from electra_jax.errors import RunError

if TYPE_CHECKING:
    from electra_jax.training.multihost.cluster import Cluster


class Session:
    """Joins the processes of a run, and keeps what the exit of this one needs: the cluster and the reason.

    An entry point keeps one from before the run until after it; nothing is imported before `joined`.
    """

    def __init__(self) -> None:
        self._cluster: Cluster | None = None
        self._reason = ""  # Why this process ends, in one line.

    @contextlib.contextmanager
    def joined(
        self, coordinator: str | None, num_processes: int | None, process_id: int | None, seconds: float
    ) -> Iterator[Cluster]:
        """Joins the other processes, see `processes.join`, and keeps the reason if its block fails.

        Raises:
          RunError: in place of an unexpected error, if there are several processes; the reason of another process if it
            is the cause.
        """
        from electra_jax.training.multihost import processes

        try:
            self._cluster = processes.join(coordinator, num_processes, process_id, seconds)
            yield self._cluster
        except (RunError, OSError, KeyboardInterrupt) as error:
            self._reason = str(error) or type(error).__name__
            raise
        except Exception as error:
            cluster = self._cluster
            if cluster is None or cluster.count == 1:
                raise
            if (cause := cluster.explained(error)) is not None:
                self._reason = str(cause)
                raise cause from error
            self._reason = f"{type(error).__name__}: {error}"[:1000]
            traceback.print_exc()
            raise RunError(f"{cluster.name()}: unexpected error, see above") from error

    def leave(self, exit_code: int) -> NoReturn:
        """Ends this process, and the others if this one failed."""
        if self._cluster is None:
            sys.exit(exit_code)
        self._cluster.leave(exit_code, self._reason)
