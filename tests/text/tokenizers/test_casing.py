"""What "auto" stands for, by sentences of languages; and how a casing is found by trying."""

import pytest

from electra_jax.text.tokenizers import casing

ENGLISH = "the naïve reader " + "of some long english text " * 200


def decided(text, kind="wordpiece", lowercase="auto", strip_accents="auto"):
    found = casing.decide([text], lowercase=lowercase, strip_accents=strip_accents, kind=kind)
    return found.lowercase, found.strip_accents, found.reason


@pytest.mark.parametrize(
    ("text", "stripped", "reason"),
    [
        (ENGLISH, True, "accents stripped, as 0.0997 % of the words have any"),
        ("中文句子没有重音" * 20 + "é", True, "of the words have any"),
        ("l'été où la pêche est bonne", False, "words have marks of Latin script (l'été, où, pêche)"),
        ("Über die Größe der Häuser", False, "Latin script"),
        ("tiếng Việt có nhiều dấu", False, "Latin script"),
        ("мой дом и мои дома", False, "Cyrillic script (мой), which make letters of their own, such as й"),
        ("ภาษาไทยมีวรรณยุกต์ ที่นี่", False, "Thai script"),
        ("में हिन्दी की किताब", False, "Devanagari script"),
        ("ភាសាខ្មែរ ពីរ", False, "Khmer script"),
        ("がっこうでべんきょう", False, "Hiragana script"),
        ("한국어 문장", False, "syllables of Hangul script (한국어, 문장)"),
        ("שָׁלוֹם עולם", False, "Hebrew script"),
        ("كَتَبَ الولد", False, "Arabic script"),
        ("шко́ла", False, "Cyrillic script"),
        (f"{ENGLISH} में में", False, "Devanagari script"),
        ("hello ❤️ world", True, "0 %"),
    ],
)
def test_marks_are_kept_where_words_have_them(text, stripped, reason):
    lowercase, strip_accents, why = decided(text)
    assert (lowercase, strip_accents) == (True, stripped)
    assert "capitals lower-cased, as in the published models" in why
    assert reason in why


@pytest.mark.parametrize("text", ["Işık kapandı, ILIK su içti", "İstanbul gidiyor", "Bakı şəhəri, işıq"])
def test_capitals_are_kept_where_i_has_two(text):
    assert decided(text)[:2] == (False, False)
    assert decided(text, kind="unigram")[:2] == (False, False)


def test_a_turkish_name_in_english_text_changes_nothing():
    assert decided(f"Atatürk's Diyarbakır {ENGLISH}")[:2] == (True, True)


def test_what_is_given_is_not_decided():
    assert decided("été", strip_accents=True) == (True, True, "capitals lower-cased, as in the published models")
    assert decided("Işık", lowercase=True)[0] is True
    assert decided("the", lowercase=False)[:2] == (False, False)
    assert decided("the", kind="bpe")[:2] == (True, False)
