"""Where a run's time went, as one stacked bar with its legend."""

import dataclasses

from markupsafe import Markup

from electra_jax.reporting import markup
from electra_jax.reporting.charts import final_value
from electra_jax.reporting.run_files import Histories
from electra_jax.wording import duration

PREFIX = "goodput/"
# In the order of the bar: name in metrics.jsonl, words, and class of the style sheet.
_ACTIVITIES = (
    ("step", "steps", "blue"),
    ("data_wait", "waiting for data", "blue pale"),
    ("evaluation", "evaluation", "teal"),
    ("save", "saving", "teal pale"),
    ("start", "starting", "muted"),
    ("compile", "compiling", "muted pale"),
    ("restore", "restoring", "muted paler"),
    ("lost", "steps done again", "orange"),
    ("down", "not running", "orange pale"),
    ("unrecorded", "not recorded", "orange paler"),
)


@dataclasses.dataclass(frozen=True)
class _Share:
    """A part of the bar.

    Attributes:
      words: what the time went to.
      kind: class of the style sheet.
      share: of all time, 0 to 1.
      time: the same as a duration.
    """

    words: str
    kind: str
    share: float
    time: str


def time_bar(histories: Histories) -> Markup:
    """HTML of the section; empty for a run without a goodput ledger."""
    seconds = {name: final_value(histories[f"{PREFIX}{name}_seconds"])
               for name, _, _ in _ACTIVITIES if f"{PREFIX}{name}_seconds" in histories}  # fmt: skip
    total = sum(seconds.values())
    if total <= 0:
        return Markup()
    shares = [
        _Share(words, kind, seconds[name] / total, duration(seconds[name]))
        for name, words, kind in _ACTIVITIES
        if seconds.get(name)
    ]
    return markup.render("time_bar", shares=shares, total=duration(total))
