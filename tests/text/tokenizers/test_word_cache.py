"""The word cache: the same ids as without it, little memory, and each word encoded once."""

import numpy as np
import pytest

from electra_jax.text.tokenizers.word_cache import WordMemory, stretches


@pytest.fixture
def asked():
    return []


@pytest.fixture
def memory(asked):
    """A word's tokens are the code points of its letters."""

    def encode_words(words):
        asked.append(list(words))
        letters = [ord(letter) for word in words for letter in word]
        return np.array(letters, np.int32), np.array([len(word) for word in words], np.int64)

    return WordMemory(encode_words)


def decoded(memory, texts):
    ids, lengths = memory.encode(texts)
    assert ids.dtype == np.int32
    assert lengths.dtype == np.int64
    ends = np.cumsum(lengths)
    assert ends[-1:].sum() == len(ids)
    return ["".join(map(chr, ids[end - length : end])) for end, length in zip(ends, lengths, strict=True)]


def test_each_text_gets_the_tokens_of_its_words(memory):
    texts = ["ab c", "", "c  ab ", "d", " "]
    assert decoded(memory, texts) == ["abc", "", "cab", "d", ""]
    assert decoded(memory, ["d d", "new c"]) == ["dd", "newc"]


def test_no_text_has_no_tokens(memory):
    assert decoded(memory, []) == []


def test_a_word_is_encoded_once(memory, asked):
    decoded(memory, ["ab c ab", "c"])
    decoded(memory, ["c new ab"])
    assert asked == [["ab", "c"], ["new"]]


def test_only_the_blank_separates_words(memory, asked):
    decoded(memory, ["a\tb\u00a0c\nd\u3000e f"])
    assert asked == [["a\tb\u00a0c\nd\u3000e", "f"]]


def test_long_texts_are_encoded_in_stretches(memory, asked, monkeypatch):
    monkeypatch.setattr("electra_jax.text.tokenizers.word_cache._AT_ONCE", 6)
    texts = ["ab cd  ef ghijklmnopq r", "", "st uv ", " ", "wxyzwxyzwxyz", "a b c d e f g h i j "]
    assert decoded(memory, texts) == [text.replace(" ", "") for text in texts]
    assert max(sum(map(len, words)) for words in asked) <= 17
    assert decoded(memory, ["", "abcdefg"]) == ["", "abcdefg"]


@pytest.mark.parametrize("text", ["ab cd  ef ghijklmnopq r", "", " ", "   ", "a b c d e f ", "abcdefghij"])
def test_stretches_are_the_text_without_the_blanks_between_them(text):
    for length in range(6):
        found = list(stretches(text, length))
        assert " ".join(found) == text
        assert all(" " not in part[length:] for part in found[:-1])


def test_the_cache_stays_small(memory, monkeypatch):
    monkeypatch.setattr("electra_jax.text.tokenizers.word_cache._REMEMBERED_CHARACTERS", 100)
    for number in range(50):
        assert decoded(memory, [f"word{number} and another"]) == [f"word{number}andanother"]
    assert len(memory._numbers) < 20
