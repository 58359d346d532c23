"""Corruption of rows: which positions are masked, and which tokens replace them. Pure; keys come from the caller."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from electra_jax.models.draws import WHOLE_BATCH, Microbatch, drawn, scrambled


class SpecialTokens(NamedTuple):
    """Ids of the tokens that structure a row."""

    pad: int
    cls: int
    sep: int
    mask: int


class Row(NamedTuple):
    """A batch of rows: tokens and what follows from them; all int32 [B, L]."""

    tokens_BxL: jax.Array
    segments_BxL: jax.Array  # Token type: 0 up to a document's first [SEP], then 1; 0 on padding.
    document_ids_BxL: jax.Array  # 1, 2, … in the order of the row's documents; 0 on padding.
    positions_BxL: jax.Array | None = None  # Counted from each document's [CLS]; None if equal to the index in the row.


class Masked(NamedTuple):
    """A batch of rows with some positions masked, the generator's input."""

    tokens_BxL: jax.Array  # int32.
    positions_BxM: jax.Array  # int32; distinct within a row.
    targets_BxM: jax.Array  # int32, the original tokens at the positions.
    weights_BxM: jax.Array  # float32, 0 on unused slots, whose position is arbitrary.


def read_rows(tokens_BxL: jax.Array, special: SpecialTokens, *, packed: bool = False) -> Row:
    """Derives segments, documents and positions from the tokens, so that a dataset stores nothing else.

    Args:
      tokens_BxL: int32, any number of documents `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]` in each row, then padding.
      special: ids of the special tokens.
      packed: whether a row may hold several documents, so that positions have to be counted.
    """
    real_BxL = tokens_BxL != special.pad
    begins_BxL = tokens_BxL == special.cls
    separators_BxL = (tokens_BxL == special.sep).astype(jnp.int32)
    # A [SEP] belongs to the segment that it ends.
    ended_BxL = jnp.cumsum(separators_BxL, axis=1) - separators_BxL
    # Neither count ever falls, so the largest one at a [CLS] so far is that at the document's own [CLS].
    ended_before_BxL = jax.lax.cummax(jnp.where(begins_BxL, ended_BxL, 0), axis=1)
    index_BxL = jax.lax.broadcasted_iota(jnp.int32, tokens_BxL.shape, 1)
    begin_BxL = jax.lax.cummax(jnp.where(begins_BxL, index_BxL, 0), axis=1)
    return Row(
        tokens_BxL,
        jnp.where(real_BxL, jnp.minimum(ended_BxL - ended_before_BxL, 1), 0),
        jnp.where(real_BxL, jnp.cumsum(begins_BxL.astype(jnp.int32), axis=1), 0),
        index_BxL - begin_BxL if packed else None,
    )


def num_slots(length: int, mask_fraction: float | jax.Array) -> int:
    """M, the number of slots for masked positions in a row of `length`; Google's `max_predictions_per_seq`."""
    return int((mask_fraction + 0.005) * length)


def choose_positions(
    key: jax.Array,
    maskable_BxL: jax.Array,
    counts_B: jax.Array,
    slots: int,
    microbatch: Microbatch = WHOLE_BATCH,
) -> tuple[jax.Array, jax.Array]:
    """Draws `counts_B[b]` distinct maskable positions of each row, uniformly.

    The largest of independent uniforms are a uniform sample without replacement; Google's code draws with replacement,
    which corrupts about one masked position in fourteen (google-research/electra #41).

    Args:
      key: PRNG key.
      maskable_BxL: bool, false on special tokens and padding.
      counts_B: int32, number of positions to draw, at most the maskable ones of a row.
      slots: M, the fixed number of slots.
      microbatch: which rows of the batch these are.

    Returns:
      positions_BxM (int32) and weights_BxM (float32; 0 on unused slots, whose position is arbitrary).
    """
    uniform_BxL = drawn(lambda shape: jax.random.uniform(key, shape), maskable_BxL.shape, microbatch)
    draws_BxL = jnp.where(maskable_BxL, uniform_BxL, -1.0)
    _, positions_BxM = jax.lax.top_k(draws_BxL, slots)
    return positions_BxM, (jnp.arange(slots) < counts_B[:, None]).astype(jnp.float32)


def choose_positions_again(
    key: jax.Array,
    maskable_BxL: jax.Array,
    counts_B: jax.Array,
    slots: int,
    microbatch: Microbatch = WHOLE_BATCH,
) -> tuple[jax.Array, jax.Array]:
    """Draws as `choose_positions` does, but with replacement, as Google's code: a position may fill several slots."""
    rows, length = maskable_BxL.shape
    noise_BxMxL = drawn(lambda shape: jax.random.gumbel(key, shape), (rows, slots, length), microbatch)
    positions_BxM = jnp.argmax(jnp.where(maskable_BxL[:, None], noise_BxMxL, -jnp.inf), axis=-1)
    return positions_BxM.astype(jnp.int32), (jnp.arange(slots) < counts_B[:, None]).astype(jnp.float32)


def mask_rows(
    key: jax.Array,
    row: Row,
    special: SpecialTokens,
    *,
    mask_fraction: float | jax.Array,
    kept_fraction: float,
    slots: int | None = None,
    with_replacement: bool = False,
    microbatch: Microbatch = WHOLE_BATCH,
) -> Masked:
    """Replaces a share of each row's tokens by [MASK] (ELECTRA paper §2; Google's `pretrain_helpers.mask`).

    Args:
      key: PRNG key.
      row: the rows.
      special: ids of the special tokens, which are never masked.
      mask_fraction: share of a row's real tokens, [CLS] and [SEP] counted, that is predicted.
      kept_fraction: share of the predicted positions that keep their token instead of [MASK]; none gets a random word
        (85/15/0, not BERT's 80/10/10).
      slots: M; follows from `mask_fraction` unless given, and must be given if that is traced.
      with_replacement: draws positions with replacement, as Google's code does; one that is drawn twice counts twice,
        and becomes [MASK] unless both draws keep its token.
      microbatch: which rows of the batch these are.
    """
    tokens_BxL = row.tokens_BxL
    if slots is None:
        slots = num_slots(tokens_BxL.shape[1], mask_fraction)
    real_BxL = row.document_ids_BxL > 0
    maskable_BxL = real_BxL & (tokens_BxL != special.cls) & (tokens_BxL != special.sep) & (tokens_BxL != special.mask)
    wanted_B = jnp.round(mask_fraction * real_BxL.sum(1)).astype(jnp.int32)  # Half to even, as in TensorFlow.
    counts_B = jnp.minimum(jnp.clip(wanted_B, 1, slots), maskable_BxL.sum(1))

    choice_key, kept_key = jax.random.split(key)
    choose = choose_positions_again if with_replacement else choose_positions
    positions_BxM, weights_BxM = choose(choice_key, maskable_BxL, counts_B, slots, microbatch)
    targets_BxM = jnp.take_along_axis(tokens_BxL, positions_BxM, axis=1)
    kept_BxM = drawn(lambda shape: jax.random.uniform(kept_key, shape), positions_BxM.shape, microbatch) < kept_fraction
    hidden_BxM = weights_BxM * ~kept_BxM
    masks_BxM = jnp.full_like(targets_BxM, special.mask)
    shown_BxL = write_tokens(tokens_BxL, positions_BxM, masks_BxM, hidden_BxM, with_replacement=with_replacement)
    return Masked(shown_BxL, positions_BxM, targets_BxM, weights_BxM)


def write_tokens(
    tokens_BxL: jax.Array,
    positions_BxM: jax.Array,
    written_BxM: jax.Array,
    weights_BxM: jax.Array,
    *,
    with_replacement: bool = False,
) -> jax.Array:
    """Writes tokens at the positions of used slots, int32 [B, L].

    Positions are distinct within a row. If they were drawn with replacement, a position that fills several slots gets
    the mean of their token ids, rounded down: an unrelated word, as in Google's `scatter_update`.
    """
    if with_replacement:

        def mean(tokens_L: jax.Array, positions_M: jax.Array, written_M: jax.Array, used_M: jax.Array) -> jax.Array:
            sums_L = jnp.zeros_like(tokens_L).at[positions_M].add(written_M * used_M)
            counts_L = jnp.zeros_like(tokens_L).at[positions_M].add(used_M)
            return jnp.where(counts_L > 0, sums_L // jnp.maximum(counts_L, 1), tokens_L)

        return jax.vmap(mean)(tokens_BxL, positions_BxM, written_BxM, (weights_BxM > 0).astype(jnp.int32))
    present_BxM = jnp.take_along_axis(tokens_BxL, positions_BxM, axis=1)
    written_BxM = jnp.where(weights_BxM > 0, written_BxM, present_BxM)
    return jax.vmap(lambda tokens_L, positions_M, written_M: tokens_L.at[positions_M].set(written_M))(
        tokens_BxL, positions_BxM, written_BxM
    )


def sample_tokens(
    key: jax.Array, logits_BxMxV: jax.Array, temperature: float = 1.0, microbatch: Microbatch = WHOLE_BATCH
) -> jax.Array:
    """Draws one token for each slot from softmax(logits / temperature), int32 [B, M].

    Exponential race: every entry of the vocabulary gets an exponentially distributed time with its probability as the
    rate, and the entry of the smallest time is drawn. It equals the Gumbel trick without its second logarithm, in one
    pass over the logits; inverting the cumulative distribution takes several passes, which dominate the cost on
    accelerators. Threefry draws a number for each slot and each entry; a hash of their sum replaces a draw per pair.
    """
    slot_key, entry_key = jax.random.split(key)
    slots_BxMx1 = drawn(lambda shape: jax.random.bits(slot_key, shape), (*logits_BxMxV.shape[:2], 1), microbatch)
    entries_V = jax.random.bits(entry_key, logits_BxMxV.shape[2:])
    # Float32, whatever the model computes in.
    logits_BxMxV = logits_BxMxV.astype(jnp.float32) / temperature
    rates_BxMxV = jnp.exp(logits_BxMxV - logits_BxMxV.max(-1, keepdims=True))
    return _argmax(rates_BxMxV / exponential(scrambled(slots_BxMx1 + entries_V)))


def exponential(bits: jax.Array) -> jax.Array:
    """Exponentially distributed numbers of mean 1 from random uint32, float32 of the same shape, positive and finite.

    The smallest of many numbers decides a race, so small ones have the finest steps: from 2^-32 in steps of 2^-31.
    """
    uniform = ((bits >> 1).astype(jnp.int32).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-31)
    return -jnp.log1p(-jnp.minimum(uniform, jnp.float32(1.0 - 2.0**-24)))


def _argmax(scores: jax.Array) -> jax.Array:
    """The index of the largest float32 along the last axis, int32: the first of ties, compared at full precision.

    The TPU compiler keeps a running maximum in bfloat16 if only its index is used. So the numbers are compared as
    integers, whose order is the same once the negative ones are inverted. (CPUs are five times as fast this way.)
    """
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    return jnp.argmax(bits ^ ((bits >> 31) & 0x7FFFFFFF), axis=-1).astype(jnp.int32)


def sample_tokens_by_gumbel(
    key: jax.Array, logits_BxMxV: jax.Array, temperature: float = 1.0, microbatch: Microbatch = WHOLE_BATCH
) -> jax.Array:
    """Draws as `sample_tokens` does, by the Gumbel trick with Google's constants, which truncate the noise.

    1e-9 inside both logarithms keeps it between -3.0 and 16.6 in float32, so that very rare words are drawn too rarely.
    """
    uniform_BxMxV = drawn(lambda shape: jax.random.uniform(key, shape), logits_BxMxV.shape, microbatch)
    noise_BxMxV = -jnp.log(-jnp.log(uniform_BxMxV + 1e-9) + 1e-9)
    return _argmax(logits_BxMxV.astype(jnp.float32) / temperature + noise_BxMxV)


def sample_unigrams(key: jax.Array, counts_V: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws unigram samples, words by their frequency alone, int32 of `shape`.

    Args:
      key: PRNG key.
      counts_V: number of occurrences of each word, any non-negative numbers.
      shape: shape of the samples.
    """
    # Above 2^24 words, rounding may make a float32 sum decrease; the running maximum keeps it sorted and gives words
    # that never occur an empty interval.
    cumulative_V = jax.lax.cummax(jnp.where(counts_V > 0, jnp.cumsum(counts_V.astype(jnp.float32)), 0.0))
    thresholds = jax.random.uniform(key, shape) * cumulative_V[-1]
    last = counts_V.shape[0] - 1 - jnp.argmax((counts_V > 0)[::-1])
    return jnp.minimum(jnp.searchsorted(cumulative_V, thresholds, side="right"), last).astype(jnp.int32)
