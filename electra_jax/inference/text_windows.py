"""Texts as tokens with their places, and the windows of texts that are longer than a row. NumPy only."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from electra_jax.finetuning.data.windows import covering
from electra_jax.inference.row_batches import Row
from electra_jax.text.tokenizers.tokenizer import Tokenizer


class UnusableError(Exception):
    """An input that cannot be used; the message says what was found and what was expected."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """The T tokens of a text.

    Attributes:
      text: the text.
      ids_T: int32.
      starts_T: int64, the first character of each token.
      ends_T: int64, one after its last.
    """

    text: str
    ids_T: np.ndarray
    starts_T: np.ndarray
    ends_T: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """The rows [CLS] window [SEP] of a text.

    Attributes:
      rows: one for each window.
      owner_T: int64, the window from which each token's output is taken: where it has most context.
      place_T: int64, its position in that row.
    """

    rows: tuple[Row, ...]
    owner_T: np.ndarray
    place_T: np.ndarray


def checked_text(value: Any) -> str:
    """The value, a text that tokenizers can read.

    Raises:
      UnusableError: it is no text, is empty, or holds half a character.
    """
    if not isinstance(value, str):
        raise UnusableError(f"found a {type(value).__name__}, expected a text")
    if not value.strip():
        raise UnusableError("is empty, expected a text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UnusableError(
                f"character {error.start} is half of a surrogate pair, expected a text that UTF-8 can hold"
            ) from None
    return value


def encoded(text: Any, tokenizer: Tokenizer) -> Encoded:
    """The tokens of a text.

    Raises:
      UnusableError: it cannot be used, or has no tokens.
    """
    text = checked_text(text)
    found = Encoded(text, *tokenizer.encode_with_offsets(text))
    if not len(found.ids_T):
        raise UnusableError("has no token: the tokenizer drops all of its characters; expected a text")
    return found


def encoded_with_masks(text: Any, tokenizer: Tokenizer) -> tuple[Encoded, np.ndarray]:
    """The tokens of a text in which the spelling of the mask stands for the mask, and the indices of the masks, int64.

    Raises:
      UnusableError: it cannot be used, or has no mask.
    """
    text = checked_text(text)
    (spelling,) = tokenizer.pieces([tokenizer.mask_id])
    matches = list(re.finditer("|".join(map(re.escape, dict.fromkeys([spelling, "[MASK]"]))), text))
    if not matches:
        raise UnusableError(f"has no {spelling}, expected at least one in place of a word")
    parts, indices, begin, count = [], [], 0, 0
    for match in [*matches, None]:
        end = match.start() if match else len(text)
        if text[begin:end].strip():
            ids, starts, ends = tokenizer.encode_with_offsets(text[begin:end])
            parts.append((ids, starts + begin, ends + begin))
            count += len(ids)
        if match:
            parts.append((np.array([tokenizer.mask_id], np.int32), *np.array([[end], [match.end()]], np.int64)))
            indices.append(count)
            begin, count = match.end(), count + 1
    ids, starts, ends = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Encoded(text, ids, starts, ends), np.array(indices, np.int64)


def windows(ids_T: np.ndarray, tokenizer: Tokenizer, max_length: int, token_type: int = 0) -> Windows:
    """Rows for a text; a single one if it fits.

    Args:
      ids_T: the text's tokens, at least one.
      tokenizer: the model's tokenizer.
      max_length: maximum length of a row in tokens.
      token_type: segment of all tokens.
    """
    cover = covering(len(ids_T), max_length - 2)
    rows = []
    for window, size in zip(cover.window_W, cover.size_W, strict=True):
        tokens_L = np.array([tokenizer.cls_id, *ids_T[window : window + size], tokenizer.sep_id], np.int32)
        rows.append(Row(tokens_L, np.full(len(tokens_L), token_type, np.int32)))
    return Windows(tuple(rows), cover.owner_T, cover.place_T)


def words_of(text: Encoded, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The W words of a text.

    In WordPiece, pieces without "##" begin words. In other vocabularies, those after a blank, punctuation, and what
    follows it.

    Args:
      text: the text's tokens, at least one.
      tokenizer: the model's tokenizer.

    Returns:
      int64 [W], three times: the first token of each word, its first character, and one after its last.
    """
    # An empty span is a blank, or part of a character whose other piece has the span.
    empty_T = text.ends_T == text.starts_T
    if tokenizer.kind == "wordpiece":
        begins_T = np.array([not piece.startswith("##") for piece in tokenizer.pieces(text.ids_T)], bool)
    else:
        cuts = [text.text[start:end] for start, end in zip(text.starts_T, text.ends_T, strict=True)]
        marks_T = np.array([not any(map(str.isalnum, cut)) for cut in cuts], bool)
        before_T = np.append(-1, np.maximum.accumulate(np.where(empty_T, -1, text.ends_T))[:-1])
        marks_before_T = np.zeros(len(cuts), bool)
        filled = np.flatnonzero(~empty_T)
        marks_before_T[filled[1:]] = marks_T[filled[:-1]]
        begins_T = ((text.starts_T > before_T) | marks_T | marks_before_T) & ~empty_T
    begins_T[0] |= not begins_T.any()
    first_W = np.flatnonzero(begins_T)
    return first_W, text.starts_T[first_W], np.maximum.reduceat(np.where(empty_T, 0, text.ends_T), first_W)
