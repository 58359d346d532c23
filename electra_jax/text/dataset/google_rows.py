"""Rows as Google's own builder makes them, tokens that it drops included: for comparisons, not for use.

After build_pretraining_dataset.py of google-research/electra; docs/fidelity.md lists how `row_builders.py` differs.
"""

import numpy as np

_SINGLE = 100_000  # The first segment's target where there is to be no second one.


class GoogleExampleBuilder:
    """Gathers lines until they reach a target length and makes one row of them; drops what does not fit."""

    def __init__(
        self,
        *,
        length: int,
        cls_id: int,
        sep_id: int,
        pad_id: int,
        rng: np.random.Generator,
        single_segment_probability: float,
        short_row_probability: float,
    ) -> None:
        """Takes the arguments of `row_builders.segment_pairs`; the next row's target length outlasts a document."""
        self._length, self._cls_id, self._sep_id, self._pad_id = length, cls_id, sep_id, pad_id
        self._rng = rng
        self._single_segment_probability = single_segment_probability
        self._short_row_probability = short_row_probability
        self._target = length

    def add(self, ids_N: np.ndarray, line_lengths: np.ndarray) -> np.ndarray:
        """Returns the rows of one document, int32 [rows, length]; arguments: see `row_builders.segment_pairs`."""
        rows: list[np.ndarray] = []
        gathered: list[np.ndarray] = []
        size = 0
        for line in np.split(ids_N, np.cumsum(line_lengths)[:-1]):
            gathered.append(line)
            size += len(line)
            if size >= self._target:
                rows.append(self._row(gathered))
                gathered, size = [], 0
        if size:
            rows.append(self._row(gathered))
        return np.stack(rows) if rows else np.zeros((0, self._length), np.int32)

    def _row(self, lines: list[np.ndarray]) -> np.ndarray:
        single = self._rng.random() < self._single_segment_probability
        first_target = _SINGLE if single else (self._target - 3) // 2
        first: list[int] = []
        second: list[int] = []
        for line in lines:
            into_first = (
                not first
                or len(first) + len(line) < first_target
                or (not second and len(first) < first_target and self._rng.random() < 0.5)
            )
            (first if into_first else second).extend(line.tolist())
        first = first[: self._length - 2]
        second = second[: max(0, self._length - len(first) - 3)]
        short = self._rng.random() < self._short_row_probability
        self._target = int(self._rng.integers(5, self._length + 1)) if short else self._length
        tokens = [self._cls_id, *first, self._sep_id, *([*second, self._sep_id] if second else [])]
        row = np.full(self._length, self._pad_id, np.int32)
        row[: len(tokens)] = tokens
        return row
