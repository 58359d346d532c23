"""Self-attention over a batch of rows. Axis letters: see the legend in `layers.py`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from electra_jax.models.layers import Dropout, Initializer, Projection


def distance_decay(slopes_H: jax.Array, length: int) -> jax.Array:
    """Bias [H, L, L] that falls linearly with the distance of two positions, on both sides alike.

    Press et al. 2022 (ALiBi) with the sign of the distance dropped, as an encoder looks both ways.
    """
    positions_L = jnp.arange(length)
    distances_LxL = jnp.abs(positions_L[:, None] - positions_L[None, :]).astype(jnp.float32)
    return -slopes_H[:, None, None] * distances_LxL


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017), each position attending within its own document.

    Attributes:
      bias: "none" as in ELECTRA, or "distance_decay": a slope for each head, learned, starting at 1, 1/2, 1/4 …
        It lets a tiny model leave the word-frequency plateau within minutes; published checkpoints have no such thing.
    """

    heads: int
    head_size: int
    dropout_rate: float
    kernel_init: Initializer
    bias: str = "none"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, hidden_BxLxD: jax.Array, document_ids_BxL: jax.Array, *, deterministic: bool) -> jax.Array:
        """Returns the attended values, float `dtype` of shape [B, L, D].

        Args:
          hidden_BxLxD: the layer's input.
          document_ids_BxL: int32, 0 on padding; positions attend only to positions with the same id.
          deterministic: no dropout if true; otherwise the "dropout" random stream is used.
        """
        width = hidden_BxLxD.shape[-1]
        to_heads = dict(
            equation="bld,dhk->blhk",
            kernel_shape=(width, self.heads, self.head_size),
            kernel_axes=("embed", "heads", "kv"),
            kernel_init=self.kernel_init,
            bias_axes=2,
            dtype=self.dtype,
        )
        query_BxLxHxK = Projection(**to_heads, name="query")(hidden_BxLxD) * self.head_size**-0.5
        key_BxLxHxK = Projection(**to_heads, name="key")(hidden_BxLxD)
        value_BxLxHxK = Projection(**to_heads, name="value")(hidden_BxLxD)

        # Scores and softmax in float32: bfloat16 keeps only eight bits of a probability.
        scores_BxHxLxL = jnp.einsum("bqhk,bshk->bhqs", query_BxLxHxK, key_BxLxHxK, preferred_element_type=jnp.float32)
        if self.bias == "distance_decay":
            slopes_H = self.param("slopes", nn.with_logical_partitioning(_halving, ("heads",)), (self.heads,))
            scores_BxHxLxL += distance_decay(slopes_H, hidden_BxLxD.shape[1])
        same_document_Bx1xLxL = (document_ids_BxL[:, None, :, None] == document_ids_BxL[:, None, None, :]) & (
            document_ids_BxL[:, None, None, :] > 0
        )
        weights_BxHxLxL = nn.softmax(jnp.where(same_document_Bx1xLxL, scores_BxHxLxL, -1e9)).astype(self.dtype)
        weights_BxHxLxL = Dropout(self.dropout_rate)(weights_BxHxLxL, deterministic=deterministic)

        attended_BxLxHxK = jnp.einsum("bhqs,bshk->bqhk", weights_BxHxLxL, value_BxLxHxK)
        return Projection(
            equation="blhk,hkd->bld",
            kernel_shape=(self.heads, self.head_size, width),
            kernel_axes=("heads", "kv", "embed"),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="output",
        )(attended_BxLxHxK)


def _halving(_: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    return 0.5 ** jnp.arange(shape[0], dtype=dtype)
