import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models.attention import SelfAttention, distance_decay

# Two documents and padding in the first row, one document and more padding in the second.
DOCUMENTS_BxL = np.array([[1, 1, 1, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]], np.int32)


def attention(bias="none", dtype=jnp.float32):
    """A module of two heads and its parameters, with random biases so that none can be missed."""
    module = SelfAttention(2, 3, 0.5, nn.initializers.zeros, bias, dtype)
    hidden_BxLxD = np.random.default_rng(0).normal(size=(2, 8, 5)).astype(np.float32)
    params = nn.unbox(module.init(jax.random.key(0), hidden_BxLxD, DOCUMENTS_BxL, deterministic=True))["params"]
    rng = np.random.default_rng(1)
    drawn = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    params = drawn | {name: params[name] for name in ("slopes",) if name in params}
    return module, params, hidden_BxLxD


def attend(module, params, hidden_BxLxD):
    return np.asarray(module.apply({"params": params}, hidden_BxLxD, DOCUMENTS_BxL, deterministic=True))


def numpy_attention(params, hidden_LxD, documents_L, slopes):
    """Attention of one position at a time, over the positions that it attends to."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    outputs_LxD = np.zeros(hidden_LxD.shape)
    for here in range(len(hidden_LxD)):
        seen = [there for there in range(len(hidden_LxD)) if documents_L[there] == documents_L[here] > 0]
        outputs_LxD[here] = params["output"]["bias"]
        for head in range(2):
            query, key, value = (
                hidden_LxD @ params[name]["kernel"][:, head] + params[name]["bias"][head]
                for name in ("query", "key", "value")
            )
            scores = np.array(
                [query[here] @ key[there] / np.sqrt(3) - slopes[head] * abs(here - there) for there in seen]
            )
            weights = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            outputs_LxD[here] += weights @ value[seen] @ params["output"]["kernel"][head]
    return outputs_LxD


@pytest.mark.parametrize(("bias", "slopes"), [("none", (0, 0)), ("distance_decay", (1, 0.5))])
def test_attention_equals_a_plain_one(bias, slopes):
    module, params, hidden_BxLxD = attention(bias)
    outputs_BxLxD = attend(module, params, hidden_BxLxD)
    for row, documents_L in enumerate(DOCUMENTS_BxL):
        real_L = documents_L > 0
        expected_LxD = numpy_attention(params, hidden_BxLxD[row][real_L], documents_L[real_L], slopes)
        np.testing.assert_allclose(outputs_BxLxD[row][real_L], expected_LxD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", ["none", "distance_decay"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_padding_and_other_documents_change_no_bit(bias, dtype):
    module, params, hidden_BxLxD = attention(bias, dtype)
    before = attend(module, params, hidden_BxLxD)
    for changed in (0, 2):
        other_BxLxD = np.where(DOCUMENTS_BxL[..., None] == changed, 100 * hidden_BxLxD + 7, hidden_BxLxD)
        after = attend(module, params, other_BxLxD)
        untouched_BxL = (DOCUMENTS_BxL != changed) & (DOCUMENTS_BxL > 0)
        np.testing.assert_array_equal(after[untouched_BxL], before[untouched_BxL])
    assert not np.array_equal(after[DOCUMENTS_BxL == 2], before[DOCUMENTS_BxL == 2])


def test_every_position_of_a_document_reaches_every_other():
    module, params, hidden_BxLxD = attention()
    before = attend(module, params, hidden_BxLxD)
    for position in range(5):
        other_BxLxD = hidden_BxLxD.copy()
        other_BxLxD[1, position] += 1
        assert (attend(module, params, other_BxLxD)[1, :5] != before[1, :5]).any(-1).all()


def test_distance_decay_falls_with_the_distance_on_both_sides():
    expected_LxL = np.array([[0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1], [3, 2, 1, 0]])
    bias_HxLxL = distance_decay(jnp.array([1.0, 0.25]), 4)
    np.testing.assert_array_equal(bias_HxLxL, [-expected_LxL, -0.25 * expected_LxL])


def test_slopes_start_at_one_half_one_quarter():
    module = SelfAttention(4, 2, 0.0, nn.initializers.zeros, "distance_decay")
    arguments = jnp.ones((1, 2, 4)), jnp.ones((1, 2), jnp.int32)
    params = nn.unbox(module.init(jax.random.key(0), *arguments, deterministic=True))["params"]
    np.testing.assert_array_equal(params["slopes"], [1, 0.5, 0.25, 0.125])


def test_electra_has_no_slopes():
    assert set(attention("none")[1]) == {"query", "key", "value", "output"}


def equations(jaxpr):
    """All equations of a jaxpr, those of its inner jaxprs too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            if inner := getattr(value, "jaxpr", value if hasattr(value, "eqns") else None):
                yield from equations(inner)


def test_softmax_is_float32_under_bfloat16():
    module, params, hidden_BxLxD = attention(dtype=jnp.bfloat16)
    apply = lambda hidden: module.apply({"params": params}, hidden, DOCUMENTS_BxL, deterministic=True)  # noqa: E731
    traced = list(equations(jax.make_jaxpr(apply)(hidden_BxLxD).jaxpr))
    softmax = [e for e in traced if e.primitive.name in ("exp", "reduce_max", "div") and e.invars[0].aval.ndim == 4]
    assert {e.primitive.name for e in softmax} == {"exp", "reduce_max", "div"}
    assert {e.invars[0].aval.dtype for e in softmax} == {jnp.dtype("float32")}
    assert jax.eval_shape(apply, hidden_BxLxD).dtype == jnp.bfloat16


def test_scores_are_float32_under_bfloat16():
    module, params, hidden_BxLxD = attention(dtype=jnp.bfloat16)
    apply = lambda hidden: module.apply({"params": params}, hidden, DOCUMENTS_BxL, deterministic=True)  # noqa: E731
    products = [e for e in equations(jax.make_jaxpr(apply)(hidden_BxLxD).jaxpr) if e.primitive.name == "dot_general"]
    scores = [e.outvars[0].aval for e in products if e.outvars[0].aval.shape == (2, 2, 8, 8)]
    assert [aval.dtype for aval in scores] == [jnp.dtype("float32")]
