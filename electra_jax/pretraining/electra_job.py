"""ELECTRA's objective as a job: both networks, their loss and their evaluation."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from electra_jax import collapse
from electra_jax.models import flops
from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.electra import Electra
from electra_jax.models.encoder import EncoderConfig
from electra_jax.models.layers import apply
from electra_jax.pretraining import health, objectives
from electra_jax.pretraining.corruption import sample_unigrams, write_tokens
from electra_jax.pretraining.pretraining_job import Evaluated, PretrainingJob, added_up, mean_scores
from electra_jax.training.job import Params, Sums, Weights

_UNIGRAM_STREAM = 100  # Different from the streams of `objectives`, whose draws an evaluation repeats.


@dataclasses.dataclass(frozen=True)
class ElectraJob(PretrainingJob):
    """Replaced-token detection with a jointly trained generator; hybrid if the discriminator predicts words too."""

    generator: EncoderConfig
    shown_scores: ClassVar[tuple[str, ...]] = (
        "generator_loss",
        "discriminator_auc",
        "discriminator_auc_unigram",
        "unigram_entropy",
    )

    @property
    def _networks(self) -> dict[str, EncoderConfig]:
        return {"words": self.generator, "replaced+words" if self._is_hybrid else "replaced": self.encoder}

    @property
    def _encoders(self) -> dict[str, EncoderConfig]:
        return {"generator": self.generator, "discriminator": self.encoder}

    @property
    def _is_hybrid(self) -> bool:
        return self.name == "hybrid"

    @property
    def model(self) -> Electra:
        """Both networks."""
        return Electra(self.encoder, self.generator, self._is_hybrid)

    @property
    def flops_per_step(self) -> float:
        """Operations of one update over a global batch, forward and backward, matrix products only."""
        slots = self._slots()
        corrected = self.row_length if self.objective.corrective_positions == "all" else slots
        forward = flops.electra_flops(
            self.encoder, self.generator, self.row_length, slots, corrected if self._is_hybrid else 0
        )
        return self.batch_size * flops.training_flops(forward)

    def loss(
        self,
        params: Params,
        batch: jax.Array,
        key: jax.Array,
        weights: Weights | None = None,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> tuple[jax.Array, Sums]:
        """See `Job`."""
        params = self._trained(params)
        outputs = objectives.electra_outputs(
            self.model, self.objective, params, batch, key, deterministic=False, microbatch=microbatch
        )
        metrics = objectives.electra_metrics(outputs)
        return objectives.electra_loss(self.objective, metrics, weights), metrics

    def evaluate(self, params: Params, batch: jax.Array, key: jax.Array) -> Evaluated:
        """Metrics of both networks, histograms of the discriminator's logits, and moments of hidden states.

        The generator improves during training, so the score against it moves slowly; unigram samples are the same at
        each evaluation.
        """
        outputs = self._outputs(params, batch, key)
        row, masked = outputs.row, outputs.masked
        unigrams_BxM = sample_unigrams(
            jax.random.fold_in(key, _UNIGRAM_STREAM),
            jnp.asarray(self._text.unigram_counts),
            masked.positions_BxM.shape,
        )
        corrupted_BxL = write_tokens(
            batch,
            masked.positions_BxM,
            unigrams_BxM,
            masked.weights_BxM,
            with_replacement=self.objective.with_replacement,
        )
        logits_BxL = apply(
            self.model,
            params,
            corrupted_BxL,
            row.segments_BxL,
            row.document_ids_BxL,
            row_positions_BxL=row.positions_BxL,
            deterministic=True,
            method="discriminate",
        )
        # [CLS] and [SEP] are never replaced: counting them as well-ranked negatives would inflate the score.
        words_BxL = self._words(row)
        histogram = objectives.separation_histogram
        return objectives.electra_metrics(outputs) | {
            "own_histogram": histogram(outputs.discriminator_logits_BxL, outputs.replaced_BxL, words_BxL),
            "unigram_histogram": histogram(logits_BxL, corrupted_BxL != batch, words_BxL),
            "generator_moments": health.moments(outputs.generator_hidden_BxLxD, words_BxL),
            "discriminator_moments": health.moments(outputs.discriminator_hidden_BxLxD, words_BxL),
        }

    def _outputs(self, params: Params, batch: jax.Array, key: jax.Array) -> objectives.ElectraOutputs:
        return objectives.electra_outputs(self.model, self._evaluated, params, batch, key, deterministic=True)

    def summarise(self, results: Sequence[Evaluated]) -> dict[str, float]:
        """See `Job`."""
        sums = added_up(results)
        own, unigram = sums["own_histogram"], sums["unigram_histogram"]
        scores = mean_scores(sums)
        weights = {
            "generator_loss": self.objective.generator_weight,
            "discriminator_loss": self.objective.discriminator_weight,
            "corrective_loss": self.objective.corrective_weight,
        }
        loss = sum(weight * scores[name] for name, weight in weights.items() if name in scores)
        return (
            {"loss": loss}
            | scores
            | {
                "discriminator_auc": objectives.area_under_curve(own),
                "discriminator_auc_unigram": objectives.area_under_curve(unigram),
                "discriminator_average_precision": health.average_precision(own),
                "discriminator_base_rate_recall": health.recall_at_base_rate(own),
                "unigram_entropy": self._text.heldout_unigram_entropy,
            }
        )

    def warning(self, scores: Mapping[str, float]) -> str:
        """See `Job`."""
        return collapse.warning(scores, self.encoder.hidden_size)

    def inspect(self, params: Params, batch: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """See `Job`."""
        outputs = self._outputs(params, batch, key)
        hidden_BxL = write_tokens(
            jnp.zeros_like(batch),
            outputs.masked.positions_BxM,
            jnp.ones_like(outputs.masked.positions_BxM),
            outputs.masked.weights_BxM,
            with_replacement=self.objective.with_replacement,
        )
        return {
            "original": batch,
            "corrupted": outputs.corrupted_BxL,
            "masked": hidden_BxL > 0,
            "probability": jax.nn.sigmoid(outputs.discriminator_logits_BxL),
        }

    def describe(self, inspected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """See `Job`; padding is omitted."""
        shown = []
        for index, original in enumerate(inspected["original"]):
            real = original != self.objective.special.pad
            corrupted = inspected["corrupted"][index][real]
            shown.append(
                {
                    "row": index,
                    "tokens": self._text.tokenizer.pieces(corrupted),
                    "original": self._text.tokenizer.pieces(original[real]),
                    "masked": inspected["masked"][index][real].tolist(),
                    "replaced": (corrupted != original[real]).tolist(),
                    "probability": [round(float(p), 4) for p in inspected["probability"][index][real]],
                }
            )
        return shown
