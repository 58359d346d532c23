"""BERT's objective as a job: one network, its loss and its evaluation."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from electra_jax.models import flops
from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.electra import MaskedLanguageModel
from electra_jax.models.encoder import EncoderConfig
from electra_jax.pretraining import health, objectives
from electra_jax.pretraining.pretraining_job import Evaluated, PretrainingJob, added_up, mean_scores
from electra_jax.training.job import Params, Sums, Weights


@dataclasses.dataclass(frozen=True)
class MaskedLanguageModelJob(PretrainingJob):
    """The BERT baseline: one network that predicts masked words."""

    shown_scores: ClassVar[tuple[str, ...]] = ("mlm_loss", "unigram_entropy")

    @property
    def _networks(self) -> dict[str, EncoderConfig]:
        return {"words": self.encoder}

    @property
    def _encoders(self) -> dict[str, EncoderConfig]:
        return {"encoder": self.encoder}

    @property
    def model(self) -> MaskedLanguageModel:
        """The network."""
        return MaskedLanguageModel(self.encoder)

    @property
    def flops_per_step(self) -> float:
        """See `PretrainingJob`."""
        forward = flops.masked_language_model_flops(self.encoder, self.row_length, self._slots())
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
        _, _, metrics = objectives.mlm_outputs(
            self.model, self.objective, params, batch, key, deterministic=False, microbatch=microbatch
        )
        return objectives.quotient(metrics["mlm_loss"], weights["mlm_loss"] if weights else None), metrics

    def evaluate(self, params: Params, batch: jax.Array, key: jax.Array) -> Evaluated:
        """See `Job`."""
        row, hidden_BxLxD, metrics = objectives.mlm_outputs(
            self.model, self._evaluated, params, batch, key, deterministic=True
        )
        return metrics | {"encoder_moments": health.moments(hidden_BxLxD, self._words(row))}

    def summarise(self, results: Sequence[Evaluated]) -> dict[str, float]:
        """See `Job`."""
        scores = mean_scores(added_up(results))
        return {"loss": scores["mlm_loss"]} | scores | {"unigram_entropy": self._text.heldout_unigram_entropy}

    def warning(self, scores: Mapping[str, float]) -> str:
        """No warning: there is no discriminator that could collapse."""
        del scores
        return ""

    def inspect(self, params: Params, batch: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """Nothing: there is no discriminator whose predictions could be shown."""
        return {}

    def describe(self, inspected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """See `inspect`."""
        return []
