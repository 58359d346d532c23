import sys

import pytest

from tests.running import run_program


def faults(how):
    """Pages cleared when a step's worth of memory is freed and asked for again, five times."""
    return int(run_program("tests.programs.freed_memory", how))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has these options")
def test_memory_that_was_freed_is_not_cleared_again():
    assert faults("kept") < 100
    # Without it: each page of 2^26 bytes, five times; larger pages make it fewer.
    assert faults("given back") > 100


def test_nothing_changes_where_an_accelerator_computes(monkeypatch):
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
