"""Prepares a dataset: `python -m electra_jax.prepare --config=configs/base.py`.

Training prepares what is missing by itself; this does it beforehand, on a machine without accelerators or on a cluster.
"""

from absl import flags

from electra_jax import entry_point, presets, storage
from electra_jax.config.files import read_config
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.errors import InputError
from electra_jax.progress import ProgressLine
from electra_jax.stop_signals import StopSignals

_CONFIG = presets.define_flag("A preset's name or a config file.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Local processes; 0 for one on each core.", lower_bound=0)
_RUNNER = flags.DEFINE_string(
    "runner", "local", "local, or a runner of Apache Beam: DirectRunner, FlinkRunner, DataflowRunner, …"
)
_BEAM_OPTIONS = flags.DEFINE_list("beam_options", [], "Beam's own flags, as --project=NAME,--region=NAME.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Make the dataset again, deleting an existing one.")
_VERIFY = flags.DEFINE_bool("verify", False, "Compare every file of a finished dataset with its checksum.")


def main(stop: StopSignals) -> None:
    """Prepares `config.data`, or opens it when that has been done; see `entry_point` for exit codes."""
    if _CONFIG.value is None:
        raise InputError("A flag is needed, for example --config=configs/quickstart.py")
    from electra_jax import config_rules
    from electra_jax.reporting.dataset_card import write_card
    from electra_jax.text.dataset import dataset as datasets
    from electra_jax.text.dataset import writer
    from electra_jax.text.dataset.runners import Runner

    config, problems = read_config(_CONFIG.value)
    if not isinstance(config, PretrainingConfig):
        raise InputError(f"config.task: found {config.task}, expected a config of pre-training, which has text")
    config_rules.check_data(config, problems)
    data, line = config.data, ProgressLine()
    if _RUNNER.value != "local" and _WORKERS.value:
        raise InputError("--workers: counts local processes; set the number of Beam's in --beam_options")
    if _RUNNER.value == "local" and _BEAM_OPTIONS.value:
        raise InputError("--beam_options: needs --runner=, for example --runner=DirectRunner")
    beam = "" if _RUNNER.value == "local" else _RUNNER.value
    runner = Runner(_WORKERS.value, beam, tuple(_BEAM_OPTIONS.value))
    with stop.doing("preparing the text"):
        if _OVERWRITE.value:
            dataset, is_new = writer.prepare(data, line, runner, stop, overwrite=True), True
        else:
            dataset, is_new = writer.ensure(data, line, runner, stop)
    if _VERIFY.value:
        datasets.verify(dataset)
        line.print("every shard matches its checksum")
    # A kill may have come between the dataset and its card.
    if is_new or not storage.exists(storage.join(dataset.directory, "card.html")):
        line.print(f"dataset card: {write_card(dataset.directory)}")
    line.print(f"{dataset.directory}: {dataset.train.num_rows} rows to train on, {dataset.heldout.num_rows} held out")


def run() -> None:
    """Runs the command `electra-prepare`: parses the flags, calls `main` and exits with its exit code."""
    with StopSignals() as stop:
        entry_point.enter(lambda: main(stop))


if __name__ == "__main__":
    run()
