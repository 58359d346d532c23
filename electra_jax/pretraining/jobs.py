"""The job that a pre-training config describes, chosen by `config.objective.name`."""

import functools
from collections.abc import Callable

from electra_jax.config import schema
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.models.encoder import EncoderConfig, compute_dtype, for_machine
from electra_jax.pretraining import schedules
from electra_jax.pretraining.corruption import SpecialTokens
from electra_jax.pretraining.electra_job import ElectraJob
from electra_jax.pretraining.mlm_job import MaskedLanguageModelJob
from electra_jax.pretraining.objectives import Objective
from electra_jax.pretraining.pretraining_job import PretrainingJob
from electra_jax.text.dataset.dataset import Dataset
from electra_jax.text.sources import text_sources


def pretraining_job(config: PretrainingConfig, dataset: Dataset | None, platform: str) -> PretrainingJob:
    """The job of the objective `config.objective.name`.

    Args:
      config: a validated pre-training config.
      dataset: the prepared text, or None for a job whose step is compiled but not run.
      platform: "cpu", "gpu" or "tpu", which decides on the compute type and on attention.
    """
    special = SpecialTokens(pad=0, cls=2, sep=3, mask=4)
    if dataset is not None:
        tokenizer = dataset.tokenizer
        special = SpecialTokens(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    model, length = config.model, config.data.sequence_length

    def on_machine(sizes: EncoderConfig) -> EncoderConfig:
        return for_machine(
            sizes, platform, attention=model.attention, unrolled_layers=model.unrolled_layers, length=length
        )

    sizes = encoder_config(config, platform)
    job: Callable[..., PretrainingJob]
    if config.objective.name == "mlm":
        job = MaskedLanguageModelJob
    else:
        generator = on_machine(sizes.scaled(model.generator_width, model.generator_depth))
        job = functools.partial(ElectraJob, generator=generator)
    return job(
        name=config.objective.name,
        objective=objective(config, special),
        encoder=on_machine(sizes),
        row_length=length,
        batch_size=config.batch_size,
        evaluation_rows=config.evaluation.rows,
        shown_rows=config.evaluation.shown_rows,
        seed=config.seed,
        starts_locally=model.position_start == "local",
        dataset=dataset,
        weights=tuple(text_sources.weights(config.data.sources)),
        temperature=config.data.mixture_temperature,
    )


def encoder_config(config: PretrainingConfig, platform: str) -> EncoderConfig:
    """Sizes of the discriminator, or of the baseline, from `config.model`; for `platform` see `compute_dtype`."""
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
    """Rates and weights from `config.objective`, for the kind of rows in `config.data`."""
    fields = schema.as_tree(config.objective)
    del fields["name"]
    scheduled = tuple(
        (name, schedules.parse(text, config.steps)) for name, text in fields.pop("schedules").items() if text
    )
    return Objective(special=special, packed=config.data.rows == "packed", scheduled=scheduled, **fields)
