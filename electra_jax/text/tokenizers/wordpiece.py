"""WordPiece as in BERT: a vocabulary from a vocab.txt, or trained."""

import dataclasses
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from electra_jax.errors import InputError
from electra_jax.text.tokenizers import library_tokenizer, special_tokens
from electra_jax.text.tokenizers.special_tokens import SPECIAL_PIECES
from electra_jax.text.tokenizers.word_cache import stretches

# A longer word is unknown, as in Google's tokenizer.
_LONGEST_WORD = 200
# A piece seen once teaches nothing that its parts do not.
_RAREST_PIECE = 2
# The most frequent thousand characters always have pieces, whatever the coverage; BERT's alphabet has as many.
_LEAST_ALPHABET = 1000
# A longer word is passed over in training: it is unknown in any case, and one of millions would take minutes.
_LONGEST_TRAINED = 1000
_LOWEST_COVERAGE = 0.9  # Of `config.data.tokenizer.character_coverage`.
# More pieces than this show that a vocabulary has capitals, or accents; fewer may be accidents.
_TELLING_PIECES = 100
# The look-behind keeps the search from beginning again within every run.
_LONG_RUN = re.compile(rf"(?<!\S)\S{{{_LONGEST_TRAINED + 1},}}")
# Characters normalised at once, for which the library takes many times their memory.
_CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Rules:
    """What happens to a text before pieces are looked for.

    Attributes:
      lowercase: whether it is lower-cased.
      strip_accents: whether accents are stripped.
      split_chinese: whether each Chinese character is a word of its own.
      longest_word: characters; a longer word is unknown.
    """

    lowercase: bool
    strip_accents: bool
    split_chinese: bool = True
    longest_word: int = _LONGEST_WORD

    @classmethod
    def as_google(cls, lowercase: bool, strip_accents: bool) -> "Rules":
        """Those of Google's tokenizer, which strips accents of lower-cased text alone."""
        return cls(lowercase, lowercase and strip_accents)

    def normalizer(self) -> normalizers.Normalizer:
        """The library's object that changes a text by them."""
        return normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.split_chinese,
            strip_accents=self.strip_accents,
            lowercase=self.lowercase,
        )


def train(
    texts: Iterable[str],
    *,
    vocabulary_size: int,
    lowercase: bool,
    strip_accents: bool,
    character_coverage: float = 1.0,
    note: Callable[[str], None] = lambda _: None,
) -> library_tokenizer.LibraryTokenizer:
    """Trains a WordPiece vocabulary; the same texts give the same ids in every process.

    Args:
      texts: lines of text, all of which are kept in memory.
      vocabulary_size: pieces, special tokens included.
      lowercase: makes the vocabulary uncased.
      strip_accents: strips accents; in effect only together with `lowercase`, as in Google's tokenizer.
      character_coverage: share of the text's characters that get a piece at least; the thousand most frequent ones do
        in any case, and rarer ones are unknown.
      note: receives a line on characters that get no piece, and one on words that were passed over.

    Raises:
      InputError: the size is smaller than the alphabet needs, or larger than the text yields.
    """
    rules = Rules.as_google(lowercase, strip_accents)
    normalizer = rules.normalizer()
    splitter = pre_tokenizers.BertPreTokenizer()
    long_words: list[int] = []
    sample = [
        _without_long_words(normalizer.normalize_str(chunk), splitter, long_words)
        for text in _chunks(texts)
        for chunk in _cut(text)
    ]
    if long_words:
        note(
            f"{len(long_words):,} stretches of more than {_LONGEST_TRAINED:,} characters without blank or punctuation, "
            f"{sum(long_words):,} characters in all, were passed over in training"
        )

    counts: Counter[str] = Counter()
    for chunk in sample:
        counts.update(chunk)
    visible = [character for character in counts if not character.isspace()]
    ranked = sorted(visible, key=lambda character: (-counts[character], character))
    known = np.cumsum([counts[character] for character in ranked]) / max(1, sum(counts[c] for c in ranked))
    size = max(_LEAST_ALPHABET, int(np.searchsorted(known, character_coverage)) + 1)
    alphabet = sorted(ranked[:size])
    if rare := ranked[size:]:
        to_blank = str.maketrans(dict.fromkeys(rare, " "))
        sample = [chunk.translate(to_blank) for chunk in sample]
        note(
            f"alphabet: {size:,} of the text's {len(ranked):,} characters, {known[size - 1]:.4%} of it, as "
            f"character_coverage={character_coverage} asks; the others are unknown"
        )
    # Punctuation and Chinese characters are words of their own, so that "##." would never be used.
    inner = [a for a in alphabet if len(splitter.pre_tokenize_str(normalizer.normalize_str(f"a{a}"))) == 1]

    # WordPieceTrainer numbers the pieces "##x" in the random order of a hash map, and breaks ties by these numbers.
    # Given as "special tokens", the alphabet is numbered beforehand.
    reserved = [*SPECIAL_PIECES, *alphabet, *(f"##{character}" for character in inner)]
    flag = "--config.data.tokenizer.vocabulary_size"
    if vocabulary_size < len(reserved):
        # How many of the most frequent characters fit, which take one piece each, or two within words.
        within = set(inner)
        needed = len(SPECIAL_PIECES) + np.cumsum([1 + (character in within) for character in ranked[:size]])
        fitting = int(np.searchsorted(needed, vocabulary_size, side="right"))
        fewer = ""
        if fitting >= _LEAST_ALPHABET and (lower := math.floor(1000 * known[fitting - 1]) / 1000) >= _LOWEST_COVERAGE:
            fewer = f", or --config.data.tokenizer.character_coverage={lower}, whose alphabet just fits"
        raise InputError(
            f"config.data.tokenizer.vocabulary_size: {vocabulary_size} pieces are too few; special tokens and "
            f"alphabet take {len(reserved)}. Set {flag}=N with N well above that{fewer}."
        )
    trainer = trainers.WordPieceTrainer(  # type: ignore[no-untyped-call]  # the library's stubs lack this signature
        vocab_size=vocabulary_size, min_frequency=_RAREST_PIECE, special_tokens=reserved, show_progress=False
    )
    trained = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = splitter
    trained.train_from_iterator(sample, trainer)
    vocabulary = trained.get_vocab()
    if len(vocabulary) < vocabulary_size:
        raise InputError(
            f"config.data.tokenizer.vocabulary_size: this text yields {len(vocabulary)} pieces that occur at least "
            f"{_RAREST_PIECE} times, fewer than {vocabulary_size}. Set {flag}=N with N at most that, or add text."
        )
    return _wordpiece(vocabulary, rules, "the trained tokenizer")


def from_vocabulary(
    text: str, origin: str, *, lowercase: bool, strip_accents: bool, add_special_pieces: bool
) -> library_tokenizer.LibraryTokenizer:
    """Makes a tokenizer from the text of a vocab.txt: one piece a line, numbered from 0.

    Raises:
      InputError: a missing special token, or a casing that the pieces contradict.
    """
    vocabulary, rules = read_vocabulary(text), Rules.as_google(lowercase, strip_accents)
    if add_special_pieces:
        append_special_pieces(vocabulary)
    check_casing(vocabulary, origin, rules)
    return _wordpiece(vocabulary, rules, origin)


def append_special_pieces(vocabulary: dict[str, int]) -> None:
    """Adds the special tokens that a vocabulary lacks, with ids from its size on."""
    for piece in SPECIAL_PIECES:
        vocabulary.setdefault(piece, len(vocabulary))


def described(vocabulary: dict[str, int], rules: Rules, origin: str) -> dict[str, Any]:
    """The value of a tokenizer.json with those pieces and rules.

    Raises:
      InputError: a special token is missing.
    """
    value: dict[str, Any] = json.loads(_backend(vocabulary, rules, origin).to_str())
    return value


def _wordpiece(vocabulary: dict[str, int], rules: Rules, origin: str) -> library_tokenizer.LibraryTokenizer:
    return library_tokenizer.LibraryTokenizer(_backend(vocabulary, rules, origin), origin)


def _backend(vocabulary: dict[str, int], rules: Rules, origin: str) -> tokenizers.Tokenizer:
    if missing := [piece for piece in SPECIAL_PIECES if piece not in vocabulary]:
        raise special_tokens.missing_error(origin, missing)
    backend = tokenizers.Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=rules.longest_word)
    )
    backend.normalizer = rules.normalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.add_special_tokens(list(SPECIAL_PIECES))
    # For other programs that open tokenizer.json; here no special tokens are added to a text.
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]")],
    )
    return backend


def check_casing(vocabulary: dict[str, int], origin: str, rules: Rules) -> None:
    """Raises InputError for a casing under which many pieces could never occur, or many words would be unknown."""
    pieces = [piece.removeprefix("##") for piece in vocabulary if piece not in SPECIAL_PIECES]
    capitals = [piece for piece in pieces if piece.lower() != piece]
    flag = "--config.data.tokenizer"
    if rules.lowercase and len(capitals) > _TELLING_PIECES:
        raise InputError(
            f"{origin}: {len(capitals)} pieces hold capitals, {capitals[0]!r} for one, which lower-cased text never "
            f"has. Set {flag}.lowercase=False and {flag}.strip_accents=False."
        )
    small = sum(piece.upper() != piece for piece in pieces)
    if not rules.lowercase and not capitals and small > _TELLING_PIECES:
        raise InputError(
            f"{origin}: no piece holds a capital, so that words with capitals would be unknown. Set "
            f"{flag}.lowercase=True."
        )
    if rules.lowercase and rules.strip_accents:
        normalizer = rules.normalizer()
        accents = [piece for piece in pieces if normalizer.normalize_str(piece).replace(" ", "") != piece]
        if len(accents) > _TELLING_PIECES:
            raise InputError(
                f"{origin}: {len(accents)} pieces hold accents, {accents[0]!r} for one, which text without accents "
                f"never has. Set {flag}.strip_accents=False."
            )


def _cut(text: str) -> Iterator[str]:
    """Cuts a text without blanks that is too large to be normalised at once."""
    largest = 4 * _CHUNK
    yield from (text[start : start + largest] for start in range(0, max(1, len(text)), largest))


def _without_long_words(text: str, splitter: pre_tokenizers.BertPreTokenizer, long_words: list[int]) -> str:
    """A normalised text without words of more than `_LONGEST_TRAINED` characters, whose lengths are added to a list."""

    def shortened(run: re.Match[str]) -> str:
        words = [word for word, _ in splitter.pre_tokenize_str(run[0])]
        passed = [len(word) for word in words if len(word) > _LONGEST_TRAINED]
        long_words.extend(passed)
        # Words that punctuation separates are the same with blanks.
        return " ".join(word for word in words if len(word) <= _LONGEST_TRAINED) if passed else run[0]

    return _LONG_RUN.sub(shortened, text)


def _chunks(texts: Iterable[str]) -> Iterable[str]:
    """Joins or cuts texts into stretches of about 64 K characters: calls into the library are few and not too large."""
    gathered: list[str] = []
    length = 0
    for text in itertools.chain.from_iterable(stretches(text, _CHUNK) for text in texts):
        gathered.append(text)
        length += len(text) + 1
        if length >= _CHUNK:
            yield "\n".join(gathered)
            length, gathered = 0, []
    yield "\n".join(gathered)


def read_vocabulary(text: str) -> dict[str, int]:
    """Pieces of a vocab.txt, one a line, numbered from 0.

    Published vocabularies have empty lines, and lines that repeat another, such as ConvBERT's. As in transformers, the
    last line of a piece counts; the others are rows of the word table that no text gives, see `special_tokens.spare`.
    """
    vocabulary: dict[str, int] = {}
    # Not splitlines(): some vocabularies hold characters that it takes for line ends.
    for row, line in enumerate(text.rstrip("\r\n").split("\n")):
        piece = line.removesuffix("\r") or special_tokens.spare(row)
        if piece in vocabulary:
            earlier = vocabulary[piece]
            vocabulary[special_tokens.spare(earlier)] = earlier
        vocabulary[piece] = row
    return vocabulary
