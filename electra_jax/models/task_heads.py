"""Fine-tuning heads, from one vector per row or per token to logits. Axis letters: see `layers.py`.

C is a number of classes or tags. The last kernels have TensorFlow's default initialiser, as Google's heads do.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.layers import Dropout, dense, gelu, glorot_uniform

Outputs = dict[str, jax.Array]


class ClassificationHead(nn.Module):
    """Logits from the hidden state of [CLS]: dropout, then one linear layer (Google's `classification_tasks.py`).

    Attributes:
      classes: C.
      dropout_rate: dropout on the head's input.
      hidden_layer: puts dropout, a linear layer as wide as its input, and GELU in front, as transformers'
        `ElectraClassificationHead` does; its weights are the ones that transformers calls "dense" and "out_proj".
    """

    classes: int
    dropout_rate: float
    hidden_layer: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        hidden_BxLxD: jax.Array,
        batch: Mapping[str, jax.Array],
        *,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> Outputs:
        """Returns "logits", float32 [B, C]; `batch` is not read."""
        del batch
        width = hidden_BxLxD.shape[-1]

        def dropout(inputs: jax.Array) -> jax.Array:
            return Dropout(self.dropout_rate)(inputs, deterministic=deterministic, microbatch=microbatch)

        hidden_Bx1xD = dropout(hidden_BxLxD[:, :1])
        if self.hidden_layer:
            inner = dense(width, width, ("embed", None), glorot_uniform, self.dtype, "dense")
            hidden_Bx1xD = dropout(gelu(inner(hidden_Bx1xD)))
        predict = dense(width, self.classes, ("embed", None), glorot_uniform, self.dtype, "prediction")
        return {"logits": predict(hidden_Bx1xD)[:, 0].astype(jnp.float32)}


class TaggingHead(nn.Module):
    """Logits of each token's tag: dropout, then one linear layer, as in transformers' `ElectraForTokenClassification`.

    Attributes:
      tags: C.
      dropout_rate: dropout on the head's input.
    """

    tags: int
    dropout_rate: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        hidden_BxLxD: jax.Array,
        batch: Mapping[str, jax.Array],
        *,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> Outputs:
        """Returns "logits", float32 [B, L, C]; `batch` is not read."""
        del batch
        width = hidden_BxLxD.shape[-1]
        hidden_BxLxD = Dropout(self.dropout_rate)(hidden_BxLxD, deterministic=deterministic, microbatch=microbatch)
        predict = dense(width, self.tags, ("embed", None), glorot_uniform, self.dtype, "prediction")
        return {"logits": predict(hidden_BxLxD).astype(jnp.float32)}
