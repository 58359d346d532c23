"""The kernels of attention, run by JAX's interpreter, against the plain implementation."""

import dataclasses

import numpy as np
import pytest

from electra_jax.config import schema, shared
from electra_jax.errors import InputError
from electra_jax.models.attention import IMPLEMENTATIONS, choose_implementation
from electra_jax.models.attention_kernel import fits
from electra_jax.models.encoder import SAVED_ACTIVATIONS
from tests.models.attention_cases import assert_equal, attended_in_microbatches, outcome, prepared
from tests.running import run_program


@pytest.mark.parametrize(
    ("heads", "head_size", "length", "rate"),
    [(2, 64, 256, 0.0), (1, 64, 128, 0.1), (8, 32, 128, 0.3), (2, 128, 128, 0.1)],
)
def test_fused_kernel_equals_plain_attention_with_dropout(heads, head_size, length, rate):
    module, *rest = prepared(heads, head_size, length, rate)
    fused = dataclasses.replace(module, implementation="fused", interpret=True)
    assert_equal(outcome(fused, *rest), outcome(module, *rest))


def test_splash_attention_equals_plain_attention():
    module, *rest = prepared(2, 64, 128, 0.0, rows=2)
    splash = dataclasses.replace(module, implementation="splash", interpret=True)
    assert_equal(outcome(splash, *rest), outcome(module, *rest))


@pytest.mark.parametrize("implementation", ["plain", "fused"])
def test_microbatches_drop_what_the_full_batch_drops(implementation):
    module, *rest = prepared(2, 64, 128, 0.3)
    implemented = dataclasses.replace(module, implementation=implementation, interpret=True)
    np.testing.assert_allclose(
        attended_in_microbatches(implemented, *rest, 2), outcome(module, *rest)["attended"], atol=2e-5
    )


@pytest.mark.slow
def test_kernels_on_a_mesh_equal_plain_attention_on_one_device():
    printed = run_program("tests.models.programs.attention_on_a_mesh", devices=4)
    assert printed.count("fused") == printed.count("splash") == 2


def test_unsupported_rows_fall_back_to_plain_attention():
    assert not fits(2, 64, 96)
    module, *rest = prepared(2, 64, 96, 0.1)
    assert_equal(outcome(dataclasses.replace(module, implementation="fused"), *rest), outcome(module, *rest))


@pytest.mark.parametrize(
    ("platform", "heads", "length", "rate", "bias", "expected"),
    [
        ("cpu", 12, 128, 0.1, "none", "plain"),
        ("tpu", 12, 128, 0.1, "none", "fused"),
        ("tpu", 12, None, 0.1, "none", "fused"),
        ("tpu", 12, 128, 0.1, "distance_decay", "plain"),
        ("tpu", 3, 128, 0.1, "none", "plain"),  # A pair of heads and half a pair.
        ("tpu", 12, 2048, 0.1, "none", "plain"),  # Splash attention would drop nothing.
        ("tpu", 12, 2048, 0.0, "none", "splash"),
        ("gpu", 12, 512, 0.1, "none", "plain"),
        ("gpu", 12, 512, 0.0, "none", "cudnn"),
    ],
)
def test_automatic_choice_drops_no_feature_of_the_config(platform, heads, length, rate, bias, expected):
    assert choose_implementation("auto", platform, heads, 64, length=length, dropout_rate=rate, bias=bias) == expected


def test_config_choices_are_those_of_the_models():
    # The schema repeats them, since it does not import JAX.
    choices = {field.name: field.setting.range.choices for field in schema.fields_of(shared.ComputationFields)}
    assert choices["attention"] == ("auto", *IMPLEMENTATIONS)
    assert choices["saved_activations"] == tuple(SAVED_ACTIVATIONS)


@pytest.mark.parametrize(
    ("name", "platform", "length", "rate", "bias", "messages"),
    [
        ("fused", "cpu", 128, 0.1, "none", ["fused runs only on tpu", "found cpu"]),
        ("fused", "tpu", 96, 0.1, "none", ["rows of 96 tokens"]),
        ("splash", "tpu", 2048, 0.1, "none", ["no dropout on attention", "attention_dropout_rate=0", "is 0.1"]),
        ("splash", "tpu", 200, 0.0, "none", ["multiple of 128", "found 200"]),
        ("cudnn", "gpu", 512, 0.1, "distance_decay", ["attention_dropout_rate=0", "attention_bias=none"]),
    ],
)
def test_unsupported_implementation_names_all_reasons(name, platform, length, rate, bias, messages):
    with pytest.raises(InputError) as raised:
        choose_implementation(name, platform, 12, 64, length=length, dropout_rate=rate, bias=bias)
    for text in messages:
        assert text in str(raised.value)
