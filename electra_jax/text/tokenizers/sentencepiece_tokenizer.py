"""SentencePiece tokenizers: an existing .model, or one trained here."""

import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pydantic

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Count, Record
from electra_jax.text.tokenizers import sentencepiece_model, special_tokens
from electra_jax.text.tokenizers.offsets import tightened
from electra_jax.text.tokenizers.special_tokens import ROLES, SPECIAL_PIECES
from electra_jax.text.tokenizers.word_cache import WordMemory

if TYPE_CHECKING:
    import sentencepiece

MODEL = "spiece.model"
SPECIAL = "special_pieces.json"

# SentencePiece drops longer lines without an error, and counts bytes; a character has at most four.
_LONGEST_LINE_CHARACTERS = 4_000
# Sums of floats depend on how many threads shared them: with this many the same texts give the same bytes anywhere.
_THREADS = 4
# SentencePiece skips lines that hold its own mark for unknown characters, or a null.
_RESERVED = str.maketrans({"\u2585": " ", "\0": " "})


class SpecialIds(Record):
    """The id of each role."""

    pad: Count
    unknown: Count
    cls: Count
    sep: Count
    mask: Count


class Special(Record):
    """Content of special_pieces.json: the id of each role, and the pieces that are appended to the model's."""

    ids: SpecialIds
    appended: Annotated[list[str], pydantic.Field(max_length=len(ROLES))]


class SentencePieceTokenizer:
    """Implements `tokenizer.Tokenizer`; `kind` is "unigram" or "bpe", in old models also "word" or "char"."""

    def __init__(
        self,
        model: bytes,
        origin: str,
        *,
        special: Special | None = None,
        add_special_pieces: bool = False,
    ) -> None:
        """Wraps the bytes of a .model.

        Args:
          model: the bytes.
          origin: its path or another name, for messages.
          special: content of special_pieces.json; chosen from the model's pieces when None.
          add_special_pieces: appends the special tokens that are missing; their ids follow the vocabulary.

        Raises:
          InputError: the bytes are not a model, or a special token is missing.
        """
        # Loaded first, so that `sentencepiece_model` reads only valid models.
        _processor(model, origin)
        try:
            content = sentencepiece_model.read(model)
        except ValueError as error:
            raise _damaged(origin) from error
        if special is None:
            special = _special(content, origin, add_special_pieces)
        roles = special.ids.model_dump()
        self._pieces = [piece for piece, _ in content.pieces] + list(special.appended)
        self.kind = content.kind
        self.vocabulary_size = len(self._pieces)
        if max(roles.values()) >= self.vocabulary_size:
            raise InputError(
                f"{origin}: {SPECIAL} next to it is damaged: found the ids {roles}, expected ids below "
                f"{self.vocabulary_size}, the number of pieces; copy the directory again"
            )
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = map(roles.__getitem__, ROLES)
        self._special_ids = set(roles.values())
        # A user-defined symbol such as <mask> would be found in text that spells it.
        self._processor = _processor(
            sentencepiece_model.with_control_pieces(model, self._special_ids - {self.unknown_id}), origin
        )
        # Not for unigram: rounding errors, which depend on the text before, decide its ties.
        self._memory = WordMemory(self._encode) if self.kind == "bpe" and content.splits_at_blanks else None
        self._model = model
        self._special_json = json.dumps(special.model_dump(), sort_keys=True, ensure_ascii=False)
        self.sha256 = hashlib.sha256(model + self._special_json.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all texts, int32 [tokens], and the number of tokens of each, int64 [texts]."""
        return self._memory.encode(texts) if self._memory else self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = self._processor.encode(list(texts), return_type=int, num_threads=1)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return np.fromiter(itertools.chain.from_iterable(ids), np.int32, lengths.sum()), lengths

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns a text's ids, int32, and the first character of each piece and one after its last, int64."""
        encoding = self._processor.encode(text, return_type="offset_mapping")
        spans_Tx2 = np.array(encoding["offsets"], np.int64).reshape(-1, 2)
        return np.array(encoding["ids"], np.int32), *tightened(text, spans_Tx2[:, 0], spans_Tx2[:, 1])

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the pieces as the vocabulary spells them, "▁" for a preceding blank."""
        return [self._pieces[index] for index in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns readable text, pieces joined to words and special tokens kept."""
        parts: list[str] = []
        for is_special, group in itertools.groupby(map(int, ids), self._special_ids.__contains__):
            run = list(group)
            parts += self.pieces(run) if is_special else [self._processor.decode(run)]
        return " ".join(parts)

    def normalize(self, text: str) -> str:
        """Returns a text as the model sees it before it looks for pieces."""
        return self._processor.normalize(text).removeprefix("▁")

    def overlong(self, text: str) -> list[str]:
        """Returns nothing: words may have any length."""
        return []

    def save(self, directory: str | os.PathLike) -> None:
        """Writes spiece.model, byte for byte as it was read, and special_pieces.json into a directory.

        Raises:
          OSError: the directory cannot be written.
        """
        storage.write(storage.join(directory, MODEL), self._model)
        storage.write(storage.join(directory, SPECIAL), self._special_json.encode())


def train(
    texts: Iterable[str], *, kind: str, vocabulary_size: int, lowercase: bool, character_coverage: float
) -> SentencePieceTokenizer:
    """Trains a SentencePiece model; the same texts give the same bytes in every process.

    Args:
      texts: lines of text, all of which are kept in memory.
      kind: "unigram" or "bpe".
      vocabulary_size: pieces, special tokens included.
      lowercase: folds case in addition to NFKC, which is always applied.
      character_coverage: share of the text's characters that get a piece; the rarest of them are unknown.

    Raises:
      InputError: the size is smaller than the alphabet needs, or larger than the text yields.
    """
    # Imported here: slow, and WordPiece does not need it.
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_training_lines(texts),
            model_writer=model,
            model_type=kind,
            vocab_size=vocabulary_size,
            character_coverage=character_coverage,
            normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
            max_sentence_length=4 * _LONGEST_LINE_CHARACTERS,
            shuffle_input_sentence=False,
            num_threads=_THREADS,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece=SPECIAL_PIECES[0],
            unk_piece=SPECIAL_PIECES[1],
            control_symbols=list(SPECIAL_PIECES[2:]),
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _training_error(str(error), vocabulary_size) from error
    return SentencePieceTokenizer(model.getvalue(), "the trained tokenizer")


def _training_lines(texts: Iterable[str]) -> Iterator[str]:
    """Yields lines that SentencePiece does not drop: long ones are split, at blanks if there are any."""
    for text in texts:
        text = text.translate(_RESERVED)
        while len(text) > _LONGEST_LINE_CHARACTERS:
            blank = text.rfind(" ", 1, _LONGEST_LINE_CHARACTERS)
            end = blank if blank > 0 else _LONGEST_LINE_CHARACTERS
            yield text[:end]
            text = text[end:]
        yield text


def _training_error(message: str, vocabulary_size: int) -> InputError:
    field = "config.data.tokenizer.vocabulary_size"
    if found := re.search(r"set it to a value <= (\d+)", message):
        return InputError(
            f"{field}: this text yields {found[1]} pieces, fewer than {vocabulary_size}. Set --{field}=N with N at "
            "most that, or add text."
        )
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return InputError(
            f"{field}: {vocabulary_size} pieces are too few; special tokens and alphabet take {found[1]}. Set "
            f"--{field}=N with N well above that, or a smaller --config.data.tokenizer.character_coverage."
        )
    if "!sentences_.empty()" in message:
        return InputError("config.data.sources: there is no text to train the tokenizer on; add some.")
    return InputError(f"config.data.tokenizer: SentencePiece cannot be trained with these values and text ({message}).")


def from_bytes(
    model: bytes, origin: str, special: bytes | None = None, *, add_special_pieces: bool = False
) -> SentencePieceTokenizer:
    """Makes a tokenizer from the bytes of a .model and, in a directory that `save` wrote, of special_pieces.json.

    Raises:
      InputError: one of them is damaged, or a special token is missing.
    """
    if special is None:
        return SentencePieceTokenizer(model, origin, add_special_pieces=add_special_pieces)
    place, fix = f"{origin}: {SPECIAL} next to it is damaged", "copy the directory again"
    try:
        parsed = foreign_json.parse(special)
    except ValueError as error:
        raise InputError(f"{place} ({error}); {fix}") from error
    return SentencePieceTokenizer(model, origin, special=foreign_json.checked(Special, parsed, place, fix))


def _special(content: sentencepiece_model.ModelFile, origin: str, add_special_pieces: bool) -> Special:
    """Chooses the piece of each special token, and appends the missing ones."""
    # An ordinary piece spelled <s>, as in HTML, is not a special token.
    candidates = {
        piece: index
        for index, (piece, kind) in enumerate(content.pieces)
        if kind in (sentencepiece_model.CONTROL, sentencepiece_model.USER_DEFINED)
    }
    # Every model has one piece for unknown text, whatever its name.
    unknown = [index for index, (_, kind) in enumerate(content.pieces) if kind == sentencepiece_model.UNKNOWN]
    if not unknown:
        raise _damaged(origin)
    roles = special_tokens.find(candidates) | {"unknown": unknown[0]}
    missing = special_tokens.missing(roles)
    if missing and not add_special_pieces:
        raise special_tokens.missing_error(origin, missing)
    added = {piece: len(content.pieces) + n for n, piece in enumerate(missing)}
    appended = {role: added[piece] for role, piece in zip(ROLES, SPECIAL_PIECES, strict=True) if piece in added}
    return Special(ids=SpecialIds(**roles | appended), appended=missing)


def _processor(model: bytes, origin: str) -> "sentencepiece.SentencePieceProcessor":
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise _damaged(origin) from error
    return processor


def _damaged(origin: str) -> InputError:
    return InputError(
        f"{origin}: SentencePiece cannot read it: it is damaged, or something else; expected the .model that its "
        "trainer writes."
    )
