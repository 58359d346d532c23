"""Rows → batches of few shapes, similar lengths together → what a task keeps of each row's outputs. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from electra_jax.inference.runtime import Output, PaddedRows, Runtime

Kept = TypeVar("Kept")
Arrays = Mapping[str, np.ndarray]

# Padded lengths are multiples of this up to eight times as much; above, of an eighth of the power of two below.
_STEP = 16
# Rows of the smallest batches; with them a single text does not take the time of a full batch.
_SMALL_BATCHES = (1, 8)
# With fewer rows than so many full batches, small ones are made.
_FEW_BATCHES = 8


def _none() -> np.ndarray:
    return np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A row of tokens.

    Attributes:
      tokens_L: int32 ids, with [CLS] and [SEP].
      segments_L: int32, 0 or 1.
      positions_M: int32, where words are asked for.
      targets_M: int32, the words there, if their probability is asked for.
      allowed_L: int32, where an answer may start and end.
    """

    tokens_L: np.ndarray
    segments_L: np.ndarray
    positions_M: np.ndarray = dataclasses.field(default_factory=_none)
    targets_M: np.ndarray = dataclasses.field(default_factory=_none)
    allowed_L: np.ndarray = dataclasses.field(default_factory=_none)


def padded_length(needed: int, longest: int) -> int:
    """The length to which rows of `needed` tokens are padded: 16, 32, … 128, 160, … 256, 320, … at most `longest`."""
    step = max(_STEP, (1 << (needed - 1).bit_length()) // 8)
    return min(-(-needed // step) * step, longest)


def outputs_of(
    runtime: Runtime,
    output: Output,
    rows: Sequence[Row],
    keep: Callable[[Row, Arrays], Kept],
    *,
    batch_size: int,
    longest: int,
    pad_id: int,
) -> list[Kept]:
    """What `keep` returns for each row and its outputs, in the order of the rows.

    Args:
      runtime: computes the outputs.
      output: which of them.
      rows: any number of rows of any lengths.
      keep: given a row and its outputs without the batch's axis; axes of length L are padded.
      batch_size: rows in a batch.
      longest: maximum length of a row.
      pad_id: id of [PAD].
    """
    lengths_N = np.array([len(row.tokens_L) for row in rows], np.int64)
    kept: list[Kept | None] = [None] * len(rows)
    ascending = np.argsort(lengths_N, kind="stable").tolist()
    # Of a few rows, those in a large batch would have very different lengths.
    most = batch_size if len(rows) >= _FEW_BATCHES * batch_size else min(batch_size, _SMALL_BATCHES[-1])
    for first in range(0, len(rows), most):
        chosen = ascending[first : first + most]
        fitting = [size for size in _SMALL_BATCHES if len(chosen) <= size < batch_size]
        length = padded_length(int(lengths_N[chosen[-1]]), longest)
        padded = _padded([rows[number] for number in chosen], (*fitting, batch_size)[0], length, pad_id)
        computed = runtime.compute(output, padded)
        for place, number in enumerate(chosen):
            kept[number] = keep(rows[number], {name: array[place] for name, array in computed.items()})
    return kept  # type: ignore[return-value]  # every place is filled


def _padded(rows: Sequence[Row], size: int, length: int, pad_id: int) -> PaddedRows:
    most_positions = max(len(row.positions_M) for row in rows)
    # A power of two, so that few shapes are compiled.
    positions_BxM = np.zeros((size, 1 << (most_positions - 1).bit_length() if most_positions else 0), np.int32)
    tokens_BxL = np.full((size, length), pad_id, np.int32)
    segments_BxL, allowed_BxL = np.zeros((2, size, length), np.int32)
    lengths_B = np.ones(size, np.int32)
    for place, row in enumerate(rows):
        lengths_B[place] = len(row.tokens_L)
        tokens_BxL[place, : len(row.tokens_L)] = row.tokens_L
        segments_BxL[place, : len(row.tokens_L)] = row.segments_L
        allowed_BxL[place, : len(row.allowed_L)] = row.allowed_L
        positions_BxM[place, : len(row.positions_M)] = row.positions_M
    return PaddedRows(tokens_BxL, segments_BxL, lengths_B, positions_BxM, allowed_BxL)
