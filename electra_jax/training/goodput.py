"""The goodput ledger: what the seconds of a run went to, over all of its starts.

Every second since the first start belongs to one activity. `Progress` keeps the sums, so that a checkpoint has those up
to its step; what came after it, until the process began again, is lost work and the time between two processes. So are
the steps that a run has done when it diverges and goes back.
"""

import contextlib
import time
from collections.abc import Iterator

from electra_jax.training.checkpoint_record import Progress


def seconds_after_going_back(progress: Progress, before: Progress) -> dict[str, float]:
    """The seconds by activity of a run that goes back within one process: its steps since then are lost work.

    Args:
      progress: the run's.
      before: that of the checkpoint to which it goes back.
    """
    lost = progress.productive_seconds - before.productive_seconds
    return progress.seconds | {"lost": progress.seconds.get("lost", 0.0) + lost}


class Ledger:
    """Adds seconds to the sums of a run's progress."""

    def __init__(self, progress: Progress, began: float, *, restoring: float, last_seen: float) -> None:
        """Accounts for the time until now.

        Args:
          progress: the run's, as restored.
          began: when this process began to work on the run, or went back, in seconds since 1970.
          restoring: seconds that restoring the state took, a part of the time since then.
          last_seen: seconds of the run at the last sign of the process before; 0 for none.
        """
        self._progress = progress
        recorded = progress.productive_seconds + sum(progress.seconds.values())
        # Negative if the clock was set back.
        between = max(began - progress.started_at - recorded, 0.0)
        if progress.productive_seconds and not progress.seconds:
            self._add("unrecorded", between)  # A checkpoint from before there was a ledger.
        else:
            lost = min(max(last_seen - recorded, 0.0), between)
            self._add("lost", lost)
            self._add("down", between - lost)
        self._add("restore", restoring)
        self._add("start", max(time.time() - began - restoring, 0.0))
        self._settled_at = time.perf_counter()
        self._elsewhere = 0.0  # Since then.

    def _add(self, activity: str, seconds: float) -> None:
        if seconds:
            sums = self._progress.seconds
            sums[activity] = sums.get(activity, 0.0) + seconds

    @contextlib.contextmanager
    def timed(self, activity: str) -> Iterator[None]:
        """Adds the seconds of its block, if the block succeeds, to `activity`."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self._add(activity, seconds)
        self._elsewhere += seconds

    def settle(self) -> None:
        """Adds the time that belongs to no activity to the steps, which are worked off meanwhile."""
        now = time.perf_counter()
        self._progress.productive_seconds += max(now - self._settled_at - self._elsewhere, 0.0)
        self._settled_at, self._elsewhere = now, 0.0

    def values(self) -> dict[str, float]:
        """The sums by their names in metrics.jsonl."""
        sums = {"step": self._progress.productive_seconds, **self._progress.seconds}
        return {f"goodput/{activity}_seconds": round(seconds, 3) for activity, seconds in sums.items()}
