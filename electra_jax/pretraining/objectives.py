"""Losses and metrics of pre-training: replaced-token detection, its hybrid, and BERT's masked language model.

Pure functions of (parameters, rows, key). Every metric is a pair (sum, weight) over the global batch, so that its
quotient does not depend on padding, accumulation or the number of devices.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.electra import Electra, MaskedLanguageModel
from electra_jax.models.layers import apply
from electra_jax.pretraining import schedules
from electra_jax.pretraining.corruption import (
    Masked,
    Row,
    SpecialTokens,
    mask_rows,
    num_slots,
    read_rows,
    sample_tokens,
    sample_tokens_by_gumbel,
    write_tokens,
)

Metrics = dict[str, jax.Array]  # Name to float32 [2]: sum and weight.

# Streams folded into the step's key, so that no two draws of a step share bits.
_MASK, _SAMPLE, _GENERATOR_DROPOUT, _DISCRIMINATOR_DROPOUT = range(4)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Rates, weights and options of a pre-training objective (ELECTRA paper §3.1 and table 6).

    Attributes:
      corrective_weight: weight of the hybrid objective's loss: the discriminator predicts the original words too.
      corrective_positions: "masked" predicts them at masked positions; "all" at all positions, with a copy gate.
      scheduled: schedules of fields, by name.
    """

    special: SpecialTokens
    mask_fraction: float = 0.15
    kept_fraction: float = 0.15
    temperature: float = 1.0
    generator_weight: float = 1.0
    discriminator_weight: float = 50.0
    packed: bool = False  # Whether rows have several documents, each with positions of its own.
    masking: str = "without_replacement"
    sampling: str = "exact"
    corrective_weight: float = 0.0
    corrective_positions: str = "masked"
    scheduled: tuple[tuple[str, schedules.Schedule], ...] = ()

    def at(self, step: jax.Array | int) -> "Objective":
        """The objective for the update from `step` to `step + 1`: scheduled fields become traced scalars."""
        return dataclasses.replace(
            self, **{name: schedules.value_at(schedule, step) for name, schedule in self.scheduled}
        )

    def slots(self, length: int) -> int:
        """M, the number of slots in a row of `length`, enough for the largest fraction of a schedule."""
        schedule = dict(self.scheduled).get("mask_fraction")
        return num_slots(length, schedule.largest if schedule else self.mask_fraction)

    @property
    def with_replacement(self) -> bool:
        """Whether one position may fill several slots."""
        return self.masking == "with_replacement"


class ElectraOutputs(NamedTuple):
    """Outputs of both networks for a batch."""

    row: Row
    masked: Masked
    generator_logits_BxMxV: jax.Array
    corrupted_BxL: jax.Array  # int32, input of the discriminator.
    replaced_BxL: jax.Array  # bool, true where the corrupted token differs from the original.
    discriminator_logits_BxL: jax.Array
    generator_hidden_BxLxD: jax.Array  # Last hidden states, from the masked rows.
    discriminator_hidden_BxLxD: jax.Array  # Last hidden states, from the corrupted rows.
    corrective: "Corrective | None" = None  # None unless the objective is hybrid.


class Corrective(NamedTuple):
    """The discriminator's predictions of the original words at S positions: the masked slots or the complete row."""

    logits_BxSxV: jax.Array
    targets_BxS: jax.Array  # int32, the original tokens.
    weights_BxS: jax.Array  # float32, 0 where nothing is predicted.
    copy_logits_BxS: jax.Array | None = None  # Logits of the gate, "the word was not replaced"; None without a gate.
    copied_BxS: jax.Array | None = None  # bool, whether copying the word is correct.


def pair(total: jax.Array, weight: jax.Array) -> jax.Array:
    """A metric: float32 [2], a sum and the weight to divide it by."""
    return jnp.stack([total, weight]).astype(jnp.float32)


def quotient(metric: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Sum divided by weight, the metric's own unless another is given; 0 if nothing was counted."""
    return metric[0] / jnp.maximum(metric[1] if weight is None else weight, 1.0)


@jax.named_scope("mask")
def _read_and_mask(
    objective: Objective, tokens_BxL: jax.Array, key: jax.Array, microbatch: Microbatch = WHOLE_BATCH
) -> tuple[Row, Masked]:
    row = read_rows(tokens_BxL, objective.special, packed=objective.packed)
    masked = mask_rows(
        jax.random.fold_in(key, _MASK),
        row,
        objective.special,
        mask_fraction=objective.mask_fraction,
        kept_fraction=objective.kept_fraction,
        slots=objective.slots(tokens_BxL.shape[1]),
        with_replacement=objective.with_replacement,
        microbatch=microbatch,
    )
    return row, masked


def electra_outputs(
    model: Electra,
    objective: Objective,
    params: dict,
    tokens_BxL: jax.Array,
    key: jax.Array,
    *,
    deterministic: bool,
    microbatch: Microbatch = WHOLE_BATCH,
) -> ElectraOutputs:
    """Masks the rows, samples words from the generator, and runs the discriminator on them (ELECTRA paper §2).

    The discriminator reads the original row with samples at the masked positions, never a [MASK]. A sample that
    happens to be the original word counts as original. No gradient reaches the generator through its samples.

    Args:
      model: the two networks.
      objective: rates and special tokens; for one step, see `Objective.at`, if there are schedules.
      params: parameters of `model`.
      tokens_BxL: int32 rows.
      key: the key of this step; masks, samples and dropout follow from it.
      deterministic: no dropout if true.
      microbatch: which rows of the batch these are.
    """

    def encode(network: str, stream: int, read_BxL: jax.Array) -> jax.Array:
        return apply(
            model,
            params,
            network,
            read_BxL,
            row.segments_BxL,
            row.document_ids_BxL,
            row_positions_BxL=row.positions_BxL,
            deterministic=deterministic,
            microbatch=microbatch,
            method="encode",
            rngs=None if deterministic else {"dropout": jax.random.fold_in(key, stream)},
        )

    def head(method: str, *inputs: jax.Array) -> jax.Array:
        return apply(model, params, *inputs, method=method)

    row, masked = _read_and_mask(objective, tokens_BxL, key, microbatch)
    with jax.named_scope("generator"):
        generator_hidden_BxLxD = encode("generator", _GENERATOR_DROPOUT, masked.tokens_BxL)
        generator_logits_BxMxV = head("predict", generator_hidden_BxLxD, masked.positions_BxM)
    with jax.named_scope("sample"):
        sample = sample_tokens_by_gumbel if objective.sampling == "google_gumbel" else sample_tokens
        samples_BxM = sample(
            jax.random.fold_in(key, _SAMPLE),
            jax.lax.stop_gradient(generator_logits_BxMxV),
            objective.temperature,
            microbatch,
        )
        corrupted_BxL = write_tokens(
            tokens_BxL,
            masked.positions_BxM,
            samples_BxM,
            masked.weights_BxM,
            with_replacement=objective.with_replacement,
        )
    with jax.named_scope("discriminator"):
        hidden_BxLxD = encode("discriminator", _DISCRIMINATOR_DROPOUT, corrupted_BxL)
        discriminator_logits_BxL = head("detect", hidden_BxLxD)
        corrective = None
        if model.corrective and objective.corrective_positions == "all":
            corrective = Corrective(
                head("correct", hidden_BxLxD),
                tokens_BxL,
                words(row, tokens_BxL, objective.special),
                # The gate learns from detection alone (COCO-LM §3.1): "replaced" negated, without gradient.
                -jax.lax.stop_gradient(discriminator_logits_BxL),
                corrupted_BxL == tokens_BxL,
            )
        elif model.corrective:
            logits_BxMxV = head("correct", hidden_BxLxD, masked.positions_BxM)
            corrective = Corrective(logits_BxMxV, masked.targets_BxM, masked.weights_BxM)
    return ElectraOutputs(
        row,
        masked,
        generator_logits_BxMxV,
        corrupted_BxL,
        corrupted_BxL != tokens_BxL,
        discriminator_logits_BxL,
        generator_hidden_BxLxD,
        hidden_BxLxD,
        corrective,
    )


def corrective_metrics(corrective: Corrective) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in nats and accuracy of the discriminator's predictions of the original words.

    At the masked slots it is the masked language model's loss on a corrupted row. At all positions, the word is copied
    with the probability c of the gate, and drawn from the softmax otherwise: p(x) = c · [x is the input word] +
    (1 - c) · softmax(x) (COCO-LM, Meng et al. 2021, §3.1).
    """
    loss, accuracy = _word_metrics(corrective.logits_BxSxV, corrective.targets_BxS, corrective.weights_BxS)
    if corrective.copy_logits_BxS is None or corrective.copied_BxS is None:
        return loss, accuracy
    from_softmax_BxS = -optax.softmax_cross_entropy_with_integer_labels(corrective.logits_BxSxV, corrective.targets_BxS)
    copied_BxS = jnp.where(corrective.copied_BxS, jax.nn.log_sigmoid(corrective.copy_logits_BxS), -jnp.inf)
    written_BxS = jax.nn.log_sigmoid(-corrective.copy_logits_BxS) + from_softmax_BxS
    losses_BxS = -jnp.logaddexp(copied_BxS, written_BxS)
    return pair((losses_BxS * corrective.weights_BxS).sum(), corrective.weights_BxS.sum()), accuracy


def masked_word_metrics(logits_BxMxV: jax.Array, masked: Masked) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in nats and accuracy over the used slots, including those that kept their token."""
    return _word_metrics(logits_BxMxV, masked.targets_BxM, masked.weights_BxM)


def _word_metrics(
    logits_BxSxV: jax.Array, targets_BxS: jax.Array, weights_BxS: jax.Array
) -> tuple[jax.Array, jax.Array]:
    losses_BxS = optax.softmax_cross_entropy_with_integer_labels(logits_BxSxV, targets_BxS)
    # Whether no logit is larger: the softmax needs the maximum anyway, while its index would take another pass.
    target_logits_BxS = jnp.take_along_axis(logits_BxSxV, targets_BxS[..., None], axis=-1)[..., 0]
    correct_BxS = target_logits_BxS == logits_BxSxV.max(-1)
    weight = weights_BxS.sum()
    return pair((losses_BxS * weights_BxS).sum(), weight), pair((correct_BxS * weights_BxS).sum(), weight)


def _real(row: Row) -> jax.Array:
    return (row.document_ids_BxL > 0).astype(jnp.float32)


def words(row: Row, tokens_BxL: jax.Array, special: SpecialTokens) -> jax.Array:
    """Weights of replaceable tokens, float32: 0 on padding, [CLS] and [SEP], 1 elsewhere."""
    return _real(row) * ((tokens_BxL != special.cls) & (tokens_BxL != special.sep))


def loss_weights(objective: Objective, tokens_BxL: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """The weights of all objectives' losses over a batch, which do not depend on the networks."""
    row, masked = _read_and_mask(objective, tokens_BxL, key)
    slots = masked.weights_BxM.sum()
    everywhere = objective.corrective_positions == "all"
    return {
        "generator_loss": slots,
        "mlm_loss": slots,
        "discriminator_loss": _real(row).sum(),
        "corrective_loss": words(row, tokens_BxL, objective.special).sum() if everywhere else slots,
    }


def electra_metrics(outputs: ElectraOutputs) -> Metrics:
    """Losses and scores of both networks; the discriminator's over all tokens except padding."""
    generator_loss, generator_accuracy = masked_word_metrics(outputs.generator_logits_BxMxV, outputs.masked)
    real_BxL = _real(outputs.row)
    replaced_BxL = outputs.replaced_BxL.astype(jnp.float32) * real_BxL
    flagged_BxL = (outputs.discriminator_logits_BxL > 0).astype(jnp.float32) * real_BxL
    losses_BxL = optax.sigmoid_binary_cross_entropy(outputs.discriminator_logits_BxL, replaced_BxL)
    real, replaced, hits = real_BxL.sum(), replaced_BxL.sum(), (flagged_BxL * replaced_BxL).sum()
    corrected = {}
    if outputs.corrective is not None:
        corrected = dict(
            zip(("corrective_loss", "corrective_accuracy"), corrective_metrics(outputs.corrective), strict=True)
        )
    return {
        "generator_loss": generator_loss,
        "generator_accuracy": generator_accuracy,
        "discriminator_loss": pair((losses_BxL * real_BxL).sum(), real),
        "discriminator_accuracy": pair(((flagged_BxL == replaced_BxL) * real_BxL).sum(), real),
        "discriminator_precision": pair(hits, flagged_BxL.sum()),
        "discriminator_recall": pair(hits, replaced),
        "replaced_fraction": pair(replaced, real),
        **corrected,
    }


def electra_loss(objective: Objective, metrics: Metrics, weights: dict[str, jax.Array] | None = None) -> jax.Array:
    """The weighted sum of the mean losses, a scalar (ELECTRA paper §3.1); three losses if the objective is hybrid.

    Args:
      objective: weights of the losses.
      metrics: result of `electra_metrics`.
      weights: result of `loss_weights` for the full batch, if the metrics are those of a microbatch.
    """

    def mean(name: str) -> jax.Array:
        return quotient(metrics[name], weights[name] if weights else None)

    loss = objective.generator_weight * mean("generator_loss") + objective.discriminator_weight * mean(
        "discriminator_loss"
    )
    if "corrective_loss" in metrics:
        loss += objective.corrective_weight * mean("corrective_loss")
    return loss


def mlm_outputs(
    model: MaskedLanguageModel,
    objective: Objective,
    params: dict,
    tokens_BxL: jax.Array,
    key: jax.Array,
    *,
    deterministic: bool,
    microbatch: Microbatch = WHOLE_BATCH,
) -> tuple[Row, jax.Array, Metrics]:
    """BERT's masked language model with ELECTRA's masking: the paper's baseline, without next-sentence prediction.

    Returns:
      The rows, the last hidden states [B, L, D] and the metrics.
    """
    row, masked = _read_and_mask(objective, tokens_BxL, key, microbatch)
    hidden_BxLxD = apply(
        model,
        params,
        masked.tokens_BxL,
        row.segments_BxL,
        row.document_ids_BxL,
        row_positions_BxL=row.positions_BxL,
        deterministic=deterministic,
        microbatch=microbatch,
        method="encode",
        rngs=None if deterministic else {"dropout": jax.random.fold_in(key, _GENERATOR_DROPOUT)},
    )
    logits_BxMxV = apply(model, params, hidden_BxLxD, masked.positions_BxM, method="predict")
    loss, accuracy = masked_word_metrics(logits_BxMxV, masked)
    return row, hidden_BxLxD, {"mlm_loss": loss, "mlm_accuracy": accuracy}


def separation_histogram(logits_BxL: jax.Array, positives_BxL: jax.Array, weights_BxL: jax.Array) -> jax.Array:
    """Counts of logits by bin for negatives and positives, float32 [2, 2048]; sums over batches give an exact AUC.

    Bins are equal steps of the logit from -16 to 16. Positions of weight 0 are not counted: Google's metric counts
    padding as well-ranked negatives, which inflates its AUC.
    """
    bins = 2048
    bin_BxL = jnp.clip((logits_BxL + 16.0) * (bins / 32.0), 0, bins - 1).astype(jnp.int32)
    index_BxL = bin_BxL + bins * positives_BxL.astype(jnp.int32)
    return jnp.zeros(2 * bins).at[index_BxL].add(weights_BxL).reshape(2, bins)


def area_under_curve(histogram: np.ndarray) -> float:
    """The share of (replaced, original) pairs that the logits order correctly, ties counted half.

    Args:
      histogram: sum of `separation_histogram` over batches, [2, bins].

    Returns:
      The area under the ROC curve, or 0.5 when either class is empty.
    """
    negatives, positives = histogram.astype(np.float64)
    if not negatives.sum() or not positives.sum():
        return 0.5
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (negatives.sum() * positives.sum()))
