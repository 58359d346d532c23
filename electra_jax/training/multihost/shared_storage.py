"""Files that one process writes and the others read."""

import time
from collections.abc import Callable

_SECONDS = 30.0  # Until a file that one host wrote is seen by another.


def appears(is_there: Callable[[], bool]) -> bool:
    """Whether something that another host wrote can be seen here, at the latest after a while."""
    deadline = time.monotonic() + _SECONDS
    while not (found := is_there()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
