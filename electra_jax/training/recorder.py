"""Records a run while it trains: metrics, the time that each activity takes, and the live progress line."""

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from electra_jax import storage
from electra_jax.errors import StorageLost
from electra_jax.nested import json_ready
from electra_jax.training import device_speed, telemetry
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.compile_cache import CompiledPrograms
from electra_jax.training.goodput import Ledger
from electra_jax.training.job import Sums, Work
from electra_jax.training.optimizer import learning_rate
from electra_jax.training.run_context import RunContext
from electra_jax.training.trainer import Trainer
from electra_jax.wording import duration, quantity

_FIRST_ESTIMATE_SECONDS = 5.0  # To measure before the duration is estimated.


class Recorder:
    """Reads metrics one step behind the device, so that the device never waits for the host."""

    def __init__(
        self,
        trainer: Trainer,
        context: RunContext,
        step: int,
        progress: Progress,
        began: float,
        restoring: float,
    ) -> None:
        """Opens the files, and drops what they have of later steps than `step`.

        Args:
          trainer: what is trained.
          context: context of the run.
          step: the state's step.
          progress: data position and times so far, which the recorder continues.
          began: when the work from this state on began, in seconds since 1970.
          restoring: seconds since then that restoring the state took.
        """
        self._trainer, self._progress, self._line = trainer, progress, context.line
        workdir, cluster = context.workdir, context.cluster
        last_seen = telemetry.last_elapsed(storage.join(workdir, "metrics.jsonl")) if cluster.is_first else 0.0
        self._ledger = Ledger(progress, began, restoring=restoring, last_seen=last_seen)
        self._metrics = telemetry.MetricsWriter(workdir, cluster, resumed_at=step)
        self._samples = telemetry.JsonLines(
            storage.join(workdir, "samples.jsonl") if cluster.is_first else None, resumed_at=step
        )
        self._peak_flops, _ = device_speed.peak_flops_per_second()
        self._pending: deque[tuple[int, Sums]] = deque()
        self._seconds: dict[str, float] = {}  # By activity, since the last line.
        self._line_at = self._first_step_at = time.perf_counter()
        self._line_step = self._first_step = step
        self._tokens = self._flops = 0.0  # Since the last line.
        self._shown_tokens = 0  # Since the first step.
        self._estimated = False
        self._loss = math.nan  # Until the first line is logged.
        self._once: dict[str, float] = {}  # To be added to the next line.
        self._held_out = ""  # The first score of the last evaluation, for the live line.
        self._skipping_line: int | None = None
        self._not_finite: set[str] = set()  # Names of held-out scores that were reported.

    def holds(self, step: int, name: str) -> bool:
        """Whether metrics.jsonl has that score, for example from before the run was resumed."""
        return self._metrics.holds(step, name)

    @contextlib.contextmanager
    def timed(self, activity: str) -> Iterator[None]:
        """Counts the seconds of its block, if the block succeeds, as spent on `activity`."""
        if activity != "data_wait":
            self._flush()
            self._ledger.settle()
        start = time.perf_counter()
        with self._ledger.timed(activity):
            yield
        spent = self._seconds.get(activity, 0.0)
        self._seconds[activity] = spent + time.perf_counter() - start

    def compiled(self, programs: CompiledPrograms) -> None:
        """Prints and records how many programs came from the cache."""
        self._once |= programs.values()
        seconds = self._seconds["compile"]
        self._line.print(
            f"Compiled in {seconds:.1f} s: {programs.from_cache} from the cache, {programs.compiled} compiled."
        )

    def best_step(self, name: str) -> int | None:
        """The evaluated step after the start with the highest score of that name; None if there is none."""
        return self._metrics.best_step(name)

    def stepped(self, step: int, metrics: Sums, work: Work) -> None:
        """Records that update `step` was dispatched; waits for the one before it."""
        if step == self._first_step + 1:
            self._first_step_at = time.perf_counter()
        else:
            self._shown_tokens += work.tokens
        self._tokens += work.tokens
        self._flops += work.flops
        self._pending.append((step, metrics))
        if len(self._pending) > 1:
            self._read(*self._pending.popleft())
        self._show(step)

    def skipping_line(self) -> int | None:
        """The step of the last line, of those written since this was called, whose updates were not all applied."""
        step, self._skipping_line = self._skipping_line, None
        return step

    def publish(self) -> None:
        """Makes all metrics durable; called before they are saved."""
        self._flush()
        self._metrics.publish()
        self._samples.publish()

    def evaluated(self, step: int, scores: dict[str, float], samples: list[dict[str, Any]]) -> None:
        """Records an evaluation and shows the first sample."""
        self._metrics.write(step, scores | self._spent("evaluation"))
        for sample in samples:
            self._samples.append({"step": step, **json_ready(sample)})
        shown = self._trainer.job.shown_scores or [name.removeprefix("eval/") for name in scores]
        listed = "  ".join(f"{name} {scores[f'eval/{name}']:.3f}" for name in shown)
        self._held_out = f"held out {shown[0]} {scores[f'eval/{shown[0]}']:.3f}  "
        self._line.print(f"Held out, step {step:,}:  {listed}")
        not_finite = {name for name, value in scores.items() if not math.isfinite(value)} - self._not_finite
        if not_finite:
            self._not_finite |= not_finite
            self._line.print(
                f"Warning: {', '.join(sorted(not_finite))} at step {step:,} is not a finite number; metrics.jsonl has "
                "null for it."
            )
        if samples:
            self._line.print("\n".join(telemetry.sample_lines(samples[0])))
        warning = self._trainer.job.warning({name.removeprefix("eval/"): value for name, value in scores.items()})
        # During the warm-up every network is close to its initial state.
        if warning and step > self._trainer.optimizer_config.warmup_steps:
            self._line.print(f"Warning: {warning}")

    def finished(self) -> None:
        """Writes pending metrics."""
        self._flush()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Closes the files; what is wrong with them must not hide why the run stopped."""
        if isinstance(error, StorageLost):
            return  # Trying again would take minutes.
        try:
            self._metrics.close()
            self._samples.publish()
        except (OSError, StorageLost):
            if error is None:
                raise

    def _flush(self) -> None:
        while self._pending:
            self._read(*self._pending.popleft())

    def _read(self, step: int, metrics: Sums) -> None:
        jax.block_until_ready(metrics)
        if step % self._trainer.config.log_every_steps:
            return
        found: dict[str, np.ndarray] = jax.device_get(metrics)
        if found["skipped"][0]:
            self._skipping_line = step
        if not found["loss"][1]:
            # Nothing was applied, so there is nothing to average.
            found = {"skipped": found["skipped"]}
        values = {_slash_name(name): value for name, value in _means(found).items()}
        self._loss = values.get("train/loss", math.nan)
        values["optimizer/learning_rate"] = float(learning_rate(self._trainer.optimizer_config, step - 1))
        self._metrics.write(step, values | self._performance(step))

    def _performance(self, step: int) -> dict[str, float]:
        """Rates since the last line, without the time of evaluations and saves."""
        now = time.perf_counter()
        spent = self._spent(*self._seconds)
        elsewhere = sum(seconds for name, seconds in spent.items() if name != "time/data_wait_seconds")
        seconds = max(now - self._line_at - elsewhere, 1e-9)
        steps, tokens, flops = step - self._line_step, self._tokens, self._flops
        self._line_at, self._line_step = now, step
        self._tokens = self._flops = 0.0
        self._ledger.settle()
        # The clock may have been set back since the run began.
        elapsed = max(time.time() - self._progress.started_at, self._progress.productive_seconds, 1e-9)
        values = {
            "performance/tokens_per_second": tokens / seconds,
            "performance/goodput": self._progress.productive_seconds / elapsed,
            "time/step_seconds": seconds / max(steps, 1),
            "time/elapsed_seconds": elapsed,
        }
        if self._peak_flops:
            values["performance/mfu"] = flops / seconds / self._peak_flops
        once, self._once = self._once, {}
        return values | spent | self._ledger.values() | once

    def _spent(self, *activities: str) -> dict[str, float]:
        return {f"time/{name}_seconds": self._seconds.pop(name) for name in activities if name in self._seconds}

    def _show(self, step: int) -> None:
        """Updates the live line; prints once, after a few seconds, how long the run will take."""
        watched = time.perf_counter() - self._first_step_at
        steps_done = step - self._first_step - 1
        if watched < 0.5 or steps_done < 1:
            return
        config = self._trainer.optimizer_config
        rate = steps_done / watched
        tokens_per_second = self._shown_tokens / watched
        left = (config.steps - step) / rate
        if not self._estimated and watched > _FIRST_ESTIMATE_SECONDS:
            self._estimated = True
            self._line.print(
                f"Expected: {duration(left)} for the remaining {config.steps - step:,} steps, "
                f"at {rate:.3g} steps/s and {quantity(tokens_per_second)} tokens/s."
            )
        loss = "" if math.isnan(self._loss) else f"loss {self._loss:.3f}  "
        self._line.update(
            f"step {step:,} of {config.steps:,} ({step / config.steps:.0%})  {loss}{self._held_out}"
            f"{quantity(tokens_per_second)} tokens/s  {duration(left)} left"
        )


def _means(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(total) / max(float(weight), 1.0) for name, (total, weight) in metrics.items()}


def _slash_name(name: str) -> str:
    return "optimizer/gradient_norm" if name == "gradient_norm" else f"train/{name}"
