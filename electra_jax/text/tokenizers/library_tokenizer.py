"""Tokenizers of the `tokenizers` library: a tokenizer.json with any model, and WordPiece from a vocab.txt."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pydantic
import tokenizers
from tokenizers import models, pre_tokenizers

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Count, Record
from electra_jax.text.tokenizers import special_tokens
from electra_jax.text.tokenizers.offsets import tightened
from electra_jax.text.tokenizers.special_tokens import ROLES, SPECIAL_PIECES
from electra_jax.text.tokenizers.word_cache import WordMemory

# In BERT's scheme each of these is a token of its own, with or without blanks around it.
_APART = MappingProxyType({ord(mark): f" {mark} " for mark in string.punctuation})


# In these a text may become the same pieces wherever it is cut; XLM-R's unigram pieces, for one, hold "<s>".
_CUTS_ANYWHERE = (models.Unigram, models.BPE)


class _AddedToken(Record):
    """A token of `added_tokens`."""

    id: Count
    content: str


class _LibraryModel(Record):
    """The part of `model` that says how large the vocabulary is: ids by piece, or pieces with scores."""

    vocab: dict[str, Count] | list[Any] = pydantic.Field(default_factory=dict)


class _TokenizerFile(Record):
    """The part of tokenizer.json that is checked before the library reads it."""

    model: _LibraryModel
    added_tokens: list[_AddedToken] = pydantic.Field(default_factory=list)


class LibraryTokenizer:
    """Implements `tokenizer.Tokenizer`; `kind` is the name of the library's model in lower case."""

    def __init__(self, backend: tokenizers.Tokenizer, origin: str, *, add_special_pieces: bool = False) -> None:
        """Wraps a tokenizer of the library, which is changed in place.

        Args:
          backend: the library's tokenizer.
          origin: its path or another name, for messages.
          add_special_pieces: appends the special tokens that are missing.

        Raises:
          InputError: a special token is missing, ids have gaps, or text could spell a special token.
        """
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        roles = _roles(backend)
        if missing := special_tokens.missing(roles):
            if not add_special_pieces:
                raise special_tokens.missing_error(origin, missing)
            backend.add_special_tokens(missing)
        vocabulary = backend.get_vocab(with_added_tokens=True)
        named = zip(ROLES, SPECIAL_PIECES, strict=True)
        roles |= {role: vocabulary[piece] for role, piece in named if piece in missing}
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise _gaps(origin, len(vocabulary), max(vocabulary.values()))
        self.vocabulary_size = len(vocabulary)
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = map(roles.__getitem__, ROLES)
        self._backend = backend
        self._pieces = sorted(vocabulary, key=vocabulary.__getitem__)
        spelled = self.pieces(set(roles.values()) - {self.unknown_id})
        if self._special_ids_of(spelled) and type(backend.model) in _CUTS_ANYWHERE:
            _cut_special_tokens(backend, spelled)
        if produced := self._special_ids_of(spelled):
            raise InputError(
                f"{origin}: this tokenizer gives special ids to text that spells, say, "
                f"{self.pieces([min(produced)])[0]}. Use one that splits brackets from words, as BERT's does, or the "
                "SentencePiece .model that it was made from."
            )
        parts = json.loads(backend.to_str())
        self.kind = parts["model"]["type"].lower()
        self._longest_word: int = parts["model"].get("max_input_chars_per_word") or 0
        self._json = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        self.sha256 = hashlib.sha256(self._json.encode()).hexdigest()
        self._memory = WordMemory(self._encode_words) if _splits_at_blanks(parts) else None
        self._unpunctuated = WordMemory(self._encode)

    def _special_ids_of(self, spelled: Sequence[str]) -> set[int]:
        """Ids of those special tokens that the texts which spell them give."""
        found, _ = self._encode([text for piece in spelled for text in (piece, f"x{piece}y", f"x {piece} y")])
        return set(found.tolist()) & {self._pieces.index(piece) for piece in spelled}

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all texts, int32 [tokens], and the number of tokens of each, int64 [texts]."""
        return self._memory.encode(texts) if self._memory else self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return np.fromiter(itertools.chain.from_iterable(ids), np.int32, lengths.sum()), lengths

    def _encode_words(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        # Most new words are known words with other punctuation.
        return self._unpunctuated.encode([word.translate(_APART) for word in words])

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns a text's ids, int32, and the first character of each piece and one after its last, int64."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        spans_Tx2 = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return np.array(encoding.ids, np.int32), *tightened(text, spans_Tx2[:, 0], spans_Tx2[:, 1])

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the pieces as the vocabulary spells them, "##ing" for one inside a word."""
        return [self._pieces[index] for index in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns readable text, pieces joined to words and special tokens kept."""
        return self._backend.decode([int(index) for index in ids], skip_special_tokens=False)

    def normalize(self, text: str) -> str:
        """Returns a text as the model sees it before it looks for pieces."""
        return unicodedata.normalize("NFC", self._changed(text))

    def overlong(self, text: str) -> list[str]:
        """Returns the words of a text that are unknown because they have more characters than the model takes."""
        longest, splitter = self._longest_word, self._backend.pre_tokenizer
        # Most texts have no long run without blanks; a normaliser makes up to three characters of one.
        candidates = [run for run in text.split() if 3 * len(run) > longest] if longest and splitter else []
        words = itertools.chain.from_iterable(splitter.pre_tokenize_str(self._changed(run)) for run in candidates)
        return [word for word, _ in words if len(word) > longest]

    def _changed(self, text: str) -> str:
        """A text as the library's normaliser gives it."""
        normalizer = self._backend.normalizer
        return str(normalizer.normalize_str(text)) if normalizer else text

    def with_spare_rows(self, size: int) -> "LibraryTokenizer":
        """The same tokenizer with `size` pieces; those that it lacks are rows without a piece, which no text gives."""
        backend = tokenizers.Tokenizer.from_str(self._json)
        backend.add_special_tokens([special_tokens.spare(row) for row in range(self.vocabulary_size, size)])
        return LibraryTokenizer(backend, "a tokenizer with spare rows")

    def save(self, directory: str | os.PathLike) -> None:
        """Writes tokenizer.json into a directory, and for WordPiece the plain vocab.txt.

        Raises:
          OSError: the directory cannot be written.
        """
        storage.write(storage.join(directory, "tokenizer.json"), self._json.encode())
        if self.kind == "wordpiece":
            storage.write(
                storage.join(directory, "vocab.txt"), "".join(f"{piece}\n" for piece in self._pieces).encode()
            )


def from_json(text: str, origin: str, *, add_special_pieces: bool = False) -> LibraryTokenizer:
    """Reads the text of a tokenizer.json.

    Raises:
      InputError: the library cannot read it, or `LibraryTokenizer` refuses it.
    """
    with _library_errors(origin):
        return LibraryTokenizer(_read(text, origin), origin, add_special_pieces=add_special_pieces)


def ids_as_written(
    text: str, origin: str, texts: Sequence[str], *, add_special_tokens: bool = False
) -> list[list[int]]:
    """The ids that a tokenizer.json gives to each text by itself, as other programs run it.

    Special tokens that a text spells are found, as the file says.

    Raises:
      InputError: the library cannot read it.
    """
    with _library_errors(origin):
        backend = _read(text, origin)
        backend.no_truncation()
        backend.no_padding()
        return [found.ids for found in backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)]


_EXPECTED = "expected the tokenizer.json that `tokenizers.Tokenizer.save` writes."


def _read(text: str, origin: str) -> tokenizers.Tokenizer:
    place = f"{origin}: the tokenizers library cannot read it"
    _check_ids(foreign_json.checked(_TokenizerFile, foreign_json.parse(text), place, _EXPECTED), origin)
    return tokenizers.Tokenizer.from_str(text)


@contextlib.contextmanager
def _library_errors(origin: str) -> Iterator[None]:
    """Turns what the library raises into InputError."""
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    # The library raises bare Exception, and PanicException, which is a BaseException.
    except BaseException as error:
        raise InputError(f"{origin}: the tokenizers library cannot read it ({error}); {_EXPECTED}") from error


def _cut_special_tokens(backend: tokenizers.Tokenizer, pieces: Sequence[str]) -> None:
    """Makes a text that spells a special token be cut after its first character; other texts keep their ids."""
    starts = "|".join(f"{re.escape(piece[0])}(?={re.escape(piece[1:])})" for piece in pieces if len(piece) > 1)
    cut = pre_tokenizers.Split(tokenizers.Regex(starts), "isolated")
    before = backend.pre_tokenizer
    backend.pre_tokenizer = cut if before is None else pre_tokenizers.Sequence([before, cut])


def _check_ids(file: _TokenizerFile, origin: str) -> None:
    """Raises InputError for an id beyond the number of pieces: the library allocates memory for all ids below it."""
    vocabulary = file.model.vocab
    # A list holds pieces in the order of their ids.
    ids, known = (vocabulary.values(), vocabulary) if isinstance(vocabulary, dict) else (range(len(vocabulary)), ())
    count = len(vocabulary) + len({token.content for token in file.added_tokens if token.content not in known})
    highest = max([*ids, *(token.id for token in file.added_tokens)], default=-1)
    if highest >= count:
        raise _gaps(origin, count, highest)


def _gaps(origin: str, count: int, highest: int) -> InputError:
    return InputError(
        f"{origin}: {count} pieces have ids up to {highest}; expected every id from 0 to {count - 1} exactly once."
    )


def _roles(backend: tokenizers.Tokenizer) -> dict[str, int]:
    """Ids of the special tokens that the library's tokenizer has, by role."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    parts = json.loads(backend.to_str())
    # Outside the list of special tokens "<s>" may be an ordinary piece, as in HTML.
    special = {token["content"] for token in parts["added_tokens"] if token["special"]} | set(SPECIAL_PIECES)
    roles = special_tokens.find({piece: index for piece, index in vocabulary.items() if piece in special})
    unknown = _unknown_id(parts["model"], vocabulary)
    return roles if unknown is None else roles | {"unknown": unknown}


def _unknown_id(model: dict[str, Any], vocabulary: dict[str, int]) -> int | None:
    """Id that the model gives to unknown text, if it names one."""
    if model["type"] == "Unigram":
        return model.get("unk_id")
    return vocabulary.get(model.get("unk_token") or "")


def _splits_at_blanks(parts: dict[str, Any]) -> bool:
    """Whether a blank always separates words, as in BERT's scheme."""
    kinds = [(parts.get(name) or {}).get("type") for name in ("model", "normalizer", "pre_tokenizer")]
    return kinds == ["WordPiece", "BertNormalizer", "BertPreTokenizer"] and all(
        token["special"] for token in parts["added_tokens"]
    )
