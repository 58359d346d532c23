"""Answer heads: against plain formulas, against a search of every span, and on short rows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models.answer_heads import JointAnswerHead, SpanHead

B, L, D = 2, 7, 6


@pytest.fixture
def hidden_BxLxD():
    return jax.random.normal(jax.random.key(1), (B, L, D))


@pytest.fixture
def batch():
    # The last two positions of the second row are padding.
    return {
        "allowed": jnp.array([[1, 0, 0, 1, 1, 1, 0], [1, 0, 1, 1, 0, 0, 0]], jnp.int32),
        "start": jnp.array([4, 2], jnp.int32),
    }


@pytest.fixture
def made(quick_jit):
    """The head's parameters, with nonzero biases."""

    def make(head, hidden_BxLxD, batch):
        init = quick_jit(lambda: nn.unbox(head.init(jax.random.key(0), hidden_BxLxD, batch, deterministic=True)))
        rng = np.random.default_rng(0)
        return jax.tree.map(lambda leaf: np.float32(leaf + 0.1 * rng.normal(size=leaf.shape)), init()["params"])

    return make


@pytest.fixture
def run(quick_jit):
    """The head's outputs."""

    def apply(head, params, hidden_BxLxD, batch, deterministic=True):
        program = quick_jit(
            lambda params: head.apply({"params": params}, hidden_BxLxD, batch, deterministic=deterministic)
        )
        return {name: np.array(array) for name, array in program(params).items()}

    return apply


def plain_pair(params, first, second):
    """Google's formula: both vectors concatenated, one kernel of 2 D."""
    kernel = params["kernel"].reshape(2 * D, -1)
    inner = nn.gelu(jnp.concatenate([first, second], -1) @ kernel + params["bias"], approximate=False)
    return (inner @ params["score_kernel"] + params["score_bias"])[..., 0]


def plain_starts(params, hidden_BxLxD, batch):
    logits_BxL = (hidden_BxLxD @ params["start"]["kernel"] + params["start"]["bias"])[..., 0]
    return logits_BxL - 1000 * (1 - batch["allowed"])


def plain_ends(params, hidden_BxLxD, batch, start):
    """End logits of each row given its start, [B, L]."""
    start_BxLxD = jnp.broadcast_to(hidden_BxLxD[jnp.arange(B), start][:, None], hidden_BxLxD.shape)
    return plain_pair(params["end"], start_BxLxD, hidden_BxLxD) - 1000 * (1 - batch["allowed"])


def test_joint_head_equals_one_on_concatenated_vectors(hidden_BxLxD, batch, made, run):
    head = JointAnswerHead(beams=3)
    params = made(head, hidden_BxLxD, batch)
    outputs = run(head, params, hidden_BxLxD, batch, deterministic=False)
    assert set(outputs) == {"start_logits", "end_logits", "impossible_logits"}
    starts_BxL = plain_starts(params, hidden_BxLxD, batch)
    np.testing.assert_allclose(outputs["start_logits"], starts_BxL, rtol=1e-5, atol=1e-6)
    expected = plain_ends(params, hidden_BxLxD, batch, batch["start"])
    np.testing.assert_allclose(outputs["end_logits"], expected, rtol=1e-5, atol=1e-6)
    summary_BxD = jnp.sum(jax.nn.softmax(starts_BxL)[..., None] * hidden_BxLxD, axis=1)
    expected = plain_pair(params["impossible"], hidden_BxLxD[:, 0], summary_BxD)
    np.testing.assert_allclose(outputs["impossible_logits"], expected, rtol=1e-5, atol=1e-6)


def test_as_many_beams_as_positions_see_every_span(hidden_BxLxD, batch, made, run):
    head = JointAnswerHead(beams=L)
    params = made(head, hidden_BxLxD, batch)
    outputs = run(head, params, hidden_BxLxD, batch)
    starts_BxL = jax.nn.log_softmax(plain_starts(params, hidden_BxLxD, batch))
    for row in range(B):
        assert sorted(outputs["start_ids"][row].tolist()) == list(range(L))
        for beam, start in enumerate(outputs["start_ids"][row].tolist()):
            np.testing.assert_allclose(outputs["start_scores"][row, beam], starts_BxL[row, start], rtol=1e-5)
            ends_L = jax.nn.log_softmax(plain_ends(params, hidden_BxLxD, batch, jnp.full(B, start)))[row]
            found_L = np.zeros(L)
            found_L[np.array(outputs["end_ids"][row, beam])] = outputs["end_scores"][row, beam]
            np.testing.assert_allclose(found_L, ends_L, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", [JointAnswerHead(beams=2), SpanHead(beams=2)])
def test_few_beams_are_the_best_of_all_and_best_first(hidden_BxLxD, batch, made, run, head):
    params = made(head, hidden_BxLxD, batch)
    few = run(head, params, hidden_BxLxD, batch)
    every = run(head.clone(beams=L), params, hidden_BxLxD, batch)
    for name in ("start_ids", "start_scores", "end_ids", "end_scores"):
        kept = every[name][:, :2] if name.startswith("start") or every[name].ndim == 2 else every[name][:, :2, :2]
        np.testing.assert_allclose(few[name], kept, rtol=1e-5, atol=1e-6)
        assert np.all(np.diff(few[name]) <= 0) or name.endswith("ids")


def test_the_best_positions_are_allowed_ones(hidden_BxLxD, batch, made, run):
    for head in (JointAnswerHead(beams=4), SpanHead(beams=4)):
        params = made(head, hidden_BxLxD, batch)
        outputs = run(head, params, 9 * hidden_BxLxD, batch)
        # The first row has four such positions.
        assert sorted(outputs["start_ids"][0].tolist()) == [0, 3, 4, 5]
        for ends in outputs["end_ids"][0].reshape(-1, 4).tolist():
            assert sorted(ends) == [0, 3, 4, 5]


@pytest.mark.parametrize("head", [JointAnswerHead(beams=L + 2), SpanHead(beams=L + 2)])
def test_row_shorter_than_the_beams_is_filled_up_with_cls(hidden_BxLxD, batch, made, run, head):
    outputs = run(head, made(head, hidden_BxLxD, batch), hidden_BxLxD, batch)
    for name in ("start", "end"):
        assert outputs[f"{name}_ids"].shape[-1] == L + 2
        assert not outputs[f"{name}_ids"][..., L:].any()
        assert (outputs[f"{name}_scores"][..., L:] == -1000).all()


def test_span_logits_are_one_linear_layer(hidden_BxLxD, batch, made, run):
    head = SpanHead(beams=2)
    params = made(head, hidden_BxLxD, batch)
    outputs = run(head, params, hidden_BxLxD, batch, deterministic=False)
    assert set(outputs) == {"start_logits", "end_logits"}
    logits = np.array(hidden_BxLxD @ params["output"]["kernel"] + params["output"]["bias"])
    logits -= 1000 * (1 - np.array(batch["allowed"])[..., None])
    np.testing.assert_allclose(outputs["start_logits"], logits[..., 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["end_logits"], logits[..., 1], rtol=1e-5, atol=1e-6)


def test_kernel_halves_are_initialised_like_the_full_kernel(quick_jit):
    hidden_BxLxD, batch = jnp.zeros((1, 1, 100)), {"allowed": jnp.ones((1, 1)), "start": jnp.zeros(1, jnp.int32)}
    head = JointAnswerHead(beams=1)
    init = quick_jit(lambda: nn.unbox(head.init(jax.random.key(0), hidden_BxLxD, batch, deterministic=True)))
    kernel = np.array(init()["params"]["end"]["kernel"])
    bound = np.sqrt(6 / (200 + 512))
    assert kernel.shape == (2, 100, 512)
    assert np.abs(kernel).max() <= bound
    np.testing.assert_allclose(np.std(kernel), bound / np.sqrt(3), rtol=0.01)


def test_no_array_of_pairs_or_of_all_beams_is_built(hidden_BxLxD, batch, made):
    head = JointAnswerHead(beams=3)
    params = {"params": made(head, hidden_BxLxD, batch)}
    program = str(jax.make_jaxpr(lambda params: head.apply(params, hidden_BxLxD, batch, deterministic=True))(params))
    assert f"[{B},{L},512]" in program
    assert f"{L},512]" not in program.replace(f"[{B},{L},512]", "")
    assert f",{2 * D}]" not in program


@pytest.mark.parametrize("head", [JointAnswerHead(beams=2, dtype=jnp.bfloat16), SpanHead(beams=2)])
def test_logits_are_float32_whatever_the_model_computes_in(hidden_BxLxD, batch, head):
    hidden_BxLxD = hidden_BxLxD.astype(jnp.bfloat16)
    outputs, _ = jax.eval_shape(
        lambda: head.init_with_output(jax.random.key(0), hidden_BxLxD, batch, deterministic=True)
    )
    assert {array.dtype.name for name, array in outputs.items() if "ids" not in name} == {"float32"}
