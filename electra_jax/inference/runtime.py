"""What computes a model's outputs, as a protocol. JAX implements it in `jax_runtime`; other runtimes can replace it.

An implementation is opened by a branch of `opening.open_for_inference`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np

# What a network can be asked for. By name, what `Runtime.compute` returns:
#   "replaced"           "logits" [B, L], the discriminator's
#   "generator_words"    "logits" [B, M, V] at the given positions
#   "corrective_words"   the same, from the discriminator's word head of the hybrid objective
#   "hidden"             "hidden" [B, L, D], last hidden states of the main network
#   "task"               the fine-tuned head's: "logits" [B, C] or [B, L, C]; for questions "start_logits" and
#                        "end_logits" [B, L], or for the paper's head what `JointAnswerHead` searches
Output = Literal["replaced", "generator_words", "corrective_words", "hidden", "task"]


@dataclasses.dataclass(frozen=True, eq=False)
class PaddedRows:
    """Rows of equal length L.

    Attributes:
      tokens_BxL: int32 ids; padding has the id of [PAD].
      segments_BxL: int32, 0 or 1; 0 on padding.
      lengths_B: int32, number of tokens in each row; 1 in rows that only fill the batch.
      positions_BxM: int32 positions that "generator_words" and "corrective_words" are asked for; [B, 0] for others.
      allowed_BxL: int32, where an answer may start and end; zeros for other tasks.
    """

    tokens_BxL: np.ndarray
    segments_BxL: np.ndarray
    lengths_B: np.ndarray
    positions_BxM: np.ndarray
    allowed_BxL: np.ndarray


class Runtime(Protocol):
    """Computes outputs for padded rows; may be called by several threads at once.

    Attributes:
      outputs: what it can compute.
    """

    outputs: frozenset[Output]

    def compute(self, output: Output, rows: PaddedRows) -> Mapping[str, np.ndarray]:
        """Float32 arrays by name, see `Output`; those of padding are arbitrary."""
        ...
