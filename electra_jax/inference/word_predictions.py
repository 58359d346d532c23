"""Predictions of words from their context: for masks, and for each token in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from electra_jax.errors import InputError
from electra_jax.inference.kinds import MOST_CHARACTERS, OneByOne, Prepared
from electra_jax.inference.results import Candidate, Filling, Mask, Score
from electra_jax.inference.row_batches import Arrays, Row
from electra_jax.inference.runtime import Output
from electra_jax.inference.text_windows import encoded, encoded_with_masks, windows
from electra_jax.text.tokenizers.tokenizer import Tokenizer

# Masks of a row whose words are computed at once: each takes logits for the vocabulary.
_MOST_POSITIONS = 16


class Filler(OneByOne):
    """Implements `kinds.Prediction`: the most probable tokens for each mask."""

    most_characters = MOST_CHARACTERS

    def __init__(self, tokenizer: Tokenizer, max_length: int, output: Output, top_k: int = 5) -> None:
        """Keeps what it is given.

        Raises:
          InputError: fewer candidates than one are asked for.
        """
        if top_k < 1:
            raise InputError(f"top_k: found {top_k}, expected at least 1")
        self.output, self._top_k = output, top_k
        self._tokenizer, self._max_length = tokenizer, max_length

    def _one(self, item: Any) -> Prepared:
        text, masks_M = encoded_with_masks(item, self._tokenizer)
        own = windows(text.ids_T, self._tokenizer, self._max_length)
        rows, asked = [], []
        for window, row in enumerate(own.rows):
            here_M = masks_M[own.owner_T[masks_M] == window]
            for first in range(0, len(here_M), _MOST_POSITIONS):
                chosen_M = here_M[first : first + _MOST_POSITIONS]
                rows.append(Row(row.tokens_L, row.segments_L, own.place_T[chosen_M].astype(np.int32)))
                asked.append(chosen_M)

        def finish(kept: Sequence[Sequence[tuple[Candidate, ...]]]) -> Filling:
            found = {int(n): best for ms, row in zip(asked, kept, strict=True) for n, best in zip(ms, row, strict=True)}
            masks = [
                Mask(int(text.starts_T[number]), int(text.ends_T[number]), found[number]) for number in sorted(found)
            ]
            return Filling(tuple(masks), self._filled(text.text, masks), len(own.rows))

        return Prepared(rows, finish)

    def _filled(self, text: str, masks: Sequence[Mask]) -> str:
        parts, begin = [], 0
        for mask in masks:
            piece = mask.candidates[0].token
            joined = piece.startswith("##")
            before = text[begin : mask.start]
            # A piece that continues a word stands next to it.
            parts += [before.rstrip() if joined else before, piece.removeprefix("##").lstrip("▁")]
            begin = mask.end
        return "".join([*parts, text[begin:]])

    def keep(self, row: Row, outputs: Arrays) -> list[tuple[Candidate, ...]]:
        """The best tokens of each of the row's masks."""
        found = []
        for logits_V in outputs["logits"][: len(row.positions_M)]:
            count = min(self._top_k, len(logits_V))
            best = np.argpartition(-logits_V, count - 1)[:count]
            best = best[np.lexsort((best, -logits_V[best]))]
            highest = float(logits_V[best[0]])
            total = float(np.sum(np.exp(logits_V.astype(np.float64) - highest)))
            pieces = self._tokenizer.pieces(best)
            found.append(
                tuple(
                    Candidate(piece, int(number), float(np.exp(float(logits_V[number]) - highest) / total))
                    for piece, number in zip(pieces, best, strict=True)
                )
            )
        return found


class Scorer(OneByOne):
    """Implements `kinds.Prediction`: pseudo-log-likelihood, with a row for each token, in which it is masked."""

    # A row for each token, as long as the text or its window.
    most_characters = 40_000

    def __init__(self, tokenizer: Tokenizer, max_length: int, output: Output) -> None:
        self.output = output
        self._tokenizer, self._max_length = tokenizer, max_length

    def _one(self, item: Any) -> Prepared:
        text = encoded(item, self._tokenizer)
        own = windows(text.ids_T, self._tokenizer, self._max_length)
        rows = []
        for token, owner, place in zip(text.ids_T, own.owner_T, own.place_T, strict=True):
            row = own.rows[owner]
            tokens_L = row.tokens_L.copy()
            tokens_L[place] = self._tokenizer.mask_id
            rows.append(Row(tokens_L, row.segments_L, np.array([place], np.int32), np.array([token], np.int32)))

        def finish(kept: Sequence[float]) -> Score:
            return Score(
                tokens=tuple(self._tokenizer.pieces(text.ids_T)),
                starts_T=text.starts_T,
                ends_T=text.ends_T,
                log_probabilities_T=np.array(kept, np.float32),
                windows=len(own.rows),
            )

        return Prepared(rows, finish)

    def keep(self, row: Row, outputs: Arrays) -> float:
        """The masked token's log-probability."""
        logits_V = outputs["logits"][0].astype(np.float64)
        highest = logits_V.max()
        return float(logits_V[row.targets_M[0]] - highest - np.log(np.sum(np.exp(logits_V - highest))))
