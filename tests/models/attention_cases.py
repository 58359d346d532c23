"""Inputs for implementations of attention, and their outputs and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.models.attention import SelfAttention
from electra_jax.models.draws import Microbatch


def documents(rows, length):
    """Two documents, then padding of another length in each row."""
    ids_BxL = np.ones((rows, length), np.int32)
    ids_BxL[:, length // 3 :] = 2
    for row in range(rows):
        ids_BxL[row, length - 7 * row :] = 0
    return ids_BxL


def outcome(module, params, hidden_BxLxD, ids_BxL):
    """The outputs at text positions, and the gradients of a weighted sum of them."""
    rng = np.random.default_rng(2)
    real_BxLx1 = (ids_BxL > 0)[..., None]
    weights_BxLxD = (rng.normal(size=hidden_BxLxD.shape) * real_BxLx1).astype(np.float32)

    def weighted(params, hidden_BxLxD):
        attended_BxLxD = module.apply(
            {"params": params}, hidden_BxLxD, ids_BxL, deterministic=False, rngs={"dropout": jax.random.key(5)}
        )
        return jnp.sum(attended_BxLxD * weights_BxLxD), attended_BxLxD * real_BxLx1

    gradients, attended = jax.jit(jax.grad(weighted, (0, 1), has_aux=True))(params, hidden_BxLxD)
    return jax.tree.map(np.asarray, {"attended": attended, "gradients": gradients})


def prepared(heads, head_size, length, rate, rows=4):
    module = SelfAttention(heads, head_size, rate, nn.initializers.normal(0.2))
    hidden_BxLxD = np.random.default_rng(0).normal(size=(rows, length, 48)).astype(np.float32)
    ids_BxL = documents(rows, length)
    params = nn.unbox(module.init(jax.random.key(0), hidden_BxLxD, ids_BxL, deterministic=True))["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)
    return module, params, hidden_BxLxD, ids_BxL


def assert_equal(one, other, tolerance=2e-6):
    # Relative to the largest: the keys' bias, which cancels in the softmax, has gradients of rounding errors alone.
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a / scale, b / scale, atol=tolerance), one, other)


def attended_in_microbatches(module, params, hidden_BxLxD, ids_BxL, count):
    """Outputs of a module for a batch in microbatches, joined again."""

    @jax.jit
    def microbatch(number, hidden, ids):
        rows = dict(deterministic=False, microbatch=Microbatch(number, count))
        return module.apply({"params": params}, hidden, ids, **rows, rngs={"dropout": jax.random.key(5)})

    attended_BxLxD = np.empty_like(hidden_BxLxD)
    for number in range(count):
        own = slice(number, None, count)
        attended_BxLxD[own] = microbatch(number, hidden_BxLxD[own], ids_BxL[own]) * (ids_BxL[own] > 0)[..., None]
    return attended_BxLxD
