"""The dataset of a run of one or several processes."""

import hashlib
import json
from collections.abc import Callable

from electra_jax.config.pretraining import DataConfig
from electra_jax.errors import InputError, MismatchError
from electra_jax.text.dataset import dataset, writer
from electra_jax.text.dataset.dataset import Dataset
from electra_jax.training.multihost import shared_storage
from electra_jax.training.run_context import RunContext

_PREPARING_SECONDS = 7 * 86400.0  # For process 0 to prepare the text; its heartbeat is checked meanwhile.


def shared_dataset(data: DataConfig, context: RunContext, finish: Callable[[Dataset], None]) -> Dataset:
    """Opens the dataset, prepared by process 0 if it is missing, and checks that all processes have the same one.

    Args:
      data: `config.data`.
      context: the run's workdir, progress line and processes.
      finish: called by process 0 with the dataset; a kill may have come between the dataset and what follows it.

    Raises:
      InputError: a process does not find it: the storage is not shared, and its own holds no copy.
      MismatchError: a process finds another one.
    """
    cluster, line = context.cluster, context.line
    opened: list[Dataset] = []

    def prepare() -> None:
        prepared, _ = writer.ensure(data, line, stop=context.stop)
        finish(prepared)
        opened.append(prepared)

    with context.stop.doing("preparing the text"):
        cluster.from_first(prepare, seconds=_PREPARING_SECONDS)
    if not opened:
        if not shared_storage.appears(lambda: dataset.is_prepared(data.directory)):
            raise InputError(
                f"config.data.directory: {cluster.name(0)} has prepared {data.directory}, and {cluster.name()} does "
                f"not find it; use storage that all hosts share, or prepare it on each host: "
                "python -m electra_jax.prepare --config=…"
            )
        opened.append(writer.ensure(data, line)[0])
    shards = {name: [shard["sha256"] for shard in split["shards"]]
              for name, split in opened[0].manifest["splits"].items()}  # fmt: skip
    facts = {
        f"rows of {name}": hashlib.sha256(json.dumps(value).encode()).hexdigest() for name, value in shards.items()
    }
    cluster.agree("dataset", facts | {"tokenizer": opened[0].tokenizer.sha256}, MismatchError)
    return opened[0]
