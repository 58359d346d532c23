import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models.electra import Electra
from electra_jax.models.encoder import Embeddings, EncoderConfig
from electra_jax.models.layers import dense, glorot_uniform
from electra_jax.pretraining.local_start import local_start, with_fixed_positions

SIZES = EncoderConfig(
    vocabulary_size=60, embedding_size=64, hidden_size=64, layers=2, heads=4, feed_forward_size=32, positions=40
)
NARROW = dataclasses.replace(SIZES, hidden_size=32, heads=2)
TOKENS_BxL = jnp.asarray(np.random.default_rng(0).integers(5, 60, (4, 40), dtype=np.int32))


@pytest.fixture(scope="module")
def params():
    """Before and after."""
    abstract = jax.eval_shape(Electra(SIZES, NARROW).init, jax.random.key(0), *[TOKENS_BxL] * 3, TOKENS_BxL[:, :4])
    draw = np.random.default_rng(1)
    fresh = jax.tree.map(
        lambda leaf: jnp.asarray(draw.normal(scale=0.02, size=leaf.shape), jnp.float32), nn.unbox(abstract)["params"]
    )
    fresh["embeddings"]["layer_norm"] = {"scale": jnp.ones(64), "bias": jnp.zeros(64)}
    networks = {"generator": NARROW, "discriminator": SIZES}
    return fresh, jax.jit(lambda tree: local_start(tree, 64, networks))(fresh)


def attention_of(params, network, config):
    """Weights of the first layer's heads, [B, H, L, L]."""
    hidden = Embeddings(SIZES).apply(
        {"params": params["embeddings"]}, TOKENS_BxL, jnp.zeros_like(TOKENS_BxL), deterministic=True
    )
    if "embeddings_project" in params[network]:
        project = dense(64, config.hidden_size, (None, None), glorot_uniform, jnp.float32, "project")
        hidden = project.apply({"params": params[network]["embeddings_project"]}, hidden)
    query, key = (
        jnp.einsum("bld,dhk->blhk", hidden, params[network]["layers"]["attention"][name]["kernel"][0])
        for name in ("query", "key")
    )
    return jax.nn.softmax(jnp.einsum("bqhk,bshk->bhqs", query, key) * config.head_size**-0.5)


@pytest.mark.parametrize(("network", "config"), [("discriminator", SIZES), ("generator", NARROW)])
def test_heads_of_the_first_layer_look_at_their_neighbours(params, network, config):
    weights = attention_of(params[1], network, config)
    middle = np.arange(4, 36)
    for head, offset in enumerate((-1, 1, -2, 2)[: config.heads]):
        assert float(weights[:, head, middle, middle + offset].mean()) > 0.4, (head, offset)


def test_everything_else_is_as_it_was(params):
    before, after = params
    for part in ("generator_head", "discriminator_head"):
        jax.tree.map(np.testing.assert_array_equal, before[part], after[part])
    value = ("layers", "attention", "value", "kernel")
    for network in ("generator", "discriminator"):
        one, other = before[network], after[network]
        for name in value:
            one, other = one[name], other[name]
        np.testing.assert_array_equal(one, other)
    # Sixteen of the sixty-four dimensions are the positions' own: eight pairs, as a head of sixteen has room for.
    np.testing.assert_array_equal(after["embeddings"]["word_embeddings"][:, :16], 0)
    np.testing.assert_array_equal(
        after["embeddings"]["word_embeddings"][:, 16:], before["embeddings"]["word_embeddings"][:, 16:]
    )
    np.testing.assert_array_equal(after["embeddings"]["position_embeddings"][:, 16:], 0)


def test_no_gradient_reaches_the_position_table(params):
    def total(tree):
        return sum(leaf.sum() for leaf in jax.tree.leaves(with_fixed_positions(tree)))

    gradients = jax.grad(total)(params[1])
    np.testing.assert_array_equal(gradients["embeddings"]["position_embeddings"], 0)
    np.testing.assert_array_equal(gradients["embeddings"]["word_embeddings"], 1)
