"""Stopping early, when a process is asked to."""

from electra_jax.stop_signals import StopSignals
from electra_jax.training.hang_watch import HangWatch
from electra_jax.training.multihost.cluster import Cluster


class StopRequest:
    """The request to stop as a training loop sees it: to this or another process, from the first update on.

    Before that a request ends the process at once, see `StopSignals`; so does one that the loop can no longer answer,
    once everything is saved.

    Attributes:
      is_holding: whether there are updates to save.
    """

    def __init__(self, cluster: Cluster, signals: StopSignals, watch: HangWatch) -> None:
        """Prepares for updates.

        Args:
          cluster: the processes of the run.
          signals: the requests to this process.
          watch: learns of every question whether to stop, since the loop gets ahead then.
        """
        self._cluster, self._signals, self._watch = cluster, signals, watch
        self.is_holding = False
        self._noted = ""  # The request to this process.
        self._agreement = cluster.agreement_to_stop()

    def __enter__(self) -> "StopRequest":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._signals.release(ends=error is None)

    def hold(self) -> None:
        """From here on there are updates to save; all processes call it after the same update."""
        self._signals.hold(self._record)
        self._watch.start()
        self.is_holding = True

    def _record(self, name: str) -> None:
        self._noted = name
        if self._agreement:
            self._agreement.requested = f"{name} ({self._cluster.name()})"

    def reached(self) -> bool:
        """Whether to stop here; called between steps, equally often in every process."""
        self._watch.beat()
        return self._agreement.poll() if self._agreement else bool(self._noted)

    @property
    def reason(self) -> str:
        """The request and, in a run of several processes, the process that received it."""
        return self._agreement.reason if self._agreement else self._noted
