"""WordPiece tokenizers: training, loading, saving, and the one contract the rest of the house knows."""

import hashlib
import itertools
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from electra_jax.errors import InputError

SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# A longer word is unknown, as in Google's tokenizer.
_LONGEST_WORD = 200
# A piece seen once teaches nothing that its parts do not.
_RAREST_PIECE = 2
# Characters beyond the most frequent thousand become [UNK]; BERT's alphabet has as many.
_LARGEST_ALPHABET = 1000
# Word counts hardly change with more text; at most two to four bytes of memory a character while training.
_SAMPLE_CHARACTERS = 200_000_000
# Length of the words whose ids are remembered between batches; about 50 bytes of memory a character.
_REMEMBERED_CHARACTERS = 4_000_000


class Tokenizer:
    """Turns text into piece ids and back. Never adds special tokens, nor finds any in a text that spells one.

    Attributes:
      vocabulary_size: pieces, special ones included; ids are 0 to vocabulary_size - 1.
      pad_id, unknown_id, cls_id, sep_id, mask_id: ids of the special pieces.
      sha256: hash of the tokenizer's canonical JSON.
    """

    def __init__(self, backend: tokenizers.Tokenizer, origin: str) -> None:
        """Wraps a tokenizer of the `tokenizers` library; `origin` names it in messages.

        Raises:
          InputError: a special piece is missing, ids have holes, or text could spell a special piece.
        """
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        vocabulary = backend.get_vocab(with_added_tokens=True)
        missing = [piece for piece in SPECIAL_PIECES if piece not in vocabulary]
        if missing:
            raise InputError(
                f"{origin}: the vocabulary has no {', '.join(missing)}; ELECTRA needs {', '.join(SPECIAL_PIECES)}."
            )
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise InputError(
                f"{origin}: {len(vocabulary)} pieces have ids up to {max(vocabulary.values())}; expected every id "
                f"from 0 to {len(vocabulary) - 1} exactly once."
            )
        self.vocabulary_size = len(vocabulary)
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = map(vocabulary.get, SPECIAL_PIECES)
        self._backend = backend
        self._pieces = sorted(vocabulary, key=vocabulary.get)
        self._json = json.dumps(json.loads(backend.to_str()), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        self.sha256 = hashlib.sha256(self._json.encode()).hexdigest()
        self._remembered: dict[str, list[int]] | None = {} if _splits_at_blanks(self._json) else None
        self._remembered_characters = 0

        spelled = set(itertools.chain(*self.encode_batch(SPECIAL_PIECES))) - {self.unknown_id}
        if spelled & {self.pad_id, self.cls_id, self.sep_id, self.mask_id}:
            raise InputError(
                f"{origin}: this tokenizer gives special ids to text that spells, say, [SEP]. Use one that splits "
                "brackets from words, as BERT's does."
            )

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the piece ids of each text, without special tokens."""
        if self._remembered is None:
            return self._encode(texts)
        # In BERT's scheme a blank always ends a word, so that each stretch between blanks is encoded once and
        # remembered, several times as fast as encoding whole lines. Only the blank itself will do: the library drops
        # some characters that str.split() takes for white space.
        stretches = [text.split(" ") for text in texts]
        if self._remembered_characters > _REMEMBERED_CHARACTERS:
            self._remembered, self._remembered_characters = {}, 0
        new = list(set(itertools.chain.from_iterable(stretches)).difference(self._remembered))
        self._remembered_characters += sum(map(len, new))
        self._remembered.update(zip(new, self._encode(new), strict=True))
        ids = self._remembered.__getitem__
        return [list(itertools.chain.from_iterable(map(ids, words))) for words in stretches]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the pieces as the vocabulary spells them, "##ing" for one inside a word."""
        return [self._pieces[index] for index in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns readable text, pieces joined to words and special pieces kept."""
        return self._backend.decode([int(index) for index in ids], skip_special_tokens=False)

    def save(self, directory: str | os.PathLike) -> None:
        """Writes tokenizer.json and vocab.txt into a directory, each appearing whole or not at all."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        _write(directory / "tokenizer.json", self._json)
        _write(directory / "vocab.txt", "".join(f"{piece}\n" for piece in self._pieces))

    @classmethod
    def load(
        cls, path: str | os.PathLike, *, lowercase: bool | None = None, strip_accents: bool | None = None
    ) -> "Tokenizer":
        """Reads a vocab.txt, a tokenizer.json, or a directory that holds a tokenizer.json.

        Args:
          path: the file or directory.
          lowercase: for a vocab.txt, which does not say; true unless given.
          strip_accents: the same; in effect only together with `lowercase`, as in Google's tokenizer.

        Raises:
          InputError: no such file, not a vocabulary, or one that the constructor refuses.
        """
        path = pathlib.Path(path).expanduser()
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise InputError(
                f"{path}: cannot read a tokenizer ({error.strerror}); config.data.tokenizer.source is "
                '"train" or the path of a vocab.txt or tokenizer.json.'
            ) from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: byte {error.start} is not UTF-8, which a vocabulary must be.") from error
        if path.suffix == ".json":
            try:
                return cls(tokenizers.Tokenizer.from_str(text), str(path))
            except InputError:
                raise
            except Exception as error:  # The library raises bare Exception.
                raise InputError(f"{path}: the tokenizers library cannot read it ({error}).") from error
        vocabulary = _read_vocabulary(text, path)
        lowercase = True if lowercase is None else lowercase
        return _wordpiece(vocabulary, lowercase, True if strip_accents is None else strip_accents, str(path))


def train_wordpiece(texts: Iterable[str], *, vocabulary_size: int, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """Trains a WordPiece vocabulary; the same texts give the same ids in every process.

    Args:
      texts: lines of text; reading stops after the first 200 million characters.
      vocabulary_size: pieces wanted, special ones included.
      lowercase: makes the vocabulary uncased.
      strip_accents: takes accents off; in effect only together with `lowercase`, as in Google's tokenizer.

    Raises:
      InputError: the size is smaller than the alphabet needs, or larger than the text yields.
    """
    normalizer = _normalizer(lowercase, strip_accents)
    splitter = pre_tokenizers.BertPreTokenizer()
    sample = [normalizer.normalize_str(chunk) for chunk in _chunks(texts, _SAMPLE_CHARACTERS)]

    counts = Counter()
    for chunk in sample:
        counts.update(chunk)
    counts = {character: count for character, count in counts.items() if not character.isspace()}
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    alphabet = sorted(ranked[:_LARGEST_ALPHABET])
    if rare := ranked[_LARGEST_ALPHABET:]:
        to_blank = str.maketrans(dict.fromkeys(rare, " "))
        sample = [chunk.translate(to_blank) for chunk in sample]
    # Punctuation and Chinese characters are words of their own, so that "##." would never be used.
    inner = [a for a in alphabet if len(splitter.pre_tokenize_str(normalizer.normalize_str(f"a{a}"))) == 1]

    # WordPieceTrainer numbers the pieces "##x" in the random order of a hash map, and breaks ties by these numbers.
    # Given as "special tokens", the alphabet is numbered beforehand.
    beginning = [*SPECIAL_PIECES, *alphabet, *(f"##{character}" for character in inner)]
    flag = "--config.data.tokenizer.vocabulary_size"
    if vocabulary_size < len(beginning):
        raise InputError(
            f"config.data.tokenizer.vocabulary_size: {vocabulary_size} pieces are too few; special pieces and "
            f"alphabet take {len(beginning)}. Set {flag}=N with N well above that."
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, min_frequency=_RAREST_PIECE, special_tokens=beginning, show_progress=False
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
    return _wordpiece(vocabulary, lowercase, strip_accents, "the trained tokenizer")


def _wordpiece(vocabulary: dict[str, int], lowercase: bool, strip_accents: bool, origin: str) -> Tokenizer:
    backend = tokenizers.Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=_LONGEST_WORD)
    )
    backend.normalizer = _normalizer(lowercase, strip_accents)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    if all(piece in vocabulary for piece in SPECIAL_PIECES):
        backend.add_special_tokens(list(SPECIAL_PIECES))
        # For those who open tokenizer.json elsewhere; here nothing is added to a text.
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[(piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]")],
        )
    return Tokenizer(backend, origin)


def _normalizer(lowercase: bool, strip_accents: bool) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents and lowercase, lowercase=lowercase
    )


def _splits_at_blanks(tokenizer_json: str) -> bool:
    """Whether a blank always separates words, whatever stands around it."""
    parts = json.loads(tokenizer_json)
    kinds = [(parts.get(name) or {}).get("type") for name in ("model", "normalizer", "pre_tokenizer")]
    return kinds == ["WordPiece", "BertNormalizer", "BertPreTokenizer"] and all(
        token["special"] for token in parts["added_tokens"]
    )


def _chunks(texts: Iterable[str], limit: int) -> Iterable[str]:
    """Joins texts into stretches of about 64 K characters, up to a limit: calls into the library are few and large."""
    gathered: list[str] = []
    length = total = 0
    for text in texts:
        gathered.append(text)
        length += len(text) + 1
        if length >= 1 << 16 or total + length >= limit:
            yield "\n".join(gathered)
            total, length, gathered = total + length, 0, []
        if total >= limit:
            return
    yield "\n".join(gathered)


def _read_vocabulary(text: str, path: pathlib.Path) -> dict[str, int]:
    """Pieces of a vocab.txt, one a line, numbered from 0."""
    vocabulary: dict[str, int] = {}
    # Not splitlines(): some vocabularies hold characters that it takes for line ends.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        piece = line.removesuffix("\r")
        if not piece:
            raise InputError(f"{path}, line {number}: the line is empty; expected one piece a line.")
        if piece in vocabulary:
            raise InputError(f"{path}, line {number}: {piece!r} is already on line {vocabulary[piece] + 1}.")
        vocabulary[piece] = number - 1
    return vocabulary


def _write(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.partial-{os.getpid()}")
    temporary.write_bytes(text.encode())
    os.replace(temporary, path)
