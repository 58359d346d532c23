"""Schedules of an objective's weights and rates: `KIND STEP:VALUE,STEP:VALUE,…`.

    linear 0:0.4,8000:0.15       straight lines between the points; the kind may be left out
    cosine 0:2,5000:1            half a cosine between two points, flat at both
    step 0:50,10000:10           the value of the last point that was reached
    0:0.25,100%:0.15             a point may also be a share of the run's steps

Before the first point and after the last one, the value is constant. Imports no JAX, since configs are checked without
it.
"""

import dataclasses
import itertools
import math
from typing import Any

KINDS = ("linear", "cosine", "step")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Values at increasing numbers of updates, and the interpolation between them."""

    kind: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def largest(self) -> float:
        """The largest value."""
        return max(self.values)


def parse(text: str, run_steps: int) -> Schedule:
    """Parses a schedule.

    Args:
      text: see the module docstring.
      run_steps: updates in the run, for points given as shares of it.

    Raises:
      ValueError: the text is invalid; the message says what was found and expected.
    """
    kind, _, points = text.strip().rpartition(" ")
    kind = kind.strip() or "linear"
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of schedule, expected {', '.join(KINDS)}")
    steps, values = [], []
    for point in points.split(","):
        step, colon, value = point.partition(":")
        try:
            steps.append(round(float(step[:-1]) / 100 * run_steps) if step.endswith("%") else int(step))
            values.append(float(value))
        except (ValueError, OverflowError):
            colon = ""
        if not colon or not math.isfinite(values[-1]) or values[-1] < 0 or steps[-1] < 0:
            raise ValueError(
                f"{point!r}, expected STEP:VALUE with numbers of 0 or more, as in linear 0:50,10000:10 or 0:50,100%:10"
            )
    if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise ValueError(f"{points!r}, expected steps that increase")
    return Schedule(kind, tuple(steps), tuple(values))


def value_at(schedule: Schedule, step: Any) -> Any:
    """The value for the update from `step` to `step + 1`, a float32 scalar.

    Args:
      schedule: kind and points.
      step: int32 scalar, traced or not.
    """
    import jax.numpy as jnp

    steps, values = jnp.asarray(schedule.steps, jnp.float32), jnp.asarray(schedule.values, jnp.float32)
    step = jnp.asarray(step, jnp.float32)
    if schedule.kind == "step":
        return values[jnp.clip(jnp.searchsorted(steps, step, side="right") - 1, 0)]
    if schedule.kind == "linear" or len(schedule.steps) == 1:
        return jnp.interp(step, steps, values)
    left = jnp.clip(jnp.searchsorted(steps, step, side="right") - 1, 0, len(schedule.steps) - 2)
    share = jnp.clip((step - steps[left]) / (steps[left + 1] - steps[left]), 0.0, 1.0)
    return values[left] + (values[left + 1] - values[left]) * (1.0 - jnp.cos(jnp.pi * share)) / 2.0
