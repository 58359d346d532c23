"""Converts our parameters to the names of Google's TensorFlow 1 checkpoints and back. Pure; imports NumPy only.

Names: google-research/electra at 8a46635, `model/modeling.py` and `run_pretraining.py`. Shared embeddings are stored
once, under "electra/embeddings". Kernels have our layout, except that heads are not a separate axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from electra_jax.errors import InputError
from electra_jax.interop import tensor_map
from electra_jax.interop.tensor_map import SAME, Entry, Layout

STEP = "global_step"
# Hard-coded in Google's code.
LAYER_NORM_EPSILON = 1e-12
_HEAD_WIDTH = 64
# Widths of the published models Small, Base and Large, which all follow that rule.
_PUBLISHED_WIDTHS = (256, 768, 1024)
_FEED_FORWARD_FACTOR = 4

_KERNEL_DxHxK = Layout(
    lambda ours: ours.reshape(ours.shape[0], -1), lambda theirs, heads: theirs.reshape(theirs.shape[0], heads, -1)
)
_KERNEL_HxKxD = Layout(
    lambda ours: ours.reshape(-1, ours.shape[-1]), lambda theirs, heads: theirs.reshape(heads, -1, theirs.shape[1])
)
_BIAS_HxK = Layout(lambda ours: ours.reshape(-1), lambda theirs, heads: theirs.reshape(heads, -1))

# Their name, our path, the layout; used in both directions.
_EMBEDDINGS = (
    ("electra/embeddings/word_embeddings", "embeddings/word_embeddings", SAME),
    ("electra/embeddings/position_embeddings", "embeddings/position_embeddings", SAME),
    ("electra/embeddings/token_type_embeddings", "embeddings/token_type_embeddings", SAME),
    ("electra/embeddings/LayerNorm/gamma", "embeddings/layer_norm/scale", SAME),
    ("electra/embeddings/LayerNorm/beta", "embeddings/layer_norm/bias", SAME),
)
# Relative to the network's scope there, and to its name here.
_PROJECT = (
    ("embeddings_project/kernel", "embeddings_project/kernel", SAME),
    ("embeddings_project/bias", "embeddings_project/bias", SAME),
)
# For each layer: theirs relative to "<scope>/encoder/layer_<number>/", ours stacked under "<network>/layers/".
_LAYER = (
    ("attention/self/query/kernel", "attention/query/kernel", _KERNEL_DxHxK),
    ("attention/self/query/bias", "attention/query/bias", _BIAS_HxK),
    ("attention/self/key/kernel", "attention/key/kernel", _KERNEL_DxHxK),
    ("attention/self/key/bias", "attention/key/bias", _BIAS_HxK),
    ("attention/self/value/kernel", "attention/value/kernel", _KERNEL_DxHxK),
    ("attention/self/value/bias", "attention/value/bias", _BIAS_HxK),
    ("attention/output/dense/kernel", "attention/output/kernel", _KERNEL_HxKxD),
    ("attention/output/dense/bias", "attention/output/bias", SAME),
    ("attention/output/LayerNorm/gamma", "attention_layer_norm/scale", SAME),
    ("attention/output/LayerNorm/beta", "attention_layer_norm/bias", SAME),
    ("intermediate/dense/kernel", "intermediate/kernel", SAME),
    ("intermediate/dense/bias", "intermediate/bias", SAME),
    ("output/dense/kernel", "output/kernel", SAME),
    ("output/dense/bias", "output/bias", SAME),
    ("output/LayerNorm/gamma", "output_layer_norm/scale", SAME),
    ("output/LayerNorm/beta", "output_layer_norm/bias", SAME),
)
_HEADS = {
    "generator": (
        ("generator_predictions/dense/kernel", "generator_head/dense/kernel", SAME),
        ("generator_predictions/dense/bias", "generator_head/dense/bias", SAME),
        ("generator_predictions/LayerNorm/gamma", "generator_head/layer_norm/scale", SAME),
        ("generator_predictions/LayerNorm/beta", "generator_head/layer_norm/bias", SAME),
        ("generator_predictions/output_bias", "generator_head/bias", SAME),
    ),
    "discriminator": (
        ("discriminator_predictions/dense/kernel", "discriminator_head/dense/kernel", SAME),
        ("discriminator_predictions/dense/bias", "discriminator_head/dense/bias", SAME),
        ("discriminator_predictions/dense_1/kernel", "discriminator_head/prediction/kernel", SAME),
        ("discriminator_predictions/dense_1/bias", "discriminator_head/prediction/bias", SAME),
    ),
}


class Found(NamedTuple):
    """The networks in a checkpoint.

    Attributes:
      scopes: scope of each network, by our name of the network.
      skipped: names of ignored variables, with the reason.
    """

    scopes: dict[str, str]
    skipped: tuple[tuple[str, str], ...]


def find(shapes: Mapping[str, Sequence[int]]) -> Found:
    """Finds the networks of a checkpoint from the names and shapes of its variables.

    Raises:
      InputError: the checkpoint has no ELECTRA.
    """
    names = set(shapes)
    if "electra/embeddings/word_embeddings" not in names or "electra/encoder/layer_0/output/dense/kernel" not in names:
        raise InputError(
            f"has no ELECTRA: expected electra/embeddings/… and electra/encoder/…, found "
            f"{', '.join(sorted(names)[:5]) or 'nothing'}"
        )
    has_words, has_replaced = (f"{head}_predictions/dense/kernel" in names for head in tensor_map.NETWORKS)
    own_generator = any(name.startswith("generator/encoder/") for name in names)
    own_embeddings = "generator/embeddings/word_embeddings" in names
    skipped = []
    if own_embeddings:
        reason = "a generator with embeddings of its own; here the two networks share them"
        skipped += [("generator", reason)]
        scopes = {"discriminator": "electra"}
    elif own_generator:
        scopes = {"generator": "generator", "discriminator": "electra"}
    elif has_words and _fits(shapes):
        # With untied_generator=False both networks share one encoder; here it becomes two with equal weights. With
        # electra_objective=False the only network has the word head.
        scopes = {"generator": "electra"} | ({"discriminator": "electra"} if has_replaced else {})
    else:
        scopes = {"discriminator": "electra"}
    layers = {network: count_layers(names, scope) for network, scope in scopes.items()}
    known = {
        entry.theirs
        for network, scope in scopes.items()
        for entry in entries(network, scope, layers[network], projected=True, with_head=True)
    }
    other = {name for name in names - known if not (own_embeddings and name.startswith("generator"))}
    skipped += [(name, "not part of the two networks") for name in sorted(other)]
    return Found(scopes, tuple(skipped))


def _fits(shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether the word head has the discriminator's width, rather than being the rest of a narrower generator."""
    return (
        shapes["generator_predictions/dense/kernel"][:1] == shapes["electra/encoder/layer_0/output/dense/kernel"][1:2]
    )


def count_layers(names: set[str], scope: str) -> int:
    """Number of layers of the encoder in a scope."""
    numbers = (re.match(rf"{scope}/encoder/layer_(\d+)/", name) for name in names)
    # Counted, as a single name with a large number would ask for as many layers.
    return len({number[1] for number in numbers if number})


def heads_by_rule(hidden_size: int) -> int:
    """Default number of attention heads in Google's code (`get_bert_config`)."""
    return max(1, hidden_size // _HEAD_WIDTH)


def main_heads(hidden_size: int, stated: int | None) -> int:
    """Number of attention heads of the network in the scope "electra", which no checkpoint stores.

    Args:
      hidden_size: width of the network.
      stated: the number that the user states, if any.

    Raises:
      InputError: no number is stated for a width that Google did not publish, or it does not divide the width.
    """
    usual = heads_by_rule(hidden_size)
    if stated is None:
        if hidden_size in _PUBLISHED_WIDTHS:
            return usual
        published = ", ".join(f"{width} ({heads_by_rule(width)} heads)" for width in _PUBLISHED_WIDTHS)
        raise InputError(
            f"found a network of width {hidden_size}, and a checkpoint does not store how many attention heads it has; "
            f"it is known only for the widths that Google published, {published}. Add the number to the path, as in "
            f"PATH#heads={usual}: num_attention_heads of model_hparam_overrides, or {usual} if that was not set"
        )
    if hidden_size % stated:
        raise InputError(
            f"found heads={stated}, expected a number that divides the width of the network, {hidden_size}"
        )
    return stated


def overrides(hidden_size: int, heads: int, feed_forward_size: int) -> dict[str, int]:
    """The `model_hparam_overrides` that Google's code needs for sizes that are not its defaults."""
    wanted = {"num_attention_heads": heads, "intermediate_size": feed_forward_size}
    chosen = (heads_by_rule(hidden_size), _FEED_FORWARD_FACTOR * hidden_size)
    return {name: value for (name, value), usual in zip(wanted.items(), chosen, strict=True) if value != usual}


def network_params(state: Mapping[str, np.ndarray], network: str, scope: str, heads: int) -> dict[str, np.ndarray]:
    """Arrays by path of one network and its head, if present.

    Args:
      state: the checkpoint's tensors by name.
      network: "generator" or "discriminator".
      scope: its scope, from `find`.
      heads: number of attention heads.

    Raises:
      InputError: a tensor is missing.
    """
    projected = f"{scope}/{_PROJECT[0][0]}" in state
    with_head = _HEADS[network][0][0] in state
    rows = entries(network, scope, count_layers(set(state), scope), projected=projected, with_head=with_head)
    return tensor_map.read(state, rows, heads, "The checkpoint")


def state_of(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """All tensors of a model by Google's names, each once.

    Args:
      params: our nested tree with one network or both, with or without heads.

    Raises:
      InputError: there are parameters that Google's code does not have.
    """
    rows: dict[str, Entry] = {}
    for network in tensor_map.NETWORKS:
        if network in params:
            scope = "generator" if network == "generator" and "discriminator" in params else "electra"
            layers = len(params[network]["layers"]["output"]["bias"])
            projected = "embeddings_project" in params[network]
            with_head = f"{network}_head" in params
            rows |= {
                row.theirs: row for row in entries(network, scope, layers, projected=projected, with_head=with_head)
            }
    return tensor_map.write(params, rows.values(), "Google's ELECTRA")


def entries(network: str, scope: str, layers: int, *, projected: bool, with_head: bool) -> Iterator[Entry]:
    """Yields the entries of all tensors of a network."""
    for theirs, ours, layout in (*_EMBEDDINGS, *(_HEADS[network] if with_head else ())):
        yield Entry(theirs, ours, None, layout)
    for theirs, ours, layout in _PROJECT if projected else ():
        yield Entry(f"{scope}/{theirs}", f"{network}/{ours}", None, layout)
    for layer in range(layers):
        for theirs, ours, layout in _LAYER:
            yield Entry(f"{scope}/encoder/layer_{layer}/{theirs}", f"{network}/layers/{ours}", layer, layout)
