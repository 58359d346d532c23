"""Files on shared storage, written by one process and read by the others."""

import time
from collections.abc import Callable

_SECONDS = 30.0  # Until a file written by one host is visible to another.


def appears(is_there: Callable[[], bool]) -> bool:
    """Whether a file that another host wrote becomes visible here within `_SECONDS`."""
    deadline = time.monotonic() + _SECONDS
    while not (found := is_there()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
