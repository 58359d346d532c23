"""Rows of a microbatch draw what they would have drawn in the full batch."""

import functools

import jax
import numpy as np
import pytest

from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.layers import dropout_bits
from electra_jax.pretraining import corruption

KEY = jax.random.key(3)
SPECIAL = corruption.SpecialTokens(pad=0, cls=2, sep=3, mask=4)


def rows():
    tokens_BxL = np.random.default_rng(0).integers(5, 300, (12, 24), dtype=np.int32)
    tokens_BxL[:, 0], tokens_BxL[:, 20] = 2, 3
    tokens_BxL[::2, 21:] = 0
    return tokens_BxL


def logits():
    return np.random.default_rng(1).normal(size=(12, 5, 300)).astype(np.float32)


def masked(tokens_BxL, microbatch=WHOLE_BATCH, with_replacement=False):
    return corruption.mask_rows(
        KEY,
        corruption.read_rows(tokens_BxL, SPECIAL),
        SPECIAL,
        mask_fraction=0.3,
        kept_fraction=0.3,
        with_replacement=with_replacement,
        microbatch=microbatch,
    )


@pytest.mark.parametrize(
    ("draw", "inputs"),
    [
        pytest.param(masked, rows(), id="masks"),
        pytest.param(functools.partial(masked, with_replacement=True), rows(), id="masks with replacement"),
        pytest.param(functools.partial(corruption.sample_tokens, KEY), logits(), id="samples"),
        pytest.param(functools.partial(corruption.sample_tokens_by_gumbel, KEY), logits(), id="Gumbel samples"),
        pytest.param(lambda inputs, **rows: dropout_bits(KEY, inputs.shape, **rows), logits(), id="dropout"),
    ],
)
@pytest.mark.parametrize("count", [2, 3, 12])
def test_microbatches_draw_as_the_full_batch(draw, inputs, count):
    @jax.jit
    def part(number, inputs):
        return draw(inputs, microbatch=Microbatch(number, count))

    full = draw(inputs)
    for number in range(count):
        found = part(number, inputs[number::count])
        jax.tree.map(
            lambda all_rows, own, first=number: np.testing.assert_array_equal(all_rows[first::count], own), full, found
        )
