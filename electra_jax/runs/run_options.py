"""Options of a run from the command line, in addition to its config."""

import dataclasses
from collections.abc import Sequence

from electra_jax.training.profiling import ProfiledSteps


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Flags in addition to the config.

    Attributes:
      config_path: name of the config in environment.json.
      evaluates: whether to score the newest checkpoint instead of training.
      allowed_changes: config fields in which a resumed run may differ from its first start.
      profiled: updates to trace.
    """

    config_path: str
    evaluates: bool = False
    allowed_changes: Sequence[str] = ()
    profiled: ProfiledSteps | None = None
