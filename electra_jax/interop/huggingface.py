"""Our parameters as the state dicts of Hugging Face's transformers, and back. Pure, and NumPy is all it takes.

Our generator is the library's `ElectraForMaskedLM` and our discriminator its `ElectraForPreTraining`. Each of those has
a copy of the embeddings, which are one here. Axis letters: see the legend in `models/layers.py`; I × O are the input
and output widths of a dense layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from electra_jax.errors import InputError

if TYPE_CHECKING:
    from electra_jax.models.encoder import EncoderConfig  # Brings JAX with it.


class _Layout(NamedTuple):
    """How the axes of one tensor move."""

    to_theirs: Callable[[np.ndarray], np.ndarray]
    to_ours: Callable[[np.ndarray, int], np.ndarray]  # Their tensors do not tell the number of heads.


_SAME = _Layout(lambda ours: ours, lambda theirs, heads: theirs)
_KERNEL_IxO = _Layout(lambda ours: ours.T, lambda theirs, heads: theirs.T)
_KERNEL_DxHxK = _Layout(
    lambda ours: ours.reshape(ours.shape[0], -1).T,
    lambda theirs, heads: theirs.T.reshape(theirs.shape[1], heads, -1),
)
_KERNEL_HxKxD = _Layout(
    lambda ours: ours.reshape(-1, ours.shape[-1]).T,
    lambda theirs, heads: theirs.T.reshape(heads, -1, theirs.shape[0]),
)
_BIAS_HxK = _Layout(lambda ours: ours.reshape(-1), lambda theirs, heads: theirs.reshape(heads, -1))

# Their name, our path, the layout. Read in both directions.
_EMBEDDINGS = (
    ("electra.embeddings.word_embeddings.weight", "embeddings/word_embeddings", _SAME),
    ("electra.embeddings.position_embeddings.weight", "embeddings/position_embeddings", _SAME),
    ("electra.embeddings.token_type_embeddings.weight", "embeddings/token_type_embeddings", _SAME),
    ("electra.embeddings.LayerNorm.weight", "embeddings/layer_norm/scale", _SAME),
    ("electra.embeddings.LayerNorm.bias", "embeddings/layer_norm/bias", _SAME),
)
# Only where the embeddings are narrower than the encoder; our path goes under the network's name.
_PROJECT = (
    ("electra.embeddings_project.weight", "embeddings_project/kernel", _KERNEL_IxO),
    ("electra.embeddings_project.bias", "embeddings_project/bias", _SAME),
)
# Once for each layer: theirs after "electra.encoder.layer.<number>.", ours stacked under "<network>/layers/".
_LAYER = (
    ("attention.self.query.weight", "attention/query/kernel", _KERNEL_DxHxK),
    ("attention.self.query.bias", "attention/query/bias", _BIAS_HxK),
    ("attention.self.key.weight", "attention/key/kernel", _KERNEL_DxHxK),
    ("attention.self.key.bias", "attention/key/bias", _BIAS_HxK),
    ("attention.self.value.weight", "attention/value/kernel", _KERNEL_DxHxK),
    ("attention.self.value.bias", "attention/value/bias", _BIAS_HxK),
    ("attention.output.dense.weight", "attention/output/kernel", _KERNEL_HxKxD),
    ("attention.output.dense.bias", "attention/output/bias", _SAME),
    ("attention.output.LayerNorm.weight", "attention_layer_norm/scale", _SAME),
    ("attention.output.LayerNorm.bias", "attention_layer_norm/bias", _SAME),
    ("intermediate.dense.weight", "intermediate/kernel", _KERNEL_IxO),
    ("intermediate.dense.bias", "intermediate/bias", _SAME),
    ("output.dense.weight", "output/kernel", _KERNEL_IxO),
    ("output.dense.bias", "output/bias", _SAME),
    ("output.LayerNorm.weight", "output_layer_norm/scale", _SAME),
    ("output.LayerNorm.bias", "output_layer_norm/bias", _SAME),
)
_TIED_WEIGHT = "generator_lm_head.weight"  # A second name of the word table; files may leave it out.
_HEADS = {
    "generator": (
        ("generator_predictions.dense.weight", "generator_head/dense/kernel", _KERNEL_IxO),
        ("generator_predictions.dense.bias", "generator_head/dense/bias", _SAME),
        ("generator_predictions.LayerNorm.weight", "generator_head/layer_norm/scale", _SAME),
        ("generator_predictions.LayerNorm.bias", "generator_head/layer_norm/bias", _SAME),
        ("generator_lm_head.bias", "generator_head/bias", _SAME),
        (_TIED_WEIGHT, "embeddings/word_embeddings", _SAME),
    ),
    "discriminator": (
        ("discriminator_predictions.dense.weight", "discriminator_head/dense/kernel", _KERNEL_IxO),
        ("discriminator_predictions.dense.bias", "discriminator_head/dense/bias", _SAME),
        ("discriminator_predictions.dense_prediction.weight", "discriminator_head/prediction/kernel", _KERNEL_IxO),
        ("discriminator_predictions.dense_prediction.bias", "discriminator_head/prediction/bias", _SAME),
    ),
}
# Old files carry these counters beside the weights.
_BUFFERS = ("electra.embeddings.position_ids", "electra.embeddings.token_type_ids")


def huggingface_config(config: EncoderConfig) -> dict[str, Any]:
    """The fields of `config.json` that describe one of the networks.

    Raises:
      InputError: the encoder has an attention bias, which transformers' ELECTRA does not know.
    """
    if config.attention_bias != "none":
        raise InputError(
            f"config.model.attention_bias: {config.attention_bias!r} has no equivalent in Hugging Face's ELECTRA; "
            f"only models trained with --config.model.attention_bias=none can be written for it"
        )
    return {
        "model_type": "electra",
        "vocab_size": config.vocabulary_size,
        "embedding_size": config.embedding_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout_rate,
        "attention_probs_dropout_prob": config.attention_dropout_rate,
        "max_position_embeddings": config.positions,
        "type_vocab_size": config.token_types,
        "layer_norm_eps": config.layer_norm_epsilon,
    }


def generator_state(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of `ElectraForMaskedLM`.

    Args:
      params: what `Electra.init` returns under "params", unboxed; NumPy or JAX arrays.

    Returns:
      Fresh arrays of the parameters' types, all that `load_state_dict(strict=True)` asks for.

    Raises:
      InputError: the network has parameters that transformers' ELECTRA does not know.
    """
    return _write(params, "generator")


def discriminator_state(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of `ElectraForPreTraining`; arguments and errors are those of `generator_state`."""
    return _write(params, "discriminator")


def params_from_huggingface(
    generator: Mapping[str, np.ndarray],
    discriminator: Mapping[str, np.ndarray],
    *,
    generator_heads: int,
    discriminator_heads: int,
) -> dict[str, Any]:
    """Our parameter tree from the state dicts of a generator and a discriminator that were trained together.

    Args:
      generator: of `ElectraForMaskedLM`.
      discriminator: of `ElectraForPreTraining`.
      generator_heads: `num_attention_heads` of its config.json.
      discriminator_heads: idem.

    Returns:
      Fresh arrays of the given types in nested dicts, as `Electra.init` returns them under "params".

    Raises:
      InputError: a tensor is missing or unknown, or the two states disagree on a shared table.
    """
    flat = _read(generator, "generator", generator_heads)
    for path, array in _read(discriminator, "discriminator", discriminator_heads).items():
        _put(flat, path, array)
    return _unflatten(flat)


def _tensors(network: str, layers: int, projected: bool) -> Iterator[tuple[str, str, int | None, _Layout]]:
    """Their name, our path, the index on its layer axis if it has one, and the layout of each tensor of a network."""
    for theirs, ours, layout in (*_EMBEDDINGS, *_HEADS[network]):
        yield theirs, ours, None, layout
    for theirs, ours, layout in _PROJECT if projected else ():
        yield theirs, f"{network}/{ours}", None, layout
    for layer in range(layers):
        for theirs, ours, layout in _LAYER:
            yield f"electra.encoder.layer.{layer}.{theirs}", f"{network}/layers/{ours}", layer, layout


def _write(params: Mapping[str, Any], network: str) -> dict[str, np.ndarray]:
    flat = _flatten({part: params[part] for part in ("embeddings", network, f"{network}_head")})
    layers = len(flat[f"{network}/layers/output/bias"])
    state, written = {}, set()
    for theirs, ours, layer, layout in _tensors(network, layers, "embeddings_project" in params[network]):
        array = flat[ours] if layer is None else flat[ours][layer]
        state[theirs] = np.array(layout.to_theirs(array), order="C")
        written.add(ours)
    if unknown := sorted(flat.keys() - written):
        raise InputError(f"Hugging Face's ELECTRA has no equivalent of these parameters: {', '.join(unknown)}")
    return state


def _read(state: Mapping[str, np.ndarray], network: str, heads: int) -> dict[str, np.ndarray]:
    numbers = (re.match(r"electra\.encoder\.layer\.(\d+)\.", name) for name in state)
    layers = 1 + max((int(number[1]) for number in numbers if number), default=0)
    flat, stacks, known = {}, {}, set(_BUFFERS)
    for theirs, ours, layer, layout in _tensors(network, layers, _PROJECT[0][0] in state):
        known.add(theirs)
        if theirs not in state:
            if theirs == _TIED_WEIGHT:
                continue
            raise InputError(f"The Hugging Face {network} has no tensor {theirs}")
        array = np.array(layout.to_ours(state[theirs], heads), order="C")
        if layer is None:
            _put(flat, ours, array)
        else:
            stacks.setdefault(ours, []).append(array)
    if unknown := sorted(state.keys() - known):
        raise InputError(f"The Hugging Face {network} has tensors that ELECTRA does not have: {', '.join(unknown)}")
    return flat | {path: np.stack(arrays) for path, arrays in stacks.items()}


def _put(flat: dict[str, np.ndarray], path: str, array: np.ndarray) -> None:
    """Sets flat[path]; if it is set already, these are two copies of a shared table and must be the same."""
    if path in flat and not np.array_equal(flat[path], array):
        raise InputError(
            f"The Hugging Face networks hold two different copies of {path}, of which there is one here; "
            f"expected a generator with tied words and the discriminator that was trained with it"
        )
    flat[path] = array


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = np.asarray(value)
    return flat


def _unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, array in flat.items():
        *parents, name = path.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = array
    return tree
