"""What an entry point hands to everything that a run consists of."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from electra_jax.progress import ProgressLine
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.profiling import ProfiledSteps


@dataclasses.dataclass(frozen=True)
class RunContext:
    """Where a run lives, where it reports its progress, and the processes that it consists of.

    Attributes:
      workdir: an absolute path.
      line: what the user sees; silent in all processes but the first.
      cluster: this process among those of the run.
    """

    workdir: pathlib.Path
    line: ProgressLine = dataclasses.field(default_factory=ProgressLine)
    cluster: Cluster = dataclasses.field(default_factory=Cluster)

    def within(self, directory: pathlib.Path) -> RunContext:
        """The context of a part of the run that has a directory of its own, such as a trial."""
        return dataclasses.replace(self, workdir=directory)


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
