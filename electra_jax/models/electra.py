"""The models that are pre-trained: ELECTRA's pair of networks, and the BERT baseline.

`positions_BxM` are the masked positions of a row; `row_positions_BxL` are rows of the position table, see `Embeddings`.
"""

import flax.linen as nn
import jax

from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.encoder import Embeddings, Encoder, EncoderConfig
from electra_jax.models.heads import MaskedLanguageModelHead, ReplacedTokenHead


def gather_positions(hidden_BxLxD: jax.Array, positions_BxM: jax.Array) -> jax.Array:
    """The hidden states at the given positions of each row, [B, M, D]."""
    return jax.numpy.take_along_axis(hidden_BxLxD, positions_BxM[..., None], axis=1)


class Electra(nn.Module):
    """A small generator and a discriminator over shared embeddings (ELECTRA paper §2, §3.2).

    The embeddings are shared at their own width, so a narrower generator projects them with weights of its own.

    Attributes:
      config: sizes of the discriminator.
      generator_config: sizes of the generator.
      corrective: whether the discriminator has a word head too, for the hybrid objective.
    """

    config: EncoderConfig
    generator_config: EncoderConfig
    corrective: bool = False

    def setup(self) -> None:
        """Makes both networks."""
        self.embeddings = Embeddings(self.config)
        self.generator = Encoder(self.generator_config)
        self.generator_head = MaskedLanguageModelHead(self.generator_config)
        self.discriminator = Encoder(self.config)
        self.discriminator_head = ReplacedTokenHead(self.config)
        if self.corrective:
            self.corrective_head = MaskedLanguageModelHead(self.config)

    def encode(
        self,
        network: str,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array,
        document_ids_BxL: jax.Array,
        *,
        row_positions_BxL: jax.Array | None = None,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> jax.Array:
        """Returns the last hidden states of the "generator" or the "discriminator", `dtype` of shape [B, L, D]."""
        embedded_BxLxE = self.embeddings(
            tokens_BxL, segments_BxL, row_positions_BxL, deterministic=deterministic, microbatch=microbatch
        )
        encoder = {"generator": self.generator, "discriminator": self.discriminator}[network]
        return encoder(embedded_BxLxE, document_ids_BxL, deterministic=deterministic, microbatch=microbatch)

    def predict(self, hidden_BxLxD: jax.Array, positions_BxM: jax.Array) -> jax.Array:
        """Returns the generator's logits at the masked positions only, float32 of shape [B, M, V]."""
        return self.generator_head(gather_positions(hidden_BxLxD, positions_BxM), self.embeddings.word_table_VxE)

    def detect(self, hidden_BxLxD: jax.Array) -> jax.Array:
        """Returns the discriminator's logits of "replaced", float32 of shape [B, L]."""
        return self.discriminator_head(hidden_BxLxD)

    def correct(self, hidden_BxLxD: jax.Array, positions_BxM: jax.Array | None = None) -> jax.Array:
        """Returns the discriminator's logits of the original word, float32 [B, M, V]; at all positions if None."""
        if positions_BxM is not None:
            hidden_BxLxD = gather_positions(hidden_BxLxD, positions_BxM)
        return self.corrective_head(hidden_BxLxD, self.embeddings.word_table_VxE)

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
        """Encodes masked rows and predicts their words; see `predict`."""
        rows = tokens_BxL, segments_BxL, document_ids_BxL
        hidden_BxLxD = self.encode("generator", *rows, row_positions_BxL=row_positions_BxL, deterministic=deterministic)
        return self.predict(hidden_BxLxD, positions_BxM)

    def discriminate(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array,
        document_ids_BxL: jax.Array,
        *,
        row_positions_BxL: jax.Array | None = None,
        deterministic: bool,
    ) -> jax.Array:
        """Encodes corrupted rows and detects replaced words; see `detect`."""
        rows = tokens_BxL, segments_BxL, document_ids_BxL
        hidden_BxLxD = self.encode(
            "discriminator", *rows, row_positions_BxL=row_positions_BxL, deterministic=deterministic
        )
        return self.detect(hidden_BxLxD)

    def __call__(
        self, tokens_BxL: jax.Array, segments_BxL: jax.Array, document_ids_BxL: jax.Array, positions_BxM: jax.Array
    ) -> tuple[jax.Array, ...]:
        """All heads on the same tokens, without dropout: for initialisation and parity tests."""
        rows = tokens_BxL, segments_BxL, document_ids_BxL
        words_BxMxV = self.generate(*rows, positions_BxM, deterministic=True)
        hidden_BxLxD = self.encode("discriminator", *rows, deterministic=True)
        corrected = (self.correct(hidden_BxLxD, positions_BxM),) if self.corrective else ()
        return words_BxMxV, self.detect(hidden_BxLxD), *corrected


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
        """Encodes masked rows and predicts their words; see `predict`."""
        hidden_BxLxD = self.encode(
            tokens_BxL,
            segments_BxL,
            document_ids_BxL,
            row_positions_BxL=row_positions_BxL,
            deterministic=deterministic,
        )
        return self.predict(hidden_BxLxD, positions_BxM)

    def encode(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array,
        document_ids_BxL: jax.Array,
        *,
        row_positions_BxL: jax.Array | None = None,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> jax.Array:
        """Returns the last hidden states, float `dtype` of shape [B, L, D]."""
        embedded_BxLxE = self.embeddings(
            tokens_BxL, segments_BxL, row_positions_BxL, deterministic=deterministic, microbatch=microbatch
        )
        return self.encoder(embedded_BxLxE, document_ids_BxL, deterministic=deterministic, microbatch=microbatch)

    def predict(self, hidden_BxLxD: jax.Array, positions_BxM: jax.Array) -> jax.Array:
        """Returns the logits at the masked positions only, float32 of shape [B, M, V]."""
        return self.head(gather_positions(hidden_BxLxD, positions_BxM), self.embeddings.word_table_VxE)
