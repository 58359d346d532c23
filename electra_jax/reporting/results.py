"""Results of fine-tuning: `result.json` of one run and `results.json` of several trials, as checked values."""

from __future__ import annotations

import math
from typing import Annotated, Any

import pydantic

from electra_jax import foreign_json
from electra_jax.foreign_json import Record

_FIX = "restore or delete the file"
# A trial's folder in the workdir, or that of a failed trial in `failed/`: no other place can be named.
_FOLDER = r"^(\.|\w[\w .-]*(/\w[\w .-]*)?)?$"


def _nan(value: Any) -> Any:
    return math.nan if value is None else value


# A score; null and NaN where it is not defined.
Score = Annotated[float, pydantic.AllowInfNan(True), pydantic.BeforeValidator(_nan)]
Scores = dict[str, dict[str, Score]]  # Split, or task/split → metric → value.


def _empty(value: Any) -> Any:
    return {} if value is None else value


def _no_text(value: Any) -> Any:
    return "" if value is None else value


Text = Annotated[str, pydantic.BeforeValidator(_no_text)]


class Confusion(Record):
    """How often each label was predicted for each true one.

    Attributes:
      labels: C names.
      counts: C rows of C whole numbers: a row is a true label, a column a predicted one.
    """

    labels: list[str]
    counts: list[list[int]]

    @pydantic.model_validator(mode="after")
    def _check_square(self) -> Confusion:
        if {len(self.counts), *map(len, self.counts)} - {len(self.labels)}:
            raise ValueError(f"counts: a square with {len(self.labels)} rows, one for each label")
        return self


class Trial(Record):
    """A completed run.

    Attributes:
      step: step of the reported checkpoint; None if not recorded.
      chosen: how it was chosen: "last" or "best".
      metric: metric by which runs are compared.
      collapsed: why it looks like a run that learned nothing; empty if it does not.
      truncated: number of examples of each split that lost words.
      seconds: wall time; None if not recorded.
      confusion: confusions by split, or task/split.
      directory: the run's directory inside that of all trials; "" for a single run.
    """

    seed: int | None = None
    step: int | None = None
    chosen: Text = ""
    metric: Text = ""
    scores: Scores
    collapsed: Text = ""
    truncated: Annotated[dict[str, int], pydantic.BeforeValidator(_empty)] = pydantic.Field(default_factory=dict)
    seconds: float | None = None
    confusion: dict[str, Confusion] = pydantic.Field(default_factory=dict)
    directory: Annotated[str, pydantic.Field(pattern=_FOLDER, max_length=200), pydantic.BeforeValidator(_no_text)] = ""


class Spread(Record):
    """One metric of one split over the trials; `deviation` is the standard deviation (n − 1), NaN for one trial."""

    mean: Score
    median: Score
    deviation: Annotated[Score, pydantic.Field(alias="sd")]
    best: Score
    values: list[Score]


class Results(Record):
    """Several trials.

    Attributes:
      failed: runs that learned nothing and were repeated with another seed; `summary` is without them.
      summary: split, or task/split → metric → its spread.
    """

    metric: Text = ""
    higher_is_better: bool | None = None
    trials: list[Trial]
    failed: list[Trial] = pydantic.Field(default_factory=list)
    summary: dict[str, dict[str, Spread]]


def read_trial(value: Any, place: str) -> Trial:
    """Checks the content of a `result.json`.

    Args:
      value: the parsed JSON.
      place: the file, and the place in it, for messages.

    Raises:
      InputError: an entry is missing or not of its kind.
    """
    return foreign_json.checked(Trial, value, place, _FIX)


def read_results(value: Any, place: str) -> Results:
    """Checks the content of a `results.json`; see `read_trial`."""
    return foreign_json.checked(Results, value, place, _FIX)
