"""Files of Google's TensorFlow 1 checkpoints. Functions import TensorFlow when they need it."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.interop import google, model_card, native_format, tensor_map, tokenizer_files
from electra_jax.interop.model import Model
from electra_jax.models.encoder import EncoderConfig

_STATE_FILE = "checkpoint"
_MOST_STATE_BYTES = 1 << 20  # Of the file "checkpoint": a line for each checkpoint that was kept.
_SLOTS = ("/adam_m", "/adam_v")


def find(path: str) -> str | None:
    """The prefix of a checkpoint's files, or None if there is none at this path.

    Args:
      path: a prefix such as model.ckpt-1000, one of its files, or a directory with one checkpoint or a file
        "checkpoint" that names one.

    Raises:
      InputError: the directory has several checkpoints and names none.
    """
    if prefix := re.fullmatch(r"(.+)\.(index|data-\d+-of-\d+)", path):
        path = prefix[1]
    if os.path.isfile(f"{path}.index"):
        return path
    indices = sorted(name.removesuffix(".index") for name in storage.names(path) if name.endswith(".index"))
    if not os.path.isdir(path) or not indices:
        return None
    state = os.path.join(path, _STATE_FILE)
    if os.path.isfile(state):
        # A name that is not UTF-8 is none of the files' names, which are.
        with storage.open_to_read(state) as file:
            text = file.read(_MOST_STATE_BYTES).decode("utf-8", "replace")
        newest = re.search(r'^model_checkpoint_path: "(.+)"', text, re.MULTILINE)
        # The path is from the training machine; only its last part applies here.
        if newest and os.path.basename(newest[1]) in indices:
            return os.path.join(path, os.path.basename(newest[1]))
    if len(indices) > 1:
        raise InputError(f"{path}: found several checkpoints, {', '.join(indices)}; give the path of one")
    return os.path.join(path, indices[0])


def read(prefix: str, heads: int | None = None) -> Model:
    """Reads a checkpoint, and the vocab.txt next to it.

    Args:
      prefix: a prefix from `find`.
      heads: attention heads of the main network, if the user states them.

    Raises:
      InputError: it is damaged or not an ELECTRA; or the number of heads is unknown or wrong.
    """
    variables, slots = _variables(prefix)
    step = variables.pop(google.STEP, None)
    try:
        found = google.find({name: array.shape for name, array in variables.items()})
    except InputError as error:
        raise InputError(f"{prefix}: {error}") from error
    directory = os.path.dirname(prefix) or "."
    manifest = (
        native_format.read_manifest(directory)
        if storage.exists(storage.join(directory, native_format.MANIFEST))
        else None
    )
    recorded = manifest.sizes() if manifest else {}
    notes: list[str] = []
    sizes: dict[str, EncoderConfig] = {}
    flat: dict[str, np.ndarray] = {}
    for network, scope in found.scopes.items():
        hidden = _width(prefix, variables, scope)
        # A separate generator has the default, whatever the overrides (`get_generator_config`).
        stated = heads if scope == "electra" else None
        if network in recorded:
            count = _recorded_heads(prefix, recorded[network].heads, stated)
        else:
            try:
                count = google.main_heads(hidden, stated) if scope == "electra" else google.heads_by_rule(hidden)
            except InputError as error:
                raise InputError(f"{prefix}: {error}") from error
            source = "as stated" if stated else "by Google's rule of 64 units each"
            notes.append(f"{network}: {count} attention heads, {source}")
        try:
            for path, array in google.network_params(variables, network, scope, count).items():
                tensor_map.put(flat, path, array)
            sizes[network] = recorded.get(network) or _sizes(flat, network)
        except (KeyError, ValueError) as error:  # An array has another number of axes.
            raise InputError(
                f"{prefix}: the {network} has not the arrays of an ELECTRA ({error}); copy it again"
            ) from error
    if set(found.scopes.values()) == {"electra"} and len(found.scopes) == 2:
        notes.append("generator: a copy of the discriminator's encoder, as the checkpoint has untied_generator=False")
    stated_casing = manifest.casing.model_dump() if manifest and manifest.casing else None
    tokenizer, casing = tokenizer_files.load_beside(directory, stated_casing)
    counted = ((f"{slots} optimizer slots", "only weights are converted"),) if slots else ()
    return Model(
        discriminator=sizes.get("discriminator"),
        generator=sizes.get("generator"),
        params=tensor_map.unflatten(flat),
        tokenizer=tokenizer,
        step=_step(prefix, step),
        origin=(manifest and manifest.origin) or f"Google checkpoint {os.path.basename(prefix)}",
        sources=tuple(manifest.sources) if manifest else (),
        skipped=(*counted, *found.skipped),
        notes=(*notes, *casing),
    )


def write(model: Model, directory: str) -> tuple[str, ...]:
    """Writes model.ckpt-STEP, the file that names it, vocab.txt and a model card; returns notes for the user.

    Raises:
      InputError: Google's code cannot compute this model.
      OSError: a file cannot be written.
    """
    for network, config in model.networks.items():
        if config.attention_bias != "none":
            raise InputError(
                f"config.model.attention_bias: found {config.attention_bias!r}, expected 'none', as Google's ELECTRA "
                "has no equivalent; train with --config.model.attention_bias=none"
            )
        if config.layer_norm_epsilon != google.LAYER_NORM_EPSILON:
            raise InputError(
                f"The {network} has a LayerNorm epsilon of {config.layer_norm_epsilon}; Google's code has "
                f"{google.LAYER_NORM_EPSILON} hard-coded. Convert it with --to=huggingface or --to=electra_jax."
            )
    variables = google.state_of(model.params)
    step = model.step or 0
    name = f"model.ckpt-{step}"
    _save(storage.join(directory, name), variables | {google.STEP: np.asarray(step, np.int64)})
    state = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    storage.write(storage.join(directory, _STATE_FILE), state.encode())
    # Shapes do not determine the number of heads.
    native_format.write_manifest(model, directory)
    shown = dataclasses.replace(model, task_head=None)
    storage.write(storage.join(directory, "README.md"), model_card.text_of_all(shown, "google").encode())
    notes = []
    for network, config in model.networks.items():
        if wanted := google.overrides(config.hidden_size, config.heads, config.feed_forward_size):
            notes.append(f"{network}: run Google's code with model_hparam_overrides={wanted}")
    vocabulary = tokenizer_files.write_vocabulary(model.tokenizer, directory) if model.tokenizer else ()
    return (*notes, *vocabulary)


def _width(prefix: str, variables: dict[str, np.ndarray], scope: str) -> int:
    name = f"{scope}/encoder/layer_0/output/dense/bias"
    if name not in variables or variables[name].ndim != 1 or not variables[name].size:
        found = list(variables[name].shape) if name in variables else "nothing"
        raise InputError(
            f"{prefix}: {name}: found {found}, expected an array of one axis, the network's width; copy it again"
        )
    return len(variables[name])


def _step(prefix: str, step: np.ndarray | None) -> int | None:
    if step is None:
        return None
    if step.size != 1 or not np.issubdtype(step.dtype, np.integer):
        raise InputError(
            f"{prefix}: {google.STEP}: found {step.dtype} {list(step.shape)}, expected one whole number; copy it again"
        )
    return int(step.item())


def _recorded_heads(prefix: str, recorded: int, stated: int | None) -> int:
    if stated not in (None, recorded):
        raise InputError(
            f"{prefix}: found heads={stated}, expected {recorded} as in {native_format.MANIFEST} next to it; leave out "
            "heads="
        )
    return recorded


def _sizes(flat: dict[str, np.ndarray], network: str) -> EncoderConfig:
    """A network's sizes from the shapes of its arrays."""
    words, positions, types = (
        flat[f"embeddings/{name}"].shape for name in ("word_embeddings", "position_embeddings", "token_type_embeddings")
    )
    layers, hidden, heads, _ = flat[f"{network}/layers/attention/query/kernel"].shape
    return EncoderConfig(
        vocabulary_size=words[0],
        embedding_size=words[1],
        hidden_size=hidden,
        layers=layers,
        heads=heads,
        feed_forward_size=flat[f"{network}/layers/intermediate/kernel"].shape[-1],
        positions=positions[0],
        token_types=types[0],
        layer_norm_epsilon=google.LAYER_NORM_EPSILON,
    )


def _variables(prefix: str) -> tuple[dict[str, np.ndarray], int]:
    """All variables except the optimizer's, and the number of the latter."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(prefix)
        names = reader.get_variable_to_shape_map()
        slots = {name for name in names if name.endswith(_SLOTS)}
        variables = {name: reader.get_tensor(name) for name in names.keys() - slots}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{prefix}: TensorFlow cannot read this checkpoint ({error}); copy it again") from error
    return {name: _float32(array) for name, array in variables.items()}, len(slots)


def _float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else np.asarray(array)


def _save(prefix: str, variables: dict[str, np.ndarray]) -> None:
    """Writes tensors as a checkpoint in TensorFlow's V2 format, which TensorFlow reads since 1.0."""
    import tensorflow as tf

    names = sorted(variables)
    with tf.device("cpu"):
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(variables[name]) for name in names],
        )
