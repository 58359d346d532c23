import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.training.optimizer import (
    OptimizerConfig,
    decayed,
    depth_scales,
    learning_rate,
    muon_dimensions,
    optimizer,
)

CONFIG = OptimizerConfig(
    steps=100,
    learning_rate=0.01,
    warmup_steps=10,
    decay_power=1.0,
    weight_decay=0.01,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-6,
    clip_norm=1.0,
)
GOOGLE = dataclasses.replace(CONFIG, schedule="warmup_times_decay")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.01 * 0.99 * 0.1),
        (4, 0.01 * 0.95 * 0.5),
        (9, 0.01 * 0.9),
        (49, 0.01 * 0.5),
        (98, 0.01 * 0.01),
        (99, 0.0),
        (120, 0.0),
    ],
)
def test_googles_warmup_multiplies_the_decay(step, expected):
    assert float(learning_rate(GOOGLE, step)) == pytest.approx(expected, rel=1e-5)  # 1 - 99/100 in float32.


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.001), (4, 0.005), (9, 0.01), (10, 0.01), (55, 0.005), (99, 0.01 / 90), (100, 0.0), (120, 0.0)],
)
def test_the_rate_reaches_its_peak_after_warmup_and_zero_at_the_end(step, expected):
    assert float(learning_rate(CONFIG, step)) == pytest.approx(expected, rel=1e-6)


def test_the_decay_has_a_power():
    config = dataclasses.replace(CONFIG, decay_power=2.0)
    assert float(learning_rate(config, 55)) == pytest.approx(0.01 * 0.25)


@pytest.mark.parametrize(("config", "expected"), [(CONFIG, 0.01), (GOOGLE, 0.01 * 0.99)])
def test_without_warmup_the_rate_starts_at_the_top_of_the_decay(config, expected):
    assert float(learning_rate(dataclasses.replace(config, warmup_steps=0), 0)) == pytest.approx(expected)


def test_the_first_update_is_three_times_the_rate():
    # The gradient's norm is below clip_norm. m = 0.1 g and v = 0.001 g^2, so u = sign(g) · 0.1 / sqrt(0.001).
    params, gradients = {"bias": jnp.zeros(2)}, {"bias": jnp.array([0.5, -0.02])}
    transformation = optimizer(CONFIG)
    updates, _ = transformation.update(gradients, transformation.init(params), params)
    np.testing.assert_allclose(
        updates["bias"], [3.1622777, -3.1622777], rtol=2e-3
    )  # Epsilon takes 0.16 % of the second.


def test_three_updates_equal_uncorrected_adam_in_numpy():
    params = {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}
    gradients = [{"kernel": np.array([0.3, -0.1]) * k, "bias": np.array([0.2]) * k} for k in (1.0, 2.0, -0.5)]
    transformation = optimizer(GOOGLE)
    state = transformation.init(params)

    expected = {name: np.array(value, np.float64) for name, value in params.items()}
    first = {name: np.zeros_like(value) for name, value in expected.items()}
    second = {name: np.zeros_like(value) for name, value in expected.items()}
    for step, gradient in enumerate(gradients):
        updates, state = transformation.update(jax.tree.map(jnp.asarray, gradient), state, params)
        rate = learning_rate(GOOGLE, step)
        params = jax.tree.map(lambda p, u, rate=rate: p - rate * u, params, updates)

        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        for name, decay in (("kernel", 0.01), ("bias", 0.0)):
            clipped = gradient[name] / max(norm, 1.0)
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.999 * second[name] + 0.001 * clipped**2
            update = first[name] / (np.sqrt(second[name]) + 1e-6) + decay * expected[name]
            expected[name] -= 0.01 * (1 - (step + 1) / 100) * min(1, (step + 1) / 10) * update
    for name, value in expected.items():
        np.testing.assert_allclose(params[name], value, rtol=1e-5)


def test_decay_spares_layer_norm_and_biases_but_not_embeddings():
    params = {
        "embeddings": {"word_embeddings": 0, "layer_norm": {"scale": 0, "bias": 0}},
        "discriminator": {"layers": {"attention_layer_norm": {"scale": 0}, "output": {"kernel": 0, "bias": 0}}},
        "generator_head": {"bias": 0},
    }
    assert decayed(params) == {
        "embeddings": {"word_embeddings": True, "layer_norm": {"scale": False, "bias": False}},
        "discriminator": {
            "layers": {"attention_layer_norm": {"scale": False}, "output": {"kernel": True, "bias": False}}
        },
        "generator_head": {"bias": False},
    }


def tree(leaf):
    """The places of a model of two layers, each with `leaf` of its shape."""
    return {
        "embeddings": {"word_embeddings": leaf((5, 2))},
        "discriminator": {"embeddings_project": {"kernel": leaf((2, 3))}, "layers": {"output": {"bias": leaf((2, 3))}}},
        "discriminator_head": {"dense": {"kernel": leaf((3, 3))}},
    }


# lr · decay^(layers + 2 - depth) in Google's code: embeddings at depth 0, layer i at i + 1, heads at layers + 2.
@pytest.mark.parametrize(("exponent", "powers"), [(2, (4, 4, [3, 2])), (1, (3, 3, [2, 1]))])
def test_learning_rate_decays_by_layer_with_both_exponents(exponent, powers):
    scales = depth_scales(tree(jnp.ones), 0.8, exponent)
    embeddings, project, layers = powers
    assert scales["embeddings"]["word_embeddings"] == pytest.approx(0.8**embeddings)
    assert scales["discriminator"]["embeddings_project"]["kernel"] == pytest.approx(0.8**project)
    np.testing.assert_allclose(
        scales["discriminator"]["layers"]["output"]["bias"][:, 0], [0.8**p for p in layers], rtol=1e-6
    )
    assert scales["discriminator_head"]["dense"]["kernel"] == 1.0


def test_the_optimizer_applies_the_layers_scales():
    config = dataclasses.replace(CONFIG, layer_decay=0.5, weight_decay=0.0)
    params, gradients = tree(jnp.ones), tree(jnp.ones)
    updates = {}
    for name, settings in (("plain", dataclasses.replace(config, layer_decay=1.0)), ("scaled", config)):
        transformation = optimizer(settings)
        updates[name], _ = transformation.update(gradients, transformation.init(params), params)
    ratio = jax.tree.map(lambda scaled, plain: scaled / plain, updates["scaled"], updates["plain"])
    np.testing.assert_allclose(ratio["discriminator"]["layers"]["output"]["bias"][:, 0], [0.25, 0.5], rtol=1e-6)
    np.testing.assert_allclose(ratio["embeddings"]["word_embeddings"], 0.125, rtol=1e-6)
    np.testing.assert_allclose(ratio["discriminator_head"]["dense"]["kernel"], 1.0)


def pair(leaf):
    """Places of an ELECTRA pair of two layers, four heads of width 2, each with `leaf` of its shape."""
    attention = {"query": {"kernel": leaf((2, 8, 4, 2)), "bias": leaf((2, 4, 2))}}
    attention["output"] = {"kernel": leaf((2, 4, 2, 8)), "bias": leaf((2, 8))}
    layers = {
        "attention": attention,
        "output": {"kernel": leaf((2, 12, 8))},
        "output_layer_norm": {"scale": leaf((2, 8))},
    }
    return {
        "embeddings": {"word_embeddings": leaf((5, 8))},
        "discriminator": {"layers": layers, "embeddings_project": {"kernel": leaf((8, 8))}},
        "generator": {"layers": {"output": {"kernel": leaf((2, 4, 4))}}},
        "discriminator_head": {"dense": {"kernel": leaf((8, 8))}},
    }


def test_muon_takes_the_kernels_of_layers_but_the_generators():
    kernels = jax.tree_util.tree_leaves_with_path(
        muon_dimensions(pair(jnp.ones)), is_leaf=lambda leaf: hasattr(leaf, "_fields")
    )
    assert {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(axes) for path, axes in kernels} == {
        "discriminator/layers/attention/query/kernel": ((1,), (2, 3)),
        "discriminator/layers/attention/output/kernel": ((1, 2), (3,)),
        "discriminator/layers/output/kernel": ((1,), (2,)),
    }


def test_muon_updates_have_similar_singular_values():
    draw = np.random.default_rng(1)
    # A gradient of a large and many small directions: Adam would follow the large one.
    gradients = pair(lambda shape: jnp.asarray(draw.normal(size=shape) + 5, jnp.float32))
    params = pair(jnp.zeros)
    plain, muon = (optimizer(dataclasses.replace(CONFIG, name=name)) for name in ("adam", "muon"))
    adams, _ = plain.update(gradients, plain.init(params), params)
    updates, state = jax.jit(muon.update)(gradients, muon.init(params), params)
    layers = updates["discriminator"]["layers"]
    for update in (
        layers["attention"]["query"]["kernel"].reshape(2, 8, 8),
        layers["attention"]["output"]["kernel"].reshape(2, 8, 8),
        layers["output"]["kernel"],
    ):
        lengths = np.linalg.svd(update, compute_uv=False) / (0.2 * np.sqrt(max(update.shape[1:])))
        # Five iterations end between about 0.7 and 1.2; https://kellerjordan.github.io/posts/muon.
        assert lengths.min() > 0.4
        assert lengths.max() < 1.3
    for place in ("embeddings", "generator", "discriminator_head"):
        jax.tree.map(lambda muon, adam: np.testing.assert_allclose(muon, adam, rtol=1e-6), updates[place], adams[place])
    bias = adams["discriminator"]["layers"]["attention"]["query"]["bias"]
    np.testing.assert_allclose(layers["attention"]["query"]["bias"], bias, rtol=1e-6)
    # One moment for a kernel, where Adam has two.
    assert sum(leaf.shape == (2, 12, 8) for leaf in jax.tree.leaves(state)) == 1
