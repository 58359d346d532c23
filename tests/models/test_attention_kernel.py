"""The kernels of attention, run by JAX's interpreter, against the plain implementation."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax import config as configs
from electra_jax.errors import InputError
from electra_jax.models.attention import IMPLEMENTATIONS, SelfAttention, choose_implementation
from electra_jax.models.attention_kernel import fits
from electra_jax.models.draws import Microbatch
from electra_jax.models.encoder import SAVED_ACTIVATIONS
from electra_jax.training import partitioning


def documents(rows, length):
    """Two documents, then padding of another length in each row."""
    ids_BxL = np.ones((rows, length), np.int32)
    ids_BxL[:, length // 3 :] = 2
    for row in range(rows):
        ids_BxL[row, length - 7 * row :] = 0
    return ids_BxL


def outcome(module, params, hidden_BxLxD, ids_BxL):
    """The attended values where there is text, and gradients of a weighting of them."""
    rng = np.random.default_rng(2)
    real_BxLx1 = (ids_BxL > 0)[..., None]
    weights_BxLxD = (rng.normal(size=hidden_BxLxD.shape) * real_BxLx1).astype(np.float32)

    def weighted(params, hidden_BxLxD):
        attended_BxLxD = module.apply(
            {"params": params}, hidden_BxLxD, ids_BxL, deterministic=False, rngs={"dropout": jax.random.key(5)}
        )
        return jnp.sum(attended_BxLxD * weights_BxLxD), attended_BxLxD * real_BxLx1

    gradients, attended = jax.jit(jax.grad(weighted, (0, 1), has_aux=True))(params, hidden_BxLxD)
    return jax.tree.map(np.asarray, {"attended": attended, "gradients": gradients})


def prepared(heads, head_size, length, rate, rows=4):
    module = SelfAttention(heads, head_size, rate, nn.initializers.normal(0.2))
    hidden_BxLxD = np.random.default_rng(0).normal(size=(rows, length, 48)).astype(np.float32)
    ids_BxL = documents(rows, length)
    params = nn.unbox(module.init(jax.random.key(0), hidden_BxLxD, ids_BxL, deterministic=True))["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)
    return module, params, hidden_BxLxD, ids_BxL


def assert_equal(one, other, tolerance=2e-6):
    # Against the largest of all: the keys' bias, which no softmax sees, has gradients of rounding errors alone.
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a / scale, b / scale, atol=tolerance), one, other)


@pytest.mark.parametrize(
    ("heads", "head_size", "length", "rate"),
    [(4, 64, 128, 0.1), (2, 64, 256, 0.0), (1, 64, 128, 0.1), (8, 32, 128, 0.3), (2, 128, 128, 0.1)],
)
def test_the_fused_kernel_gives_values_and_gradients_of_plain_attention_dropout_included(
    heads, head_size, length, rate
):
    module, *rest = prepared(heads, head_size, length, rate)
    fused = dataclasses.replace(module, implementation="fused", interpret=True)
    assert_equal(outcome(fused, *rest), outcome(module, *rest))


def test_splash_attention_gives_values_and_gradients_of_plain_attention():
    module, *rest = prepared(2, 64, 128, 0.0, rows=2)
    splash = dataclasses.replace(module, implementation="splash", interpret=True)
    assert_equal(outcome(splash, *rest), outcome(module, *rest))


def attended_in_parts(module, params, hidden_BxLxD, ids_BxL, count):
    """What a module says of a batch in parts, put together again."""

    @jax.jit
    def part(number, hidden, ids):
        rows = dict(deterministic=False, microbatch=Microbatch(number, count))
        return module.apply({"params": params}, hidden, ids, **rows, rngs={"dropout": jax.random.key(5)})

    attended_BxLxD = np.empty_like(hidden_BxLxD)
    for number in range(count):
        own = slice(number, None, count)
        attended_BxLxD[own] = part(number, hidden_BxLxD[own], ids_BxL[own]) * (ids_BxL[own] > 0)[..., None]
    return attended_BxLxD


@pytest.mark.parametrize("implementation", ["plain", "fused"])
def test_parts_of_a_batch_drop_what_the_whole_batch_drops(implementation):
    module, *rest = prepared(2, 64, 128, 0.3)
    in_parts = dataclasses.replace(module, implementation=implementation, interpret=True)
    np.testing.assert_allclose(attended_in_parts(in_parts, *rest, 2), outcome(module, *rest)["attended"], atol=2e-5)


def compare_on_four_devices():
    module, *rest = prepared(4, 64, 128, 0.1, rows=8)
    kernel = dataclasses.replace(module, implementation="fused", interpret=True)
    with partitioning.placed_on(partitioning.make_mesh((2, 1, 2)), "fsdp_tp"):
        parts = attended_in_parts(kernel, *rest, 2)
    np.testing.assert_allclose(parts, outcome(module, *rest)["attended"], atol=2e-5)
    for implementation, rate in (("fused", 0.1), ("splash", 0.0)):
        module, *rest = prepared(4, 64, 128, rate)
        kernel = dataclasses.replace(module, implementation=implementation, interpret=True)
        expected = outcome(module, *rest)
        for sizes in ((4, 1, 1), (1, 2, 2)):
            with partitioning.placed_on(partitioning.make_mesh(sizes), "fsdp_tp"):
                assert_equal(outcome(kernel, *rest), expected)
            print(implementation, sizes)


@pytest.mark.slow
def test_kernels_on_a_mesh_give_what_plain_attention_gives_on_one_device():
    script = "import test_attention_kernel; test_attention_kernel.compare_on_four_devices()"
    environment = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "PYTHONPATH": os.pathsep.join([os.getcwd(), str(pathlib.Path(__file__).parent)]),
    }
    run = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.count("fused") == run.stdout.count("splash") == 2, run.stderr[-3000:]


def test_rows_that_the_kernel_cannot_have_are_left_to_plain_attention():
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
def test_the_automatic_choice_never_gives_up_what_the_config_says(platform, heads, length, rate, bias, expected):
    assert choose_implementation("auto", platform, heads, 64, length=length, dropout_rate=rate, bias=bias) == expected


def test_the_config_offers_what_the_models_have():
    # `config.py` says them again, as it does without JAX.
    assert configs.CHOICES["model.attention"] == ("auto", *IMPLEMENTATIONS)
    assert configs.CHOICES["model.saved_activations"] == tuple(SAVED_ACTIVATIONS)


@pytest.mark.parametrize(
    ("name", "platform", "length", "rate", "bias", "said"),
    [
        ("fused", "cpu", 128, 0.1, "none", ["fused runs on tpu alone", "this is a cpu"]),
        ("fused", "tpu", 96, 0.1, "none", ["rows of 96 tokens"]),
        ("splash", "tpu", 2048, 0.1, "none", ["no dropout on attention", "attention_dropout_rate=0", "is 0.1"]),
        ("splash", "tpu", 200, 0.0, "none", ["multiple of 128", "these have 200"]),
        ("cudnn", "gpu", 512, 0.1, "distance_decay", ["attention_dropout_rate=0", "attention_bias=none"]),
    ],
)
def test_an_implementation_that_cannot_do_what_is_asked_says_all_that_is_in_its_way(
    name, platform, length, rate, bias, said
):
    with pytest.raises(InputError) as raised:
        choose_implementation(name, platform, 12, 64, length=length, dropout_rate=rate, bias=bias)
    for text in said:
        assert text in str(raised.value)
