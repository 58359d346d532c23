import dataclasses
import functools
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models.electra import Electra, MaskedLanguageModel
from electra_jax.models.encoder import Embeddings, EncoderConfig
from electra_jax.nested import flatten
from electra_jax.pretraining.corruption import SpecialTokens, num_slots
from electra_jax.pretraining.jobs import encoder_config, pretraining_job
from electra_jax.pretraining.objectives import Objective, electra_loss, electra_metrics, electra_outputs
from electra_jax.training.partitioning import make_mesh, placed_on
from tests.configs import typed

PRESETS = {
    "small": {
        "model.layers": 12,
        "model.hidden_size": 256,
        "model.heads": 4,
        "model.feed_forward_size": 1024,
        "model.embedding_size": 128,
        "data.sequence_length": 128,
        "objective.mask_fraction": 0.15,
        "batch_size": 128,
        "optimizer.learning_rate": 5e-4,
        "steps": 1_000_000,
    },
    "base": {
        "model.layers": 12,
        "model.hidden_size": 768,
        "model.heads": 12,
        "model.feed_forward_size": 3072,
        "model.embedding_size": 768,
        "data.sequence_length": 512,
        "objective.mask_fraction": 0.15,
        "batch_size": 256,
        "optimizer.learning_rate": 2e-4,
        "steps": 766_000,
    },
    "large": {
        "model.layers": 24,
        "model.hidden_size": 1024,
        "model.heads": 16,
        "model.feed_forward_size": 4096,
        "model.embedding_size": 1024,
        "data.sequence_length": 512,
        "objective.mask_fraction": 0.25,
        "batch_size": 2048,
        "optimizer.learning_rate": 2e-4,
        "steps": 400_000,
    },
}
EVERY_PRESET = {
    "task": "pretraining",
    "data.tokenizer.vocabulary_size": 30_522,
    "data.tokenizer.lowercase": True,
    "data.rows": "segment_pairs",
    "data.single_segment_probability": 0.1,
    "data.short_row_probability": 0.05,
    "model.positions": 512,
    "model.generator_depth": 1.0,
    "model.dropout_rate": 0.1,
    "model.attention_dropout_rate": 0.1,
    "model.attention_bias": "none",
    "model.initializer_range": 0.02,
    "objective.name": "electra",
    "objective.kept_fraction": 0.15,
    "objective.temperature": 1.0,
    "objective.generator_weight": 1.0,
    "objective.discriminator_weight": 50.0,
    "optimizer.warmup_steps": 10_000,
    "optimizer.decay_power": 1.0,
    "optimizer.weight_decay": 0.01,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.epsilon": 1e-6,
    "optimizer.clip_norm": 1.0,
}
GENERATORS = {"small": (12, 64, 1, 256, 128), "base": (12, 256, 4, 1024, 768), "large": (24, 256, 4, 1024, 1024)}


def preset(name):
    return importlib.import_module(f"electra_jax.configs.{name}").get_config()


def sizes(encoder):
    return encoder.layers, encoder.hidden_size, encoder.heads, encoder.feed_forward_size, encoder.embedding_size


def abstract_params(name):
    job = pretraining_job(typed(preset(name)), None, "cpu")
    return nn.unbox(jax.eval_shape(job.init, jax.eval_shape(lambda: jax.random.key(0))))


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_numbers_of_the_paper(name):
    config = preset(name)
    expected = PRESETS[name] | EVERY_PRESET
    assert {name: value for name, value in flatten(config).items() if name in expected} == expected


@pytest.mark.parametrize("name", PRESETS)
def test_heads_are_64_wide_and_generators_as_large_as_the_paper_s(name):
    job = pretraining_job(typed(preset(name)), None, "cpu")
    assert job.encoder.head_size == job.generator.head_size == 64
    assert sizes(job.generator) == GENERATORS[name]
    assert job.encoder.token_types == 2
    assert job.encoder.layer_norm_epsilon == 1e-12


@pytest.mark.parametrize(("length", "fraction", "slots"), [(128, 0.15, 19), (512, 0.15, 79), (512, 0.25, 130)])
def test_slots_for_masked_positions_are_google_s(length, fraction, slots):
    assert num_slots(length, fraction) == slots


def test_small_plus_plus_differs_from_small_as_published():
    small, plus_plus = preset("small"), preset("small_plus_plus")
    changed = {"steps": 4_000_000, "data.sequence_length": 512, "model.generator_width": 1.0}
    expected = PRESETS["small"] | EVERY_PRESET | changed
    assert {name: value for name, value in flatten(plus_plus).items() if name in expected} == expected
    encoder = encoder_config(typed(small), "cpu")
    assert sizes(pretraining_job(typed(plus_plus), None, "cpu").generator) == sizes(encoder)


def test_mlm_base_is_base_with_one_network():
    base, mlm = preset("base"), preset("mlm_base")
    expected = PRESETS["base"] | EVERY_PRESET | {"objective.name": "mlm", "steps": 1_000_000}
    assert {name: value for name, value in flatten(mlm).items() if name in expected} == expected
    assert encoder_config(typed(mlm), "cpu") == encoder_config(typed(base), "cpu")
    assert set(abstract_params("mlm_base")) == {"embeddings", "encoder", "head"}


def test_compute_dtype_is_bfloat16_except_on_cpu():
    config = preset("base")
    assert [encoder_config(typed(config), platform).dtype for platform in ("cpu", "gpu", "tpu")] == [
        jnp.dtype("float32"),
        jnp.dtype("bfloat16"),
        jnp.dtype("bfloat16"),
    ]


@pytest.mark.parametrize(("name", "published"), [("small", 13_549_057), ("base", 109_483_009), ("large", 335_142_913)])
def test_discriminators_have_the_published_number_of_parameters(name, published):
    params = abstract_params(name)
    discriminator = [params[part] for part in ("embeddings", "discriminator", "discriminator_head")]
    assert size(discriminator) == published
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", PRESETS)
def test_generator_has_encoder_and_head_but_no_tables(name):
    layers, hidden, _, feed_forward, embedding = GENERATORS[name]
    params = abstract_params(name)
    layer = 4 * (hidden * hidden + hidden) + 2 * hidden * feed_forward + feed_forward + hidden + 4 * hidden
    assert size(params["generator"]) == layers * layer + embedding * hidden + hidden
    assert size(params["generator_head"]) == hidden * embedding + embedding + 2 * embedding + 30_522


SPECIAL = SpecialTokens(pad=0, cls=2, sep=3, mask=4)
ENCODER = EncoderConfig(
    vocabulary_size=30, embedding_size=6, hidden_size=8, layers=2, heads=2, feed_forward_size=16, positions=16,
    dropout_rate=0.0, attention_dropout_rate=0.0,
)  # fmt: skip
TOKENS_BxL = np.array(
    [[2, 7, 8, 9, 10, 11, 3, 12, 13, 14, 15, 3], [2, 16, 17, 18, 19, 20, 21, 22, 3, 0, 0, 0]], np.int32
)


@pytest.fixture(scope="module")
def tiny():
    """Two small networks, and parameters of which none is zero."""
    model = Electra(ENCODER, ENCODER.scaled(0.5))
    abstract = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)), *[TOKENS_BxL] * 4)
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), jnp.float32)  # noqa: E731
    return model, jax.tree.map(draw, nn.unbox(abstract)["params"])


@pytest.fixture(scope="module")
def gradient_of(tiny, quick_jit):
    """Gradients of w · generator loss + v · discriminator loss, by (w, v)."""
    model, params = tiny

    @quick_jit
    def gradient(params, generator_weight, discriminator_weight):
        objective = Objective(SPECIAL, generator_weight=generator_weight, discriminator_weight=discriminator_weight)

        def loss(params):
            outputs = electra_outputs(model, objective, params, TOKENS_BxL, jax.random.key(1), deterministic=True)
            return electra_loss(objective, electra_metrics(outputs))

        return jax.grad(loss)(params)

    return lambda *weights: jax.tree.map(np.asarray, gradient(params, *weights))


def test_each_loss_has_no_gradient_in_the_other_network(gradient_of):
    of_generator, of_discriminator = gradient_of(1.0, 0.0), gradient_of(0.0, 50.0)
    for gradient, reached, other in (
        (of_generator, "generator", "discriminator"),
        (of_discriminator, "discriminator", "generator"),
    ):
        for part in (other, f"{other}_head"):
            assert not any(leaf.any() for leaf in jax.tree.leaves(gradient[part])), part
        for part in (reached, f"{reached}_head"):
            assert any(leaf.any() for leaf in jax.tree.leaves(gradient[part])), part


def test_both_losses_reach_all_shared_embeddings(gradient_of):
    for weights in ((1.0, 0.0), (0.0, 50.0)):
        embeddings = gradient_of(*weights)["embeddings"]
        assert set(embeddings) == {"word_embeddings", "token_type_embeddings", "position_embeddings", "layer_norm"}
        for leaf in jax.tree.leaves(embeddings):
            assert leaf.any()


def test_the_gradient_of_both_losses_is_the_sum_of_their_gradients(gradient_of):
    together = gradient_of(1.0, 50.0)
    apart = jax.tree.map(np.add, gradient_of(1.0, 0.0), gradient_of(0.0, 50.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), together, apart)


def test_no_gradient_reaches_positions_and_words_that_do_not_occur(gradient_of):
    discriminator = gradient_of(0.0, 50.0)["embeddings"]
    assert not discriminator["position_embeddings"][TOKENS_BxL.shape[1] :].any()
    # The generator's softmax reaches every word; its input does not.
    assert gradient_of(1.0, 0.0)["embeddings"]["word_embeddings"].any(-1).all()


def test_the_word_table_is_also_the_generator_s_softmax(tiny, quick_jit):
    model, params = tiny
    tables = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1 and 30 in leaf.shape]
    assert tables == [(30, 6)]
    segments, documents, positions = TOKENS_BxL * 0, TOKENS_BxL * 0 + 1, np.array([[1, 4], [2, 3]])
    apply = quick_jit(model.apply)
    before, _ = apply({"params": params}, TOKENS_BxL, segments, documents, positions)
    word = 29
    assert word not in TOKENS_BxL
    table = params["embeddings"]["word_embeddings"].at[word].add(1.0)
    changed = params | {"embeddings": params["embeddings"] | {"word_embeddings": table}}
    after, _ = apply({"params": changed}, TOKENS_BxL, segments, documents, positions)
    differs = np.asarray(before != after)
    assert differs[..., word].all()
    assert not np.delete(differs, word, axis=-1).any()


def test_padding_columns_change_no_logit(tiny, quick_jit):
    model, params = tiny

    @quick_jit
    def logits(tokens_BxL):
        real_BxL = (tokens_BxL != 0).astype(np.int32)
        return model.apply(
            {"params": params}, tokens_BxL, 0 * real_BxL, real_BxL, deterministic=True, method="discriminate"
        )

    padded = logits(np.pad(TOKENS_BxL, ((0, 0), (0, 4))))
    real_BxL = TOKENS_BxL != 0
    np.testing.assert_allclose(padded[:, :12][real_BxL], logits(TOKENS_BxL)[real_BxL], rtol=1e-5, atol=1e-6)


def test_unrolled_layers_compute_the_same_with_dropout(tiny, quick_jit):
    _, params = tiny
    row = jnp.asarray(TOKENS_BxL)
    logits = []
    for unrolled in (1, 2, 5):
        config = dataclasses.replace(ENCODER, dropout_rate=0.3, attention_dropout_rate=0.3, unrolled_layers=unrolled)
        apply = functools.partial(Electra(config, config).apply, deterministic=False, method="discriminate")
        rngs = {"dropout": jax.random.key(3)}
        logits.append(quick_jit(apply)({"params": params}, row, 0 * row, row > 0, rngs=rngs))
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(logits[2], logits[1])


def test_segments_choose_the_token_type(tiny, quick_jit):
    model, params = tiny
    swapped_table = params["embeddings"]["token_type_embeddings"][::-1]
    swapped = params | {"embeddings": params["embeddings"] | {"token_type_embeddings": swapped_table}}
    segments = np.array([[0] * 7 + [1] * 5, [0] * 12])
    ones = TOKENS_BxL * 0 + 1

    @quick_jit
    def logits(params, segments):
        return model.apply({"params": params}, TOKENS_BxL, segments, ones, deterministic=True, method="discriminate")

    np.testing.assert_array_equal(logits(params, segments), logits(swapped, 1 - segments))
    assert (logits(params, segments) != logits(params, 1 - segments)).any()


def test_given_positions_choose_rows_of_the_position_table(tiny, quick_jit):
    model, params = tiny
    order = np.array([[0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1, 2], np.arange(12)])
    swapped_order = np.where(order == 2, 1, np.where(order == 1, 2, order))
    table = params["embeddings"]["position_embeddings"]
    swapped_table = table[jnp.array([0, 2, 1, *range(3, 16)])]
    swapped = params | {"embeddings": params["embeddings"] | {"position_embeddings": swapped_table}}
    ones = TOKENS_BxL * 0 + 1

    @quick_jit
    def logits(params, positions):
        inputs = TOKENS_BxL, 0 * ones, ones
        return model.apply(
            {"params": params}, *inputs, row_positions_BxL=positions, deterministic=True, method="discriminate"
        )

    plain = logits(params, None)
    restarted = logits(params, order)
    np.testing.assert_allclose(restarted[1], plain[1], rtol=1e-5, atol=1e-6)
    assert (np.abs(restarted[0] - plain[0]) > 1e-3).any()
    np.testing.assert_array_equal(logits(swapped, swapped_order), restarted)


def test_given_positions_have_the_gradient_of_a_gather(quick_jit):
    embeddings = Embeddings(ENCODER)
    order = np.array([[0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1, 2], np.arange(12)])
    abstract = jax.eval_shape(
        functools.partial(embeddings.init, deterministic=True), jax.random.key(0), TOKENS_BxL, TOKENS_BxL
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), nn.unbox(abstract))
    weights_BxLxE = rng.normal(size=(2, 12, 6)).astype(np.float32)

    @quick_jit
    def gradient_of_words(params):
        # Words are gathered, and here each position has its own word, so both tables get the same gradient.
        embed = lambda params: embeddings.apply(params, order, 0 * order, order, deterministic=True)  # noqa: E731
        return jax.grad(lambda params: (embed(params) * weights_BxLxE).sum())(params)["params"]

    gradient = gradient_of_words(params)
    words, positions = gradient["word_embeddings"], gradient["position_embeddings"]
    np.testing.assert_allclose(positions[:12], words[:12], rtol=1e-5, atol=1e-5)
    assert not positions[12:].any()


@pytest.mark.parametrize("name", ["electra", "hybrid", "mlm"])
def test_hidden_states_are_constrained_before_and_in_the_layers(name):
    config = importlib.import_module("configs.small").get_config("quicktest")
    config.objective.name, config.objective.corrective_weight = name, float(name == "hybrid")
    job = pretraining_job(typed(config), None, "cpu")
    [shape] = job.batch_shapes()
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = nn.unbox(jax.eval_shape(job.init, key))
    with placed_on(make_mesh((1, 1, 1)), "dp"):
        program = jax.make_jaxpr(job.loss)(params, shape, key)
    # Each encoder constrains what enters its layers and, in the layers' loop, what leaves each of them.
    assert str(program).count("sharding_constraint[") >= (2 if name == "mlm" else 4)


@pytest.fixture(scope="module")
def initial(quick_jit):
    """Parameters of networks wide enough for statistics, and their paths."""
    config = EncoderConfig(
        vocabulary_size=2000, embedding_size=48, hidden_size=96, layers=3, heads=2, feed_forward_size=256, positions=512
    )
    model = Electra(config, config.scaled(1 / 3))
    row = jnp.zeros((1, 8), jnp.int32)
    params = nn.unbox(quick_jit(model.init)(jax.random.key(0), row, row, row, row[:, :1]))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


GLOROT = ("embeddings_project/kernel", "discriminator_head/prediction/kernel")


def test_kernels_and_tables_are_truncated_normals(initial):
    drawn = {
        path: leaf
        for path, leaf in initial.items()
        if path.endswith(("kernel", "_embeddings")) and not path.endswith(GLOROT)
    }
    # 3 tables, 6 kernels in the layers of each network, 2 in the heads.
    assert len(drawn) == 3 + 2 * 6 + 2
    for path, leaf in drawn.items():
        assert np.abs(leaf).max() <= 0.04, path
        # The standard deviation after truncation (TensorFlow's truncated_normal_initializer does not correct it).
        expected = 0.02 * 0.87962566
        assert abs(leaf.std() - expected) < 5 * expected / np.sqrt(2 * leaf.size), path
        assert abs(leaf.mean()) < 5 * expected / np.sqrt(leaf.size), path


def test_three_kernels_have_tensorflow_s_default_glorot_uniform(initial):
    for path, fans in (
        ("generator/embeddings_project/kernel", 48 + 32),
        ("discriminator/embeddings_project/kernel", 48 + 96),
        ("discriminator_head/prediction/kernel", 96 + 1),
    ):
        bound = np.sqrt(6 / fans)
        largest = np.abs(initial[path]).max()
        assert 0.9 * bound < largest <= bound, path


def test_biases_start_at_zero_and_layer_norm_at_the_identity(initial):
    rest = {path: leaf for path, leaf in initial.items() if not path.endswith(("kernel", "_embeddings"))}
    for path, leaf in rest.items():
        assert (leaf == (1 if path.endswith("/scale") else 0)).all(), path
    assert all("layer_norm" in path for path in rest if path.endswith("/scale"))


def test_no_two_layers_start_alike(initial):
    for path, leaf in initial.items():
        if "/layers/" in path and path.endswith("kernel"):
            assert len(np.unique(leaf.reshape(len(leaf), -1)[:, 0])) == 3, path


def test_mlm_ties_its_table_too():
    model = MaskedLanguageModel(ENCODER)
    row = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    params = nn.unbox(jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)), row, row, row, row))[
        "params"
    ]
    assert [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1 and 30 in leaf.shape] == [(30, 6)]
    assert set(params) == {"embeddings", "encoder", "head"}
