"""The report at the end of a run, however it ends."""

import contextlib
from collections.abc import Iterator

from electra_jax.errors import RunError, StorageLost
from electra_jax.progress import ProgressLine
from electra_jax.reporting.pretraining_page import has_metrics, write_report
from electra_jax.training.run_context import RunContext


@contextlib.contextmanager
def report_at_end(context: RunContext) -> Iterator[None]:
    """Writes the report in process 0 when its block ends, also that of a run that was stopped."""
    is_reachable = True
    try:
        yield
    except StorageLost:
        is_reachable = False  # Trying to write there would take minutes again.
        raise
    finally:
        if context.cluster.is_first and is_reachable:
            with context.stop.doing("writing the report"):
                _write(context.workdir, context.line)


def _write(workdir: str, line: ProgressLine) -> None:
    # A failed report must not hide why the run stopped.
    try:
        # Otherwise it was stopped before anything was logged.
        if has_metrics(workdir):
            line.print(f"Report: {write_report(workdir)}")
    except (RunError, OSError) as error:
        line.print(f"No report: {error}")
