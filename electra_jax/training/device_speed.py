"""Peak FLOP/s of the devices of a run."""

import functools
import time

import jax
import jax.numpy as jnp

# Peak bfloat16 operations per second of one device, as published by its maker; keys are `device_kind`.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
}


@functools.cache  # Measured once: the devices of a process stay the same.
def peak_flops_per_second() -> tuple[float, str]:
    """Peak FLOP/s of all devices together, and the source of that number.

    A CPU has no published figure, so its float32 matrix product is measured, which takes a third of a second.
    An unknown accelerator gives 0.
    """
    kind = jax.devices()[0].device_kind
    if kind in PEAK_FLOPS:
        return PEAK_FLOPS[kind] * jax.device_count(), f"{kind}, published"
    if jax.default_backend() != "cpu":
        return 0.0, f"{kind}, unknown"
    size = 1024
    # Not all zeros: some libraries notice.
    matrix = jnp.linspace(0.0, 1.0, size * size).reshape(size, size)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    # Fake devices on one host share its cores, so their number does not count.
    return 2 * size**3 / best, "measured: float32 matrix product"
