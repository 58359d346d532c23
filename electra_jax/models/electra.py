"""The two models that are pre-trained here: ELECTRA's pair of networks, and the BERT baseline.

`positions_BxM` are the row's masked places; `row_positions_BxL` the rows of the position table, see `Embeddings`.
"""

import flax.linen as nn
import jax

from electra_jax.models.encoder import Embeddings, Encoder, EncoderConfig
from electra_jax.models.heads import MaskedLanguageModelHead, ReplacedTokenHead


def gather_positions(hidden_BxLxD: jax.Array, positions_BxM: jax.Array) -> jax.Array:
    """The hidden states at some positions of each row, [B, M, D]."""
    return jax.numpy.take_along_axis(hidden_BxLxD, positions_BxM[..., None], axis=1)


class Electra(nn.Module):
    """A small generator and a discriminator over shared embeddings (ELECTRA paper §2, §3.2).

    The embeddings are shared at their own width, so a narrower generator projects them with weights of its own.
    """

    config: EncoderConfig
    generator_config: EncoderConfig

    def setup(self) -> None:
        """Makes both networks."""
        self.embeddings = Embeddings(self.config)
        self.generator = Encoder(self.generator_config)
        self.generator_head = MaskedLanguageModelHead(self.generator_config)
        self.discriminator = Encoder(self.config)
        self.discriminator_head = ReplacedTokenHead(self.config)

    def generate(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array,
        document_ids_BxL: jax.Array,
        positions_BxM: jax.Array,
        *,
        row_positions_BxL: jax.Array | None = None,
        deterministic: bool,
    ) -> jax.Array:
        """Returns the generator's logits at the masked positions only, float32 of shape [B, M, V]."""
        embedded_BxLxE = self.embeddings(tokens_BxL, segments_BxL, row_positions_BxL, deterministic=deterministic)
        hidden_BxLxD = self.generator(embedded_BxLxE, document_ids_BxL, deterministic=deterministic)
        return self.generator_head(gather_positions(hidden_BxLxD, positions_BxM), self.embeddings.word_table_VxE)

    def discriminate(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array,
        document_ids_BxL: jax.Array,
        *,
        row_positions_BxL: jax.Array | None = None,
        deterministic: bool,
    ) -> jax.Array:
        """Returns the discriminator's logits of "replaced", float32 of shape [B, L]."""
        embedded_BxLxE = self.embeddings(tokens_BxL, segments_BxL, row_positions_BxL, deterministic=deterministic)
        hidden_BxLxD = self.discriminator(embedded_BxLxE, document_ids_BxL, deterministic=deterministic)
        return self.discriminator_head(hidden_BxLxD)

    def __call__(
        self, tokens_BxL: jax.Array, segments_BxL: jax.Array, document_ids_BxL: jax.Array, positions_BxM: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Both networks on the same tokens, without dropout: for initialisation and parity tests."""
        inputs = tokens_BxL, segments_BxL, document_ids_BxL
        return self.generate(*inputs, positions_BxM, deterministic=True), self.discriminate(*inputs, deterministic=True)


class MaskedLanguageModel(nn.Module):
    """BERT's encoder and masked-language-model head, the baseline that ELECTRA is compared with; no pooler."""

    config: EncoderConfig

    def setup(self) -> None:
        """Makes the network."""
        self.embeddings = Embeddings(self.config)
        self.encoder = Encoder(self.config)
        self.head = MaskedLanguageModelHead(self.config)

    def __call__(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array,
        document_ids_BxL: jax.Array,
        positions_BxM: jax.Array,
        *,
        row_positions_BxL: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Returns the logits at the masked positions only, float32 of shape [B, M, V]."""
        embedded_BxLxE = self.embeddings(tokens_BxL, segments_BxL, row_positions_BxL, deterministic=deterministic)
        hidden_BxLxD = self.encoder(embedded_BxLxE, document_ids_BxL, deterministic=deterministic)
        return self.head(gather_positions(hidden_BxLxD, positions_BxM), self.embeddings.word_table_VxE)
