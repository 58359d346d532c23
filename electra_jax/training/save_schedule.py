"""When checkpoints are due: every so many steps, and every so many minutes."""

import time
from collections.abc import Callable

from electra_jax.training.multihost.cluster import Cluster


class SaveSchedule:
    """Decides at which steps a run saves; the same in all of its processes."""

    def __init__(
        self,
        every_steps: int,
        every_minutes: float,
        log_every_steps: int,
        cluster: Cluster,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
          every_steps: interval in steps.
          every_minutes: interval in minutes, after the last save of either kind; 0 for none.
          log_every_steps: steps at which the clock is read; process 0 reads it and tells the others.
          cluster: the processes of the run.
          clock: seconds.
        """
        self._every_steps, self._every_minutes, self._log_every_steps = every_steps, every_minutes, log_every_steps
        self._cluster, self._clock = cluster, clock
        self._saved_at = clock()

    def is_due(self, step: int) -> bool:
        """Whether to save after update `step`; called once for each step."""
        if not step:
            return False
        is_due = step % self._every_steps == 0
        if not is_due and self._every_minutes and step % self._log_every_steps == 0:
            is_due = self._cluster.from_first(lambda: self._clock() - self._saved_at >= 60 * self._every_minutes)
        if is_due:
            self._saved_at = self._clock()
        return is_due
