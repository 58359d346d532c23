import random
import sys
import unicodedata

import numpy as np
import pytest

from electra_jax.inference import text_windows
from electra_jax.inference.text_windows import UnusableError
from electra_jax.text.tokenizers import tokenizer as tokenizers
from tests.interop import made
from tests.running import ROOT

# Text that changes its length when it is normalised, has parts without a letter, or is written from right to left.
HARD = (
    "a", "B", " ", "\t", "\n", ".", "É", "e\u0301", "ﬁ", "½", "İ", "ß", "ẞ", "\u200b", "\u00ad", "\x00", "\x07", "\ufeff",
    "東", "京", "שלום", "مرحبا", "👍🏽", "👩‍👩‍👧", "\u0301", "한국", "각", "\u2028", "\u00a0", "ǅ", "##", "[MASK]", "▁", "�", "𝔘",
    "word", "Word", "don't", "U.S.", "\u202e", "ﷺ",
)  # fmt: skip
CASINGS = ((True, True), (True, False), (False, False))


def random_text(draw):
    """Any Unicode but half characters, a third of it hard."""
    parts = []
    for _ in range(draw.randrange(1, 24)):
        if draw.random() < 0.6:
            parts.append(draw.choice(HARD))
        else:
            limit = draw.choice((0x80, 0x250, 0x3000, 0x10000, sys.maxunicode + 1))
            character = chr(draw.randrange(limit))
            parts.append("x" if unicodedata.category(character) == "Cs" else character)
    return "".join(parts)


def texts(seed, count):
    draw = random.Random(seed)
    return [random_text(draw) for _ in range(count)]


@pytest.fixture(scope="module", params=["wordpiece", "unigram", "bpe"])
def sentencepiece_or_wordpiece(request):
    if request.param == "wordpiece":
        return made.tokenizer()
    lines = (ROOT / "tests" / "data" / "shakespeare.txt").read_text("utf-8").splitlines()[:600]
    options = dict(vocabulary_size=200, lowercase=True, strip_accents=False, character_coverage=1.0)
    return tokenizers.train(lines, kind=request.param, **options)


def test_offsets_cut_any_text_in_order(sentencepiece_or_wordpiece):
    tokenizer = sentencepiece_or_wordpiece
    for text in texts(1, 1500):
        ids, starts_T, ends_T = tokenizer.encode_with_offsets(text)
        np.testing.assert_array_equal(ids, tokenizer.encode([text])[0])
        assert (starts_T >= 0).all(), repr(text)
        assert (starts_T <= ends_T).all(), repr(text)
        assert (ends_T <= len(text)).all(), repr(text)
        # Pieces of one character that became several may share it; apart from that none overlap.
        shared_T = (starts_T[1:] == starts_T[:-1]) & (ends_T[1:] == ends_T[:-1])
        assert (shared_T | (starts_T[1:] >= ends_T[:-1])).all(), (text, starts_T, ends_T)


@pytest.mark.parametrize(("lowercase", "strip_accents"), CASINGS)
def test_wordpieces_rejoin_to_the_normalised_text(lowercase, strip_accents):
    tokenizer = made.tokenizer(lowercase=lowercase, strip_accents=strip_accents)
    (unknown,) = tokenizer.pieces([tokenizer.unknown_id])
    compared = 0
    for text in texts(2, 1500):
        ids, starts_T, ends_T = tokenizer.encode_with_offsets(text)
        for piece, start, end in zip(tokenizer.pieces(ids), starts_T, ends_T, strict=True):
            if piece != unknown:
                cut = "".join(tokenizer.normalize(text[start:end]).split())
                assert unicodedata.normalize("NFC", piece.removeprefix("##")) in cut, (text, piece, start, end)
                compared += 1
    assert compared > 300


@pytest.mark.parametrize("tokens", [1, 5, 6, 7, 10, 11, 12, 50, 1000])
def test_each_token_is_read_in_one_window(tokens):
    tokenizer = made.tokenizer()
    ids_T = np.arange(tokens) % 50 + 5
    own = text_windows.windows(ids_T, tokenizer, 8)
    assert all(len(row.tokens_L) <= 8 for row in own.rows)
    found_T = [own.rows[owner].tokens_L[place] for owner, place in zip(own.owner_T, own.place_T, strict=True)]
    np.testing.assert_array_equal(found_T, ids_T)
    assert len(own.rows) == 1 or tokens > 6
    for row in own.rows:
        assert (row.tokens_L[0], row.tokens_L[-1]) == (tokenizer.cls_id, tokenizer.sep_id)


def test_a_token_is_taken_from_the_window_with_most_context():
    own = text_windows.windows(np.full(100, 7), made.tokenizer(), 34)
    inner_T = slice(4, -4)
    sizes_T = np.array([len(row.tokens_L) for row in own.rows])[own.owner_T]
    context_T = np.minimum(own.place_T - 1, sizes_T - 2 - own.place_T)
    assert context_T[inner_T].min() >= 3


@pytest.mark.parametrize(
    ("value", "problem"),
    [("", "is empty"), (" \n", "is empty"), (3, "found a int"), (None, "found a NoneType"), ("a\ud800", "half of a")],
)
def test_what_is_no_text_is_said(value, problem):
    with pytest.raises(UnusableError, match=problem):
        text_windows.checked_text(value)


def test_a_text_without_tokens_is_said():
    with pytest.raises(UnusableError, match="has no token"):
        text_windows.encoded("\u200b\x07", made.tokenizer())


def test_masks_are_found_with_their_places():
    tokenizer = made.tokenizer()
    text, masks_M = text_windows.encoded_with_masks("ab [MASK] cd[MASK]. [mask]", tokenizer)
    assert masks_M.tolist() == np.flatnonzero(text.ids_T == tokenizer.mask_id).tolist()
    assert [text.text[text.starts_T[m] : text.ends_T[m]] for m in masks_M] == ["[MASK]", "[MASK]"]
    assert (text.starts_T[1:] >= text.ends_T[:-1]).all()


def test_a_text_without_a_mask_is_said():
    with pytest.raises(UnusableError, match=r"has no \[MASK\]"):
        text_windows.encoded_with_masks("ab cd", made.tokenizer())


def test_words_begin_at_blanks_and_punctuation(sentencepiece_or_wordpiece):
    tokenizer = sentencepiece_or_wordpiece
    text = text_windows.encoded("the cat sat, on (a) mat.", tokenizer)
    _, starts_W, ends_W = text_windows.words_of(text, tokenizer)
    words = [text.text[start:end] for start, end in zip(starts_W, ends_W, strict=True)]
    assert words == ["the", "cat", "sat", ",", "on", "(", "a", ")", "mat", "."]
