"""Stretches of text that pieces stand for, as a reader would mark them."""

import unicodedata

import numpy as np


def tightened(text: str, starts_T: np.ndarray, ends_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Takes blanks off both ends of each stretch, and adds accents that follow it and have no piece.

    "▁the" of SentencePiece stands for " the". And where a tokenizer strips accents, a letter would lose one that is a
    character of its own.

    Args:
      text: what was encoded.
      starts_T: int64, the first character of each piece, in the order of the text.
      ends_T: int64, behind the last one.

    Returns:
      The same for the tight stretches; one of blanks alone is empty and lies at its end.
    """
    blank = np.fromiter(map(str.isspace, text), bool, len(text))
    indices = np.arange(len(text) + 1)
    # From each place on, the first character that is no blank; and up to each place, behind the last such character.
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
