"""Character spans of pieces, as a reader would mark them."""

import unicodedata

import numpy as np


def tightened(text: str, starts_T: np.ndarray, ends_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Trims blanks off both ends of each span, and extends it over accents that follow and have no piece.

    SentencePiece's "▁the" spans " the". And where a tokenizer strips accents, a letter's span would leave out an accent
    that is a character of its own.

    Args:
      text: what was encoded.
      starts_T: int64, the first character of each piece, in the order of the text.
      ends_T: int64, one after its last.

    Returns:
      Starts and ends of the trimmed spans; a span of blanks alone is empty, at its end.
    """
    blank = np.fromiter(map(str.isspace, text), bool, len(text))
    indices = np.arange(len(text) + 1)
    # The first non-blank at or after each position, and one after the last non-blank before it.
    next_word = np.minimum.accumulate(np.append(np.where(blank, len(text), indices[:-1]), len(text))[::-1])[::-1]
    last_word = np.maximum.accumulate(np.append(0, np.where(blank, 0, indices[1:])))
    starts_T = np.minimum(next_word[starts_T], ends_T)
    ends_T = np.maximum(last_word[ends_T], starts_T)
    if text.isascii():
        return starts_T, ends_T
    accent = np.fromiter((unicodedata.category(character) == "Mn" for character in text), bool, len(text))
    next_letter = np.minimum.accumulate(np.append(np.where(accent, len(text), indices[:-1]), len(text))[::-1])[::-1]
    next_piece_T = np.append(starts_T[1:], len(text))
    extended_T = np.maximum(ends_T, np.minimum(next_letter[ends_T], next_piece_T))
    return starts_T, np.where(ends_T > starts_T, extended_T, ends_T)
