import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from electra_jax.pretraining.corruption import (
    SpecialTokens,
    choose_positions,
    choose_positions_again,
    exponential,
    mask_rows,
    num_slots,
    read_rows,
    sample_tokens,
    sample_tokens_by_gumbel,
    sample_unigrams,
    write_tokens,
)

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
SPECIAL = SpecialTokens(pad=PAD, cls=CLS, sep=SEP, mask=MASK)
FIRST_WORD = 5


def one_segment_row(real, length):
    """[CLS], words that are all different, [SEP], then padding; `real` tokens in all."""
    row = np.full(length, PAD, np.int32)
    row[:real] = FIRST_WORD + np.arange(real)
    row[:1] = CLS if real else PAD
    if real > 1:
        row[real - 1] = SEP
    return row


def masked_rows(rows, key=0, *, mask_fraction=0.15, kept_fraction=0.15):
    return jax.tree.map(np.asarray, _masked(jax.random.key(key), rows, mask_fraction, kept_fraction))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _masked(key, rows, mask_fraction, kept_fraction):
    return mask_rows(key, read_rows(rows, SPECIAL), SPECIAL, mask_fraction=mask_fraction, kept_fraction=kept_fraction)


sample = jax.jit(sample_tokens, static_argnums=2)


def fits(observed, probabilities):
    """Whether counts follow a distribution, by the chi-square test; cells with fewer than five expected are pooled."""
    expected = probabilities / probabilities.sum() * observed.sum()
    rare = expected < 5
    assert rare.mean() < 1
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] == 0:
        assert observed[-1] == 0
        observed, expected = observed[:-1], expected[:-1]
    return scipy.stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize(
    ("tokens", "segments", "documents"),
    [
        ([CLS, 7, 8, SEP, 9, SEP, PAD, PAD], [0, 0, 0, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0]),
        ([CLS, 7, 8, SEP, PAD, PAD, PAD, PAD], [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]),
        ([CLS, 7, SEP, 8, 9, 9, 7, SEP], [0, 0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]),
        ([CLS, UNKNOWN, MASK, 8, 9, 9, 7, SEP], [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]),
        # Two token types are all there are, whatever a row holds.
        ([CLS, 7, SEP, 8, SEP, 9, SEP, PAD], [0, 0, 0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 0]),
        ([PAD] * 8, [0] * 8, [0] * 8),
    ],
)
def test_segments_and_documents_follow_from_the_tokens(tokens, segments, documents):
    row = read_rows(jnp.array([tokens]), SPECIAL)
    np.testing.assert_array_equal(row.tokens_BxL, [tokens])
    np.testing.assert_array_equal(row.segments_BxL, [segments])
    np.testing.assert_array_equal(row.document_ids_BxL, [documents])
    assert row.positions_BxL is None
    assert {array.dtype for array in row[:3]} == {jnp.dtype("int32")}


@pytest.mark.parametrize(
    ("tokens", "segments", "documents", "positions"),
    [
        (
            [CLS, 7, SEP, CLS, 8, 9, SEP, PAD],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 2, 2, 2, 2, 0],
            [0, 1, 2, 0, 1, 2, 3, 4],
        ),
        (
            [CLS, 7, SEP, 8, SEP, CLS, 9, SEP, CLS, 5, SEP, 6, SEP, PAD],
            [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0],
            [1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 0],
            [0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3, 4, 5],
        ),
        ([CLS, 7, 8, SEP], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 3]),
        ([PAD] * 4, [0] * 4, [0] * 4, [0, 1, 2, 3]),
    ],
)
def test_each_packed_document_is_read_as_if_it_were_alone(tokens, segments, documents, positions):
    row = read_rows(jnp.array([tokens]), SPECIAL, packed=True)
    np.testing.assert_array_equal(row, [[tokens], [segments], [documents], [positions]])
    assert {array.dtype for array in row} == {jnp.dtype("int32")}
    unpacked = read_rows(jnp.array([tokens]), SPECIAL)
    np.testing.assert_array_equal(unpacked[:3], row[:3])


def test_masks_of_a_packed_row_fall_on_all_its_documents():
    tokens = [CLS, *[7] * 12, SEP, CLS, *[8] * 3, SEP, CLS, *[9] * 9, SEP, *[PAD] * 4]
    masked = masked_rows(np.array([tokens] * 500), mask_fraction=0.3)
    assert (masked.weights_BxM.sum(1) == 9).all()  # 0.3 of 30 real tokens.
    hidden = masked.positions_BxM[masked.weights_BxM > 0]
    counts = np.bincount(hidden, minlength=len(tokens))
    words = np.array(tokens) >= FIRST_WORD
    assert not counts[~words].any()
    assert fits(counts[words], np.ones(24))


def test_special_ids_are_those_of_the_tokenizer():
    other = SpecialTokens(pad=9, cls=0, sep=1, mask=2)
    row = read_rows(jnp.array([[0, 3, 1, 4, 1, 9]]), other)
    np.testing.assert_array_equal(row.segments_BxL, [[0, 0, 0, 1, 1, 0]])
    masked = mask_rows(jax.random.key(0), row, other, mask_fraction=0.5, kept_fraction=0.0)
    np.testing.assert_array_equal(masked.tokens_BxL, [[0, 2, 1, 2, 1, 9]])


@pytest.mark.parametrize("mask_fraction", [0.15, 0.25, 0.4])
def test_counts_are_exact_for_rows_of_every_length(mask_fraction):
    length = 40
    masked = masked_rows(np.stack([one_segment_row(n, length) for n in range(length + 1)]), mask_fraction=mask_fraction)
    slots = num_slots(length, mask_fraction)
    assert masked.positions_BxM.shape == (length + 1, slots)
    for real, weights_M in enumerate(masked.weights_BxM):
        wanted = max(1, min(slots, int(np.round(np.float32(mask_fraction) * np.float32(real)))))
        expected = min(wanted, max(0, real - 2))
        np.testing.assert_array_equal(weights_M, [1] * expected + [0] * (slots - expected))


@pytest.mark.parametrize(
    ("real", "length", "mask_fraction", "count"),
    [
        (10, 128, 0.15, 2),  # 1.5: half to even goes up
        (30, 128, 0.15, 4),  # 4.5: and down
        (3, 128, 0.15, 1),  # 0.45: at least one
        (6, 6, 0.25, 1),  # 1.5, but one slot
        (128, 128, 0.15, 19),
        (512, 512, 0.15, 77),
        (512, 512, 0.25, 128),
        (2, 128, 0.15, 0),  # only [CLS] and [SEP]
        (0, 128, 0.15, 0),
    ],
)
def test_the_number_of_masked_positions_is_google_s(real, length, mask_fraction, count):
    assert masked_rows(one_segment_row(real, length)[None], mask_fraction=mask_fraction).weights_BxM.sum() == count


def test_positions_are_distinct_and_maskable_and_point_at_their_targets():
    rows = np.stack([one_segment_row(n, 40) for n in range(41)] * 5)
    rows[::3, 2] = MASK
    rows[1::3, 3] = UNKNOWN
    masked = masked_rows(rows, mask_fraction=0.4)
    for tokens_L, positions_M, weights_M in zip(rows, masked.positions_BxM, masked.weights_BxM, strict=True):
        assert len(set(positions_M)) == len(positions_M)
        used_M = tokens_L[positions_M[weights_M > 0]]
        assert not set(used_M) & {PAD, CLS, SEP, MASK}
    np.testing.assert_array_equal(masked.targets_BxM, np.take_along_axis(rows, masked.positions_BxM, 1))


def test_unknown_words_are_maskable():
    masked = masked_rows(np.array([[CLS, UNKNOWN, SEP, PAD, PAD, PAD, PAD, PAD]]), kept_fraction=0.0)
    np.testing.assert_array_equal(masked.tokens_BxL, [[CLS, MASK, SEP, PAD, PAD, PAD, PAD, PAD]])


def test_every_pair_of_maskable_positions_is_equally_likely():
    maskable_L = np.array([False, True, True, False, True, True, True, False, True, True, False])
    rows = 30_000
    positions, weights = choose_positions(
        jax.random.key(0), jnp.asarray(np.tile(maskable_L, (rows, 1))), jnp.full(rows, 2), 3
    )
    assert (weights == jnp.array([1.0, 1, 0])).all()
    pairs = np.sort(positions[:, :2], axis=1)
    counts = np.zeros((11, 11))
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    possible = np.triu(np.outer(maskable_L, maskable_L), 1).astype(float)
    assert possible.sum() == 21
    assert fits(counts.ravel(), possible.ravel())


def test_masked_positions_follow_from_the_key():
    rows = np.stack([one_segment_row(64, 64)] * 4)
    first, again, other = masked_rows(rows, 1), masked_rows(rows, 1), masked_rows(rows, 2)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.positions_BxM != other.positions_BxM).any()
    # Rows of a batch are masked independently.
    assert (first.positions_BxM[0] != first.positions_BxM[1]).any()


def test_85_percent_of_masked_positions_show_mask_the_rest_stay():
    rows = np.stack([one_segment_row(128, 128)] * 1000)
    masked = masked_rows(rows)
    used_BxM = masked.weights_BxM > 0
    shown = np.take_along_axis(masked.tokens_BxL, masked.positions_BxM, 1)[used_BxM]
    hidden = shown == MASK
    assert (shown[~hidden] == masked.targets_BxM[used_BxM][~hidden]).all()
    assert abs(hidden.mean() - 0.85) < 5 * np.sqrt(0.85 * 0.15 / hidden.size)
    # Nothing else was touched.
    changed = masked.tokens_BxL != rows
    assert changed.sum() == hidden.sum()
    # Which positions keep their token does not depend on their index.
    kept_rows_BxM = (np.take_along_axis(masked.tokens_BxL, masked.positions_BxM, 1) != MASK)[:, :19]
    assert abs(kept_rows_BxM[:, 0].mean() - 0.15) < 0.06


@pytest.mark.parametrize(("kept_fraction", "shown"), [(0.0, MASK), (1.0, FIRST_WORD + 1)])
def test_kept_fraction_at_its_ends(kept_fraction, shown):
    masked = masked_rows(one_segment_row(3, 8)[None], kept_fraction=kept_fraction)
    np.testing.assert_array_equal(masked.tokens_BxL[0, :4], [CLS, shown, SEP, PAD])
    np.testing.assert_array_equal(masked.weights_BxM, [[1]])
    assert masked.targets_BxM[0, 0] == FIRST_WORD + 1


def test_only_used_slots_are_written():
    tokens = jnp.array([[10, 11, 12, 13], [20, 21, 22, 23]])
    written = write_tokens(
        tokens,
        jnp.array([[2, 0, 1], [3, 2, 0]]),
        jnp.array([[70, 71, 72], [80, 81, 82]]),
        jnp.array([[1.0, 1, 0], [0, 1, 0]]),
    )
    np.testing.assert_array_equal(written, [[71, 11, 70, 13], [20, 21, 81, 23]])


@pytest.mark.parametrize("vocabulary", [7, 128, 129, 1000])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_samples_follow_the_softmax(vocabulary, temperature):
    logits_V = 2 * np.random.default_rng(vocabulary).normal(size=vocabulary).astype(np.float32)

    logits_BxMxV = np.broadcast_to(logits_V, (10, 300, vocabulary))
    draws = np.concatenate([np.ravel(sample(jax.random.key(seed), logits_BxMxV, temperature)) for seed in range(10)])
    weights_V = np.exp(np.float64(logits_V) / temperature)
    assert draws.dtype == np.int32
    assert fits(np.bincount(draws, minlength=vocabulary), weights_V)


def test_slots_draw_apart_from_one_another():
    draws = np.asarray(sample(jax.random.key(0), jnp.zeros((100, 100, 2))))
    for left, right in ((draws[1:], draws[:-1]), (draws[:, 1:], draws[:, :-1])):
        assert abs((left == right).mean() - 0.5) < 0.03


@pytest.mark.parametrize("vocabulary", [7, 128, 129, 300])
def test_one_huge_logit_is_always_drawn(vocabulary):
    chosen = np.arange(vocabulary)
    for huge in (40.0, 1e4, np.inf):
        logits = np.zeros((1, vocabulary, vocabulary), np.float32)
        logits[0, chosen, chosen] = min(huge, 3e38)
        np.testing.assert_array_equal(sample(jax.random.key(0), logits)[0], chosen)


@pytest.mark.parametrize("never", [-np.inf, -1e9, -1e4])
def test_words_without_probability_are_never_drawn(never):
    vocabulary = 300
    rng = np.random.default_rng(0)
    possible_MxV = rng.random((2000, vocabulary)) < 0.05
    possible_MxV[:, 130] |= ~possible_MxV.any(1)
    # Complete blocks, the first and the last word among the impossible ones.
    possible_MxV[:500, :256], possible_MxV[:500, 290] = False, True
    possible_MxV[500:1000, 128:], possible_MxV[500:1000, 3] = False, True
    logits = np.where(possible_MxV, rng.normal(size=possible_MxV.shape), never).astype(np.float32)
    draws = np.asarray(sample(jax.random.key(0), logits[None]))[0]
    assert possible_MxV[np.arange(2000), draws].all()


def test_neighbours_draw_apart_from_one_another_over_all_pairs_of_words():
    logits_V = jnp.linspace(-1.0, 1.0, 8)
    draws = np.asarray(sample(jax.random.key(0), jnp.broadcast_to(logits_V, (200, 200, 8))))
    weights_V = np.exp(np.linspace(-1.0, 1.0, 8))
    for left, right in ((draws[1::2], draws[::2]), (draws[:, 1::2], draws[:, ::2])):
        pairs = np.bincount((8 * left + right).ravel(), minlength=64)
        assert fits(pairs, np.outer(weights_V, weights_V).ravel())


def test_exponential_draws_are_finest_near_zero():
    numbers = np.asarray(exponential(jax.random.bits(jax.random.key(0), (1_000_000,))), np.float64)
    assert scipy.stats.kstest(numbers, "expon").pvalue > 1e-3
    smallest = np.asarray(exponential(jnp.arange(0, 20, 2, dtype=jnp.uint32)), np.float64)
    np.testing.assert_allclose(smallest, (np.arange(10) + 0.5) / 2**31, rtol=1e-6)
    assert exponential(jnp.uint32(2**32 - 1)) == pytest.approx(24 * np.log(2), rel=1e-6)


def test_words_of_probability_one_in_a_thousand_keep_it():
    logits_V = np.log(np.array([0.99] + 10 * [0.001], np.float32))
    draws = np.concatenate(
        [np.ravel(sample(jax.random.key(seed), np.broadcast_to(logits_V, (100, 1000, 11)))) for seed in range(10)]
    )
    assert fits(np.bincount(draws, minlength=11), np.exp(np.float64(logits_V)))


def test_bfloat16_logits_are_sampled_in_float32():
    # Times of 1000 entries in bfloat16 would often be equal, and the first of them would be drawn.
    draws = np.ravel(sample(jax.random.key(0), jnp.zeros((10, 1000, 1000), jnp.bfloat16)))
    assert fits(np.bincount(draws // 10, minlength=100), np.ones(100))


# The smallest and the largest number that `jax.random.uniform` gives.
SMALLEST, LARGEST = 0.0, 1 - 2**-23


def test_unigrams_follow_their_counts():
    counts = np.random.default_rng(0).integers(0, 50, 200)
    counts[[0, 1, 57, 198, 199]] = 0
    draws = np.asarray(sample_unigrams(jax.random.key(0), jnp.asarray(counts), (100, 300)))
    assert draws.dtype == np.int32
    assert fits(np.bincount(draws.ravel(), minlength=200), counts)


@pytest.mark.parametrize(("uniform", "word"), [(SMALLEST, 2), (LARGEST, 4)])
def test_ends_of_the_uniform_give_the_first_and_last_word(monkeypatch, uniform, word):
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, uniform))
    draws = sample_unigrams(jax.random.key(0), jnp.array([0, 0, 3, 0, 1, 0, 0]), (1,))
    np.testing.assert_array_equal(draws, [word])


def test_words_that_never_occur_are_never_drawn_from_a_large_corpus(monkeypatch):
    # Above 2^24 words, float32 sums round: a threshold near every sum finds words whose interval is due to rounding.
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50_000, 30_522) * (rng.random(30_522) < 0.5)
    ends = np.cumsum(counts) / counts.sum()
    uniforms = (ends[:, None] + 2.0**-24 * np.arange(-4, 5)).clip(0, 1 - 2**-24).astype(np.float32)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.asarray(uniforms))
    draws = np.asarray(sample_unigrams(jax.random.key(0), jnp.asarray(counts), uniforms.shape))
    assert (counts[draws] > 0).all()


# Expected results of drawing with replacement in full rows of [CLS] … [SEP]: unique positions among the draws, the share
# of those drawn twice or more, and the share that shows [MASK]; by n(1 - (1 - 1/n)^k) and similar formulas.
@pytest.mark.parametrize(
    ("length", "fraction", "draws", "unique", "repeated", "shown"),
    [(128, 0.15, 19, 17.7, 0.071, 0.859), (512, 0.25, 128, 113.3, 0.120, 0.866)],
)
def test_googles_masking_draws_some_positions_twice(length, fraction, draws, unique, repeated, shown):
    count = 256_000 // length
    rows = np.tile(one_segment_row(length, length), (count, 1))
    masked = jax.jit(
        lambda key: mask_rows(
            key, read_rows(rows, SPECIAL), SPECIAL, mask_fraction=fraction, kept_fraction=0.15, with_replacement=True
        )
    )(jax.random.key(0))
    assert (masked.weights_BxM.sum(1) == draws).all()
    np.testing.assert_array_equal(masked.targets_BxM, np.take_along_axis(rows, np.asarray(masked.positions_BxM), 1))
    counts = [np.unique(row[:draws], return_counts=True)[1] for row in np.asarray(masked.positions_BxM)]
    assert np.mean([len(count) for count in counts]) == pytest.approx(unique, rel=0.01)
    assert np.mean(np.concatenate(counts) > 1) == pytest.approx(repeated, abs=0.005)
    hidden = np.asarray(masked.tokens_BxL) == MASK
    assert hidden.sum() / sum(map(len, counts)) == pytest.approx(shown, abs=0.005)
    assert (np.asarray(masked.tokens_BxL)[~hidden] == rows[~hidden]).all()


def test_draws_with_replacement_are_maskable_and_uniform():
    maskable = jnp.array([[False, True, True, False, True]])
    positions, weights = choose_positions_again(jax.random.key(0), maskable, jnp.array([2]), 3000)
    assert weights.tolist() == [[1.0, 1.0, *[0.0] * 2998]]
    assert fits(np.bincount(np.asarray(positions)[0], minlength=5), np.array([0, 1, 1, 0, 1]))


def test_position_drawn_twice_gets_the_mean_token_rounded_down():
    tokens = jnp.array([[CLS, 10, 11, 12, SEP], [CLS, 20, 21, 22, SEP]])
    positions = jnp.array([[2, 1, 2, 3], [3, 3, 3, 1]])
    written = jnp.array([[100, 50, 103, 99], [30, 31, 33, 7]])
    weights = jnp.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    found = write_tokens(tokens, positions, written, weights, with_replacement=True)
    assert found.tolist() == [[CLS, 50, 101, 12, SEP], [CLS, 7, 21, 31, SEP]]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gumbel_samples_follow_the_softmax_of_likely_words(temperature):
    logits = jnp.array([0.0, 1.0, -1.0, 2.0])
    drawn = sample_tokens_by_gumbel(jax.random.key(0), jnp.tile(logits, (1, 20_000, 1)), temperature)
    expected = np.exp(np.array([0.0, 1.0, -1.0, 2.0]) / temperature)
    assert fits(np.bincount(np.asarray(drawn).ravel(), minlength=4), expected)


@pytest.mark.parametrize(("uniform", "noise"), [(0.0, -3.0314), (1.0 - 2**-24, 16.6181)])
def test_googles_constants_cut_the_noise_off(monkeypatch, uniform, noise):
    """-log(-log(1e-9) + 1e-9) at the lower end; -log(2^-24 + 1e-9) at the upper one, in float32."""
    level = {}
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, uniform).at[..., 1].set(0.5))
    for gap in (noise - 0.3665 - 1.0, noise - 0.3665 + 1.0):
        # The second word's noise is -log(-log(0.5)) = 0.3665; the first wins while its logit makes up for the difference.
        level[gap] = int(sample_tokens_by_gumbel(None, jnp.array([[[0.0, gap]]]))[0, 0])
    assert list(level.values()) == [0, 1]
