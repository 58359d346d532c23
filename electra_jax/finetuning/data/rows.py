"""Token rows of one split of a task: ragged arrays, padded to batches. Imports NumPy only."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from electra_jax.finetuning.data.examples import Example

ExampleT_co = TypeVar("ExampleT_co", bound=Example, covariant=True)


@dataclasses.dataclass(frozen=True)
class Rows(Generic[ExampleT_co]):
    """The N rows of a split, with T tokens in total.

    Attributes:
      examples: examples of the split, in the order of the file.
      example_N: int32, index of each row's example; a long context makes several rows.
      tokens_T: int32 ids of the concatenated rows, including [CLS] and [SEP].
      segments_T: int32, 0 or 1.
      lengths_N: int64, number of tokens in each row.
      by_row: further arrays with first axis N, such as labels. A batch has them under the same names.
      by_token: further arrays [T], each with its padding value.
      truncated: number of truncated examples.
    """

    examples: Sequence[ExampleT_co]
    example_N: np.ndarray
    tokens_T: np.ndarray
    segments_T: np.ndarray
    lengths_N: np.ndarray
    by_row: Mapping[str, np.ndarray]
    by_token: Mapping[str, tuple[np.ndarray, int]]
    truncated: int = 0

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.lengths_N)

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of everything that is trained on or scored with."""
        state = hashlib.sha256()
        by_token = {name: array for name, (array, _) in self.by_token.items()}
        for name, array in sorted({**self.by_row, **by_token}.items()):
            state.update(name.encode() + np.ascontiguousarray(array).tobytes())
        for array in (self.lengths_N, self.tokens_T, self.segments_T):
            state.update(array.tobytes())
        return state.hexdigest()

    @property
    def starts_N(self) -> np.ndarray:
        """Offset of each row in the arrays [T], int64."""
        return np.cumsum(self.lengths_N) - self.lengths_N

    def batch(self, chosen_B: np.ndarray, length: int, pad_id: int) -> dict[str, np.ndarray]:
        """The chosen rows, padded.

        Args:
          chosen_B: int, indices of rows; -1 makes a row of padding with weight 0.
          length: padded length L; no row is longer.
          pad_id: id of the padding token.

        Returns:
          "tokens" and "segments" int32 [B, L], "row" int32 [B] (index of the row, or -1), "weight" float32 [B], and
          the arrays of `by_row` and `by_token`.
        """
        real_B = chosen_B >= 0
        rows_B = np.where(real_B, chosen_B, 0)
        lengths_B = np.where(real_B, self.lengths_N[rows_B], 0)
        within_L = np.arange(length)
        present_BxL = within_L < lengths_B[:, None]
        indices_BxL = np.where(present_BxL, self.starts_N[rows_B][:, None] + within_L, 0)

        def padded(array_T: np.ndarray, fill: int) -> np.ndarray:
            return np.where(present_BxL, array_T[indices_BxL], fill).astype(array_T.dtype)

        def chosen(array: np.ndarray) -> np.ndarray:
            values = array[rows_B]
            # Another row's place of an answer may be beyond the padded length, where losses are NaN, whatever they
            # weigh.
            values[~real_B] = 0
            return values

        return {
            "tokens": padded(self.tokens_T, pad_id),
            "segments": padded(self.segments_T, 0),
            "row": chosen_B.astype(np.int32),
            "weight": real_B.astype(np.float32),
            **{name: chosen(array) for name, array in self.by_row.items()},
            **{name: padded(array, fill) for name, (array, fill) in self.by_token.items()},
        }
