"""With local initial weights, heads attend to neighbours, and nothing else is different."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models.electra import Electra
from electra_jax.models.encoder import EncoderConfig
from electra_jax.pretraining.local_start import local_start, with_fixed_positions

OFFSETS = (-1, 1, -2, 2)
LENGTH = 32
WORDS = 200
CONFIG = EncoderConfig(
    vocabulary_size=WORDS,
    embedding_size=128,
    hidden_size=128,
    layers=2,
    heads=4,
    feed_forward_size=64,
    positions=64,
    dropout_rate=0.0,
    attention_dropout_rate=0.0,
)
# Narrower than the embeddings, which are projected to it.
NETWORKS = {"discriminator": CONFIG, "generator": dataclasses.replace(CONFIG, hidden_size=64)}
MODEL = Electra(CONFIG, NETWORKS["generator"])


@pytest.fixture(scope="module")
def fresh():
    row = jnp.zeros((1, LENGTH), jnp.int32)
    shapes = nn.unbox(jax.eval_shape(MODEL.init, jax.random.key(0), row, row, row + 1, row[:, :4])["params"])
    rng = np.random.default_rng(0)

    def initial(path, leaf):
        # The distributions of the initialisers without their compilation, which would take most of the time here.
        if path[-1].key in ("scale", "bias"):
            return jnp.full(leaf.shape, float(path[-1].key == "scale"))
        deviation = (2 / sum(leaf.shape)) ** 0.5 if path[-2].key == "embeddings_project" else CONFIG.initializer_range
        return jnp.asarray(rng.normal(0, deviation, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(initial, shapes)


@pytest.fixture(scope="module")
def started(fresh):
    return local_start(fresh, CONFIG.embedding_size, NETWORKS)


def first_layer_attention(params, network):
    """Weights [B, H, L, L] on rows of random words."""
    tokens_BxL = jax.random.randint(jax.random.key(1), (4, LENGTH), 0, WORDS)
    embed = lambda model: model.embeddings(tokens_BxL, tokens_BxL * 0, deterministic=True)  # noqa: E731
    hidden_BxLxD = MODEL.apply({"params": params}, method=embed)
    if "embeddings_project" in params[network]:
        hidden_BxLxD = hidden_BxLxD @ params[network]["embeddings_project"]["kernel"]
    query_BxLxHxK, key_BxLxHxK = (
        jnp.einsum("bld,dhk->blhk", hidden_BxLxD, params[network]["layers"]["attention"][name]["kernel"][0])
        for name in ("query", "key")
    )
    scores_BxHxLxL = jnp.einsum("bqhk,bshk->bhqs", query_BxLxHxK, key_BxLxHxK)
    return nn.softmax(scores_BxHxLxL / np.sqrt(NETWORKS[network].head_size))


def weight_on_offset(attention_BxHxLxL, head, offset):
    queries = np.arange(max(0, -offset), LENGTH - max(0, offset))
    return np.asarray(attention_BxHxLxL)[:, head, queries, queries + offset]


@pytest.mark.parametrize("network", NETWORKS)
def test_each_head_of_the_first_layer_attends_to_its_offset(fresh, started, network):
    before, after = (first_layer_attention(params, network) for params in (fresh, started))
    for head, offset in enumerate(OFFSETS):
        assert weight_on_offset(before, head, offset).mean() < 0.1
        assert weight_on_offset(after, head, offset).mean() > 0.4


def test_only_the_tables_and_the_ways_to_attention_change(fresh, started):
    pairs = zip(jax.tree_util.tree_leaves_with_path(fresh), jax.tree.leaves(started), strict=True)
    changed = {jax.tree_util.keystr(path, simple=True, separator="/") for (path, old), new in pairs if new is not old}
    attention = [f"{network}/layers/attention/{name}/kernel" for network in NETWORKS for name in ("query", "key")]
    tables = [f"embeddings/{name}_embeddings" for name in ("position", "token_type", "word")]
    assert changed == {*attention, *tables, "generator/embeddings_project/kernel"}


def test_words_leave_dimensions_to_positions_and_keep_the_others(fresh, started):
    places = 16  # Of 2 × 8 in a generator of head size 16.
    for name in ("word_embeddings", "token_type_embeddings"):
        old_VxE, new_VxE = fresh["embeddings"][name], started["embeddings"][name]
        assert not new_VxE[:, :places].any()
        np.testing.assert_array_equal(new_VxE[:, places:], old_VxE[:, places:])
    assert not started["embeddings"]["position_embeddings"][:, places:].any()
    kernel_ExD = started["generator"]["embeddings_project"]["kernel"]
    np.testing.assert_array_equal(kernel_ExD[:places, :places], np.eye(places))
    assert not kernel_ExD[places:, :places].any()
    assert not kernel_ExD[:places, places:].any()


def test_heads_and_layers_without_an_offset_begin_at_random(fresh):
    """Six heads in three layers, of which the first four of the first two layers have offsets."""
    config = dataclasses.replace(CONFIG, hidden_size=96, heads=6, layers=3)
    rng = np.random.default_rng(0)
    attention = {name: {"kernel": jnp.asarray(rng.normal(size=(3, 96, 6, 16)))} for name in ("query", "key")}
    params = {"embeddings": fresh["embeddings"], "encoder": {"layers": {"attention": attention}}}
    started = local_start(params, CONFIG.embedding_size, {"encoder": config})
    for name in attention:
        old, new = (tree["encoder"]["layers"]["attention"][name]["kernel"] for tree in (params, started))
        changed_NxH = np.asarray(old != new).any((1, 3))
        np.testing.assert_array_equal(changed_NxH, [[True] * 4 + [False] * 2] * 2 + [[False] * 6])
        # Words still reach the same queries and keys.
        np.testing.assert_array_equal(new[:, 16:], old[:, 16:])


def test_the_start_can_be_traced(fresh, started):
    traced = jax.jit(lambda params: local_start(params, CONFIG.embedding_size, NETWORKS))(fresh)
    jax.tree.map(np.testing.assert_array_equal, traced, started)


def test_no_gradient_reaches_fixed_positions(started):
    def loss(params):
        return sum(jnp.square(table).sum() for table in with_fixed_positions(params)["embeddings"].values())

    tables = {name: table for name, table in started["embeddings"].items() if name.endswith("_embeddings")}
    gradients = jax.grad(loss)({"embeddings": tables})["embeddings"]
    assert not gradients["position_embeddings"].any()
    np.testing.assert_array_equal(gradients["word_embeddings"], 2 * tables["word_embeddings"])


def test_fixing_positions_keeps_every_value(started):
    jax.tree.map(np.testing.assert_array_equal, with_fixed_positions(started), dict(started))
