"""Converts our parameters to state dicts of Hugging Face's transformers and back. Pure; imports NumPy only.

Our generator is the library's `ElectraForMaskedLM`, our discriminator its `ElectraForPreTraining`. Each of those has a
copy of the embeddings, which are shared here. Axis letters: see the legend in `models/layers.py`; I × O are the input
and output widths of a dense layer, C is the number of classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from electra_jax.errors import InputError
from electra_jax.interop import tensor_map
from electra_jax.interop.tensor_map import SAME, Entry, Layout

if TYPE_CHECKING:
    from electra_jax.models.encoder import EncoderConfig  # Imports JAX.

_KERNEL_IxO = Layout(lambda ours: ours.T, lambda theirs, heads: theirs.T)
_KERNEL_DxHxK = Layout(
    lambda ours: ours.reshape(ours.shape[0], -1).T,
    lambda theirs, heads: theirs.T.reshape(theirs.shape[1], heads, -1),
)
_KERNEL_HxKxD = Layout(
    lambda ours: ours.reshape(-1, ours.shape[-1]).T,
    lambda theirs, heads: theirs.T.reshape(heads, -1, theirs.shape[0]),
)
_BIAS_HxK = Layout(lambda ours: ours.reshape(-1), lambda theirs, heads: theirs.reshape(heads, -1))

# Their name, our path, the layout; used in both directions.
_EMBEDDINGS = (
    ("electra.embeddings.word_embeddings.weight", "embeddings/word_embeddings", SAME),
    ("electra.embeddings.position_embeddings.weight", "embeddings/position_embeddings", SAME),
    ("electra.embeddings.token_type_embeddings.weight", "embeddings/token_type_embeddings", SAME),
    ("electra.embeddings.LayerNorm.weight", "embeddings/layer_norm/scale", SAME),
    ("electra.embeddings.LayerNorm.bias", "embeddings/layer_norm/bias", SAME),
)
# Only if the embeddings are narrower than the encoder; our path is relative to the network's name.
_PROJECT = (
    ("electra.embeddings_project.weight", "embeddings_project/kernel", _KERNEL_IxO),
    ("electra.embeddings_project.bias", "embeddings_project/bias", SAME),
)
# For each layer: theirs relative to "electra.encoder.layer.<number>.", ours stacked under "<network>/layers/".
_LAYER = (
    ("attention.self.query.weight", "attention/query/kernel", _KERNEL_DxHxK),
    ("attention.self.query.bias", "attention/query/bias", _BIAS_HxK),
    ("attention.self.key.weight", "attention/key/kernel", _KERNEL_DxHxK),
    ("attention.self.key.bias", "attention/key/bias", _BIAS_HxK),
    ("attention.self.value.weight", "attention/value/kernel", _KERNEL_DxHxK),
    ("attention.self.value.bias", "attention/value/bias", _BIAS_HxK),
    ("attention.output.dense.weight", "attention/output/kernel", _KERNEL_HxKxD),
    ("attention.output.dense.bias", "attention/output/bias", SAME),
    ("attention.output.LayerNorm.weight", "attention_layer_norm/scale", SAME),
    ("attention.output.LayerNorm.bias", "attention_layer_norm/bias", SAME),
    ("intermediate.dense.weight", "intermediate/kernel", _KERNEL_IxO),
    ("intermediate.dense.bias", "intermediate/bias", SAME),
    ("output.dense.weight", "output/kernel", _KERNEL_IxO),
    ("output.dense.bias", "output/bias", SAME),
    ("output.LayerNorm.weight", "output_layer_norm/scale", SAME),
    ("output.LayerNorm.bias", "output_layer_norm/bias", SAME),
)
TIED_WEIGHT = "generator_lm_head.weight"  # A second name of the word table; files may leave it out.
_HEADS = {
    "generator": (
        ("generator_predictions.dense.weight", "generator_head/dense/kernel", _KERNEL_IxO),
        ("generator_predictions.dense.bias", "generator_head/dense/bias", SAME),
        ("generator_predictions.LayerNorm.weight", "generator_head/layer_norm/scale", SAME),
        ("generator_predictions.LayerNorm.bias", "generator_head/layer_norm/bias", SAME),
        ("generator_lm_head.bias", "generator_head/bias", SAME),
        (TIED_WEIGHT, "embeddings/word_embeddings", SAME),
    ),
    "discriminator": (
        ("discriminator_predictions.dense.weight", "discriminator_head/dense/kernel", _KERNEL_IxO),
        ("discriminator_predictions.dense.bias", "discriminator_head/dense/bias", SAME),
        ("discriminator_predictions.dense_prediction.weight", "discriminator_head/prediction/kernel", _KERNEL_IxO),
        ("discriminator_predictions.dense_prediction.bias", "discriminator_head/prediction/bias", SAME),
    ),
}
# Old files store these buffers next to the weights.
_BUFFERS = ("electra.embeddings.position_ids", "electra.embeddings.token_type_ids")
_WHOSE = "The Hugging Face {}"


def huggingface_config(config: EncoderConfig) -> dict[str, Any]:
    """The fields of `config.json` that describe one of the networks, for weights that transformers computes with.

    Raises:
      InputError: the encoder has an attention bias, which transformers' ELECTRA does not know.
    """
    if config.attention_bias != "none":
        raise InputError(
            f"config.model.attention_bias: found {config.attention_bias!r}, expected 'none', as Hugging Face's ELECTRA "
            "has no equivalent; train with --config.model.attention_bias=none"
        )
    return size_fields(config)


def size_fields(config: EncoderConfig) -> dict[str, Any]:
    """The fields of `config.json` with the sizes of one of the networks, whatever computes it."""
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
      params: "params" of `Electra.init`, unboxed; NumPy or JAX arrays. The head may be missing.

    Returns:
      New arrays of the parameters' types, complete for `load_state_dict(strict=True)`.

    Raises:
      InputError: the network has parameters that transformers' ELECTRA does not have.
    """
    return _write(params, "generator")


def discriminator_state(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of `ElectraForPreTraining`; arguments and errors as in `generator_state`."""
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
      generator: state dict of `ElectraForMaskedLM`.
      discriminator: state dict of `ElectraForPreTraining`.
      generator_heads: `num_attention_heads` in the generator's config.json.
      discriminator_heads: `num_attention_heads` in the discriminator's config.json.

    Returns:
      New arrays of the given types in nested dicts, in the structure of "params" of `Electra.init`.

    Raises:
      InputError: a tensor is missing or unknown, or the two states disagree on a shared table.
    """
    states = {"generator": (generator, generator_heads), "discriminator": (discriminator, discriminator_heads)}
    flat: dict[str, np.ndarray] = {}
    for network, (state, heads) in states.items():
        for path, array in network_params(state, network, heads, _WHOSE.format(network)).items():
            tensor_map.put(flat, path, array)
    return tensor_map.unflatten(flat)


def network_params(
    state: Mapping[str, np.ndarray], network: str, heads: int, whose: str, *, with_head: bool = True
) -> dict[str, np.ndarray]:
    """Arrays by path from the state dict of one network.

    Args:
      state: state dict of `ElectraForMaskedLM`, `ElectraForPreTraining` or, without a head, a bare encoder under
        "electra.".
      network: "generator" or "discriminator".
      heads: `num_attention_heads` in its config.json.
      whose: name of the file or network in messages.
      with_head: whether the state has the network's head.

    Raises:
      InputError: a tensor is missing or unknown.
    """
    numbers = (re.match(r"electra\.encoder\.layer\.(\d+)\.", name) for name in state)
    # Counted, as a single name with a large number would ask for as many layers.
    layers = max(1, len({number[1] for number in numbers if number}))
    entries = list(_entries(network, layers, projected=_PROJECT[0][0] in state, with_head=with_head))
    flat = tensor_map.read(state, entries, heads, whose, optional=(TIED_WEIGHT,))
    if unknown := sorted(state.keys() - {entry.theirs for entry in entries} - set(_BUFFERS)):
        raise InputError(f"{whose} has tensors that ELECTRA does not have: {', '.join(unknown)}")
    return flat


def classification_head_state(kernel_DxC: np.ndarray, bias_C: np.ndarray) -> dict[str, np.ndarray]:
    """The head of `ElectraForSequenceClassification` that equals one dense layer on [CLS].

    The paper's head is that one layer; the library's is dense, GELU, dense. With Φ the normal distribution function,
    gelu(z) - gelu(-z) = z Φ(z) + z Φ(-z) = z: each class takes two hidden units; the rest are zero. With more classes
    than half the width, the hidden layer is the identity times 2^-40 instead, where GELU halves exactly; this holds in
    float32 and bfloat16, but float16 has no numbers that small.

    Args:
      kernel_DxC: kernel of the dense layer, float32.
      bias_C: bias of the dense layer, float32.

    Returns:
      Float32 tensors by their names in the library.
    """
    width, classes = kernel_DxC.shape
    inner_DxD = np.zeros((width, width), np.float32)
    outer_CxD = np.zeros((classes, width), np.float32)
    if 2 * classes <= width:
        inner_DxD[:classes], inner_DxD[classes : 2 * classes] = kernel_DxC.T, -kernel_DxC.T
        each = np.arange(classes)
        outer_CxD[each, each], outer_CxD[each, classes + each] = 1, -1
    else:
        np.fill_diagonal(inner_DxD, 2.0**-40)
        outer_CxD[:] = kernel_DxC.T * np.float32(2.0**41)
    return {
        "classifier.dense.weight": inner_DxD,
        "classifier.dense.bias": np.zeros(width, np.float32),
        "classifier.out_proj.weight": outer_CxD,
        "classifier.out_proj.bias": np.array(bias_C, np.float32),
    }


def one_layer_of_head(tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The kernel [D, C] and bias [C] that `classification_head_state` made a head of; None if it made none of it."""
    inner_DxD, outer_CxD = tensors["classifier.dense.weight"], tensors["classifier.out_proj.weight"]
    classes, width = outer_CxD.shape
    kernel_DxC = inner_DxD[:classes].T if 2 * classes <= width else outer_CxD.T * np.float32(2.0**-41)
    bias_C = tensors["classifier.out_proj.bias"]
    made = classification_head_state(kernel_DxC, bias_C)
    if any(not np.array_equal(made[name], tensors[name]) for name in made):
        return None
    return np.ascontiguousarray(kernel_DxC), bias_C


def _entries(network: str, layers: int, *, projected: bool, with_head: bool) -> Iterator[Entry]:
    """Yields the entries of all tensors of a network."""
    for theirs, ours, layout in (*_EMBEDDINGS, *(_HEADS[network] if with_head else ())):
        yield Entry(theirs, ours, None, layout)
    for theirs, ours, layout in _PROJECT if projected else ():
        yield Entry(theirs, f"{network}/{ours}", None, layout)
    for layer in range(layers):
        for theirs, ours, layout in _LAYER:
            yield Entry(f"electra.encoder.layer.{layer}.{theirs}", f"{network}/layers/{ours}", layer, layout)


def _write(params: Mapping[str, Any], network: str) -> dict[str, np.ndarray]:
    parts = {part: params[part] for part in ("embeddings", network, f"{network}_head") if part in params}
    layers = len(params[network]["layers"]["output"]["bias"])
    entries = _entries(
        network, layers, projected="embeddings_project" in params[network], with_head=f"{network}_head" in params
    )
    return tensor_map.write(parts, entries, "Hugging Face's ELECTRA")
