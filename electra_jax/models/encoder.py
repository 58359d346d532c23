"""The transformer encoder of BERT and ELECTRA: embeddings, then post-norm layers stacked over one scanned axis."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from electra_jax.models.attention import SelfAttention, choose_implementation
from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.layers import (
    Dropout,
    Initializer,
    constrain_hidden,
    dense,
    gelu,
    glorot_uniform,
    layer_norm,
    parameter,
)

# What a layer's forward pass keeps for the backward pass, in addition to the layer's input; the rest is recomputed.
SAVED_ACTIVATIONS = {
    "all": jax.checkpoint_policies.everything_saveable,
    "products": jax.checkpoint_policies.save_only_these_names("product"),
    "layer_inputs": jax.checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes and rates of one encoder; the names and defaults of ELECTRA (paper table 6, Google's `BertConfig`)."""

    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    layers: int
    heads: int
    feed_forward_size: int
    positions: int  # Rows of the position table, the longest row that the encoder can read.
    token_types: int = 2
    dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1
    attention_bias: str = "none"
    layer_norm_epsilon: float = 1e-12
    initializer_range: float = 0.02  # Standard deviation of most initial weights, before truncation at two of them.
    attention: str = "plain"  # Implementation; see `attention.py`.
    saved_activations: str = "all"  # Kept for the backward pass; see `SAVED_ACTIVATIONS`.
    unrolled_layers: int = 1  # Layers in one iteration of the loop over layers; parameters are stacked in any case.
    dtype: jnp.dtype = jnp.float32  # Compute type; parameters are float32.

    @property
    def initializer(self) -> Initializer:
        """Initialiser of tables and of most kernels."""
        return nn.initializers.truncated_normal(self.initializer_range)

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    def scaled(self, width: float, depth: float = 1.0) -> "EncoderConfig":
        """The generator's sizes: fractions of the discriminator's, rounded, with the same embeddings."""
        return dataclasses.replace(
            self,
            hidden_size=round(self.hidden_size * width),
            feed_forward_size=round(self.feed_forward_size * width),
            heads=max(1, round(self.heads * width)),
            layers=max(1, round(self.layers * depth)),
        )


def for_machine(
    config: EncoderConfig, platform: str, *, attention: str, unrolled_layers: int, length: int | None
) -> EncoderConfig:
    """The encoder's config for a platform, with an implementation of attention chosen; its results stay the same.

    Args:
      config: sizes of the encoder.
      platform: "cpu", "gpu" or "tpu".
      attention: `config.model.attention`.
      unrolled_layers: `config.model.unrolled_layers`; 0 is all on a TPU, where a loop would copy what its iterations
        keep for the backward pass, and 1 elsewhere.
      length: tokens in each row; None if lengths vary.

    Raises:
      InputError: this implementation of attention is not available.
    """
    implementation = choose_implementation(
        attention,
        platform,
        config.heads,
        config.head_size,
        length=length,
        dropout_rate=config.attention_dropout_rate,
        bias=config.attention_bias,
    )
    unrolled_layers = unrolled_layers or (config.layers if platform == "tpu" else 1)
    return dataclasses.replace(config, attention=implementation, unrolled_layers=unrolled_layers)


def compute_dtype(name: str, platform: str) -> jnp.dtype:
    """The type that "float32", "bfloat16" or "auto" stands for; "auto" is bfloat16 on an accelerator.

    Args:
      name: `config.model.compute_dtype`.
      platform: "cpu", "gpu" or "tpu".
    """
    if name == "auto":
        name = "float32" if platform == "cpu" else "bfloat16"
    return jnp.dtype(name)


class Embeddings(nn.Module):
    """Word, token-type and position tables, summed, then LayerNorm and dropout.

    Generator and discriminator share all of it, LayerNorm included, as Google's code does; the paper names
    only the tables (§3.2).
    """

    config: EncoderConfig

    def setup(self) -> None:
        """Makes the three tables."""
        config = self.config

        def table(name: str, rows: int, axis: str) -> jax.Array:
            return parameter(self, name, config.initializer, (rows, config.embedding_size), (axis, "embed"))

        self.word_table_VxE = table("word_embeddings", config.vocabulary_size, "vocab")
        self.type_table_TxE = table("token_type_embeddings", config.token_types, "table")
        self.position_table_LxE = table("position_embeddings", config.positions, "table")
        self.layer_norm = layer_norm(config.layer_norm_epsilon, config.dtype)
        self.dropout = Dropout(config.dropout_rate)

    def __call__(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array,
        positions_BxL: jax.Array | None = None,
        *,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> jax.Array:
        """Returns the embedded rows, float `dtype` of shape [B, L, E].

        Args:
          tokens_BxL: int32 ids.
          segments_BxL: int32 token types, 0 for the first segment and 1 for the second.
          positions_BxL: int32, below L; None if a token's position is its index in the row.
          deterministic: no dropout if true.
          microbatch: which rows of the batch these are, for dropout.
        """
        length = tokens_BxL.shape[1]
        positions_LxE = self.position_table_LxE[:length]
        if positions_BxL is not None:
            # A product with ones and zeros: the gradient of a gather would be a scatter of every token into a few
            # rows, which a TPU does sequentially. In ELECTRA-Base it is half a percent of the work.
            dtype = self.config.dtype
            positions_LxE = jnp.einsum(
                "blp,pe->ble",
                jax.nn.one_hot(positions_BxL, length, dtype=dtype),
                positions_LxE.astype(dtype),
                preferred_element_type=jnp.float32,
            )
        summed_BxLxE = self.word_table_VxE[tokens_BxL] + positions_LxE
        # A select for two rows: the gradient of a gather would be a scatter of every token into them.
        summed_BxLxE += jnp.where(segments_BxL[..., None] == 1, self.type_table_TxE[1], self.type_table_TxE[0])
        return self.dropout(self.layer_norm(summed_BxLxE), deterministic=deterministic, microbatch=microbatch)


class Layer(nn.Module):
    """Attention and feed-forward, each followed by dropout, the residual sum and LayerNorm (post-norm)."""

    config: EncoderConfig

    @nn.compact
    def __call__(
        self,
        hidden_BxLxD: jax.Array,
        document_ids_BxL: jax.Array,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> jax.Array:
        """Returns the layer's output, float `dtype` of shape [B, L, D]."""
        config = self.config
        dropout = Dropout(config.dropout_rate)
        attended_BxLxD = SelfAttention(
            heads=config.heads,
            head_size=config.head_size,
            dropout_rate=config.attention_dropout_rate,
            kernel_init=config.initializer,
            bias=config.attention_bias,
            implementation=config.attention,
            dtype=config.dtype,
            name="attention",
        )(hidden_BxLxD, document_ids_BxL, deterministic=deterministic, microbatch=microbatch)
        attended_BxLxD = dropout(
            checkpoint_name(attended_BxLxD, "product"), deterministic=deterministic, microbatch=microbatch
        )
        hidden_BxLxD = layer_norm(config.layer_norm_epsilon, config.dtype, "attention_layer_norm")(
            hidden_BxLxD + attended_BxLxD
        )

        width, inner, settings = config.hidden_size, config.feed_forward_size, (config.initializer, config.dtype)
        inner_BxLxF = dense(width, inner, ("embed", "mlp"), *settings, "intermediate")(hidden_BxLxD)
        inner_BxLxF = gelu(checkpoint_name(inner_BxLxF, "product"))
        output_BxLxD = dense(inner, width, ("mlp", "embed"), *settings, "output")(inner_BxLxF)
        output_BxLxD = dropout(
            checkpoint_name(output_BxLxD, "product"), deterministic=deterministic, microbatch=microbatch
        )
        hidden_BxLxD = layer_norm(config.layer_norm_epsilon, config.dtype, "output_layer_norm")(
            hidden_BxLxD + output_BxLxD
        )
        return constrain_hidden(hidden_BxLxD)


class Encoder(nn.Module):
    """The layers, their parameters stacked along a leading axis so that compile time does not grow with depth."""

    config: EncoderConfig

    @nn.compact
    def __call__(
        self,
        embedded_BxLxE: jax.Array,
        document_ids_BxL: jax.Array,
        *,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> jax.Array:
        """Returns the last hidden states, float `dtype` of shape [B, L, D].

        Args:
          embedded_BxLxE: output of `Embeddings`.
          document_ids_BxL: int32, 0 on padding; attention stays within equal ids.
          deterministic: no dropout if true.
          microbatch: which rows of the batch these are, for dropout.
        """
        config = self.config
        hidden_BxLxD = embedded_BxLxE
        if config.embedding_size != config.hidden_size:
            # After LayerNorm and dropout, and with TensorFlow's default initialiser, as in Google's `BertModel`.
            hidden_BxLxD = dense(
                config.embedding_size,
                config.hidden_size,
                (None, "embed"),
                glorot_uniform,
                config.dtype,
                "embeddings_project",
            )(hidden_BxLxD)

        def one_layer(layer: Layer, hidden: jax.Array, documents: jax.Array) -> tuple[jax.Array, None]:
            return layer(hidden, documents, deterministic, microbatch), None

        if config.saved_activations != "all":
            one_layer = nn.remat(one_layer, prevent_cse=False, policy=SAVED_ACTIVATIONS[config.saved_activations])
        layers = nn.scan(
            one_layer,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=config.layers,
            unroll=min(config.unrolled_layers, config.layers),
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        hidden_BxLxD, _ = layers(Layer(config, name="layers"), constrain_hidden(hidden_BxLxD), document_ids_BxL)
        return hidden_BxLxD
