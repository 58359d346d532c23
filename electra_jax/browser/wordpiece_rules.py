"""BERT's rules for words as tables of characters, which the page's script reads.

Browsers know other versions of Unicode than our tokenizer, so that the script asks the browser nothing: each rule is
what the tokenizer itself does with each character. `files/tokenizer.js` puts the tables to use.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import tokenizers

from electra_jax.errors import InputError

if TYPE_CHECKING:
    from electra_jax.text.tokenizers.tokenizer import Tokenizer

_PARTS = {"model": "WordPiece", "normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}
_SEPARATOR, _LETTER = "|", "a"  # Of tried characters: both stand for themselves, and the second is part of a word.
_CHUNK = 1 << 15
_FIRST_SYLLABLE, _SYLLABLES = 0xAC00, 11172


def check(tokenizer: Tokenizer, origin: str) -> None:
    """Checks a tokenizer's kind before any slow work.

    Raises:
      InputError: it is not WordPiece.
    """
    if tokenizer.kind != "wordpiece":
        raise _unknown_rules(origin, tokenizer.kind)


def tables(library_json: str, tokenizer: Tokenizer, origin: str) -> dict[str, Any]:
    """What `files/tokenizer.js` needs of a tokenizer, as JSON.

    Args:
      library_json: content of its tokenizer.json.
      tokenizer: the tokenizer.
      origin: the model's path, for messages.

    Raises:
      InputError: it has other rules than BERT's.
    """
    parts = json.loads(library_json)
    kinds = {name: (parts.get(name) or {}).get("type") for name in _PARTS}
    if kinds != _PARTS or not all(token["special"] for token in parts["added_tokens"]):
        raise _unknown_rules(origin, ", ".join(str(kind) for kind in kinds.values()))
    library = tokenizers.Tokenizer.from_str(library_json)
    model = parts["model"]
    vocabulary: list[str | None] = [None] * tokenizer.vocabulary_size
    for piece, number in model["vocab"].items():
        vocabulary[number] = piece
    return {
        "vocabulary": vocabulary,
        "unknown": tokenizer.unknown_id,
        "cls": tokenizer.cls_id,
        "sep": tokenizer.sep_id,
        "continuation": model["continuing_subword_prefix"],
        "longest_word": model["max_input_chars_per_word"],
        **_normalization(library.normalizer),
        **_splits(library.pre_tokenizer),
        "trimmed": _ranges(filter(str.isspace, _characters())),
        "accents": _ranges(character for character in _characters() if unicodedata.category(character) == "Mn"),
    }


def _unknown_rules(origin: str, found: str) -> InputError:
    return InputError(
        f"{origin}: found a tokenizer of the kind {found}, expected WordPiece with BERT's rules, the only one that the "
        "page can compute; use a model with such a tokenizer (config.data.tokenizer.kind=wordpiece)"
    )


def _characters() -> Iterator[str]:
    """All characters of Unicode; halves of surrogate pairs are none."""
    yield from map(chr, range(0xD800))
    yield from map(chr, range(0xE000, 0x110000))


def _chunks(without: str) -> Iterator[list[str]]:
    chunk: list[str] = []
    for character in _characters():
        if character != without:
            chunk.append(character)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _normalization(normalizer: Any) -> dict[str, Any]:
    """What becomes of each character: ranges of those that are dropped, or set apart by blanks, and texts for others.

    Marks of several that follow a letter stay in their order: NFD would sort those few that are not accents.
    """
    dropped, apart, mapped = [], [], {}
    for chunk in _chunks(_SEPARATOR):
        normalized = normalizer.normalize_str(_SEPARATOR.join(chunk)).split(_SEPARATOR)
        for before, after in zip(chunk, normalized, strict=True):
            if after == before:
                continue
            if not after:
                dropped.append(before)
            elif after == f" {before} ":
                apart.append(before)
            else:
                mapped[before] = after
    syllables = [chr(_FIRST_SYLLABLE + number) for number in range(_SYLLABLES)]
    # Unicode's rule takes less room than its results.
    by_rule = all(mapped.get(syllable) == _letters(syllable) for syllable in syllables)
    for syllable in syllables if by_rule else ():
        del mapped[syllable]
    return {"dropped": _ranges(dropped), "apart": _ranges(apart), "syllables": by_rule, "mapped": mapped}


def _letters(syllable: str) -> str:
    """The letters of a Korean syllable (Unicode, section 3.12)."""
    number = ord(syllable) - _FIRST_SYLLABLE
    last = number % 28
    letters = chr(0x1100 + number // 588) + chr(0x1161 + number % 588 // 28)
    return letters + chr(0x11A7 + last) if last else letters


def _splits(pre_tokenizer: Any) -> dict[str, Any]:
    """Ranges of the characters that end a word: blanks, which are dropped, and punctuation, which is a word itself."""
    blanks, punctuation = [], []
    for chunk in _chunks(_LETTER):
        found = pre_tokenizer.pre_tokenize_str(_LETTER + _LETTER.join(chunk) + _LETTER)
        alone = {start for word, (start, end) in found if end == start + 1}
        covered = {place for _, (start, end) in found for place in range(start, end)}
        for number, character in enumerate(chunk):
            place = 2 * number + 1
            if place not in covered:
                blanks.append(character)
            elif place in alone:
                punctuation.append(character)
    return {"blanks": _ranges(blanks), "punctuation": _ranges(punctuation)}


def _ranges(characters: Iterable[str]) -> list[int]:
    """First and last code of each run of characters, which come in their order."""
    found: list[int] = []
    for code in map(ord, characters):
        if found and found[-1] == code - 1:
            found[-1] = code
        else:
            found += [code, code]
    return found
