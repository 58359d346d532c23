"""Settings of the C library's allocator, for runs on the CPU."""

import ctypes
import importlib.util
import os
import sys

# Options of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_ACCELERATORS = ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")


def keep_freed_memory() -> None:
    """Lets a process keep freed memory, instead of returning it to the system and requesting it again at each step.

    XLA allocates all that a step needs, hundreds of megabytes, in each execution. glibc maps so large a block, and the
    kernel clears every page of it: a sixth of the time of a step on two cores. In effect only before any thread has
    allocated, so that it must be called before JAX starts. Does nothing with another C library, or where JAX will
    compute on an accelerator.
    """
    if not sys.platform.startswith("linux") or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return
    if os.environ.get("JAX_PLATFORMS") != "cpu" and any(map(importlib.util.find_spec, _ACCELERATORS)):
        return
    library.mallopt(_ARENA_MAX, 1)  # The arenas of threads would map large blocks whatever the other options.
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
