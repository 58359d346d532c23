"""Initial weights with which attention looks at neighbours, for models or runs too small to learn locality.

From random weights a tiny network stays on the plateau of word frequencies for most of a short run, until some head
attends to the word next to it. Here positions are sinusoids (Vaswani et al. 2017, §3.5) in dimensions
reserved for them, and the first layers' queries and keys read these dimensions, the queries rotated by an offset: a
head then attends to the previous word, to the next, and so on. Mimetic initialisation (Trockman & Kolter 2023) did so
for images. These are weights of an ordinary ELECTRA, which every format can store.

Gradients would erase the table within some dozen updates, since its rows are small and every token changes them. So no
gradient reaches it in pre-training; weight decay alone shrinks it, by a few percent.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.models.encoder import EncoderConfig

# Offsets of the heads by layer; further heads and layers start at random.
_OFFSETS = ((-1, 1, -2, 2), (1, -1, 2, -2))
_AMPLITUDE = 0.1  # Amplitude of the sinusoids; words start with 0.02 in each dimension.
_GOLDEN = (5**0.5 - 1) / 2


def local_start(params: Mapping[str, Any], embedding_size: int, networks: Mapping[str, EncoderConfig]) -> Any:
    """The same parameters with positions in dimensions of their own, and heads that attend to neighbours.

    Args:
      params: fresh parameters with the parts "embeddings" and `networks`, unboxed.
      embedding_size: E, the width of the tables.
      networks: sizes by part.

    Returns:
      A new tree, which shares unchanged arrays with `params`.
    """
    pairs = min(config.head_size // 2 for config in networks.values())
    pairs = min(pairs, embedding_size // 4, *(config.hidden_size // 4 for config in networks.values()))
    # Multiples of the golden ratio are evenly spread for any number of pairs, and no two distances look the same.
    frequencies_P = np.pi * np.modf((np.arange(pairs) + 1) * _GOLDEN)[0]
    places = 2 * pairs

    embeddings = dict(params["embeddings"])
    table_LxE = embeddings["position_embeddings"]
    angles_LxP = np.arange(table_LxE.shape[0])[:, None] * frequencies_P
    waves_LxQ = _AMPLITUDE * np.concatenate([np.sin(angles_LxP), np.cos(angles_LxP)], axis=1)
    embeddings["position_embeddings"] = jnp.zeros_like(table_LxE).at[:, :places].set(waves_LxQ)
    for name in ("word_embeddings", "token_type_embeddings"):
        embeddings[name] = embeddings[name].at[:, :places].set(0.0)

    return {**params, "embeddings": embeddings} | {
        part: _looking_at_neighbours(params[part], config, frequencies_P) for part, config in networks.items()
    }


def with_fixed_positions(params: Mapping[str, Any]) -> Any:
    """The same parameters, with no gradient through the position table."""
    embeddings = dict(params["embeddings"])
    embeddings["position_embeddings"] = jax.lax.stop_gradient(embeddings["position_embeddings"])
    return {**params, "embeddings": embeddings}


def _looking_at_neighbours(network: Mapping[str, Any], config: EncoderConfig, frequencies_P: np.ndarray) -> Any:
    pairs = len(frequencies_P)
    places = 2 * pairs
    network = dict(network)
    if "embeddings_project" in network:
        # The projection keeps the dimensions of positions, and keeps words out of them.
        kernel_ExD = network["embeddings_project"]["kernel"].at[:places].set(0.0).at[:, :places].set(0.0)
        kernel_ExD = kernel_ExD.at[jnp.arange(places), jnp.arange(places)].set(1.0)
        network["embeddings_project"] = {**network["embeddings_project"], "kernel": kernel_ExD}
    attention = dict(network["layers"]["attention"])
    shape = attention["query"]["kernel"].shape
    query_NxDxHxK, key_NxDxHxK = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    each = np.arange(pairs)
    for layer, offsets in enumerate(_OFFSETS[: config.layers]):
        for head, offset in enumerate(offsets[: config.heads]):
            query_DxK, key_DxK = query_NxDxHxK[layer, :, head], key_NxDxHxK[layer, :, head]
            key_DxK[each, 2 * each] = key_DxK[pairs + each, 2 * each + 1] = 1.0
            # sin(w (i + offset)) and cos(w (i + offset)) from the sine and the cosine of w i.
            cosines_P, sines_P = np.cos(frequencies_P * offset), np.sin(frequencies_P * offset)
            query_DxK[each, 2 * each], query_DxK[pairs + each, 2 * each] = cosines_P, sines_P
            query_DxK[pairs + each, 2 * each + 1], query_DxK[each, 2 * each + 1] = cosines_P, -sines_P
    for name, given_NxDxHxK in (("query", query_NxDxHxK), ("key", key_NxDxHxK)):
        kernel_NxDxHxK = jnp.where(given_NxDxHxK == 0.0, attention[name]["kernel"], given_NxDxHxK)
        attention[name] = {**attention[name], "kernel": kernel_NxDxHxK}
    return {**network, "layers": {**network["layers"], "attention": attention}}
