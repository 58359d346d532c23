import socket
import threading

import pytest

from electra_jax.errors import InputError, ProcessLost, RunError
from electra_jax.training.multihost import rendezvous


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


def meet_all(*arrivals):
    """Runs each (coordinator, num_processes, process_id, seconds) in a thread of its own; returns their errors."""
    ended = [None] * len(arrivals)

    def arrive(place, arguments):
        try:
            rendezvous.meet(*arguments)
        except RunError as error:
            ended[place] = error

    threads = [threading.Thread(target=arrive, args=pair) for pair in enumerate(arrivals)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def test_all_processes_meet_whatever_else_connects(address):
    host, port = address.split(":")
    stranger = threading.Timer(0.2, lambda: socket.create_connection((host, int(port))).sendall(b"GET / HTTP/1.1\n"))
    stranger.start()
    late = threading.Timer(0.6, lambda: rendezvous.meet(address, 3, 2, 5))
    late.start()
    assert meet_all((address, 3, 0, 5), (address, 3, 1, 5)) == [None, None]
    late.join()


def test_all_that_arrived_raise_which_process_is_missing(address):
    errors = meet_all((address, 4, 0, 1), (address, 4, 2, 1))
    for error in errors:
        assert isinstance(error, ProcessLost)
        assert "2 of 4 processes arrived within 1 seconds; missing: process 1, 3." in str(error)


def test_missing_process_0_is_named(address):
    (error,) = meet_all((address, 2, 1, 0.5))
    assert isinstance(error, ProcessLost)
    assert f"Process 0 of 2 did not answer at {address}" in str(error)


def test_two_processes_with_the_same_id_are_refused(address):
    errors = meet_all((address, 3, 0, 3), (address, 3, 1, 3), (address, 3, 1, 3))
    assert all(isinstance(error, InputError) and "--process_id: both" in str(error) for error in errors)


def test_different_numbers_of_processes_are_refused(address):
    errors = meet_all((address, 3, 0, 3), (address, 2, 1, 3))
    assert all(
        isinstance(error, InputError) and "--num_processes: 3 at process 0 and 2" in str(error) for error in errors
    )
