"""Stopping early, on a signal."""

import contextlib
import signal
from collections.abc import Iterator

from electra_jax.training.multihost.cluster import Cluster


class StopRequest:
    """A request to stop, by SIGTERM or Ctrl-C, to this or another process of the run."""

    def __init__(self, cluster: Cluster) -> None:
        self.signal_name = ""  # The signal that this process received.
        self._cluster = cluster
        self._agreement = self._cluster.agreement_to_stop()

    def __bool__(self) -> bool:
        return bool(self.signal_name)

    def note(self, signal_name: str) -> None:
        """Records a signal."""
        self.signal_name = signal_name
        if self._agreement:
            self._agreement.requested = f"{signal_name} ({self._cluster.name()})"

    def reached(self) -> bool:
        """Whether to stop here; called between steps, equally often in every process."""
        return self._agreement.poll() if self._agreement else bool(self)

    @property
    def reason(self) -> str:
        """The signal and, in a run of several processes, the process that received it."""
        return self._agreement.reason if self._agreement else self.signal_name


@contextlib.contextmanager
def stop_on_signals(cluster: Cluster) -> Iterator[StopRequest]:
    """Turns the first SIGTERM or SIGINT into a request; a second one ends the process as usual."""
    request = StopRequest(cluster)

    def note(number: int, _: object) -> None:
        request.note(signal.Signals(number).name)
        for name, handler in before.items():
            signal.signal(name, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
