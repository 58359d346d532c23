"""The protocol of tokenizers, and how they are loaded and trained."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from electra_jax import hub_names, storage
from electra_jax.config.schema import AUTO, BoolOrAuto
from electra_jax.errors import InputError
from electra_jax.text.tokenizers import (
    casing,
    foreign_tokenizers,
    huggingface_files,
    library_tokenizer,
    sentencepiece_tokenizer,
    special_tokens,
    wordpiece,
)
from electra_jax.text.tokenizers.special_tokens import SPECIAL_PIECES as SPECIAL_PIECES

KINDS = ("wordpiece", "unigram", "bpe")

# Text that a tokenizer is trained on; piece counts hardly change with more. Peak memory of training 30 to 32 thousand
# pieces on so much English: 220 MB for WordPiece, 840 MB for unigram, 210 MB for BPE. Text without blanks takes
# up to 50 bytes a character for unigram.
SAMPLE_CHARACTERS = 40_000_000
# (lowercase, strip_accents) of Google's vocabularies, in the order in which they are tried on a vocab.txt.
_CASINGS = ((True, True), (True, False), (False, False))


class Tokenizer(Protocol):
    """Turns text into piece ids and back. Never adds special tokens, nor finds any in a text that spells one.

    Attributes:
      kind: "wordpiece", "unigram", "bpe", or another model of its library.
      vocabulary_size: pieces, special tokens included; ids are 0 to vocabulary_size - 1.
      pad_id, unknown_id, cls_id, sep_id, mask_id: ids of the special tokens.
      sha256: hash of everything that determines the ids of a text, and of the special tokens.
    """

    kind: str
    vocabulary_size: int
    pad_id: int
    unknown_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    sha256: str

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all texts, int32 [tokens], and the number of tokens of each, int64 [texts]."""
        ...

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the ids of a text, and the characters that each piece stands for.

        Args:
          text: any; its ids are those that `encode` gives.

        Returns:
          ids, int32 [tokens], and int64 [tokens] twice: the first character of each piece, and one after its last.
          Blanks around a word do not count. The span of a piece that stands for blanks, or for part of a character, may
          be empty.
        """
        ...

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the pieces as the vocabulary spells them, special tokens too."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Returns readable text, pieces joined to words and special tokens kept."""
        ...

    def normalize(self, text: str) -> str:
        """Returns a text as the model sees it before it looks for pieces: lower-cased, say."""
        ...

    def overlong(self, text: str) -> list[str]:
        """Returns the words of a text that are unknown because they have more characters than the model takes."""
        ...

    def save(self, directory: str | os.PathLike) -> None:
        """Writes the files from which `load` makes the same tokenizer into a directory, local or remote.

        Raises:
          OSError: the directory cannot be written.
        """
        ...


def load(
    path: str | os.PathLike,
    *,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    add_special_pieces: bool = False,
    is_foreign: bool = False,
) -> Tokenizer:
    """Reads a vocab.txt, a tokenizer.json, a SentencePiece .model, or a directory that holds one of them.

    In a directory, the files that Hugging Face writes next to it count, too: see `huggingface_files`.

    Args:
      path: the file or directory, local or remote.
      lowercase: for a vocab.txt, which does not record it; true unless given. The other files record their casing;
        `tokenizer_report.casing` describes it.
      strip_accents: the same; in effect only together with `lowercase`, as in Google's tokenizer.
      add_special_pieces: appends the special tokens that are missing, with ids from the vocabulary's size on.
      is_foreign: whether a tokenizer.json may be another program's, whose additional special tokens are meant to be
        found in a text; without it, they are as `save` wrote them.

    Raises:
      InputError: no such file, damaged, a special token is missing, or pieces that contradict `lowercase` or
        `strip_accents`.
    """
    path = os.fspath(path)
    special = None
    lowercase, strip_accents = lowercase is not False, strip_accents is not False
    if storage.is_directory(path):
        directory, path = path, _file_in(path)
        if not path.endswith(".model"):
            stated = huggingface_files.load(
                directory, lowercase=lowercase, strip_accents=strip_accents, add_special_pieces=add_special_pieces
            )
            if stated is not None:
                return stated
        special_path = storage.join(directory, sentencepiece_tokenizer.SPECIAL)
        if path.endswith(".model") and storage.exists(special_path):
            special = _read(special_path)
    content = _read(path)
    reason = foreign_tokenizers.problem(content, path)
    if reason:
        raise InputError(f"{path}: {reason}")
    if path.endswith(".model"):
        return sentencepiece_tokenizer.from_bytes(content, path, special, add_special_pieces=add_special_pieces)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8, which a vocab.txt and a tokenizer.json must be; the name of a "
            "SentencePiece model must end in .model."
        ) from error
    if path.endswith(".json"):
        read = huggingface_files.from_whole if is_foreign else library_tokenizer.from_json
        return read(text, path, add_special_pieces=add_special_pieces)
    return wordpiece.from_vocabulary(
        text,
        path,
        lowercase=lowercase,
        strip_accents=strip_accents,
        add_special_pieces=add_special_pieces,
    )


def load_with_casing(
    path: str | os.PathLike,
    *,
    lowercase: BoolOrAuto,
    strip_accents: BoolOrAuto,
    add_special_pieces: bool = False,
    is_foreign: bool = False,
) -> tuple[Tokenizer, str]:
    """Reads a tokenizer as `load` does; of a vocab.txt, "auto" is the first casing that its pieces do not contradict.

    Args:
      path, add_special_pieces, is_foreign: as for `load`.
      lowercase, strip_accents: for a vocab.txt whose casing no file next to it states.

    Returns:
      The tokenizer, and a line on what was inferred; "" if nothing was.

    Raises:
      InputError: as `load` does, for each of these casings.
    """
    path = os.fspath(path)
    # Where the files state the casing, all of these give the same tokenizer.
    tried = dict.fromkeys(
        (capitals if lowercase == AUTO else lowercase, accents if strip_accents == AUTO else strip_accents)
        for capitals, accents in _CASINGS
    )
    refusals: list[InputError] = []
    for capitals, accents in tried:
        try:
            made = load(
                path,
                lowercase=capitals,
                strip_accents=accents,
                add_special_pieces=add_special_pieces,
                is_foreign=is_foreign,
            )
        except InputError as error:
            refusals.append(error)
            continue
        if AUTO not in (lowercase, strip_accents) or _states_casing(path):
            return made, ""
        return made, f"vocab.txt: {casing.described(made.normalize)}, inferred from its pieces"
    raise refusals[0]


def _states_casing(path: str) -> bool:
    """Whether a tokenizer's files say if text is lower-cased."""
    if storage.is_directory(path):
        return not _file_in(path).endswith(".txt") or huggingface_files.states_casing(path)
    return path.endswith((".json", ".model"))


def with_spare_rows(given: Tokenizer, rows: int, origin: str) -> Tokenizer:
    """A tokenizer for a word table that has more rows than the tokenizer has pieces.

    Word tables are padded, to a multiple of 8 or 128, or have rows for pieces that were never added. Such rows are
    kept: they get names that no text gives, so that all ids and sizes stay as they are.

    Args:
      given: the tokenizer.
      rows: rows of the word table, at least as many as pieces.
      origin: where the tokenizer is from, for messages.

    Raises:
      InputError: it is a SentencePiece model, which holds its own number of pieces.
    """
    if rows == given.vocabulary_size:
        return given
    if not isinstance(given, library_tokenizer.LibraryTokenizer):
        raise InputError(
            f"{origin}: found a SentencePiece model of {given.vocabulary_size} pieces for a word table of {rows} rows; "
            "write a tokenizer.json with transformers, AutoTokenizer.from_pretrained(…).save_pretrained(…), which can "
            "have spare rows"
        )
    return given.with_spare_rows(rows)


def spare_rows(given: Tokenizer) -> int:
    """How many of a tokenizer's ids are rows of a word table without a piece."""
    return sum(map(special_tokens.is_spare, given.pieces(range(given.vocabulary_size))))


def train(
    texts: Iterable[str],
    *,
    kind: str,
    vocabulary_size: int,
    lowercase: bool,
    strip_accents: bool,
    character_coverage: float,
    note: Callable[[str], None] = lambda _: None,
) -> Tokenizer:
    """Trains a tokenizer; the same texts give the same one in every process.

    Args:
      texts: lines of text; reading stops after `SAMPLE_CHARACTERS`.
      kind: one of `KINDS`.
      vocabulary_size: pieces, special tokens included.
      lowercase: makes the vocabulary uncased.
      strip_accents: strips accents; in effect only together with `lowercase`, and for WordPiece only.
      character_coverage: share of the text's characters that get a piece at least.
      note: receives lines on the alphabet, and on text that was passed over.

    Raises:
      InputError: no such kind, accents that it cannot strip, or a vocabulary size that the text does not allow.
    """
    if kind not in KINDS:
        raise InputError(f"config.data.tokenizer.kind: found {kind!r}, expected one of {', '.join(KINDS)}.")
    sample = _first(texts, SAMPLE_CHARACTERS)
    if kind == "wordpiece":
        return wordpiece.train(
            sample,
            vocabulary_size=vocabulary_size,
            lowercase=lowercase,
            strip_accents=strip_accents,
            character_coverage=character_coverage,
            note=note,
        )
    if strip_accents:
        raise InputError(
            f"config.data.tokenizer.strip_accents: SentencePiece ({kind}) keeps accents; set "
            "--config.data.tokenizer.strip_accents=False."
        )
    return sentencepiece_tokenizer.train(
        sample,
        kind=kind,
        vocabulary_size=vocabulary_size,
        lowercase=lowercase,
        character_coverage=character_coverage,
    )


def _first(texts: Iterable[str], limit: int) -> Iterator[str]:
    """Yields texts until they have `limit` characters."""
    total = 0
    for text in texts:
        yield text
        total += len(text) + 1
        if total >= limit:
            return


def _file_in(directory: str) -> str:
    """The tokenizer's file in a directory."""
    known = ("tokenizer.json", sentencepiece_tokenizer.MODEL, "vocab.txt")
    names = storage.names(directory)
    # Only `save` writes special_pieces.json, and then the model next to it is meant.
    ordered = known if sentencepiece_tokenizer.SPECIAL not in names else (sentencepiece_tokenizer.MODEL, *known)
    for name in ordered:
        if name in names:
            return storage.join(directory, name)
    raise InputError(f"{directory}: there is no tokenizer in this directory; expected {', '.join(known)}.")


def _read(path: str) -> bytes:
    try:
        return storage.read(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot read a tokenizer ({error.strerror or error}); config.data.tokenizer.source is "
            '"train" or the path of a vocab.txt, tokenizer.json or SentencePiece .model'
            f"{hub_names.advice(path)}."
        ) from error
