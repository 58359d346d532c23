"""The exit of a process whose coordination service is gone because process 0 is.

JAX's client of the service then aborts the process from a thread of its own, with a stack trace and exit code 134, for
which some launchers do not start again. Its callback for this case cannot be written in Python (jaxlib 0.10 to 0.12
end with std::bad_cast). So the signal of the abort is handled, in C, where Python's own handlers would never run.
"""

import ctypes
import faulthandler
import os
import signal
import socket

from electra_jax.errors import ProcessLost
from electra_jax.training.multihost import rendezvous

_ANSWER_SECONDS = 3.0


def exit_if_lost(coordinator: str) -> None:
    """Ends this process with the exit code of `ProcessLost` if it aborts when process 0 is gone.

    Args:
      coordinator: HOST:PORT of process 0.
    """
    place = rendezvous.parts(coordinator)
    library = ctypes.CDLL(None)

    def aborted(number: int) -> None:
        try:
            socket.create_connection(place, timeout=_ANSWER_SECONDS).close()
        except OSError:
            text = (
                f"\nprocess 0 at {coordinator} is lost: its coordination service is gone. Start the same command on "
                "all hosts again; the run resumes from its newest checkpoint.\n"
            )
            os.write(2, text.encode())
            os._exit(ProcessLost.exit_code)
        # Another reason: the abort goes on, with the stacks that absl would have printed.
        faulthandler.dump_traceback()
        library.signal(number, signal.SIG_DFL)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _kept.append(handler)
    library.signal(signal.SIGABRT, handler)


# What C calls must not be collected as long as the process lives.
_kept: list[object] = []
