"""Our networks against the installed transformers: the same weights give the same logits.

The three sizes have their real widths, heads and embedding sizes; depth, vocabulary and rows are cut to be quick.
"""

import dataclasses

import jax
import numpy as np
import pytest

from electra_jax.configs import base, large, small
from electra_jax.interop import huggingface
from electra_jax.pretraining.jobs import pretraining_job
from tests.configs import typed
from tests.interop import peer

pytestmark = pytest.mark.interop

TOLERANCE = 1e-5


def pair_of(preset, layers=2, vocabulary_size=1000):
    """The (discriminator, generator) configs of a preset, cut."""
    job = pretraining_job(typed(preset.get_config()), None, "cpu")
    cut = dict(layers=layers, vocabulary_size=vocabulary_size, positions=64)
    return tuple(dataclasses.replace(config, **cut) for config in (job.encoder, job.generator))


PAIRS = {
    "small": lambda: pair_of(small),
    "base": lambda: pair_of(base),
    "large": lambda: pair_of(large),
    "small at full depth": lambda: pair_of(small, layers=12, vocabulary_size=30_522),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]()


def test_transformers_repeats_logits_of_our_weights(pair):
    params = peer.random_params(pair)
    generator, discriminator = peer.huggingface_models(pair)
    peer.set_state(generator, huggingface.generator_state(params))
    peer.set_state(discriminator, huggingface.discriminator_state(params))
    inputs = peer.rows(pair[0], length=48)
    theirs = peer.huggingface_logits((generator, discriminator), inputs)
    difference = peer.largest_difference(peer.our_logits(pair, params, inputs), theirs, inputs)
    print(f"largest difference {difference:.1e}, largest logits {[float(abs(logits).max()) for logits in theirs]}")
    assert difference < TOLERANCE


def test_we_repeat_logits_of_transformers_weights(pair):
    models = peer.huggingface_models(pair, seed=1)
    states = [peer.get_state(model) for model in models]
    params = huggingface.params_from_huggingface(*states, **peer.heads(pair))
    inputs = peer.rows(pair[0], length=48, seed=1)
    ours = peer.our_logits(pair, params, inputs)
    difference = peer.largest_difference(ours, peer.huggingface_logits(models, inputs), inputs)
    print(f"largest difference {difference:.1e}")
    assert difference < TOLERANCE

    back = [huggingface.generator_state(params), huggingface.discriminator_state(params)]
    assert [list(state) for state in map(sorted, back)] == [list(state) for state in map(sorted, states)]
    jax.tree.map(np.testing.assert_array_equal, back, states)


def test_transformers_still_computes_golden_logits():
    *states, inputs, golden = peer.load_golden()
    models = peer.huggingface_models(peer.TINY_PAIR)
    for model, state in zip(models, states, strict=True):
        peer.set_state(model, state)
    assert peer.largest_difference(peer.huggingface_logits(models, inputs), golden, inputs) < 1e-6


def test_config_has_only_fields_of_transformers():
    from transformers import ElectraConfig

    fields = huggingface.huggingface_config(peer.TINY)
    assert fields.items() <= ElectraConfig(**fields).to_dict().items()
    assert fields.keys() <= ElectraConfig().to_dict().keys()
