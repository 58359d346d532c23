"""What the networks of a model say, and whether its arrays have the sizes that it states."""

import dataclasses

import numpy as np

from electra_jax.interop import model as models
from tests.interop import made, peer


def test_outputs_are_those_of_the_trained_modules():
    tokens, segments, _ = peer.rows(peer.TINY, 20)
    inputs = tokens[:1], segments[:1], np.ones_like(tokens[:1])
    ours = models.outputs(made.model(), *inputs[:2])
    generator, discriminator = peer.our_logits(peer.TINY_PAIR, made.model().params, inputs)
    np.testing.assert_allclose(ours["generator"], generator, atol=1e-5)
    np.testing.assert_allclose(ours["discriminator"], discriminator, atol=1e-5)


def test_a_network_without_head_says_its_hidden_states():
    tokens, segments, _ = peer.rows(peer.TINY, 20)
    found = models.outputs(made.discriminator_alone(), tokens, segments)
    assert {name: array.shape for name, array in found.items()} == {"discriminator": (3, 20, 32)}


def test_shapes_are_compared_with_the_sizes_and_heads_may_be_missing():
    assert models.shape_problems(made.model()) == []
    assert models.shape_problems(made.discriminator_alone()) == []
    wrong = dataclasses.replace(made.model(), generator=dataclasses.replace(peer.TINY_PAIR[1], layers=3))
    assert "generator/layers/attention/key/bias: found shape [2, 2, 8], expected [3, 2, 8]" in models.shape_problems(
        wrong
    )
    model = made.model()
    del model.params["generator"]
    assert any("is missing" in problem for problem in models.shape_problems(model))


def test_sizes_leave_out_what_belongs_to_the_machine():
    fields = models.sizes_as_fields(dataclasses.replace(peer.TINY, unrolled_layers=2))
    assert fields.keys().isdisjoint({"dtype", "unrolled_layers"})
    assert type(peer.TINY)(**fields) == peer.TINY
