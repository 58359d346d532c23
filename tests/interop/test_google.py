"""The names of Google's checkpoints: which networks they amount to, and that nothing is lost or passed over."""

import dataclasses

import jax
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.interop import google, tensor_map
from tests.interop import made, peer


def shapes_of(params):
    return {name: array.shape for name, array in google.state_of(params).items()}


def test_names_are_those_of_googles_code():
    config = dataclasses.replace(peer.TINY, embedding_size=24)
    names = set(google.state_of(made.model((config, config.scaled(1 / 2))).params))
    layer = {
        "attention/self/query/kernel", "attention/self/key/bias", "attention/output/dense/kernel",
        "attention/output/LayerNorm/gamma", "intermediate/dense/kernel", "output/dense/bias", "output/LayerNorm/beta",
    }  # fmt: skip
    assert names >= {
        "electra/embeddings/word_embeddings", "electra/embeddings/token_type_embeddings",
        "electra/embeddings/position_embeddings", "electra/embeddings/LayerNorm/gamma",
        "electra/embeddings/LayerNorm/beta", "electra/embeddings_project/kernel", "electra/embeddings_project/bias",
        "generator/embeddings_project/kernel", "generator_predictions/dense/kernel",
        "generator_predictions/LayerNorm/beta", "generator_predictions/output_bias",
        "discriminator_predictions/dense/kernel", "discriminator_predictions/dense_1/kernel",
        "discriminator_predictions/dense_1/bias",
        *(f"electra/encoder/layer_1/{name}" for name in layer), *(f"generator/encoder/layer_0/{name}" for name in layer),
    }  # fmt: skip
    # 5 shared, 2 projections, 16 in each of 2 layers of 2 networks, heads of 5 and 4.
    assert len(names) == 5 + 2 * 2 + 2 * 2 * 16 + 5 + 4


def test_kernels_keep_their_order_and_heads_are_joined():
    params = made.model().params
    state = google.state_of(params)
    query_NxDxHxK = params["discriminator"]["layers"]["attention"]["query"]["kernel"]
    joined = query_NxDxHxK[1].reshape(32, 32)
    np.testing.assert_array_equal(state["electra/encoder/layer_1/attention/self/query/kernel"], joined)
    output = params["generator"]["layers"]["attention"]["output"]["kernel"][0]
    np.testing.assert_array_equal(
        state["generator/encoder/layer_0/attention/output/dense/kernel"], output.reshape(16, 16)
    )


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_round_trip_changes_no_bit(network):
    params = made.model().params
    scope = {"generator": "generator", "discriminator": "electra"}[network]
    heads = dict(generator=peer.TINY_PAIR[1].heads, discriminator=peer.TINY_PAIR[0].heads)[network]
    back = google.network_params(google.state_of(params), network, scope, heads)
    expected = {part: params[part] for part in ("embeddings", network, f"{network}_head")}
    found = tensor_map.unflatten(back)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_pair_and_its_parts_are_recognised():
    shapes = shapes_of(made.model().params)
    assert google.find(shapes) == google.Found({"generator": "generator", "discriminator": "electra"}, ())
    released = {name: shape for name, shape in shapes.items() if not name.startswith("generator")}
    assert google.find(released).scopes == {"discriminator": "electra"}
    bare = {name: shape for name, shape in released.items() if "predictions" not in name}
    assert google.find(bare).scopes == {"discriminator": "electra"}


def test_a_masked_language_model_is_a_generator_in_the_main_scope():
    shapes = shapes_of(made.masked_language_model().params)
    assert google.find(shapes).scopes == {"generator": "electra"}


def test_one_encoder_with_both_heads_is_both_networks():
    tied = shapes_of(made.masked_language_model().params) | shapes_of(made.model().params)
    tied = {name: shape for name, shape in tied.items() if not name.startswith("generator/")}
    # The head of a generator of half the width says nothing of this encoder.
    found = google.find(tied)
    assert found.scopes == {"discriminator": "electra"}
    assert ("generator_predictions/output_bias", "not part of the two networks") in found.skipped
    tied["generator_predictions/dense/kernel"] = (32, 16)
    assert google.find(tied).scopes == {"generator": "electra", "discriminator": "electra"}


def test_a_generator_with_embeddings_of_its_own_is_left_out_and_said():
    shapes = shapes_of(made.model().params) | {"generator/embeddings/word_embeddings": (64, 16)}
    found = google.find(shapes)
    assert found.scopes == {"discriminator": "electra"}
    assert found.skipped == (("generator", "a generator with embeddings of its own; here the two networks share them"),)


def test_what_else_is_there_is_named():
    shapes = shapes_of(made.model().params) | {"task_specific/cola/logits/kernel": (32, 2)}
    assert google.find(shapes).skipped == (("task_specific/cola/logits/kernel", "not part of the two networks"),)


def test_a_checkpoint_of_something_else_is_refused():
    with pytest.raises(InputError, match=r"has no ELECTRA.*bert/embeddings/word_embeddings"):
        google.find({"bert/embeddings/word_embeddings": (64, 16)})


def test_missing_tensors_and_foreign_parameters_are_named():
    state = google.state_of(made.model().params)
    del state["electra/encoder/layer_0/output/LayerNorm/beta"]
    with pytest.raises(InputError, match="electra/encoder/layer_0/output/LayerNorm/beta"):
        google.network_params(state, "discriminator", "electra", 4)
    params = made.model().params
    params["discriminator"] = params["discriminator"] | {"slopes": np.ones(4)}
    with pytest.raises(InputError, match="discriminator/slopes"):
        google.state_of(params)


def test_heads_are_64_wide_unless_told():
    assert [google.heads_by_rule(size) for size in (32, 64, 256, 768, 1024)] == [1, 1, 4, 12, 16]
    assert google.overrides(256, 4, 1024) == {}
    assert google.overrides(96, 6, 200) == {"num_attention_heads": 6, "intermediate_size": 200}
