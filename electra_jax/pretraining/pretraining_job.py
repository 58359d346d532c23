"""Pre-training as a job: which model, which loss, which rows, and what an evaluation says."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from electra_jax import collapse
from electra_jax.config import schema
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.models import flops
from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.electra import Electra, MaskedLanguageModel
from electra_jax.models.encoder import EncoderConfig, compute_dtype, for_machine
from electra_jax.pretraining import health, local_start, objectives, schedules
from electra_jax.pretraining.corruption import Row, SpecialTokens, sample_unigrams, write_tokens
from electra_jax.pretraining.objectives import Objective
from electra_jax.text.dataset import row_batches
from electra_jax.text.dataset.dataset import Dataset
from electra_jax.text.sources import text_sources
from electra_jax.training.job import Job, Params, Sums, Weights, Work
from electra_jax.wording import quantity

_UNIGRAM_STREAM = 100  # Apart from the streams of `objectives`, whose draws an evaluation repeats.


def encoder_config(config: PretrainingConfig, platform: str) -> EncoderConfig:
    """The discriminator's (or the baseline's) sizes from `config.model`; for `platform` see `compute_dtype`."""
    model = config.model
    return EncoderConfig(
        vocabulary_size=config.data.tokenizer.vocabulary_size,
        embedding_size=model.embedding_size,
        hidden_size=model.hidden_size,
        layers=model.layers,
        heads=model.heads,
        feed_forward_size=model.feed_forward_size,
        positions=model.positions,
        dropout_rate=model.dropout_rate,
        attention_dropout_rate=model.attention_dropout_rate,
        attention_bias=model.attention_bias,
        initializer_range=model.initializer_range,
        saved_activations=model.saved_activations,
        dtype=compute_dtype(model.compute_dtype, platform),
    )


def objective(config: PretrainingConfig, special: SpecialTokens) -> Objective:
    """The rates and weights of `config.objective`, for the kind of rows that `config.data` says."""
    fields = schema.as_tree(config.objective)
    del fields["name"]
    scheduled = tuple(
        (name, schedules.parse(text, config.steps)) for name, text in fields.pop("schedules").items() if text
    )
    return Objective(special=special, packed=config.data.rows == "packed", scheduled=scheduled, **fields)


@dataclasses.dataclass(frozen=True)
class PretrainingJob:
    """What both objectives share: the rows."""

    name: str
    objective: Objective
    encoder: EncoderConfig
    row_length: int
    batch_size: int
    evaluation_rows: int
    shown_rows: int
    seed: int
    dataset: Dataset | None  # None where only the compiled step is wanted.
    starts_locally: bool  # See `local_start.py`.
    weights: tuple[float, ...]  # Of the sources in the mixture.
    temperature: float  # Of the mixture.

    def at(self, step: jax.Array) -> Self:
        """See `Job`."""
        return dataclasses.replace(self, objective=self.objective.at(step)) if self.objective.scheduled else self

    def _slots(self) -> int:
        return self.objective.slots(self.row_length)

    @property
    def _evaluated(self) -> Objective:
        """What evaluations measure with, whatever trains: the constant values, and samples at temperature 1."""
        return dataclasses.replace(self.objective, temperature=1.0, scheduled=())

    def _example_inputs(self) -> tuple[jax.Array, ...]:
        row = jnp.zeros((1, self.row_length), jnp.int32)
        return row, row, row, row[:, : self._slots()]

    def init(self, key: jax.Array) -> Params:
        """See `Job`."""
        params = self.model.init(key, *self._example_inputs())["params"]
        if not self.starts_locally:
            return params
        started = local_start.local_start(nn.unbox(params), self.encoder.embedding_size, self._encoders)
        is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)  # noqa: E731
        return jax.tree.map(lambda box, value: box.replace_boxed(value), params, started, is_leaf=is_box)

    def _trained(self, params: Params) -> Params:
        return local_start.with_fixed_positions(params) if self.starts_locally else params

    def batch_shapes(self) -> Sequence[jax.ShapeDtypeStruct]:
        """See `Job`: rows of token ids, all of one length."""
        return [jax.ShapeDtypeStruct((self.batch_size, self.row_length), jnp.int32)]

    def loss_weights(self, batch: jax.Array, key: jax.Array) -> Weights:
        """See `Job`."""
        return objectives.loss_weights(self.objective, batch, key)

    def work(self, batch: np.ndarray) -> Work:
        """See `Job`."""
        return Work(self.batch_size * self.row_length, self.flops_per_step)

    @property
    def paper_flops_per_step(self) -> float:
        """Operations of one update as the ELECTRA paper counts them."""
        return flops.paper_training_flops(self._networks, self.row_length, self.batch_size)

    def facts(self, steps: int) -> dict[str, str]:
        """See `Job`."""
        tokens, operations = self.batch_size * self.row_length, self.flops_per_step
        passes = steps * self.batch_size / self.dataset.train.num_rows
        return {
            "a step": f"{self.batch_size:,} rows × {self.row_length} = {tokens:,} tokens, {quantity(operations)}FLOPs",
            "in all": (
                f"{quantity(steps * tokens)} tokens, {passes:.3g} passes over the text, "
                f"{quantity(steps * operations)}FLOPs; {steps * self.paper_flops_per_step:.2e} as the paper counts"
            ),
        }

    def _words(self, row: Row) -> jax.Array:
        return objectives.words(row, row.tokens_BxL, self.objective.special)

    def training_batches(self, start: int) -> Iterator[np.ndarray]:
        """See `Job`."""
        return row_batches.training_batches(
            self.dataset.train,
            batch_size=self.batch_size,
            seed=self.seed,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            weights=self.weights,
            temperature=self.temperature,
        )

    def evaluation_batches(self) -> Iterator[np.ndarray]:
        """See `Job`."""
        return row_batches.evaluation_batches(
            self.dataset.heldout,
            batch_size=self.batch_size,
            max_rows=self.evaluation_rows,
            pad_id=self.objective.special.pad,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def sample_batch(self) -> np.ndarray:
        """See `Job`."""
        spread = np.linspace(0, self.dataset.heldout.num_rows, self.shown_rows, endpoint=False, dtype=np.int64)
        return self.dataset.heldout.rows(spread)


@dataclasses.dataclass(frozen=True)
class ElectraJob(PretrainingJob):
    """Replaced-token detection with a jointly trained generator; hybrid if the discriminator predicts words too."""

    generator: EncoderConfig
    shown_scores = ("generator_loss", "discriminator_auc", "discriminator_auc_unigram", "unigram_entropy")

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

    def evaluate(self, params: Params, batch: jax.Array, key: jax.Array) -> Sums:
        """Metrics of both networks, how well the discriminator separates words, and the geometry of the states.

        Its own generator improves as training goes on, so the score against it moves slowly; words drawn by frequency
        are the same at each evaluation.
        """
        outputs = self._outputs(params, batch, key)
        row, masked = outputs.row, outputs.masked
        unigrams_BxM = sample_unigrams(
            jax.random.fold_in(key, _UNIGRAM_STREAM),
            jnp.asarray(self.dataset.unigram_counts),
            masked.positions_BxM.shape,
        )
        corrupted_BxL = write_tokens(
            batch,
            masked.positions_BxM,
            unigrams_BxM,
            masked.weights_BxM,
            with_replacement=self.objective.with_replacement,
        )
        logits_BxL = self.model.apply(
            {"params": params},
            corrupted_BxL,
            row.segments_BxL,
            row.document_ids_BxL,
            row_positions_BxL=row.positions_BxL,
            deterministic=True,
            method="discriminate",
        )
        # [CLS] and [SEP] are never replaced: counting them as well-ranked negatives would flatter the score.
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

    def summarise(self, results: Sequence[Sums]) -> dict[str, float]:
        """See `Job`."""
        sums = _added_up(results)
        own, unigram = sums["own_histogram"], sums["unigram_histogram"]
        scores = _scores(sums)
        loss = sum(
            getattr(self.objective, f"{part}_weight") * scores[f"{part}_loss"]
            for part in ("generator", "discriminator", "corrective")
            if f"{part}_loss" in scores
        )
        return (
            {"loss": loss}
            | scores
            | {
                "discriminator_auc": objectives.area_under_curve(own),
                "discriminator_auc_unigram": objectives.area_under_curve(unigram),
                "discriminator_average_precision": health.average_precision(own),
                "discriminator_base_rate_recall": health.recall_at_base_rate(own),
                "unigram_entropy": self.dataset.heldout_unigram_entropy,
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
        """See `Job`; padding is left out."""
        shown = []
        for index, original in enumerate(inspected["original"]):
            real = original != self.objective.special.pad
            corrupted = inspected["corrupted"][index][real]
            shown.append(
                {
                    "row": index,
                    "tokens": self.dataset.tokenizer.pieces(corrupted),
                    "original": self.dataset.tokenizer.pieces(original[real]),
                    "masked": inspected["masked"][index][real].tolist(),
                    "replaced": (corrupted != original[real]).tolist(),
                    "probability": [round(float(p), 4) for p in inspected["probability"][index][real]],
                }
            )
        return shown


@dataclasses.dataclass(frozen=True)
class MaskedLanguageModelJob(PretrainingJob):
    """The BERT baseline: one network that predicts masked words."""

    shown_scores = ("mlm_loss", "unigram_entropy")

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
        """See `ElectraJob`."""
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
        return objectives.quotient(metrics["mlm_loss"], weights and weights["mlm_loss"]), metrics

    def evaluate(self, params: Params, batch: jax.Array, key: jax.Array) -> Sums:
        """See `Job`."""
        row, hidden_BxLxD, metrics = objectives.mlm_outputs(
            self.model, self._evaluated, params, batch, key, deterministic=True
        )
        return metrics | {"encoder_moments": health.moments(hidden_BxLxD, self._words(row))}

    def summarise(self, results: Sequence[Sums]) -> dict[str, float]:
        """See `Job`."""
        scores = _scores(_added_up(results))
        return {"loss": scores["mlm_loss"]} | scores | {"unigram_entropy": self.dataset.heldout_unigram_entropy}

    def warning(self, scores: Mapping[str, float]) -> str:
        """See `Job`: there is no discriminator."""
        del scores
        return ""

    def inspect(self, params: Params, batch: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """Nothing to show: this model judges no tokens."""
        return {}

    def describe(self, inspected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """See `inspect`."""
        return []


def pretraining_job(config: PretrainingConfig, dataset: Dataset | None, platform: str) -> Job:
    """The job that `config.objective.name` asks for.

    Args:
      config: a validated pre-training config.
      dataset: the prepared text, or None to build a job whose step can be compiled but not fed.
      platform: "cpu", "gpu" or "tpu", for the type that the computation runs in.
    """
    special = SpecialTokens(pad=0, cls=2, sep=3, mask=4)
    if dataset is not None:
        tokenizer = dataset.tokenizer
        special = SpecialTokens(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    model = config.model
    machine = dict(
        platform=platform,
        attention=model.attention,
        unrolled_layers=model.unrolled_layers,
        length=config.data.sequence_length,
    )
    sizes = encoder_config(config, platform)
    encoder = for_machine(sizes, **machine)
    shared = dict(
        name=config.objective.name,
        objective=objective(config, special),
        encoder=encoder,
        row_length=config.data.sequence_length,
        batch_size=config.batch_size,
        evaluation_rows=config.evaluation.rows,
        shown_rows=config.evaluation.shown_rows,
        seed=config.seed,
        starts_locally=model.position_start == "local",
        dataset=dataset,
        weights=tuple(text_sources.weights(config.data.sources)),
        temperature=config.data.mixture_temperature,
    )
    if config.objective.name == "mlm":
        return MaskedLanguageModelJob(**shared)
    generator = for_machine(sizes.scaled(model.generator_width, model.generator_depth), **machine)
    return ElectraJob(generator=generator, **shared)


def _added_up(results: Sequence[Sums]) -> Sums:
    return functools.reduce(lambda one, other: jax.tree.map(np.add, one, other), results)


def _scores(sums: Sums) -> dict[str, float]:
    """The quotients of metrics, and what follows from moments; histograms are left out."""
    scores = {}
    for name, value in sums.items():
        if name.endswith("_moments"):
            network = name.removesuffix("_moments")
            scores[f"{network}_cosine"], scores[f"{network}_rank"] = health.geometry(value)
        elif not name.endswith("_histogram"):
            scores[name] = float(value[0]) / max(float(value[1]), 1.0)
    return scores
