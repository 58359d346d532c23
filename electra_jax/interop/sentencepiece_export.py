"""Converts SentencePiece models to the `tokenizers` library, the only format that transformers reads today."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from electra_jax.text.tokenizers import sentencepiece_model

if TYPE_CHECKING:
    import sentencepiece
    import tokenizers

    from electra_jax.text.tokenizers.tokenizer import Tokenizer

_BLANK = "▁"
# Characters that a pair of three bytes each may compose to; what lies between them and beyond needs no help.
_FIRST_OF_THREE_BYTES, _LAST_COMPOSED = 0x800, 0x10000
_NOT_LOOKED_UP = 6  # Bytes of a cluster.
# Fields of ModelProto, and of the NormalizerSpec in it.
_NORMALIZER, _CHARACTER_MAP, _DUMMY_PREFIX, _EXTRA_BLANKS = 3, 2, 3, 4


def to_library(model: bytes, tokenizer: Tokenizer) -> tokenizers.Tokenizer | None:
    """The library's tokenizer for a .model, or None if the library does not support its rules.

    Callers must compare the two on text, as the library rounds scores differently.

    Args:
      model: bytes of the .model.
      tokenizer: the tokenizer of that model, for its special tokens, including appended ones.
    """
    import sentencepiece
    import tokenizers

    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    rules = _normalizer_fields(model)
    if tokenizer.kind not in ("unigram", "bpe") or not rules.get(_DUMMY_PREFIX, 1) or not rules.get(_EXTRA_BLANKS, 1):
        return None
    own = processor.get_piece_size()
    pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
    scores = [processor.get_score(index) if index < own else 0.0 for index in range(len(pieces))]
    falls_back = any(processor.is_byte(index) for index in range(own))
    if tokenizer.kind == "unigram":
        scored = list(zip(pieces, scores, strict=True))
        made = tokenizers.models.Unigram(scored, unk_id=tokenizer.unknown_id, byte_fallback=falls_back)
    else:
        made = tokenizers.models.BPE(
            {piece: index for index, piece in enumerate(pieces)},
            _merges(pieces[:own], scores),
            unk_token=pieces[tokenizer.unknown_id],
            fuse_unk=True,
            byte_fallback=falls_back,
        )
    backend = tokenizers.Tokenizer(made)
    steps: list[tokenizers.normalizers.Normalizer] = []
    if rules.get(_CHARACTER_MAP):
        steps = [tokenizers.normalizers.Precompiled(rules[_CHARACTER_MAP]), *_compositions(processor, pieces)]
    blanks = tokenizers.normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
    backend.normalizer = tokenizers.normalizers.Sequence([*steps, tokenizers.normalizers.Strip(), blanks])
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(_BLANK, prepend_scheme="always")
    backend.decoder = tokenizers.decoders.Metaspace(_BLANK, prepend_scheme="always")
    special = (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    backend.add_special_tokens(tokenizer.pieces(special))
    return backend


def _compositions(
    processor: sentencepiece.SentencePieceProcessor, pieces: list[str]
) -> list[tokenizers.normalizers.Normalizer]:
    """Replacements of two characters by one that the model's character map makes and the library's reading of it omits.

    The library looks up clusters of less than six bytes alone, so that a kana and its voicing mark stay apart.
    """
    import tokenizers

    known = set("".join(pieces))
    found: list[tokenizers.normalizers.Normalizer] = []
    for composed in map(chr, range(_FIRST_OF_THREE_BYTES, _LAST_COMPOSED)):
        pair = unicodedata.normalize("NFD", composed)
        if len(pair) != 2 or len(pair.encode()) < _NOT_LOOKED_UP or not {composed, pair[0]} & known:
            continue
        # Devanagari's nukta, for one, stays a character of its own.
        is_whole = unicodedata.normalize("NFC", pair) == composed
        normalized = processor.Normalize(pair)  # With a blank in front.
        is_whole &= normalized == processor.Normalize(composed) and normalized.endswith(composed)
        if is_whole and not "\uac00" <= composed <= "\ud7a3":  # Hangul's composition has rules of its own.
            found.append(tokenizers.normalizers.Replace(pair, composed))
    return found


def _normalizer_fields(model: bytes) -> dict[int, int | bytes]:
    for number, value, _ in sentencepiece_model.fields(model):
        if number == _NORMALIZER and isinstance(value, bytes):
            return {field: inner for field, inner, _ in sentencepiece_model.fields(value)}
    return {}


def _merges(pieces: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """All pairs of pieces that join to a piece, best pieces first, in SentencePiece's order of merges."""
    ids = {piece: index for index, piece in enumerate(pieces)}
    found = []
    for piece, score in zip(pieces, scores, strict=False):
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        found += [(-score, ids[left], ids[right]) for left, right in halves if left in ids and right in ids]
    return [(pieces[left], pieces[right]) for _, left, right in sorted(found)]
