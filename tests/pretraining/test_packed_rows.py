"""Packed documents give the same outputs as each alone in a row, for every network and both objectives."""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models.electra import Electra, MaskedLanguageModel
from electra_jax.models.encoder import EncoderConfig
from electra_jax.pretraining import objectives
from electra_jax.pretraining.corruption import Masked, SpecialTokens, write_tokens
from electra_jax.pretraining.objectives import Objective, electra_loss, electra_metrics, electra_outputs, mlm_outputs

PAD, CLS, SEP, MASK = 0, 2, 3, 4
LENGTH, SLOTS = 24, 7
HIDDEN, READABLE = (7, 11, 16), 11  # Words that are always masked; one of them keeps its token.
DOCUMENTS = [
    [CLS, 7, 8, 9, 10, 11, SEP],
    [CLS, 12, 7, SEP, 13, 16, 14, SEP],  # Two segments.
    [CLS, 15, 16, 8, 7, SEP],
]
ENCODER = EncoderConfig(
    vocabulary_size=20, embedding_size=6, hidden_size=8, layers=2, heads=2, feed_forward_size=16, positions=32,
    dropout_rate=0.0, attention_dropout_rate=0.0,
)  # fmt: skip


def padded(tokens):
    return tokens + [PAD] * (LENGTH - len(tokens))


PACKED_1xL = np.array([padded([*itertools.chain(*DOCUMENTS)])], np.int32)
ALONE_BxL = np.array([padded(document) for document in DOCUMENTS], np.int32)
STARTS = np.cumsum([0, *map(len, DOCUMENTS)])[:-1]


@pytest.fixture
def given(monkeypatch):
    """Masks that depend on the words alone, and samples that depend on the generator alone."""

    def masks(key, row, special, **rates):
        hidden_BxL = jnp.isin(row.tokens_BxL, jnp.array(HIDDEN))
        values, positions_BxM = jax.lax.top_k(hidden_BxL.astype(jnp.float32), SLOTS)
        targets_BxM = jnp.take_along_axis(row.tokens_BxL, positions_BxM, axis=1)
        shown_BxM = jnp.where(targets_BxM == READABLE, targets_BxM, MASK)
        tokens_BxL = write_tokens(row.tokens_BxL, positions_BxM, shown_BxM, values)
        return Masked(tokens_BxL, positions_BxM, targets_BxM, values)

    monkeypatch.setattr(objectives, "mask_rows", masks)
    monkeypatch.setattr(
        objectives, "sample_tokens", lambda key, logits, temperature, microbatch: logits.argmax(-1).astype("int32")
    )


def network(kind, bias):
    """A network and parameters of which none is zero."""
    config = dataclasses.replace(ENCODER, attention_bias=bias)
    model = MaskedLanguageModel(config) if kind == "mlm" else Electra(config, config.scaled(0.5))
    abstract = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)), *[PACKED_1xL] * 4)
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), jnp.float32)  # noqa: E731
    return model, jax.tree.map(draw, nn.unbox(abstract)["params"])


def objective(packed):
    return Objective(SpecialTokens(PAD, CLS, SEP, MASK), packed=packed)


def reader(quick_jit, model, params, packed):
    """A function that returns the outputs of both networks for rows of tokens, on the host."""
    key = jax.random.key(0)
    read = quick_jit(
        lambda tokens_BxL: electra_outputs(model, objective(packed), params, tokens_BxL, key, deterministic=True)
    )
    return lambda tokens_BxL: jax.device_get(read(tokens_BxL))


def by_document(array_1xL):
    """Splits an array of the packed row by document."""
    return [array_1xL[0, start : start + len(document)] for start, document in zip(STARTS, DOCUMENTS, strict=True)]


def slots_by_position(outputs, row):
    """The generator's logits of the used slots, in the order of their positions."""
    used = [slot for slot in range(SLOTS) if outputs.masked.weights_BxM[row, slot] > 0]
    used.sort(key=lambda slot: outputs.masked.positions_BxM[row, slot])
    return outputs.generator_logits_BxMxV[row, used]


@pytest.mark.parametrize("bias", ["none", "distance_decay"])
def test_both_networks_read_packed_documents_as_each_alone(given, quick_jit, bias):
    model, params = network("electra", bias)
    together = reader(quick_jit, model, params, packed=True)(PACKED_1xL)
    alone = reader(quick_jit, model, params, packed=False)(ALONE_BxL)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)

    assert together.masked.weights_BxM.sum() == 6
    close(slots_by_position(together, 0), np.concatenate([slots_by_position(alone, row) for row in range(3)]))
    assert together.replaced_BxL.any()
    for row, document in enumerate(DOCUMENTS):
        size = len(document)
        np.testing.assert_array_equal(by_document(together.corrupted_BxL)[row], alone.corrupted_BxL[row, :size])
        close(by_document(together.discriminator_logits_BxL)[row], alone.discriminator_logits_BxL[row, :size])

    sums, expected = electra_metrics(together), electra_metrics(alone)
    assert sums["discriminator_loss"][1] == sum(map(len, DOCUMENTS))
    for name, metric in sums.items():
        close(metric, expected[name], err_msg=name)


@pytest.mark.parametrize("bias", ["none", "distance_decay"])
def test_mlm_sums_of_packed_documents_are_those_of_each_alone(given, quick_jit, bias):
    model, params = network("mlm", bias)
    together, alone = (
        quick_jit(lambda params, tokens_BxL, packed=packed: mlm_outputs(
            model, objective(packed), params, tokens_BxL, jax.random.key(0), deterministic=True
        )[2])(params, tokens_BxL)
        for tokens_BxL, packed in ((PACKED_1xL, True), (ALONE_BxL, False))
    )  # fmt: skip
    assert together["mlm_loss"][1] == 6
    for name, metric in together.items():
        np.testing.assert_allclose(metric, alone[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_gradients_of_packed_documents_are_those_of_each_alone(given, quick_jit):
    model, params = network("electra", "distance_decay")

    def gradient(tokens_BxL, packed):
        def loss(params):
            settings = objective(packed)
            outputs = electra_outputs(model, settings, params, tokens_BxL, jax.random.key(0), deterministic=True)
            return electra_loss(settings, electra_metrics(outputs))

        return quick_jit(jax.grad(loss))(params)

    together, alone = gradient(PACKED_1xL, packed=True), gradient(ALONE_BxL, packed=False)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(alone))
    # Sums of many terms of both signs, up to `largest`, are rounded.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest), together, alone)


@pytest.mark.parametrize("bias", ["none", "distance_decay"])
def test_other_documents_of_a_row_change_no_bit(given, quick_jit, bias):
    model, params = network("electra", bias)
    read = reader(quick_jit, model, params, packed=True)
    before = read(PACKED_1xL)
    documents_of_slots = np.searchsorted(STARTS, before.masked.positions_BxM[0], side="right") - 1
    used = before.masked.weights_BxM[0] > 0
    for changed, start in enumerate(STARTS):
        other = PACKED_1xL.copy()
        words_L = other[0, start : start + len(DOCUMENTS[changed])]
        # Replaces each word that is not masked, which leaves the masks unchanged.
        words_L[(words_L >= 5) & ~np.isin(words_L, HIDDEN)] = 19
        after = read(other)
        logits = (by_document(outputs.discriminator_logits_BxL) for outputs in (before, after))
        same = [np.array_equal(was, now) for was, now in zip(*logits, strict=True)]
        assert same == [number != changed for number in range(len(DOCUMENTS))]
        same_slots = (before.generator_logits_BxMxV == after.generator_logits_BxMxV)[0].all(-1)
        np.testing.assert_array_equal(same_slots[used], documents_of_slots[used] != changed)
