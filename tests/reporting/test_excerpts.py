"""Long contexts are shown around the answers alone, and marks cover full words."""

import re

from electra_jax.reporting import excerpts

FILLER = " ".join(["word"] * 200)


def plain(text):
    return re.sub(r"<[^>]*>", "", text)


def test_only_the_surroundings_of_answers_are_shown():
    context = f"{FILLER} Ada {FILLER} Charles {FILLER}"
    shown = excerpts.in_context(context, "Ada", ["Charles"], None)
    assert re.search(r">… word (word )+<mark class=\"wrong\">Ada</mark>( word)+ \[…\] word", shown)
    assert shown.endswith("word …</p>")
    assert len(plain(shown)) < 800


def test_near_answers_share_one_stretch():
    shown = excerpts.in_context(f"{FILLER} Ada met Charles {FILLER}", "Ada", ["Charles"], None)
    assert "[…]" not in shown


def test_overlapping_answers_are_marked_separately():
    shown = excerpts.in_context("in 1843 again", "in 1843", ["1843"], None)
    assert '<mark class="wrong">in </mark><mark class="wrong truth">1843</mark> again' in shown


def test_an_answer_inside_of_a_word_is_marked_only_where_no_word_is():
    assert excerpts.in_context("cat, bobcat, scatter", "cat", [], None).count("<mark") == 1
    assert excerpts.in_context("scatter", "cat", [], None).count("<mark") == 1


def test_a_context_without_the_answer_shows_its_beginning():
    shown = excerpts.in_context(f"Begin {FILLER}", "elsewhere", [], None)
    assert plain(shown).startswith("Begin word")
    assert "<mark" not in shown


def test_very_long_texts_lose_their_middle():
    shown = plain(excerpts.whole("a" * 700 + "b" * 700))
    assert shown == "a" * 600 + " […] " + "b" * 600
    assert plain(excerpts.whole("a" * 1200)) == "a" * 1200
