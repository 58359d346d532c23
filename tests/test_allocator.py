import subprocess
import sys

import pytest

# A step's worth of memory, freed and asked for anew, in a thread as XLA's are; prints how many pages were cleared.
_PROGRAM = """
import ctypes, resource, sys, threading
from electra_jax import allocator
if sys.argv[1] == "kept":
    allocator.keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
def work():
    for step in range(6):
        if step == 1:
            global before
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = library.malloc(2**26)
        ctypes.memset(block, 1, 2**26)
        library.free(block)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, **environment):
    command = [sys.executable, "-c", _PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment or None).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has these options")
def test_memory_that_was_freed_is_not_cleared_again():
    assert faults("kept") < 100
    # Without it: each page of 2^26 bytes, five times; larger pages make it fewer.
    assert faults("given back") > 100


def test_where_an_accelerator_computes_nothing_changes(monkeypatch):
    from electra_jax import allocator

    class Library:
        def mallopt(self, option, value):
            raise AssertionError("must not be called")

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(allocator.importlib.util, "find_spec", lambda name: name == "libtpu" or None)
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    allocator.keep_freed_memory()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(AssertionError, match="must not be called"):
        allocator.keep_freed_memory()
