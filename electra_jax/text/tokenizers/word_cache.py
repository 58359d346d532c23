"""A cache of encoded words, for tokenizers in which a blank always ends a word."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

# Characters of the cached words. Together with what a call needs, 200 MB in languages with blanks, measured; where a
# line is one word, the cache does not help, and takes a third of that.
_REMEMBERED_CHARACTERS = 4_000_000
# Characters encoded at once: a word takes ten times its length meanwhile. A longer text is cut at blanks.
_AT_ONCE = 2_000_000


def stretches(text: str, length: int) -> Iterator[str]:
    """Yields the stretches of a text between some of its blanks, each longer than a length only up to its first blank.

    A single blank, U+0020, is left out between them.
    """
    start = 0
    while len(text) - start > length:
        if (blank := text.find(" ", start + length)) < 0:
            break
        yield text[start:blank]
        start = blank + 1
    yield text[start:]


class WordMemory:
    """Encodes texts word by word, and each word once.

    Only the blank itself, U+0020, separates words here: the libraries drop some characters that `str.split()` takes
    for white space.
    """

    def __init__(self, encode_words: Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]) -> None:
        """`encode_words` gives the ids of all words, int32 [tokens], and the tokens of each, int64 [words]."""
        self._encode_words = encode_words
        self._forget()

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all texts, int32 [tokens], and the number of tokens of each, int64 [texts]."""
        if sum(map(len, texts)) <= _AT_ONCE:
            return self._encode(texts)
        firsts: list[int] = []  # The number of the first stretch of each text.

        def cut() -> Iterator[str]:
            count = 0
            for text in texts:
                firsts.append(count)
                for part in stretches(text, _AT_ONCE):
                    yield part
                    count += 1

        encoded = [self._encode(group) for group in _groups(cut())]
        ids, lengths = (np.concatenate(arrays) for arrays in zip(*encoded, strict=True))
        return ids, np.add.reduceat(lengths, firsts)

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        if self._characters > _REMEMBERED_CHARACTERS:
            self._forget()
        # One split for all texts gives the words that splitting each would give: n blanks make n + 1 words.
        words = " ".join(texts).split(" ")
        numbers_W = np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))
        if len(self._numbers) > len(self._counts):
            self._learn()

        counts_W = self._counts[numbers_W]
        ends_W = np.cumsum(counts_W)
        # Token t of the texts lies in `_ids` as far from its word's first token as among the texts.
        offsets_W = self._starts[numbers_W] - ends_W + counts_W
        ids = self._ids[np.repeat(offsets_W, counts_W) + np.arange(ends_W[-1])]
        words_of_texts = np.fromiter((text.count(" ") + 1 for text in texts), np.int64, len(texts))
        lengths = np.add.reduceat(counts_W, np.cumsum(words_of_texts) - words_of_texts)
        return ids, lengths

    def _forget(self) -> None:
        # Word → number, given in the order of first sight.
        self._numbers: dict[str, int] = collections.defaultdict(itertools.count().__next__)
        self._starts = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self._ids = np.zeros(0, np.int32)
        self._characters = 0

    def _learn(self) -> None:
        """Encodes the words that have a number and no ids yet."""
        new = list(itertools.islice(reversed(self._numbers), len(self._numbers) - len(self._counts)))[::-1]
        ids, counts = self._encode_words(new)
        self._starts = np.concatenate([self._starts, len(self._ids) + np.cumsum(counts) - counts])
        self._counts = np.concatenate([self._counts, counts])
        self._ids = np.concatenate([self._ids, ids])
        self._characters += sum(map(len, new))


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    """Groups texts so that each group has hardly more than `_AT_ONCE` characters, or is a single text."""
    gathered: list[str] = []
    length = 0
    for text in texts:
        if gathered and length + len(text) > _AT_ONCE:
            yield gathered
            length, gathered = 0, []
        gathered.append(text)
        length += len(text)
    yield gathered
