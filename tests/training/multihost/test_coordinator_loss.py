import signal
import socket

import pytest

from tests.running import started_program

PROGRAM = "tests.training.programs.abort"


@pytest.mark.parametrize(("is_there", "code"), [(True, -signal.SIGABRT), (False, 75)])
def test_abort_is_75_only_if_process_0_is_gone(is_there, code):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not is_there:
            server.close()
        process = started_program(PROGRAM, f"127.0.0.1:{port}")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert ("process 0 at" in errors) != is_there
