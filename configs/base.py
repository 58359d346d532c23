"""ELECTRA-Base as the paper trains it (Clark et al. 2020, table 6), with masked positions sampled without replacement.

    python -m electra_jax.main --config=configs/base.py --workdir=runs/base --config.data.sources='("corpus/*.txt",)'

Hardware in the paper: 16 TPUv3 for 4 days, 6.4e19 FLOPs as the paper counts them.
Expected: GLUE dev average 85.1 (paper table 1), the published Base model 109 M parameters.
All fields of a pre-training config and their reasons: docs/config.md, or --config.help. The other presets start from
this one and list only what they change.
`:quicktest` is the same recipe shrunk until two CPU cores finish it in a minute.
"""

import ml_collections

from electra_jax.config import files
from electra_jax.config.pretraining import PretrainingConfig


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe; for `variant` see `with_variant`."""
    # The schema's defaults are this recipe: docs/config.md lists every field with default, range, unit and reason.
    config = files.defaults(PretrainingConfig)
    # The published vocabulary's; the default, auto, would follow the text.
    config.data.tokenizer.lowercase = config.data.tokenizer.strip_accents = True
    return with_variant(config, variant)


def with_variant(config: ml_collections.ConfigDict, variant: str) -> ml_collections.ConfigDict:
    """Returns the config unchanged, as Google's code trains it, shrunk for a quick test, or both.

    Raises:
      ValueError: there is no such variant.
    """
    for name in variant.split("+") if variant else ():
        match name:
            case "google_compat":
                _follow_google(config)
            case "quicktest":
                _shrink(config)
            case _:
                raise ValueError(f"variant {name!r}: expected google_compat, quicktest, or google_compat+quicktest")
    return config


def _follow_google(config: ml_collections.ConfigDict) -> None:
    """Follows Google's published code, bug for bug; docs/fidelity.md explains what each line changes."""
    config.data.directory += "_google_compat"
    config.data.rows = "google_segment_pairs"
    if config.data.tokenizer.kind == "wordpiece":
        config.data.tokenizer.lowercase = config.data.tokenizer.strip_accents = True
    config.objective.masking = "with_replacement"
    config.objective.sampling = "google_gumbel"
    config.optimizer.name = "adam"
    config.optimizer.schedule = "warmup_times_decay"
    config.optimizer.gradient_scope = "per_device"
    config.optimizer.top_layer_exponent = 2


def _shrink(config: ml_collections.ConfigDict) -> None:
    """Shrinks the recipe to a minute on two cores: fewer steps, shorter rows, a narrower model, a shipped excerpt."""
    config.steps = 20
    config.batch_size = 8
    config.data.directory += "_quicktest"
    config.data.sources = ("package:shakespeare.txt",)
    config.data.sequence_length = 32
    config.data.heldout_fraction = 0.1
    config.data.tokenizer.vocabulary_size = 512
    model = config.model
    model.layers = 2
    # Six heads of width 16 allow a generator of a quarter (rounded up), a third or the full width; embeddings that
    # were narrower than the hidden states stay narrower.
    narrow = model.embedding_size < model.hidden_size
    model.heads, model.hidden_size, model.feed_forward_size = 6, 96, 192
    model.embedding_size = 48 if narrow else 96
    model.positions = 64
    config.optimizer.warmup_steps = 5
    config.log.every_steps = 5
    config.evaluation.every_steps = 10
    config.evaluation.rows = 32
    config.checkpoint.every_steps = 10
    config.checkpoint.keep_every_steps = 0
    config.probe = ml_collections.ConfigDict()
