"""A profiler trace of chosen steps."""

import dataclasses
import re
import tempfile

import jax

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.training.run_context import RunContext


@dataclasses.dataclass(frozen=True)
class ProfiledSteps:
    """Updates to trace; the first update of a run is number 1."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str | None) -> "ProfiledSteps | None":
        """Parses "A:B", the updates from A to B inclusive; None for no text.

        Raises:
          InputError: the text has another form.
        """
        if not text:
            return None
        if not (found := re.fullmatch(r"(\d+):(\d+)", text)):
            raise InputError(f"--profile_steps={text}: expected A:B, the numbers of two updates, for example 10:12")
        steps = cls(*map(int, found.groups()))
        if not 1 <= steps.first <= steps.last:
            raise InputError(
                f"--profile_steps={text}: expected A:B with A from 1 to B; the first update of a run is number 1"
            )
        return steps

    def check(self, steps: int) -> None:
        """Raises InputError if a run has fewer updates than these."""
        if self.last > steps:
            raise InputError(f"--profile_steps={self.first}:{self.last}: the run has {steps:,} updates")


class Profiler:
    """Writes the trace of chosen steps, in process 0."""

    def __init__(self, steps: ProfiledSteps | None, context: RunContext, resumed_at: int) -> None:
        """Takes the steps to trace; prints a note if the run is past them."""
        self._steps = steps if context.cluster.is_first else None
        self._directory, self._line = storage.join(context.workdir, "profile"), context.line
        self._traced = self._directory  # Where JAX writes, which is a local path.
        self._tracing = False
        if self._steps and resumed_at >= self._steps.first:
            self._line.print(
                f"--profile_steps={self._steps.first}:{self._steps.last}: nothing is traced, as the run already has "
                f"{resumed_at:,} updates"
            )
            self._steps = None

    def before(self, step: int) -> None:
        """Starts the trace before update `step`, if it is the first to trace."""
        if self._steps and step == self._steps.first:
            if storage.is_remote(self._directory):
                self._traced = tempfile.mkdtemp()
            jax.profiler.start_trace(self._traced)
            self._tracing = True

    def after(self, step: int, results: object) -> None:
        """Ends the trace after update `step` was dispatched, given its results, if it is the last to trace."""
        if self._steps and self._tracing and step == self._steps.last:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        """Ends the trace in progress, if any."""
        if self._steps is None or not self._tracing:
            return
        self._tracing = False
        jax.profiler.stop_trace()
        if self._traced != self._directory:
            storage.upload_directory(self._traced, self._directory)
            storage.remove(self._traced)
        self._line.print(
            f"Profile, updates {self._steps.first} to {self._steps.last}: {self._directory}\n"
            f"To look at it: pip install xprof && xprof --port 8791 {self._directory}; or open its *.trace.json.gz at "
            f"https://ui.perfetto.dev"
        )
