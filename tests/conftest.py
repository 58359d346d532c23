"""Setup of every test: the CPU, and a quicker compiler on request."""

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


@pytest.fixture(scope="module")
def v5e_devices():
    """Four TPU v5e chips to compile for, without the hardware."""
    from electra_jax.tpu_planning.topologies import make_slice

    return make_slice("v5e:2x2").devices
