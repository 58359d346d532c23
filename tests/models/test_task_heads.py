import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models.task_heads import ClassificationHead, TaggingHead

HIDDEN = jax.random.normal(jax.random.key(0), (3, 5, 8))


def made(head):
    params = nn.unbox(head.init(jax.random.key(1), HIDDEN, {}, deterministic=True))["params"]
    # Biases that are not zero, so that one that is forgotten shows.
    return jax.tree.map(lambda leaf: leaf + 0.1, params)


def test_paper_classifier_is_one_linear_layer_on_cls():
    head = ClassificationHead(classes=4, dropout_rate=0.1)
    params = made(head)
    assert jax.tree.map(jnp.shape, params) == {"prediction": {"kernel": (8, 4), "bias": (4,)}}
    logits = head.apply({"params": params}, HIDDEN, {}, deterministic=True)["logits"]
    expected = HIDDEN[:, 0] @ params["prediction"]["kernel"] + params["prediction"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_transformers_classifier_has_a_hidden_layer_with_gelu():
    head = ClassificationHead(classes=2, dropout_rate=0.1, hidden_layer=True)
    params = made(head)
    logits = head.apply({"params": params}, HIDDEN, {}, deterministic=True)["logits"]
    inner = HIDDEN[:, 0] @ params["dense"]["kernel"] + params["dense"]["bias"]
    inner = inner * 0.5 * (1 + jax.lax.erf(inner / np.sqrt(2)))
    np.testing.assert_allclose(
        logits, inner @ params["prediction"]["kernel"] + params["prediction"]["bias"], rtol=1e-5, atol=1e-6
    )


def test_each_position_has_its_own_tag():
    head = TaggingHead(tags=3, dropout_rate=0.1)
    params = made(head)
    logits = head.apply({"params": params}, HIDDEN, {}, deterministic=True)["logits"]
    assert logits.shape == (3, 5, 3)
    expected = HIDDEN @ params["prediction"]["kernel"] + params["prediction"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", [ClassificationHead(2, 0.5), ClassificationHead(2, 0.5, True), TaggingHead(2, 0.5)])
def test_dropout_is_on_the_input_and_only_in_training(head):
    params = made(head)

    def logits(key, deterministic=False):
        rngs = {"dropout": jax.random.key(key)}
        return head.apply({"params": params}, HIDDEN, {}, deterministic=deterministic, rngs=rngs)["logits"]

    assert (logits(0) != logits(1)).any()
    np.testing.assert_array_equal(logits(0, True), logits(1, True))


@pytest.mark.parametrize("head", [ClassificationHead(2, 0.0, True, jnp.bfloat16), TaggingHead(2, 0.0, jnp.bfloat16)])
def test_logits_are_float32_whatever_is_computed_in(head):
    assert head.apply({"params": made(head)}, HIDDEN, {}, deterministic=True)["logits"].dtype == jnp.float32


def test_kernels_start_within_glorot_s_bounds_and_biases_at_zero():
    params = nn.unbox(ClassificationHead(2, 0.1).init(jax.random.key(1), HIDDEN, {}, deterministic=True))["params"]
    bound = np.sqrt(6 / (8 + 2))
    assert 0.3 * bound < np.abs(params["prediction"]["kernel"]).max() < bound
    assert not params["prediction"]["bias"].any()
