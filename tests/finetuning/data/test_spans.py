"""Tag schemes: recognised, converted without loss, and read by conlleval's rule when they are ill-formed."""

import random

import pytest

from electra_jax.finetuning.data import spans

# The same spans in every scheme: one word, two touching ones of a type, three words, one of another type behind.
BIO2 = ["B-X", "O", "B-X", "I-X", "B-X", "I-X", "I-X", "B-Y", "O"]
BIO1 = ["I-X", "O", "I-X", "I-X", "B-X", "I-X", "I-X", "I-Y", "O"]
BIOES = ["S-X", "O", "B-X", "E-X", "B-X", "I-X", "E-X", "S-Y", "O"]
BILOU = ["U-X", "O", "B-X", "L-X", "B-X", "I-X", "L-X", "U-Y", "O"]


def random_spans(generator, length, types):
    """Chunks (start, end, type) that do not overlap, in order."""
    chunks, position = [], 0
    while position < length:
        end = generator.randint(position + 1, length)
        if generator.random() < 0.6:
            chunks.append((position, end, generator.choice(types)))
        position = end
    return chunks


def written(chunks, length, scheme):
    tags = ["O"] * length
    for number, (start, end, kind) in enumerate(chunks):
        touches = number > 0 and chunks[number - 1][1:] == (start, kind)
        for position in range(start, end):
            letter = "I"
            if position == start and (scheme != "bio1" or touches):
                letter = "B"
            if scheme in ("bioes", "bilou") and position == end - 1:
                single = position == start
                letter = {"bioes": "ES", "bilou": "LU"}[scheme][single]
            tags[position] = f"{letter}-{kind}"
    return tags


@pytest.mark.parametrize(("tags", "scheme"), [(BIO1, "bio1"), (BIO2, "bio2"), (BIOES, "bioes"), (BILOU, "bilou")])
def test_each_scheme_is_recognised_and_converted(tags, scheme):
    assert spans.scheme_of([["O"], tags]) == scheme
    assert spans.to_bioes(tags, scheme) == BIOES
    assert spans.from_bioes(spans.to_bioes(tags, scheme)) == BIO2


@pytest.mark.parametrize("scheme", ["bio1", "bio2", "bioes", "bilou"])
def test_thousands_of_random_sentences_lose_nothing(scheme):
    generator = random.Random(0)
    for _ in range(3000):
        length = generator.randint(1, 12)
        chunks = random_spans(generator, length, ["PER", "LOC-a-b", "é"])
        bioes = spans.to_bioes(written(chunks, length, scheme), scheme)
        assert bioes == written(chunks, length, "bioes")
        assert spans.from_bioes(bioes) == written(chunks, length, "bio2")


def test_a_file_without_spans_is_bio2_and_one_with_slips_is_bio():
    assert spans.scheme_of([]) == spans.scheme_of([[], ["O", "O"]]) == "bio2"
    assert spans.scheme_of([["B-X", "I-X"], ["O", "I-X"]]) == "bio"
    assert spans.scheme_of([["B-X", "I-Y"]]) == "bio"
    # A word in another sentence is no neighbour.
    assert spans.scheme_of([["I-X"], ["B-X"]]) == "bio"
    assert spans.to_bioes(["B-X", "I-Y", "O", "I-X"], "bio") == ["S-X", "S-Y", "O", "S-X"]


def test_tags_may_lack_a_type():
    assert spans.scheme_of([["B", "I", "O"]]) == "bio2"
    assert spans.scheme_of([["O", "I", "I", "B"]]) == "bio1"
    assert spans.to_bioes(["B", "I", "B", "O"], "bio2") == ["B", "E", "S", "O"]
    assert spans.from_bioes(["B", "E", "S", "O"]) == ["B", "I", "B", "O"]


def test_impossible_tags_are_all_named_with_their_first_place():
    with pytest.raises(spans.ImpossibleTagsError) as raised:
        spans.scheme_of([["O", "NOUN"], ["NOUN", "B-", "O-X", "", "X-B", "BX"]])
    problems = raised.value.problems
    assert [problem.split(" (")[0] for problem in problems] == ["'NOUN'", "'B-'", "'O-X'", "''", "'X-B'", "'BX'"]
    assert "sentence 1, word 2; 2 in all" in problems[0]
    assert "sentence 2, word 2; 1 in all" in problems[1]


def test_letters_of_two_schemes_are_a_problem():
    with pytest.raises(spans.ImpossibleTagsError, match="the letters B, L, S belong to two schemes"):
        spans.scheme_of([["B-X", "L-X"], ["S-X"]])


@pytest.mark.parametrize(
    ("predicted", "read"),
    [
        (["E-X"], ["B-X"]),
        (["I-X", "O", "I-X"], ["B-X", "O", "B-X"]),
        (["O", "E-X", "E-X"], ["O", "B-X", "B-X"]),
        (["B-X", "I-Y", "E-Y"], ["B-X", "B-Y", "I-Y"]),
        (["B-X", "E-Y"], ["B-X", "B-Y"]),
        (["B-X", "I-X", "O"], ["B-X", "I-X", "O"]),
        (["B-X", "S-X", "I-X"], ["B-X", "B-X", "B-X"]),
        (["S-X", "E-X"], ["B-X", "B-X"]),
        (["E-X", "I-X", "E-X"], ["B-X", "B-X", "I-X"]),
        (["B-X", "B-X", "E-X"], ["B-X", "B-X", "I-X"]),
        ([], []),
    ],
)
def test_ill_formed_predictions_are_read_by_the_stated_rule(predicted, read):
    assert spans.from_bioes(predicted) == read


def test_reading_twice_changes_nothing():
    generator = random.Random(1)
    for _ in range(3000):
        tags = generator.choices(["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in "XY")], k=8)
        once = spans.from_bioes(tags)
        assert spans.scheme_of([once]) == "bio2"
        assert spans.from_bioes(once) == once
        assert spans.from_bioes(spans.to_bioes(tags, "bioes")) == once
        assert [tag[1:] for tag in once] == [tag[1:] for tag in tags]
