"""Finding and joining the other processes of a run."""

from collections.abc import Callable, Mapping

import jax

from electra_jax.errors import InputError
from electra_jax.training.multihost import coordinator_loss, rendezvous
from electra_jax.training.multihost.cluster import Cluster, SeveralProcesses

# After which JAX gives up a process that `heartbeat` has not given up.
_HEARTBEAT_SECONDS = 100
_SHUTDOWN_SECONDS = 60


def check_flags(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Raises InputError unless all three flags are given or none, and they are consistent."""
    if coordinator is None or num_processes is None or process_id is None:
        flags = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
        missing = [name for name, value in flags.items() if value is None]
        if len(missing) == len(flags):
            return
        raise InputError(
            f"{' and '.join(f'--{name}' for name in missing)} missing: give --coordinator=HOST:PORT, --num_processes=N "
            "and --process_id=I together, or none of them to let JAX find the processes of a TPU pod, of SLURM or of "
            "Kubernetes"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--coordinator={coordinator}: expected HOST:PORT, the address of process 0")
    if num_processes < 1:
        raise InputError(f"--num_processes={num_processes}: expected 1 or more")
    if not 0 <= process_id < num_processes:
        raise InputError(f"--process_id={process_id}: expected 0 to {num_processes - 1}, as --num_processes says")


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    seconds: float,
    met: Callable[[], None] = lambda: None,
) -> Cluster:
    """Connects this process with the others, before JAX looks for devices.

    Without arguments, other processes are detected from the environment: a TPU pod, SLURM, Kubernetes or Open MPI. A
    single process starts no coordination service: it handles signals by itself and has no other to agree with.

    Args:
      coordinator: HOST:PORT of process 0.
      num_processes: number of processes.
      process_id: number of this process.
      seconds: how long to wait for the others.
      met: called when all have arrived, before they are connected.

    Raises:
      ProcessLost, InputError: see `rendezvous.meet`.
    """
    if coordinator is None:
        coordinator, num_processes, process_id = _detected(seconds)
    if coordinator is None or num_processes == 1:
        return Cluster()
    if num_processes is None or process_id is None:
        raise InputError(
            f"found process 0 at {coordinator}, but not how many processes there are and which one this is; give "
            "--coordinator=HOST:PORT, --num_processes=N and --process_id=I"
        )
    rendezvous.meet(coordinator, num_processes, process_id, seconds)
    met()
    if process_id:
        coordinator_loss.exit_if_lost(coordinator)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would handle SIGTERM in place of `stopping`, which is what the loop polls, and does not handle Ctrl-C.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        coordinator_address=coordinator,
        num_processes=num_processes,
        process_id=process_id,
        initialization_timeout=max(int(seconds), 60),
        heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
    from jax._src import distributed  # JAX's key-value store has no public name; the version is pinned.

    return SeveralProcesses(distributed.global_state.client, process_id, num_processes)


def _detected(seconds: float) -> tuple[str | None, int | None, int | None]:
    """The processes as JAX detects them; called first, to distinguish a single process from one of many."""
    from jax._src.clusters import ClusterEnv

    detect = ClusterEnv.auto_detect_unset_distributed_params
    try:
        coordinator, num_processes, process_id, _ = detect(None, None, None, None, None, int(seconds))
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"failed to detect the processes of this cluster: {error}\nName them with --coordinator=HOST:PORT, "
            "--num_processes=N and --process_id=I"
        ) from error
    return coordinator, num_processes, process_id


def first_line(cluster: Cluster) -> str:
    """The first line that each process prints; it shows at once if the hosts of a pod have not joined."""
    devices = f"{jax.local_device_count()} of {jax.device_count()} devices ({jax.devices()[0].device_kind})"
    return f"process {cluster.index}/{cluster.count} on {cluster.hosts[cluster.index]}: {devices}"


def check_rows(sharding: jax.sharding.Sharding, batch_size: int) -> None:
    """Checks that the devices of each process take as many rows of a batch as it reads, and no other process's rows.

    Which rows they are depends on the mesh: if neighbours on a TPU's torus are not neighbours in a process, a batch has
    the same rows in another order.

    Raises:
      InputError: devices of several processes take the same rows.
    """
    rows: dict[int, set[int]] = {}
    placed: Mapping[jax.Device, tuple[slice, ...]] = sharding.devices_indices_map((batch_size,))
    for device, (part, *_) in placed.items():
        rows.setdefault(device.process_index, set()).update(range(*part.indices(batch_size)))
    if any(len(own) * len(rows) != batch_size for own in rows.values()):
        raise InputError(
            "config.mesh: devices of several processes would take the same rows of a batch; use a smaller "
            "--config.mesh.tensor, and --config.mesh.fsdp to split more weights"
        )
