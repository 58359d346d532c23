"""The session of a process in a run, from joining the others to its exit."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from electra_jax.errors import Preempted, RunError
from electra_jax.stop_signals import StopSignals

if TYPE_CHECKING:
    from electra_jax.training.multihost.cluster import Cluster


class Session:
    """Joins the processes of a run, and keeps what the exit of this one needs: the cluster and the reason.

    An entry point keeps one from before the run until after it; nothing is imported before `joined`.

    Attributes:
      stop: the requests to stop this process; the entry point enters it first of all.
      began: when the session began, in seconds since 1970.
    """

    def __init__(self) -> None:
        self.stop = StopSignals(self._stopped)
        self.began = time.time()
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

        def met() -> None:
            # The others would wait for this process in vain, and could not be told that it is gone.
            self.stop.hold(lambda name: None)

        try:
            with self.stop.doing("joining the other processes"):
                self._cluster = processes.join(coordinator, num_processes, process_id, seconds, met)
                self._cluster.may_end = lambda: not self.stop.is_held
                self.stop.release()
            yield self._cluster
        except (RunError, OSError) as error:
            if (cause := self._cause(error)) is not None:
                self._reason = str(cause)
                raise cause from error
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

    def _cause(self, error: BaseException) -> RunError | None:
        """The loss of another process, if that is what a library's error behind `error` comes from."""
        cluster = self._cluster
        while isinstance(error, RunError) and error.__cause__ is not None:
            error = error.__cause__
        if cluster is None or cluster.count == 1 or isinstance(error, RunError):
            return None
        return cluster.explained(error)

    def _stopped(self, reason: str) -> None:
        """Ends this process, which has nothing to save, in any thread."""
        self._reason = reason
        self.leave(Preempted.exit_code)

    def leave(self, exit_code: int) -> NoReturn:
        """Ends this process, and the others if this one failed."""
        if exit_code:
            self.stop.close()
        if self._cluster is None:
            sys.exit(exit_code)
        self._cluster.leave(exit_code, self._reason)
