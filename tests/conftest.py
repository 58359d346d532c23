"""Setup of every test: the CPU, and a quicker compiler on request."""

import asyncio
import functools
import os
import pathlib
import time
import types

import pytest

from benchmarks.reliability.object_store import object_store as served

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests, and the programs that they start, compile many equal functions. What is cached is the compiler's own output.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "compiled")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@pytest.fixture(autouse=True)
def _compiled_for_tpus(request):
    """No cache for programs of TPUs that are not there: JAX cannot read them back."""
    if not request.node.get_closest_marker("tpu_compiler"):
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX decides once whether it has a cache.
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def quick_jit():
    """`jax.jit` without the compiler's costly passes: half the time for functions that run once."""
    import jax  # Here, so that tests without JAX need not wait for it.

    return functools.partial(
        jax.jit,
        compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
    )


@pytest.fixture(scope="module")
def v5e_devices():
    """Four TPU v5e chips to compile for, without the hardware."""
    from electra_jax.tpu_planning.topologies import make_slice

    return make_slice("v5e:2x2").devices


@pytest.fixture(scope="session")
def _served_store():
    """One store for all tests of a process: tensorstore reads its address once."""
    import fsspec

    with served("bucket") as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        # fsspec may have read its part of the environment before.
        patch.setitem(fsspec.config.conf, "gs", {"token": "anon", "use_listings_cache": False})
        yield store


@pytest.fixture
def object_store(_served_store, monkeypatch):
    """An object store with an empty bucket, gs://bucket, whose troubles pass without waiting."""
    from electra_jax import storage

    async def at_once(_):
        await asyncio.sleep(0)

    monkeypatch.setattr("gcsfs.retry.asyncio", types.SimpleNamespace(sleep=at_once))
    monkeypatch.setattr(storage, "time", types.SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic))
    _served_store.clear()
    return _served_store
