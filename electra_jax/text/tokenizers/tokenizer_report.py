"""A tokenizer described by sample text, as lines for the terminal."""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from electra_jax.text.tokenizers import casing as casings
from electra_jax.text.tokenizers.tokenizer import Tokenizer

_SAMPLES = 10
_LONGEST_SAMPLE = 100  # Characters, to fit a terminal's line.
_LONGEST_TEXT = 48
_EXAMPLES = 10
_SHOWN_LETTERS = 30  # Of a word that is too long.
_LONGEST_COMPARED = 1000  # Characters of a word.
# From here on a warning tells what the tokenizer does not see.
_TOLD_UNKNOWN = 0.01  # Share of the tokens.
_TOLD_MARKS = 0.001  # Share of the letters.
_FLAG = "--config.data.tokenizer"


class Description(NamedTuple):
    """A tokenizer described by sample text.

    Attributes:
      lines: casing, tokens per word, unknown tokens, ten samples; of at most about 100 characters, casing alone if the
        texts hold no word.
      warnings: on what it does not see of the text.
    """

    lines: list[str]
    warnings: list[str]


def describe(tokenizer: Tokenizer, texts: Sequence[str]) -> Description:
    """Describes a tokenizer by these lines of text, over which the samples are spread evenly."""
    lines = [casing(tokenizer)]
    words = sum(len(text.split()) for text in texts)
    ids, _ = tokenizer.encode(texts)
    if not (words and len(ids)):
        return Description(lines, [])
    unknown = 100 * (ids == tokenizer.unknown_id).mean()
    characters = sum(map(len, texts))
    lines.append(
        f"{len(ids) / words:.2f} tokens per word, {characters / len(ids):.2f} characters per token, "
        f"{unknown:.3g} % unknown"
    )
    marks, merged = _lost_marks(tokenizer, texts), _merged(tokenizer, texts)
    if merged and not marks:
        lines.append(merged)
    warnings = (
        [f"{marks}{f'; {merged}' if merged else ''}. Set {_FLAG}.strip_accents=False to keep marks"] if marks else []
    )
    warnings += [*_long_words(tokenizer, texts), *_unknown_characters(tokenizer, texts, unknown / 100)]
    filled = [text for text in texts if text.strip()]
    chosen = (filled[(2 * n + 1) * len(filled) // (2 * _SAMPLES)] for n in range(_SAMPLES))
    return Description(lines + [_sample(tokenizer, text) for text in dict.fromkeys(chosen)], warnings)


def casing(tokenizer: Tokenizer) -> str:
    """Describes what a tokenizer does to capitals and accents, found by trying."""
    return casings.described(tokenizer.normalize)


def _lost_marks(tokenizer: Tokenizer, texts: Sequence[str]) -> str:
    """That letters lose marks, be they accents, vowels of Thai or voicing of Japanese; "" if hardly any do."""
    letters = Counter(itertools.chain.from_iterable(unicodedata.normalize("NFC", text).lower() for text in texts))
    letters = Counter({letter: count for letter, count in letters.items() if unicodedata.category(letter)[0] in "LM"})
    lost = Counter(
        {letter: count for letter, count in letters.items() if _marks(letter) > _marks_kept(tokenizer, letter)}
    )
    share = lost.total() / max(letters.total(), 1)
    if share < _TOLD_MARKS:
        return ""
    changed = ", ".join(_change(tokenizer, letter) for letter, _ in lost.most_common(_EXAMPLES))
    return f"{share:.1%} of the letters lose a mark ({changed})"


def _merged(tokenizer: Tokenizer, texts: Sequence[str]) -> str:
    """How many words become the same as others by more than their capitals, with examples; "" if none do."""
    words = Counter(word for text in texts for word in unicodedata.normalize("NFC", text).split())
    capitals = casings.small_letters(words)
    same: dict[str, dict[str, None]] = {}
    for word, _ in words.most_common():
        if len(word) <= _LONGEST_COMPARED:
            # By its small letters, in the text's language, so that "The" and "the" are one word.
            same.setdefault(tokenizer.normalize(word), {})[word.translate(capitals).lower()] = None
    merged = [list(found) for found in same.values() if len(found) > 1]
    if not merged:
        return ""
    examples = ", ".join(" = ".join(found[:3]) for found in merged[:_EXAMPLES])
    return f"{sum(map(len, merged)):,} words of the sample become the same as others ({examples})"


def _long_words(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """A warning if words have more characters than the tokenizer takes."""
    found = [word for text in texts for word in tokenizer.overlong(text)]
    return [long_words(len(found), found[0][:_SHOWN_LETTERS])] if found else []


def long_words(count: int, example: str) -> str:
    """A warning on words of more characters than WordPiece takes, of which one is given by its beginning."""
    return (
        f"{count:,} words have more characters than WordPiece takes, and are one unknown token each, such as "
        f"{example}…. Separate words by blanks, or set {_FLAG}.kind=unigram, which has no limit"
    )


def _marks(letter: str) -> int:
    return sum(unicodedata.category(part) == "Mn" for part in unicodedata.normalize("NFD", letter))


def _marks_kept(tokenizer: Tokenizer, letter: str) -> int:
    return _marks(tokenizer.normalize(letter))


def _change(tokenizer: Tokenizer, letter: str) -> str:
    # A dotted circle carries a mark that stands alone.
    shown = f"\u25cc{letter}" if unicodedata.category(letter)[0] == "M" else letter
    return f"{shown} → {tokenizer.normalize(letter).strip() or 'nothing'}"


def _unknown_characters(tokenizer: Tokenizer, texts: Sequence[str], share: float) -> list[str]:
    """A warning if many tokens are unknown, with the characters that no piece has."""
    if share < _TOLD_UNKNOWN:
        return []
    counts = Counter(character for text in texts for character in text if not character.isspace())
    characters = [character for character, _ in counts.most_common()]
    unknown = unknown_characters(tokenizer, characters)
    text = f"{share:.1%} of the tokens are unknown"
    if unknown:
        missing = sum(counts[character] for character in unknown) / counts.total()
        text += (
            f"; no piece has {len(unknown):,} characters, {missing:.1%} of the text: {' '.join(unknown[:_EXAMPLES])}"
        )
    return [
        f"{text}. More are known with {_FLAG}.kind=unigram, a higher {_FLAG}.character_coverage or a larger "
        f"{_FLAG}.vocabulary_size"
    ]


def unknown_characters(tokenizer: Tokenizer, characters: Sequence[str]) -> list[str]:
    """Those of some characters that no piece has."""
    ids, lengths = tokenizer.encode(characters)
    firsts = np.cumsum(lengths) - lengths
    return [
        character
        for character, first, length in zip(characters, firsts, lengths, strict=True)
        if length and (ids[first : first + length] == tokenizer.unknown_id).any()
    ]


def _sample(tokenizer: Tokenizer, text: str) -> str:
    """The beginning of a text and its pieces: "Il était là → ▁Il ▁était ▁là"."""
    text = " ".join(text.split())
    if len(text) > _LONGEST_TEXT:
        # Whole words, if that leaves any: not every language has blanks.
        text = text[:_LONGEST_TEXT].rpartition(" ")[0] or text[:_LONGEST_TEXT]
    ids, _ = tokenizer.encode([text])
    shown = f"{text} → {' '.join(tokenizer.pieces(ids))}"
    if len(shown) <= _LONGEST_SAMPLE:
        return shown
    shorter = text.rpartition(" ")[0] or text[: len(text) // 2]
    return _sample(tokenizer, shorter) if shorter else f"{shown[:_LONGEST_SAMPLE]}…"
