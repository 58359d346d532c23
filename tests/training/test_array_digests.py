import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.training.array_digests import digests, names_of
from tests.running import result_of

ARRAY = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def digest(array):
    return digests([jnp.asarray(array)])["0"]


def test_every_single_flipped_bit_changes_the_digest():
    # One program for all 768 arrays.
    bits = ARRAY.view(np.uint32).reshape(-1)
    flipped = [
        bits ^ np.where(np.arange(24) == place, np.uint32(1 << bit), 0) for place in range(24) for bit in range(32)
    ]
    found = {digest(array.astype(np.uint32).view(np.float32).reshape(4, 6)) for array in flipped}
    assert digest(ARRAY) not in found
    assert len(found) == 768


def test_order_shape_and_sign_of_zero_change_the_digest():
    others = [ARRAY[::-1], ARRAY.T, ARRAY + 1, np.where(ARRAY > 0, 0.0, -0.0).astype(np.float32), np.zeros_like(ARRAY)]
    assert len({digest(array) for array in [ARRAY, *others]}) == 6


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "bfloat16", "int32", "float32"])
def test_digest_of_each_dtype_follows_its_elements(dtype):
    array = jnp.asarray([0, 1, 1, 1]).astype(dtype)
    assert digest(array) == digest(array.copy())
    assert digest(array) != digest(array[::-1])


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "bfloat16", "int32", "uint32", "float32"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4)])
def test_arrays_in_memory_have_the_digests_of_arrays_on_devices(dtype, shape):
    array = np.asarray(jnp.asarray(np.random.default_rng(1).integers(0, 100, shape)).astype(dtype))
    assert digests([array]) == digests([jnp.asarray(array)])
    assert digests([array.T]) == digests([jnp.asarray(array.T)])


def test_digests_have_the_names_of_the_leaves():
    assert list(digests({"b": (jnp.zeros(2), jnp.int32(1)), "a": jnp.ones(1)})) == ["a", "b/0", "b/1"]
    assert list(names_of({"b": 1, "a": {"c": 2}})) == ["a/c", "b"]


@pytest.mark.slow
def test_digests_are_the_same_on_every_mesh():
    assert result_of("tests.training.programs.digests_on_meshes", devices=8) == [1, True]


def test_nothing_but_the_elements_counts():
    assert digest(ARRAY) == digest(jax.device_put(ARRAY)) == digest(jnp.asarray(ARRAY) * 1.0)
