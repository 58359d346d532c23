"""What fine-tuning configs share: the recipe of the ELECTRA paper (Clark et al. 2020, table 7), and what a task is.

`glue.py`, `squad.py`, `tagging.py` and `text.py` start from here. A model's size decides two values of the recipe, so
each of them takes a size as a variant: `configs/finetune/glue.py:rte+small`.
"""

import ml_collections

from electra_jax.config import files
from electra_jax.config.finetuning import AnsweringConfig, ClassificationConfig, FinetuningConfig, TaggingConfig

# Peak learning rate and layer-wise decay by the size of the model (paper table 7).
SIZES = {"small": (3e-4, 0.8), "base": (1e-4, 0.8), "large": (5e-5, 0.9)}
# What Google's published code has instead, where it differs (`configure_finetuning.py`).
_GOOGLE_LEARNING_RATES = {"small": 1e-4, "base": 1e-4, "large": 5e-5}


def get_config() -> ml_collections.ConfigDict:
    """The recipe for a model of Base's size, without a task; docs/config.md lists every field."""
    return files.defaults(FinetuningConfig)


def classification_task(**changes: object) -> ml_collections.ConfigDict:
    """Sentences or pairs of sentences: one class, several classes, or a grade."""
    return _changed(files.defaults(ClassificationConfig), changes)


def tagging_task(**changes: object) -> ml_collections.ConfigDict:
    """A tag for each word."""
    return _changed(files.defaults(TaggingConfig), changes)


def answering_task(**changes: object) -> ml_collections.ConfigDict:
    """Questions whose answer is a stretch of a context."""
    return _changed(files.defaults(AnsweringConfig), changes)


def _changed(task: ml_collections.ConfigDict, changes: dict[str, object]) -> ml_collections.ConfigDict:
    with task.ignore_type():
        for name, value in changes.items():
            task[name] = ml_collections.ConfigDict(value) if isinstance(value, dict) else value
    return task


def with_variant(
    config: ml_collections.ConfigDict, names: tuple[str, ...], expected: str = "a size"
) -> ml_collections.ConfigDict:
    """The config for a size of model, as Google's code fine-tunes it, or shrunk for a quick test.

    Args:
      config: with its tasks.
      names: "small", "base" or "large"; "google_compat"; "quicktest".
      expected: what else the caller takes, for messages.

    Raises:
      ValueError: no such variant.
    """
    size = "base"
    for name in names:
        if name in SIZES:
            size = name
        elif name not in ("google_compat", "quicktest"):
            raise ValueError(
                f"variant {name!r}: expected {expected}, one of {', '.join(SIZES)}, google_compat, quicktest, or "
                "several joined by +"
            )
    config.size = size
    config.optimizer.learning_rate, config.optimizer.layer_decay = SIZES[size]
    if "google_compat" in names:
        _follow_google(config, size)
    if "quicktest" in names:
        _shrink(config)
    return config


def _follow_google(config: ml_collections.ConfigDict, size: str) -> None:
    """Google's published code, bug for bug; docs/fidelity.md says what each line changes."""
    config.optimizer.learning_rate = _GOOGLE_LEARNING_RATES[size]
    config.optimizer.weight_decay = 0.01
    config.optimizer.top_layer_exponent = 2
    config.optimizer.schedule = "warmup_times_decay"
    config.optimizer.gradient_scope = "per_device"
    config.loss_reduction = "sum"
    for task in config.tasks.values():
        if task.kind == "tagging":
            task.segment = 1


def _shrink(config: ml_collections.ConfigDict) -> None:
    """The same recipe in a minute on two cores: few examples, short rows, one epoch."""
    config.epochs = 1.0
    config.batch_size = 8
    config.data.lengths = 2
    config.log.every_steps = 2
    for task in config.tasks.values():
        task.train_examples, task.dev_examples = 64, 32
        task.max_length = min(task.max_length, 64)
        if task.kind == "answering":
            task.stride, task.longest_question, task.beams = 16, 24, 4
