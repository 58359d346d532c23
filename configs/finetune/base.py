"""Shared by all fine-tuning configs: the recipe of the ELECTRA paper (Clark et al. 2020, table 7), and kinds of tasks.

`glue.py`, `squad.py`, `tagging.py` and `text.py` start from here. Two values of the recipe depend on the model's size,
so each of them accepts a size as a variant: `configs/finetune/glue.py:rte+small`.
"""

import ml_collections

from electra_jax.config import files
from electra_jax.config.finetuning import AnsweringConfig, ClassificationConfig, FinetuningConfig, TaggingConfig

# Peak learning rate and layer-wise decay by the size of the model (paper table 7).
SIZES = {"small": (3e-4, 0.8), "base": (1e-4, 0.8), "large": (5e-5, 0.9)}
# Learning rates in Google's published code (`configure_finetuning.py`).
_GOOGLE_LEARNING_RATES = {"small": 1e-4, "base": 1e-4, "large": 5e-5}


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe for a model of Base's size, without tasks; docs/config.md lists every field."""
    return files.defaults(FinetuningConfig)


def classification_task(**changes: object) -> ml_collections.ConfigDict:
    """A task on sentences or pairs of sentences: one class, several classes, or a grade."""
    return _changed(files.defaults(ClassificationConfig), changes)


def tagging_task(**changes: object) -> ml_collections.ConfigDict:
    """A task with a tag for each word."""
    return _changed(files.defaults(TaggingConfig), changes)


def answering_task(**changes: object) -> ml_collections.ConfigDict:
    """A task with questions that are answered by a span of a context."""
    return _changed(files.defaults(AnsweringConfig), changes)


def _changed(task: ml_collections.ConfigDict, changes: dict[str, object]) -> ml_collections.ConfigDict:
    with task.ignore_type():
        for name, value in changes.items():
            task[name] = ml_collections.ConfigDict(value) if isinstance(value, dict) else value
    return task


def with_variant(
    config: ml_collections.ConfigDict, names: tuple[str, ...], expected: str = "a size"
) -> ml_collections.ConfigDict:
    """Returns the config for a model size, as Google's code fine-tunes it, or shrunk for a quick test.

    Args:
      config: config with its tasks.
      names: "small", "base" or "large"; "google_compat"; "quicktest".
      expected: other variants that the caller accepts, for messages.

    Raises:
      ValueError: there is no such variant.
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
    """Follows Google's published code, bug for bug; docs/fidelity.md explains what each line changes."""
    config.optimizer.learning_rate = _GOOGLE_LEARNING_RATES[size]
    config.optimizer.weight_decay = 0.01
    config.optimizer.top_layer_exponent = 2
    config.optimizer.schedule = "warmup_times_decay"
    config.optimizer.gradient_scope = "per_device"
    config.loss_reduction = "sum"
    config.last_batch = "drop"
    for task in config.tasks.values():
        if task.kind == "tagging":
            task.segment = 1
            task.windows = False


def _shrink(config: ml_collections.ConfigDict) -> None:
    """Shrinks the recipe to a minute on two cores: few examples, short rows, one epoch."""
    config.epochs = 1.0
    config.batch_size = 8
    config.data.lengths = 2
    config.log.every_steps = 2
    for task in config.tasks.values():
        task.train_examples, task.dev_examples = 64, 32
        task.max_length = min(task.max_length, 64)
        if task.kind == "answering":
            task.stride, task.longest_question, task.beams = 16, 24, 4
