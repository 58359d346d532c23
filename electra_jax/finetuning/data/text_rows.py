"""Token rows of texts, pairs of texts and words, for training and for predictions. Imports NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from electra_jax.text.tokenizers.tokenizer import Tokenizer


class TextRow(NamedTuple):
    """The row of a text or a pair.

    Attributes:
      tokens_L: int32 ids, with [CLS] and [SEP].
      segments_L: int32, 1 for the second text and its [SEP].
      left_out: number of tokens that did not fit.
    """

    tokens_L: np.ndarray
    segments_L: np.ndarray
    left_out: int


def encoded_texts(examples: Sequence[Sequence[str]], tokenizer: Tokenizer, max_length: int) -> list[TextRow]:
    """Rows [CLS] text [SEP], or [CLS] text [SEP] text [SEP] with the second text in segment 1 (BERT, §3.2).

    Args:
      examples: one or two texts each.
      tokenizer: the model's tokenizer.
      max_length: maximum length of a row in tokens.
    """
    ids, lengths = tokenizer.encode([text for texts in examples for text in texts])
    ends = np.cumsum(lengths)
    pieces = iter(zip(ends - lengths, ends, strict=True))
    cls, sep = np.array([tokenizer.cls_id], np.int32), np.array([tokenizer.sep_id], np.int32)
    rows = []
    for texts in examples:
        parts = [ids[slice(*next(pieces))] for _ in texts]
        kept = _fitting([len(part) for part in parts], max_length - 1 - len(parts))
        tokens = [cls]
        for part, count in zip(parts, kept, strict=True):
            tokens += [part[:count], sep]
        tokens_L = np.concatenate(tokens)
        segments_L = np.zeros(len(tokens_L), np.int32)
        segments_L[kept[0] + 2 :] = 1
        rows.append(TextRow(tokens_L, segments_L, sum(map(len, parts)) - sum(kept)))
    return rows


def encoded_words(words: Sequence[str], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all words, int32 [tokens], and the number of tokens of each word, int64 [words], never 0.

    A word that the tokenizer drops, such as a control character, becomes [UNK] to keep its place.
    """
    ids, lengths = tokenizer.encode(words)
    empty = lengths == 0
    ids = np.insert(ids, (np.cumsum(lengths) - lengths)[empty], tokenizer.unknown_id)
    return ids, lengths + empty


def _fitting(lengths: list[int], room: int) -> list[int]:
    """Kept length of each text: the longer loses its last piece until they fit; on a tie the second (Google's code)."""
    kept = list(lengths)
    if len(kept) == 1:
        return [min(kept[0], room)]
    shorter, excess = min(kept), max(0, sum(kept) - room)
    # Down to the shorter's length only the longer one loses pieces; at once, since a text may have millions.
    kept = [max(shorter, length - excess) if length > shorter else length for length in kept]
    while sum(kept) > room:
        kept[0 if kept[0] > kept[1] else 1] -= 1
    return kept
