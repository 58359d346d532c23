"""Pre-training heads, from hidden states to logits. Axis letters: see the legend in `layers.py`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from electra_jax.models.encoder import EncoderConfig
from electra_jax.models.layers import dense, gelu, glorot_uniform, layer_norm, parameter


class MaskedLanguageModelHead(nn.Module):
    """Predicts the word at a position: dense, GELU, LayerNorm, then the word table as softmax weights.

    Google's `get_token_logits`, for ELECTRA's generator and for BERT.
    """

    config: EncoderConfig

    @nn.compact
    def __call__(self, hidden_BxMxD: jax.Array, word_table_VxE: jax.Array) -> jax.Array:
        """Returns logits over the vocabulary, float32 of shape [B, M, V]."""
        config = self.config
        to_embedding = dense(
            config.hidden_size, config.embedding_size, ("embed", None), config.initializer, config.dtype, "dense"
        )
        predicted_BxMxE = gelu(to_embedding(hidden_BxMxD))
        predicted_BxMxE = layer_norm(config.layer_norm_epsilon, config.dtype, "layer_norm")(predicted_BxMxE)
        bias_V = parameter(self, "bias", nn.initializers.zeros, (config.vocabulary_size,), ("vocab",))
        # Products in the compute type, sums and logits in float32: the softmax must not see rounded logits.
        logits_BxMxV = jnp.einsum(
            "bme,ve->bmv",
            predicted_BxMxE,
            word_table_VxE.astype(config.dtype),
            preferred_element_type=jnp.float32,
        )
        return logits_BxMxV + bias_V


class ReplacedTokenHead(nn.Module):
    """Predicts for each token whether it was replaced: dense, GELU, dense to one logit; no LayerNorm, no dropout.

    Google's `_get_discriminator_output`, whose last kernel has TensorFlow's default initialiser.
    """

    config: EncoderConfig

    @nn.compact
    def __call__(self, hidden_BxLxD: jax.Array) -> jax.Array:
        """Returns the logits of "replaced", float32 of shape [B, L]."""
        config, width = self.config, self.config.hidden_size
        inner_BxLxD = gelu(
            dense(width, width, ("embed", None), config.initializer, config.dtype, "dense")(hidden_BxLxD)
        )
        logits_BxLx1 = dense(width, 1, ("embed", None), glorot_uniform, config.dtype, "prediction")(inner_BxLxD)
        return logits_BxLx1[..., 0].astype(jnp.float32)
