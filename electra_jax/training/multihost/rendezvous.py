"""A rendezvous before JAX starts: process 0 waits for the others, so that a missing one can be named.

When JAX's own start times out, it aborts with a stack trace that names no process. Here each process sends a hello to
the coordinator's port, which process 0 then releases for JAX. One line of JSON each way.
"""

import json
import socket
import time
from collections.abc import Mapping

from electra_jax.errors import InputError, ProcessLost, RunError

_PROTOCOL = "electra_jax rendezvous 1"
_HELLO_SECONDS = 5.0  # For a line of a process that has connected.
_RETRY_SECONDS = 0.2
_ANSWER_SECONDS = 10.0  # Beyond the limit, for the answer that a process is missing.
_LONGEST_LINE = 1 << 16


def meet(coordinator: str, num_processes: int, process_id: int, seconds: float) -> None:
    """Returns when all processes have arrived.

    Args:
      coordinator: HOST:PORT of process 0.
      num_processes: number of processes.
      process_id: number of this process.
      seconds: how long to wait for the others.

    Raises:
      ProcessLost: some did not arrive in time; the message says which.
      InputError: two processes have the same id, or their numbers of processes differ.
    """
    if process_id == 0:
        _receive(coordinator, num_processes, seconds)
    else:
        _visit(coordinator, num_processes, process_id, seconds)


def _receive(coordinator: str, num_processes: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    arrived: dict[int, tuple[str, socket.socket]] = {}
    problem: RunError | None = None
    try:
        with _server(coordinator) as server:
            while len(arrived) < num_processes - 1 and problem is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    problem = _missing(num_processes, arrived, seconds)
                    break
                server.settimeout(left)
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                problem = _welcome(connection, num_processes, arrived)
        answer = {"problem": str(problem or ""), "exit_code": problem.exit_code if problem else 0}
        for _, connection in arrived.values():
            _send(connection, answer)
    finally:
        for _, connection in arrived.values():
            connection.close()
    if problem:
        raise problem


def _welcome(
    connection: socket.socket, num_processes: int, arrived: dict[int, tuple[str, socket.socket]]
) -> RunError | None:
    """Adds a process to those that arrived, or returns what is wrong with it; ignores other connections."""
    hello = _read(connection, _HELLO_SECONDS)
    if hello.get("protocol") != _PROTOCOL:
        connection.close()
        return None
    number, host = hello["process_id"], hello["host"]
    if hello["num_processes"] != num_processes:
        problem = InputError(
            f"--num_processes: {num_processes} at process 0 and {hello['num_processes']} at process {number} on "
            f"{host}; start all processes with the same number"
        )
    elif number in arrived:
        problem = InputError(
            f"--process_id: both {arrived[number][0]} and {host} are process {number}; number the processes from 0 to "
            f"{num_processes - 1}"
        )
    else:
        arrived[number] = host, connection
        return None
    _send(connection, {"problem": str(problem), "exit_code": problem.exit_code})
    connection.close()
    return problem


def _missing(num_processes: int, arrived: Mapping[int, object], seconds: float) -> ProcessLost:
    missing = [number for number in range(1, num_processes) if number not in arrived]
    numbers = ", ".join(map(str, missing[:20])) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    return ProcessLost(
        f"{len(arrived) + 1} of {num_processes} processes arrived within {seconds:g} seconds; missing: process "
        f"{numbers}. Start the same command on every host, or wait longer with --start_timeout=SECONDS."
    )


def _visit(coordinator: str, num_processes: int, process_id: int, seconds: float) -> None:
    host, port = parts(coordinator)
    deadline = time.monotonic() + seconds
    hello = {
        "protocol": _PROTOCOL,
        "process_id": process_id,
        "num_processes": num_processes,
        "host": socket.gethostname(),
    }
    answer: dict = {}
    reason = ""
    while not answer and (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=min(left, 10.0)) as connection:
                _send(connection, hello)
                answer = _read(connection, deadline - time.monotonic() + _ANSWER_SECONDS)
        except OSError as error:
            reason = f" ({error})"
        if not answer:
            time.sleep(_RETRY_SECONDS)
    if not answer:
        raise ProcessLost(
            f"Process 0 of {num_processes} did not answer at {coordinator} within {seconds:g} seconds{reason}. Start "
            f"it there, fix the address or the firewall, or wait longer with --start_timeout=SECONDS."
        )
    if answer["problem"]:
        kind = InputError if answer["exit_code"] == InputError.exit_code else ProcessLost
        raise kind(answer["problem"])


def _server(coordinator: str) -> socket.socket:
    _, port = parts(coordinator)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, backlog=1024, dualstack_ipv6=both)
    except OSError as error:
        raise InputError(
            f"--coordinator={coordinator}: process 0 cannot listen there ({error}); choose a port that is free on its "
            f"host"
        ) from error


def parts(coordinator: str) -> tuple[str, int]:
    """Host and port of HOST:PORT."""
    host, _, port = coordinator.rpartition(":")
    return host.strip("[]"), int(port)


def _send(connection: socket.socket, message: Mapping[str, object]) -> None:
    try:
        connection.settimeout(_HELLO_SECONDS)
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        pass  # It is gone; the process that waits for it reports that.


def _read(connection: socket.socket, seconds: float) -> dict:
    """The JSON object of one line; empty if no valid one arrives."""
    received = b""
    try:
        connection.settimeout(max(seconds, 0.1))
        while not received.endswith(b"\n") and len(received) < _LONGEST_LINE:
            if not (part := connection.recv(4096)):
                break
            received += part
        message = json.loads(received)
    except (OSError, ValueError):
        return {}
    return message if isinstance(message, dict) else {}
