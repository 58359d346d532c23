"""What every test needs: the CPU, and a quicker compiler for those who ask."""

import functools
import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="session")
def quick_jit():
    """`jax.jit` without the compiler's costly passes: half the time for functions that run once."""
    import jax  # Here, so that tests without JAX need not wait for it.

    return functools.partial(
        jax.jit,
        compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
    )
