"""The report on a tokenizer: numbers worked out by hand, samples that fit a line."""

import pathlib

import pytest

from electra_jax.text.tokenizers import tokenizer_report, wordpiece
from electra_jax.text.tokenizers.special_tokens import SPECIAL_PIECES
from electra_jax.text.tokenizers.tokenizer import train

DATA = pathlib.Path(__file__).parents[2] / "data"


def from_pieces(*pieces, lowercase=True, strip_accents=True):
    text = "\n".join([*SPECIAL_PIECES, *pieces])
    return wordpiece.from_vocabulary(
        text, "the test's", lowercase=lowercase, strip_accents=strip_accents, add_special_pieces=False
    )


def test_tokens_per_word_and_unknown_tokens_are_counted():
    lines, warnings = tokenizer_report.describe(from_pieces("a", "##b", "c"), ["ab c", "", "z", ""])
    # Three words, five characters; a ##b c [UNK].
    assert lines == [
        "capitals lower-cased, accents stripped",
        "1.33 tokens per word, 1.25 characters per token, 25 % unknown",
        "ab c → a ##b c",
        "z → [UNK]",
    ]
    assert warnings == [
        "25.0% of the tokens are unknown; no piece has 2 characters, 50.0% of the text: b z. More are known with "
        "--config.data.tokenizer.kind=unigram, a higher --config.data.tokenizer.character_coverage or a larger "
        "--config.data.tokenizer.vocabulary_size"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "capitals lower-cased, accents stripped"),
        ({"strip_accents": False}, "capitals lower-cased, accents kept"),
        ({"lowercase": False, "strip_accents": False}, "capitals kept, accents kept"),
    ],
)
def test_casing_is_found_by_trying(options, message):
    assert tokenizer_report.casing(from_pieces("a", **options)) == message
    if options.get("strip_accents") is False:
        made = train(
            ["ab ab"] * 9, kind="bpe", vocabulary_size=8, character_coverage=1.0, **{"lowercase": True} | options
        )
        assert tokenizer_report.casing(made) == message


def test_samples_are_ten_and_spread_evenly():
    tokenizer = from_pieces(*(f"w{n}" for n in range(100)))
    lines = tokenizer_report.describe(tokenizer, [f"w{n}" for n in range(100)]).lines
    assert [line.partition(" → ")[0] for line in lines[2:]] == [f"w{n}" for n in range(5, 100, 10)]


@pytest.mark.parametrize("text", [" ".join(["unaffable"] * 40), "unaffable" * 40, "中" * 400, "a\tb \n c"])
def test_samples_fit_a_line(text):
    lines = tokenizer_report.describe(from_pieces("un", "##aff", "##able", "中"), [text]).lines
    assert len(lines) == 3
    assert all(len(line) <= 101 and line.isprintable() for line in lines)
    assert " → " in lines[2]


def test_text_without_words_has_casing_alone():
    for texts in ([], ["", " "]):
        assert tokenizer_report.describe(from_pieces("a"), texts) == (["capitals lower-cased, accents stripped"], [])


def test_pieces_of_sentencepiece_are_shown_with_their_blanks():
    lines = (DATA / "scripts.txt").read_text().splitlines() * 9
    made = train(lines, kind="bpe", vocabulary_size=600, lowercase=False, strip_accents=False, character_coverage=1.0)
    (sample,) = tokenizer_report.describe(made, ["Il était déjà là"]).lines[2:]
    text, _, shown = sample.partition(" → ")
    assert text == "Il était déjà là"
    assert shown.replace(" ", "").replace("▁", " ").strip() == text


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        ("में म में", "◌ें → nothing", "में = म"),
        ("かき がき かき", "が → か", "かき = がき"),
        ("мой мои", "й → и", "мой = мои"),
        ("été ete été", "é → e", "été = ete"),
    ],
)
def test_marks_that_are_lost_are_told_with_the_words_that_become_the_same(text, changes, words):
    (warning,) = [line for line in tokenizer_report.describe(from_pieces("a"), [text]).warnings if "mark" in line]
    assert changes.replace("◌ें", "◌े") in warning
    assert f"words of the sample become the same as others ({words}" in warning
    assert "--config.data.tokenizer.strip_accents=False" in warning
    kept = from_pieces("a", strip_accents=False)
    assert not any("mark" in line for line in tokenizer_report.describe(kept, [text]).warnings)


def test_text_whose_letters_have_no_marks_gets_no_warning():
    warnings = tokenizer_report.describe(from_pieces("a"), ["한국어 东京 The กา"]).warnings
    assert not any("mark" in line for line in warnings)


def test_words_that_lower_casing_makes_one_are_shown():
    """I is the capital of ı in Turkish, and of i in English."""
    told = "2 words of the sample become the same as others (ilik = ılık)"
    assert told in tokenizer_report.describe(from_pieces("a"), ["ilik ILIK ılık"]).lines
    described = tokenizer_report.describe(from_pieces("a"), ["it IT The the"])
    assert not any("become the same" in line for line in described.lines)


def test_words_that_are_too_long_are_counted_with_one_of_them():
    (warning,) = tokenizer_report.describe(from_pieces("a", "##a"), ["a " * 999 + "a" * 201, "a" * 200]).warnings
    assert warning.startswith(
        f"1 words have more characters than WordPiece takes, and are one unknown token each, such as {'a' * 30}…"
    )
