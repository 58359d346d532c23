"""Pre-trains or fine-tunes a model: `python -m electra_jax.main --config=configs/base.py --workdir=DIR`.

Reads flags, checks what can be checked at once, joins the processes of the run, and hands over to the task.
"""

from typing import TYPE_CHECKING

from absl import flags

from electra_jax import allocator, cloud_notices, entry_point, presets, storage
from electra_jax.config import identity
from electra_jax.config.files import read_config
from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.errors import InputError
from electra_jax.progress import ProgressLine, QuietLine
from electra_jax.runs.workdir_address import address_problem, check_access
from electra_jax.training.multihost.session import Session

if TYPE_CHECKING:
    from electra_jax.training.multihost.cluster import Cluster

_CONFIG = presets.define_flag("What to do: a preset's name or a config file.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run, a path or gs://BUCKET/NAME; created if it is missing, else resumed."
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "eval scores the newest checkpoint of the workdir.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, for a run of several processes.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
_START_TIMEOUT = flags.DEFINE_float("start_timeout", 300.0, "Seconds that processes wait for each other at the start.")
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "A:B writes a trace of updates A to B, from 1, to profile/."
)
_ALLOW = flags.DEFINE_list(
    "allow_config_change", [], "Fields, such as steps, in which a resumed run may differ from its first start."
)
_RESTART = flags.DEFINE_bool(
    "restart", False, "Train from the beginning if the run's checkpoints are gone; its metrics are kept."
)


def main(session: Session) -> None:
    """Prepares the text if need be, then trains or evaluates; see `entry_point` for exit codes."""
    if _CONFIG.value is None or not _WORKDIR.value:
        raise InputError("Two flags are needed, for example --config=configs/quickstart.py --workdir=runs/quickstart")
    if problem := address_problem(_WORKDIR.value):
        raise InputError(f"--workdir={_WORKDIR.value}: {problem}")
    if _START_TIMEOUT.value <= 0:
        raise InputError(f"--start_timeout={_START_TIMEOUT.value:g}: expected a number of seconds above 0")
    workdir = storage.absolute(_WORKDIR.value)
    allocator.keep_freed_memory()
    cloud_notices.watch(cloud_notices.metadata_host(), session.stop.request)
    # Imported here so that a mistyped flag answers at once.
    from electra_jax.runs.run_options import RunOptions
    from electra_jax.training.multihost import processes
    from electra_jax.training.profiling import ProfiledSteps
    from electra_jax.training.run_context import RunContext

    options = RunOptions(
        config_path=presets.given(),
        evaluates=_MODE.value == "eval",
        allowed_changes=_ALLOW.value,
        profiled=ProfiledSteps.parse(_PROFILE_STEPS.value),
    )
    places = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    processes.check_flags(*places)
    with session.joined(*places, seconds=_START_TIMEOUT.value) as cluster:
        _introduce(cluster)
        line = ProgressLine() if cluster.is_first else QuietLine()
        context = RunContext(workdir, line, cluster, session.stop, session.began, restarts=_RESTART.value)
        if not options.evaluates:
            cluster.from_first(lambda: check_access(workdir))
        config, problems = read_config(_CONFIG.value)
        if isinstance(config, FinetuningConfig):
            from electra_jax.runs.finetuning_run import finetune

            finetune(config, problems, context, options)
        else:
            from electra_jax.runs.pretraining_run import pretrain

            pretrain(config, problems, context, options)


def _introduce(cluster: "Cluster") -> None:
    """Prints which process this is, and checks that all processes have the same program, config and flags."""
    import jax

    from electra_jax.training import telemetry
    from electra_jax.training.multihost import processes

    if cluster.count > 1 or jax.default_backend() != "cpu":
        print(processes.first_line(cluster), flush=True)
    if cluster.count > 1:
        given = {f"config.{name}": value for name, value in identity.flatten(_CONFIG.value.to_dict()).items()}
        named = {
            "--mode": _MODE.value,
            "--allow_config_change": _ALLOW.value,
            "--profile_steps": _PROFILE_STEPS.value,
            "--restart": _RESTART.value,
        }
        where = {"--workdir": _WORKDIR.value}
        cluster.agree("program, config or flags", telemetry.program_facts() | given | named | where)


def run() -> None:
    """Runs the command `electra-train`: parses the flags, calls `main` and exits with its exit code."""
    session = Session()
    with session.stop:
        entry_point.enter(lambda: main(session), leave=session.leave)


if __name__ == "__main__":
    run()
