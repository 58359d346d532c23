"""Heads that predict where in a row an answer starts and ends. Axis letters: see `layers.py`; K is beams.

Neither head has dropout, as in Google's code (`qa_tasks.get_prediction_module`) and in transformers: what they read has
been through the encoder's last LayerNorm.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.layers import dense, gelu, glorot_uniform, parameter

_PAIR_WIDTH = 512  # Google's.
_DISALLOWED = -1000.0  # Google's, added to the logit.


class JointAnswerHead(nn.Module):
    """Start, end given the start, and whether there is an answer at all: the head of ELECTRA's paper, Google's code.

    Attributes:
      beams: the most probable starts, and the most probable ends given each, that an evaluation searches.
    """

    beams: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        hidden_BxLxD: jax.Array,
        batch: Mapping[str, jax.Array],
        *,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> dict[str, jax.Array]:
        """Scores positions.

        Args:
          hidden_BxLxD: hidden states of the encoder.
          batch: "allowed" int32 [B, L] where an answer may start and end, and "start" int32 [B], the gold one.
          deterministic: evaluation, which searches for ends of probable starts, not only of the gold one.

        Returns:
          float32 "start_logits" [B, L], "end_logits" [B, L] given the gold start, "impossible_logits" [B]. In
          evaluation also "start_ids" int32 [B, K] with log-probabilities "start_scores" float32 [B, K], best first, and
          "end_ids", "end_scores" [B, K, K], given each of those starts.
        """
        width, length = hidden_BxLxD.shape[-1], hidden_BxLxD.shape[1]
        start_logits_BxL = _masked(_position_logits(hidden_BxLxD, 1, "start")[..., 0], batch["allowed"])
        ends = PairScore(width, dtype=self.dtype, name="end")
        tokens_BxLxF = ends.half(hidden_BxLxD, 1)

        def end_logits(start_BxF: jax.Array) -> jax.Array:
            return _masked(ends.score(start_BxF[:, None] + tokens_BxLxF), batch["allowed"])

        # Products with ones and zeros, as Google's code has them: the gradient of a gather is a scatter.
        chosen_BxL = jax.nn.one_hot(batch["start"], length, dtype=hidden_BxLxD.dtype)
        summary_BxD = jnp.einsum(
            "bl,bld->bd", jax.nn.softmax(start_logits_BxL), hidden_BxLxD, preferred_element_type=jnp.float32
        )
        impossible = PairScore(width, dtype=self.dtype, name="impossible")
        outputs = {
            "start_logits": start_logits_BxL,
            "end_logits": end_logits(ends.half(jnp.einsum("bl,bld->bd", chosen_BxL, hidden_BxLxD), 0)),
            "impossible_logits": impossible.score(
                impossible.half(hidden_BxLxD[:, 0], 0) + impossible.half(summary_BxD, 1)
            ),
        }
        if deterministic:
            start_scores_BxK, start_ids_BxK = _best(jax.nn.log_softmax(start_logits_BxL), self.beams)
            chosen_BxKxL = jax.nn.one_hot(start_ids_BxK, length, dtype=hidden_BxLxD.dtype)
            starts_KxBxD = jnp.einsum("bkl,bld->kbd", chosen_BxKxL, hidden_BxLxD)
            # One start after the other: together they would take [B, K, L, F].
            end_logits_KxBxL = jax.lax.map(end_logits, ends.half(starts_KxBxD, 0))
            end_scores_KxBxK, end_ids_KxBxK = _best(jax.nn.log_softmax(end_logits_KxBxL), self.beams)
            outputs |= {
                "start_ids": start_ids_BxK,
                "start_scores": start_scores_BxK,
                "end_ids": jnp.swapaxes(end_ids_KxBxK, 0, 1),
                "end_scores": jnp.swapaxes(end_scores_KxBxK, 0, 1),
            }
        return outputs


class SpanHead(nn.Module):
    """Start and end, independent of each other: one linear layer, as transformers' `ElectraForQuestionAnswering`.

    Attributes:
      beams: the best starts, and the best ends, that an evaluation searches.
    """

    beams: int

    @nn.compact
    def __call__(
        self,
        hidden_BxLxD: jax.Array,
        batch: Mapping[str, jax.Array],
        *,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> dict[str, jax.Array]:
        """Scores positions.

        Args:
          hidden_BxLxD: hidden states of the encoder.
          batch: "allowed" int32 [B, L], where an answer may start and end.
          deterministic: evaluation.

        Returns:
          "start_logits" and "end_logits", float32 [B, L]. In evaluation also "start_ids" and "end_ids" int32 [B, K],
          best first, with their logits "start_scores" and "end_scores" float32 [B, K].
        """
        logits_BxLx2 = _position_logits(hidden_BxLxD, 2, "output")
        outputs = {}
        for axis, name in enumerate(("start", "end")):
            logits_BxL = outputs[f"{name}_logits"] = _masked(logits_BxLx2[..., axis], batch["allowed"])
            if deterministic:
                outputs[f"{name}_scores"], outputs[f"{name}_ids"] = _best(logits_BxL, self.beams)
        return outputs


class PairScore(nn.Module):
    """A score for two concatenated vectors: dense, GELU, dense.

    The first kernel is kept as two halves, one for each vector. So one vector's half is computed once, however many it
    is paired with, and no array of width 2 D is built.
    """

    width: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        """Makes both layers, with TensorFlow's default initialiser for the undivided kernel."""

        def halves(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return glorot_uniform(key, (shape[0] * shape[1], shape[2])).reshape(shape)

        zeros = nn.initializers.zeros
        self.kernel_2xDxF = parameter(self, "kernel", halves, (2, self.width, _PAIR_WIDTH), (None, "embed", None))
        self.bias_F = parameter(self, "bias", zeros, (_PAIR_WIDTH,), (None,))
        self.score_kernel_Fx1 = parameter(self, "score_kernel", glorot_uniform, (_PAIR_WIDTH, 1), (None, None))
        self.score_bias_1 = parameter(self, "score_bias", zeros, (1,), (None,))

    def half(self, vectors_xD: jax.Array, which: int) -> jax.Array:
        """The contribution of the first (0) or the second (1) vector to the inner layer, [..., F] for [..., D]."""
        return vectors_xD.astype(self.dtype) @ self.kernel_2xDxF[which].astype(self.dtype)

    def score(self, halves_xF: jax.Array) -> jax.Array:
        """The score for each sum of two halves, float32 [...] for [..., F]."""
        inner_xF = gelu(halves_xF + self.bias_F.astype(self.dtype))
        # Summed in float32: a softmax must not see rounded logits.
        return (inner_xF.astype(jnp.float32) @ self.score_kernel_Fx1 + self.score_bias_1)[..., 0]


def _position_logits(hidden_BxLxD: jax.Array, outputs: int, name: str) -> jax.Array:
    """Linear in float32, [B, L, outputs]: a softmax must not see rounded logits."""
    return dense(hidden_BxLxD.shape[-1], outputs, ("embed", None), glorot_uniform, jnp.float32, name)(hidden_BxLxD)


def _masked(logits_BxL: jax.Array, allowed_BxL: jax.Array) -> jax.Array:
    return logits_BxL + _DISALLOWED * (1 - allowed_BxL)


def _best(scores: jax.Array, beams: int) -> tuple[jax.Array, jax.Array]:
    """The best scores along the last axis and their positions, [..., K]; shorter rows are filled up with [CLS]."""
    scores, ids = jax.lax.top_k(scores, min(beams, scores.shape[-1]))
    fill = [(0, 0)] * (scores.ndim - 1) + [(0, beams - scores.shape[-1])]
    return jnp.pad(scores, fill, constant_values=_DISALLOWED), jnp.pad(ids, fill)
