"""Writes the report of a run: `python -m electra_jax.report --workdir=DIR` makes DIR/report.html.

Reads the files of a run only; starts neither JAX nor TensorFlow.
"""

from absl import flags

from electra_jax import entry_point
from electra_jax.errors import InputError
from electra_jax.reporting.pretraining_page import write_report

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run, a path or an address.")


def main() -> None:
    """Writes the report and prints where it is; see `entry_point` for exit codes."""
    if not _WORKDIR.value:
        raise InputError("One flag is needed, for example --workdir=runs/quickstart")
    print(write_report(_WORKDIR.value))


def run() -> None:
    """Runs the command `electra-report`: parses the flags, calls `main` and exits with its exit code."""
    entry_point.enter(main)


if __name__ == "__main__":
    run()
