"""A run that starts from a model: the config takes the model's sizes and its tokenizer, which the model knows best."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.interop.checkpoints import split_heads
from electra_jax.interop.model import Model

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "vocab.txt")
# Where a model's files keep the tokenizer, seen from what the user names: a workdir or one of its checkpoints, an
# exported folder, a Hugging Face folder, a TensorFlow checkpoint's prefix.
_TOKENIZER_PLACES = ("", "tokenizer", "discriminator", "generator", "..", "../tokenizer", "../../tokenizer")

# What is taken of a model, besides its tokenizer.
_SIZES = (
    "layers",
    "hidden_size",
    "heads",
    "feed_forward_size",
    "embedding_size",
    "positions",
    "attention_bias",
    "generator_width",
    "generator_depth",
)


def repeat(config: Any, recorded: Mapping[str, Any]) -> None:
    """Sets what `fit` set when a run began, as its config.json recorded it; all other fields are the user's."""
    config.model.update({name: recorded["model"][name] for name in _SIZES})
    tokenizer = recorded["data"]["tokenizer"]
    config.data.tokenizer.vocabulary_size = tokenizer["vocabulary_size"]
    if config.data.tokenizer.source == "train":
        config.data.tokenizer.source = tokenizer["source"]


def fit(config: Any, model: Model) -> list[str]:
    """Sets the sizes of `config.model`, the vocabulary and, unless one is named, the tokenizer to those of a model.

    Args:
      config: a pre-training config; `config.init_from` says where the model was read from.
      model: what was read there.

    Returns:
      one line for each field that changed.

    Raises:
      InputError: the model has sizes that no config can say, or nothing says which tokenizer it was trained with.
    """
    main = model.discriminator or model.generator
    sizes = {name: getattr(main, name) for name in _SIZES if not name.startswith("generator_")}
    if model.discriminator and model.generator:
        sizes["generator_width"] = model.generator.hidden_size / main.hidden_size
        sizes["generator_depth"] = model.generator.layers / main.layers
        _check_generator(config, model)
    defaults = {field.name: field.default for field in dataclasses.fields(main)}
    for name in ("layer_norm_epsilon", "token_types"):
        if getattr(main, name) != defaults[name]:
            raise InputError(
                f"config.init_from: {config.init_from} has {name} {getattr(main, name)}, and pre-training knows only "
                f"{defaults[name]}."
            )
    changes = [
        f"config.model.{name}: {value} (was {config.model[name]})"
        for name, value in sizes.items()
        if config.model[name] != value
    ]
    config.model.update(sizes)
    tokenizer = config.data.tokenizer
    if tokenizer.vocabulary_size != model.vocabulary_size:
        changes.append(
            f"config.data.tokenizer.vocabulary_size: {model.vocabulary_size} (was {tokenizer.vocabulary_size})"
        )
        tokenizer.vocabulary_size = model.vocabulary_size
    if tokenizer.source == "train":
        tokenizer.source = _tokenizer_of(config.init_from)
        changes.append(f"config.data.tokenizer.source: {tokenizer.source} (was train)")
    return changes


def _check_generator(config: Any, model: Model) -> None:
    """The config knows a generator as a fraction of the discriminator, its heads and inner width too."""
    width = model.generator.hidden_size / model.discriminator.hidden_size
    depth = model.generator.layers / model.discriminator.layers
    followed = model.discriminator.scaled(width, depth)
    for name in ("hidden_size", "layers", "heads", "feed_forward_size"):
        if getattr(followed, name) != getattr(model.generator, name):
            raise InputError(
                f"config.init_from: the generator of {config.init_from} has {name} {getattr(model.generator, name)}; a "
                f"generator of {width:.4g} of the discriminator's width would have {getattr(followed, name)}, and "
                "other shapes cannot be trained here."
            )


def _tokenizer_of(path: str) -> str:
    path, _ = split_heads(path)
    for place in _TOKENIZER_PLACES:
        folder = storage.join(path, place) if place else path
        for name in _TOKENIZER_FILES:
            found = storage.join(folder, name)
            # "model.ckpt-1000/.." exists only once it is resolved: a prefix is no directory.
            found = found if storage.is_remote(found) else os.path.normpath(found)
            if storage.exists(found):
                return found
    raise InputError(
        f"config.init_from: {path} has no tokenizer beside it ({', '.join(_TOKENIZER_FILES)}); name the one it was "
        "trained with: --config.data.tokenizer.source=PATH"
    )
