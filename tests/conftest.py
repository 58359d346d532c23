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


@pytest.fixture(scope="module")
def v5e_devices():
    """Four chips of a TPU v5e that are not there, to compile for."""
    from electra_jax.tpu_planning.topologies import make_slice

    return make_slice("v5e:2x2").devices
