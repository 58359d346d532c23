"""The door to datasets: `python -m electra_jax.prepare --config=configs/base.py`.

Training prepares what is missing by itself; this does it beforehand, on a machine without accelerators.
"""

from ml_collections import config_flags

from electra_jax import doors
from electra_jax.errors import InputError
from electra_jax.text import writer

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True, help_string="A file of configs/.")


def main() -> None:
    """Prepares `config.data`, or opens it when that has been done; see `doors` for exit codes."""
    if _CONFIG.value is None:
        raise InputError("A flag is needed, for example --config=configs/quickstart.py")
    dataset = writer.ensure(_CONFIG.value.data)
    print(f"{dataset.directory}: {dataset.train.num_rows} rows to train on, {dataset.heldout.num_rows} held out")


if __name__ == "__main__":
    doors.enter(main)
