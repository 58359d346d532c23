"""The report at the end of a run, however it ends."""

import contextlib
from collections.abc import Iterator

from electra_jax.errors import RunError, StorageLost
from electra_jax.progress import ProgressLine
from electra_jax.reporting.pretraining_page import has_metrics, write_report


@contextlib.contextmanager
def report_at_end(workdir: str, line: ProgressLine, *, writes: bool) -> Iterator[None]:
    """Writes the report when its block ends, also that of a run that was stopped.

    Args:
      workdir: the run's directory.
      line: prints the report's path.
      writes: whether this process is the one that writes it.
    """
    is_reachable = True
    try:
        yield
    except StorageLost:
        is_reachable = False  # Trying to write there would take minutes again.
        raise
    finally:
        if writes and is_reachable:
            _write(workdir, line)


def _write(workdir: str, line: ProgressLine) -> None:
    # A failed report must not hide why the run stopped.
    try:
        # Otherwise it was stopped before anything was logged.
        if has_metrics(workdir):
            line.print(f"Report: {write_report(workdir)}")
    except (RunError, OSError) as error:
        line.print(f"No report: {error}")
