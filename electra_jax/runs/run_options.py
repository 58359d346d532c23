"""What a command line says about a run beside its config."""

import dataclasses
from collections.abc import Sequence

from electra_jax.training.profiling import ProfiledSteps


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What the flags of a command say in addition to the config.

    Attributes:
      config_path: what environment.json names as the config.
      evaluates: whether to score the newest checkpoint instead of training.
      allowed_changes: config fields in which a resumed run may differ from its first start.
      profiled: updates to trace.
    """

    config_path: str
    evaluates: bool = False
    allowed_changes: Sequence[str] = ()
    profiled: ProfiledSteps | None = None
