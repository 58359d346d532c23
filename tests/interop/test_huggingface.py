"""The mapping by itself: nothing is lost, nothing is passed over, and what is shared must agree."""

import dataclasses

import jax
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.interop import huggingface
from electra_jax.models.layers import gelu
from tests.interop import peer

HEADS = peer.heads(peer.TINY_PAIR)
WIDE = dataclasses.replace(peer.TINY, embedding_size=peer.TINY.hidden_size)


def states(params=None):
    params = params or peer.random_params(peer.TINY_PAIR)
    return huggingface.generator_state(params), huggingface.discriminator_state(params)


@pytest.mark.parametrize(
    "pair", [peer.TINY_PAIR, (WIDE, WIDE.scaled(1 / 2))], ids=["both projected", "generator projected"]
)
def test_round_trip_changes_no_bit(pair):
    params = peer.random_params(pair)
    there = states(params)
    assert ("electra.embeddings_project.weight" in there[1]) == (pair is peer.TINY_PAIR)
    back = huggingface.params_from_huggingface(*there, **HEADS)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_states_own_contiguous_arrays():
    params = peer.random_params(peer.TINY_PAIR)
    state = huggingface.discriminator_state(params)
    assert all(array.flags.c_contiguous and array.flags.owndata for array in state.values())
    state["electra.embeddings.word_embeddings.weight"][:] = 0
    assert params["embeddings"]["word_embeddings"].any()


@pytest.mark.parametrize("table", ["word_embeddings.weight", "position_embeddings.weight", "LayerNorm.bias"])
def test_networks_of_different_embeddings_are_refused(table):
    generator, discriminator = states()
    discriminator[f"electra.embeddings.{table}"][0] += 1
    with pytest.raises(InputError, match=r"embeddings/(word_embeddings|position_embeddings|layer_norm/bias)"):
        huggingface.params_from_huggingface(generator, discriminator, **HEADS)


def test_untied_output_words_are_refused_and_missing_ones_are_tied():
    generator, discriminator = states()
    generator["generator_lm_head.weight"][0] += 1
    with pytest.raises(InputError, match="embeddings/word_embeddings"):
        huggingface.params_from_huggingface(generator, discriminator, **HEADS)
    del generator["generator_lm_head.weight"]
    params = huggingface.params_from_huggingface(generator, discriminator, **HEADS)
    np.testing.assert_array_equal(
        params["embeddings"]["word_embeddings"], generator["electra.embeddings.word_embeddings.weight"]
    )


def test_missing_and_unknown_tensors_are_named():
    generator, discriminator = states()
    bias = discriminator.pop("electra.encoder.layer.1.output.dense.bias")
    with pytest.raises(
        InputError, match=r"discriminator has no tensor electra\.encoder\.layer\.1\.output\.dense\.bias"
    ):
        huggingface.params_from_huggingface(generator, discriminator, **HEADS)
    discriminator["electra.encoder.layer.1.output.dense.bias"] = bias
    discriminator["electra.embeddings.position_ids"] = np.arange(24)[None]  # Old files have it; it is no weight.
    generator["classifier.weight"] = bias
    with pytest.raises(InputError, match=r"generator has tensors .*: classifier\.weight$"):
        huggingface.params_from_huggingface(generator, discriminator, **HEADS)
    del generator["classifier.weight"]
    huggingface.params_from_huggingface(generator, discriminator, **HEADS)


def test_attention_bias_cannot_be_written():
    config = dataclasses.replace(peer.TINY, attention_bias="distance_decay")
    with pytest.raises(InputError, match="attention_bias"):
        huggingface.huggingface_config(config)
    params = peer.random_params((config, peer.TINY_PAIR[1]))
    huggingface.generator_state(params)
    with pytest.raises(InputError, match="discriminator/layers/attention/slopes"):
        huggingface.discriminator_state(params)


def standard_head(classes, width=64):
    draw = np.random.default_rng(classes)
    return draw.standard_normal((width, classes), np.float32) * 0.2, draw.standard_normal(classes, np.float32)


@pytest.mark.parametrize("classes", [1, 3, 32, 33, 200])
def test_one_dense_layer_is_what_the_two_layers_of_the_library_compute(classes):
    kernel_DxC, bias_C = standard_head(classes)
    state = huggingface.classification_head_state(kernel_DxC, bias_C)
    # LayerNorm puts out numbers around 1; single units of trained models reach 30.
    hidden_BxD = np.random.default_rng(0).standard_normal((50, 64), np.float32)
    hidden_BxD[:, 7] *= 30
    inner_BxD = hidden_BxD @ state["classifier.dense.weight"].T + state["classifier.dense.bias"]
    inner_BxD = np.asarray(gelu(inner_BxD))
    logits_BxC = inner_BxD @ state["classifier.out_proj.weight"].T + state["classifier.out_proj.bias"]
    np.testing.assert_allclose(logits_BxC, hidden_BxD @ kernel_DxC + bias_C, atol=1e-5)
    assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}


def test_the_head_holds_numbers_of_ordinary_size_where_classes_are_few():
    state = huggingface.classification_head_state(*standard_head(3))
    assert max(np.abs(array).max() for array in state.values()) < 10
