"""Warm start (`init_from`): a run takes a model's sizes and tokenizer into its config, and the weights that fit."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from electra_jax import storage
from electra_jax.config.pretraining import PretrainingConfig, TokenizerConfig
from electra_jax.errors import InputError
from electra_jax.interop.checkpoints import split_heads
from electra_jax.interop.model import Model
from electra_jax.interop.tensor_map import flatten, unflatten
from electra_jax.models.encoder import EncoderConfig
from electra_jax.text.tokenizers import huggingface_files
from electra_jax.text.tokenizers import tokenizer as tokenizers

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "vocab.txt")
# Places of the tokenizer relative to the path that the user names: a workdir or one of its checkpoints, an exported
# folder, a Hugging Face folder, a TensorFlow checkpoint's prefix. Networks' own folders come first, as where the model
# is read: a vocabulary next to them may lack what was added.
_TOKENIZER_PLACES = ("discriminator", "generator", "", "tokenizer", "..", "../tokenizer", "../../tokenizer")

# Fields of `config.model` that a warm start takes from the model.
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


def repeat(config: PretrainingConfig, recorded: Mapping[str, Any]) -> PretrainingConfig:
    """The config with the changes that `fit` made when the run was started, from its config.json.

    All other fields are the user's.

    Raises:
      KeyError: config.json lacks a field.
    """
    tokenizer = recorded["data"]["tokenizer"]
    source = config.data.tokenizer.source
    return _with(
        config,
        {name: recorded["model"][name] for name in _SIZES},
        vocabulary_size=tokenizer["vocabulary_size"],
        source=tokenizer["source"] if source == "train" else source,
    )


def _with(
    config: PretrainingConfig, sizes: Mapping[str, Any], *, vocabulary_size: int, source: str
) -> PretrainingConfig:
    tokenizer = dataclasses.replace(config.data.tokenizer, vocabulary_size=vocabulary_size, source=source)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **sizes),
        data=dataclasses.replace(config.data, tokenizer=tokenizer),
    )


def fit(config: PretrainingConfig, model: Model) -> tuple[PretrainingConfig, list[str]]:
    """Returns the config with the sizes, the vocabulary and, unless one is named, the tokenizer of a model.

    Args:
      config: a pre-training config; the model was read from `config.init_from`.
      model: the model.

    Returns:
      The config, and one line for each changed field.

    Raises:
      InputError: the config cannot express the model's sizes, or there is no tokenizer next to the model.
    """
    main = model.main
    sizes = {name: getattr(main, name) for name in _SIZES if not name.startswith("generator_")}
    if model.discriminator and model.generator:
        sizes["generator_width"] = model.generator.hidden_size / main.hidden_size
        sizes["generator_depth"] = model.generator.layers / main.layers
        _check_generator(config.init_from, model.discriminator, model.generator)
    defaults = {field.name: field.default for field in dataclasses.fields(main)}
    for name in ("layer_norm_epsilon", "token_types"):
        if getattr(main, name) != defaults[name]:
            raise InputError(
                f"config.init_from: {config.init_from} has {name} {getattr(main, name)}, expected {defaults[name]}, "
                "the only one that pre-training supports"
            )
    changes = [
        f"config.model.{name}: {value} (was {getattr(config.model, name)})"
        for name, value in sizes.items()
        if getattr(config.model, name) != value
    ]
    tokenizer = config.data.tokenizer
    source = tokenizer.source
    if tokenizer.vocabulary_size != model.vocabulary_size:
        changes.append(
            f"config.data.tokenizer.vocabulary_size: {model.vocabulary_size} (was {tokenizer.vocabulary_size})"
        )
    if source == "train":
        source = _tokenizer_of(config.init_from, tokenizer)
        changes.append(f"config.data.tokenizer.source: {source} (was train)")
    return _with(config, sizes, vocabulary_size=model.vocabulary_size, source=source), changes


def _check_generator(origin: str, discriminator: EncoderConfig, generator: EncoderConfig) -> None:
    """Raises InputError unless all sizes of the generator are the same fraction of the discriminator's."""
    width = generator.hidden_size / discriminator.hidden_size
    depth = generator.layers / discriminator.layers
    followed = discriminator.scaled(width, depth)
    for name in ("hidden_size", "layers", "heads", "feed_forward_size"):
        if getattr(followed, name) != getattr(generator, name):
            raise InputError(
                f"config.init_from: the generator of {origin} has {name} {getattr(generator, name)}, expected "
                f"{getattr(followed, name)}, as its width is {width:.4g} of the discriminator's; other shapes "
                "cannot be trained here"
            )


def _tokenizer_of(path: str, given: TokenizerConfig) -> str:
    """The tokenizer next to a model: its file, or its folder where other files there change what it gives."""
    path, _ = split_heads(path)
    for place in _TOKENIZER_PLACES:
        folder = storage.join(path, place) if place else path
        for name in _TOKENIZER_FILES:
            found = storage.join(folder, name)
            # "model.ckpt-1000/.." exists only after normalisation: a prefix is not a directory.
            found = found if storage.is_remote(found) else os.path.normpath(found)
            if storage.exists(found):
                return storage.parent(found) if _changes_in_folder(found, given) else found
    raise InputError(
        f"config.init_from: found no tokenizer next to {path} ({', '.join(_TOKENIZER_FILES)}); name the one it was "
        "trained with: --config.data.tokenizer.source=PATH"
    )


def _changes_in_folder(path: str, given: TokenizerConfig) -> bool:
    """Whether a tokenizer's file, read alone, is another tokenizer than all files of its folder.

    Raises:
      InputError: the folder's tokenizer cannot be used.
    """
    folder = storage.parent(path)
    if path.endswith(".model") or not storage.exists(storage.join(folder, huggingface_files.CONFIG)):
        return False
    load = functools.partial(
        tokenizers.load_with_casing,
        lowercase=given.lowercase,
        strip_accents=given.strip_accents,
        add_special_pieces=given.add_special_pieces,
    )
    whole, _ = load(folder)
    try:
        alone, _ = load(path, is_foreign=True)
    except InputError:
        return True
    return alone.sha256 != whole.sha256


Shapes = Mapping[str, tuple[int, ...]]

# Networks of a model that may initialise each network of a run, best first. The masked language model has one network,
# "encoder". The second choice is used if the first is missing and the shapes are equal.
_NETWORKS = {
    "generator": ("generator", "discriminator"),
    "discriminator": ("discriminator", "generator"),
    "encoder": ("generator", "discriminator"),
}
# A head follows its network: the head and its network in the run, the network and the head in the model.
_HEADS = (
    ("generator_head", "generator", "generator", "generator_head"),
    ("discriminator_head", "discriminator", "discriminator", "discriminator_head"),
    ("head", "encoder", "generator", "generator_head"),
    ("corrective_head", "discriminator", "discriminator", "corrective_head"),
)


class Report(NamedTuple):
    """The source of each part of a run's parameters.

    Attributes:
      taken: parts of the model by the parts of the run that they initialise.
      initial: parts of the run with random initial values.
      unused: parts of the model that the run does not use.
    """

    taken: Mapping[str, str]
    initial: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [
            f"taken: {part}" + (f" from {source}" if source != part else "") for part, source in self.taken.items()
        ]
        lines += [f"initial values: {part}" for part in self.initial]
        return lines + [f"not used: {part}" for part in self.unused]


def pretraining_params(model: Model, expected: Mapping[str, Any]) -> tuple[dict[str, Any], Report]:
    """The parameters that a pre-training run takes from a model.

    Args:
      model: a model from `checkpoints.open_model`.
      expected: the run's parameter tree, unboxed; leaves have a `shape`.

    Returns:
      The complete parts that are taken, as a nested tree of float32 arrays, and the report.

    Raises:
      InputError: the model contradicts the config; lists every tensor with its shape and the expected one, and the
        fields that fix it.
    """
    wanted = _shapes(expected)
    taken, contradicted = _networks_taken(model, wanted, expected)
    problems = _mismatches(model, "embeddings", wanted, "embeddings")
    for part, source in contradicted.items():
        problems += _mismatches(model, source, wanted, part)
    for head, place, network, source in _HEADS:
        follows = taken.get(place) == network or place in contradicted
        if head in expected and source in model.params and follows:
            taken[head] = source
            problems += _mismatches(model, source, wanted, head)
    taken["embeddings"] = "embeddings"
    initial = tuple(part for part in expected if part not in taken)
    if problems:
        fix = "".join(f" --config.{field}={value}" for field, value in _fields(model, wanted))
        raise InputError(
            f"{model.origin} does not fit the config:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
            + (f"\nSet{fix}" if fix else "")
        )
    flat: dict[str, np.ndarray] = {}
    for part, source in taken.items():
        for path, array in flatten(model.params[source]).items():
            flat[f"{part}/{path}"] = array
    unused = tuple(part for part in model.params if part not in taken.values())
    return unflatten(flat), Report(taken, initial, unused)


def finetuning_params(model: Model) -> tuple[dict[str, Any], EncoderConfig, list[str]]:
    """The encoder that a fine-tuning run takes from a model: the discriminator if there is one, else the generator.

    Args:
      model: a model from `checkpoints.open_model`, perhaps fine-tuned.

    Returns:
      "embeddings" and "encoder" as a nested tree of float32 arrays, the encoder's sizes, and the report as lines.
    """
    network = "discriminator" if model.discriminator else "generator"
    parts = {"embeddings": "embeddings", "encoder": network}
    params = {
        part: unflatten({path: np.asarray(array, np.float32) for path, array in flatten(model.params[source]).items()})
        for part, source in parts.items()
    }
    report = Report(parts, (), tuple(part for part in model.params if part not in parts.values()))
    heads = [f"head of task {name}" for name in model.task_heads]
    if model.task_head and not heads:
        heads = [f"head of {model.task_head.architecture}"]
    lines = [*report.lines(), *(f"not used: {head}" for head in heads)]
    lines += [f"not used: {name} ({reason})" for name, reason in model.skipped]
    return params, model.networks[network], lines + [f"note: {note}" for note in model.notes]


def _networks_taken(model: Model, wanted: Shapes, expected: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Sources of the run's networks, and networks of the model that are meant for the run but do not fit."""
    taken, contradicted = {}, {}
    for part, sources in _NETWORKS.items():
        present = [source for source in sources if source in model.params]
        fitting = [source for source in present if not _mismatches(model, source, wanted, part)]
        if part in expected and fitting:
            taken[part] = fitting[0]
    for part, sources in _NETWORKS.items():
        if part not in expected or part in taken:
            continue
        # A network used as second choice is no contradiction: a full-size masked language model, for example, whose
        # encoder becomes a discriminator.
        meant = sources if part == "encoder" else sources[:1]
        left = [source for source in meant if source in model.params and source not in taken.values()]
        if left:
            contradicted[part] = left[0]
    return taken, contradicted


def _shapes(tree: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            shapes |= _shapes(value, f"{prefix}{name}/")
        else:
            shapes[prefix + name] = tuple(value.shape)
    return shapes


def _mismatches(model: Model, source: str, wanted: Shapes, part: str) -> list[str]:
    """One line for each tensor whose shape in the model differs from the run's."""
    found = {f"{part}/{path}": array.shape for path, array in flatten(model.params[source]).items()}
    needed = {path: shape for path, shape in wanted.items() if path.startswith(f"{part}/")}
    return [
        f"{path}: found {_shape_text(found.get(path))}, expected {_shape_text(needed.get(path))}"
        for path in sorted(found.keys() | needed.keys())
        if found.get(path) != needed.get(path)
    ]


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(list(shape))


def _fields(model: Model, wanted: Shapes) -> Iterable[tuple[str, Any]]:
    """Yields config fields that differ from the model's sizes, with the model's values."""
    main = "encoder" if "encoder/layers/output/bias" in wanted else "discriminator"
    config = (model.generator or model.main) if main == "encoder" else model.main
    words, positions, query, inner = (
        wanted.get(path, ())
        for path in (
            "embeddings/word_embeddings",
            "embeddings/position_embeddings",
            f"{main}/layers/attention/query/kernel",
            f"{main}/layers/intermediate/kernel",
        )
    )
    if len(words) != 2 or len(query) != 4:
        return
    sizes = (
        ("data.tokenizer.vocabulary_size", config.vocabulary_size, words[0]),
        ("model.embedding_size", config.embedding_size, words[1]),
        ("model.positions", config.positions, positions[0]),
        ("model.layers", config.layers, query[0]),
        ("model.hidden_size", config.hidden_size, query[1]),
        ("model.heads", config.heads, query[2]),
        ("model.feed_forward_size", config.feed_forward_size, inner[2]),
    )
    yield from ((field, found) for field, found, expected in sizes if found != expected)
    generator = wanted.get("generator/layers/output/bias")
    if main == "discriminator" and generator and model.generator and model.discriminator:
        width = model.generator.hidden_size / model.discriminator.hidden_size
        depth = model.generator.layers / model.discriminator.layers
        if generator[1] != model.generator.hidden_size:
            yield "model.generator_width", f"{width:.6g}"
        if generator[0] != model.generator.layers:
            yield "model.generator_depth", f"{depth:.6g}"
