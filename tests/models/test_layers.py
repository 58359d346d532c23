import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models.layers import Dropout, Projection, dense, dropout_bits, gelu, layer_norm


def dropped_out(inputs, rate, key=0):
    return Dropout(rate).apply({}, inputs, deterministic=False, rngs={"dropout": jax.random.key(key)})


def test_projection_is_an_einsum_and_a_bias_over_the_trailing_axes():
    inputs = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(4, 2, 5)).astype(np.float32)
    bias = np.random.default_rng(2).normal(size=(2, 5)).astype(np.float32)
    module = Projection("bld,dhk->blhk", (4, 2, 5), ("embed", "heads", "kv"), nn.initializers.zeros, bias_axes=2)
    outputs = module.apply({"params": {"kernel": kernel, "bias": bias}}, inputs)
    np.testing.assert_allclose(outputs, np.tensordot(inputs, kernel, 1) + bias, rtol=1e-5, atol=1e-6)


def test_parameters_stay_float32_when_the_computation_is_bfloat16():
    module = dense(4, 3, ("embed", "mlp"), nn.initializers.ones, jnp.bfloat16, "dense")
    params = nn.unbox(module.init(jax.random.key(0), jnp.ones((1, 2, 4))))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert module.apply(params, jnp.ones((1, 2, 4))).dtype == jnp.bfloat16


def test_gelu_is_the_exact_erf_form():
    inputs = np.linspace(-6, 6, 241, dtype=np.float32)
    exact = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in inputs.astype(float)]
    # The tanh approximation is off by up to 5e-4.
    np.testing.assert_allclose(gelu(inputs), exact, atol=2e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layer_norm_keeps_a_variance_far_below_the_mean_squared(dtype):
    # Mean 1024, standard deviation 2^-13: in float32, E[x²] - E[x]² is 0 or worse.
    inputs = 1024 + 2.0**-13 * jnp.array([1.0, -1, 1, 1, -1, -1, 1, -1])
    module = layer_norm(1e-12, dtype)
    outputs = module.apply(nn.unbox(module.init(jax.random.key(0), inputs)), inputs)
    np.testing.assert_allclose(
        np.float32(outputs), [1, -1, 1, 1, -1, -1, 1, -1], rtol=1e-2 if dtype != jnp.float32 else 1e-4
    )
    assert outputs.dtype == dtype


def test_layer_norm_has_the_epsilon_of_electra():
    # Standard deviation 1e-5, variance 1e-10: an epsilon of 1e-6, Flax's default, would shrink the outputs a hundredfold.
    inputs = 1e-5 * jnp.array([[1.0, -1, 1, -1]])
    module = layer_norm(1e-12, jnp.float32)
    params = {"params": {"scale": jnp.array([1.0, 2, 3, 4]), "bias": jnp.array([0.0, 0, 0, 5])}}
    np.testing.assert_allclose(module.apply(params, inputs), [[0.99504, -1.99007, 2.98511, 1.01985]], rtol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_its_rate_and_keeps_the_expectation(rate):
    inputs = jnp.full((1000, 1001), 3.0)
    outputs = np.asarray(dropped_out(inputs, rate))
    five_deviations = 5 * math.sqrt(rate * (1 - rate) / inputs.size)
    assert abs((outputs == 0).mean() - rate) < five_deviations
    np.testing.assert_allclose(np.unique(outputs), [0, 3 / (1 - rate)], rtol=1e-6)
    assert abs(outputs.mean() - 3) < 3 * five_deviations / (1 - rate)


def test_dropout_is_the_identity_if_deterministic_or_at_rate_0():
    inputs = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, inputs, deterministic=True), inputs)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, inputs, deterministic=False), inputs)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 1), (2, 4, 5, 9)])
def test_dropout_takes_any_shape_and_type(shape):
    outputs = dropped_out(jnp.ones(shape, jnp.bfloat16), 0.5)
    assert outputs.shape == shape
    assert outputs.dtype == jnp.bfloat16


def test_dropout_is_a_function_of_its_key():
    inputs = jnp.ones((100, 101))
    np.testing.assert_array_equal(dropped_out(inputs, 0.5, key=1), dropped_out(inputs, 0.5, key=1))
    agreement = (dropped_out(inputs, 0.5, key=1) == dropped_out(inputs, 0.5, key=2)).mean()
    assert abs(agreement - 0.5) < 0.03


def test_two_calls_of_one_dropout_draw_two_masks():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            dropout = Dropout(0.5)
            return dropout(inputs, deterministic=False), dropout(inputs, deterministic=False)

    first, second = Twice().apply({}, jnp.ones((100, 101)), rngs={"dropout": jax.random.key(0)})
    assert abs((first == second).mean() - 0.5) < 0.03


def test_dropout_bits_of_neighbours_rows_and_keys_are_uncorrelated():
    masks = np.stack([np.asarray(dropout_bits(jax.random.fold_in(jax.random.key(0), k), (512, 256))) for k in range(4)])
    dropped = (masks < 2**32 * 0.1) - 0.1
    pairs = {
        "neighbours": (dropped[:, :, 1:], dropped[:, :, :-1]),
        "next but one": (dropped[:, :, 2:], dropped[:, :, :-2]),
        "rows": (dropped[:, 1:], dropped[:, :-1]),
        "far rows": (dropped[:, 128:], dropped[:, :-128]),
        "keys": (dropped[1:], dropped[:-1]),
    }
    for name, (left, right) in pairs.items():
        correlation = (left * right).mean() / 0.09
        assert abs(correlation) < 5 / math.sqrt(left.size), name
    for bit in range(32):
        ones = ((masks >> bit) & 1).mean()
        assert abs(ones - 0.5) < 2.5 / math.sqrt(masks.size), bit
