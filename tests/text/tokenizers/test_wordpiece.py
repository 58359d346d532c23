"""WordPiece: worked by hand, training that repeats, and vocabularies that are refused."""

import pathlib
import re

import pytest

from electra_jax.errors import InputError
from electra_jax.text.tokenizers import wordpiece
from electra_jax.text.tokenizers.special_tokens import SPECIAL_PIECES
from electra_jax.text.tokenizers.tokenizer import load
from tests.running import run_program

SHAKESPEARE = pathlib.Path(__file__).parents[2] / "data" / "shakespeare.txt"
PIECES = [*SPECIAL_PIECES, "un", "##aff", "##able", "want", "##ed", "the", "cafe", "café", "The", "中", "国", "[", "]", "mask", ",", "a", "##a"]  # fmt: skip


@pytest.fixture
def vocabulary(tmp_path):
    def make(pieces=PIECES, name="vocab.txt"):
        path = tmp_path / name
        path.write_text("".join(f"{piece}\n" for piece in pieces))
        return path

    return make


def train(lines, size, **options):
    return wordpiece.train(lines, vocabulary_size=size, **{"lowercase": True, "strip_accents": True} | options)


def pieces(tokenizer, text):
    return tokenizer.pieces(tokenizer.encode([text])[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unaffable", ["un", "##aff", "##able"]),
        ("UNAFFquestioned,the", ["[UNK]", ",", "the"]),
        ("the unknown", ["the", "[UNK]"]),
        ("Café\tTHE", ["cafe", "the"]),
        ("中国", ["中", "国"]),
        ("the中", ["the", "中"]),
        ("[MASK]", ["[", "mask", "]"]),
        ("a\u0000\u00ada", ["a", "##a"]),
        ("", []),
        ("a" * 200, ["a"] + ["##a"] * 199),
        ("a" * 201, ["[UNK]"]),
    ],
)
def test_wordpiece_takes_the_longest_match_first(vocabulary, text, expected):
    assert pieces(load(vocabulary()), text) == expected


def test_casing_and_accents_follow_the_flags(vocabulary):
    def found(**options):
        return pieces(load(vocabulary(), **options), "The café the cafe")

    assert found() == ["the", "cafe", "the", "cafe"]
    assert found(lowercase=True, strip_accents=False) == ["the", "café", "the", "cafe"]
    assert found(lowercase=False, strip_accents=False) == ["The", "café", "the", "cafe"]
    # As in Google's tokenizer, accents go only together with capitals.
    assert found(lowercase=False, strip_accents=True) == ["The", "café", "the", "cafe"]


def test_text_never_gives_a_special_id():
    tokenizer = train(SHAKESPEARE.read_text().splitlines() + ["[mask] [MASK]"] * 1000, 1000, lowercase=False)
    special = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id}
    for text in (*SPECIAL_PIECES, "x[SEP]y", "[CLS] [SEP]\n[PAD][MASK]"):
        assert not special & set(tokenizer.encode([text])[0].tolist())


def test_trained_ids_begin_with_the_special_pieces_and_have_the_size_asked():
    tokenizer = train(SHAKESPEARE.read_text().splitlines(), 1200)
    assert tokenizer.kind == "wordpiece"
    assert tokenizer.vocabulary_size == 1200
    assert tokenizer.pieces(range(5)) == list(SPECIAL_PIECES)
    ids = [tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    assert ids == [0, 1, 2, 3, 4]
    ids, _ = tokenizer.encode(["Double, double toil and trouble"])
    assert tokenizer.decode(ids) == "double, double toil and trouble"


def test_training_gives_the_same_ids_in_every_process():
    outputs = {
        run_program("tests.text.programs.train_tokenizers", "wordpiece", SHAKESPEARE, PYTHONHASHSEED=str(seed))
        for seed in range(2)
    }
    assert len(outputs) == 1


def test_an_alphabet_beyond_the_limit_is_cut_by_frequency_then_code_point(monkeypatch):
    monkeypatch.setattr("electra_jax.text.tokenizers.wordpiece._LEAST_ALPHABET", 3)
    notes = []
    tokenizer = train(["dd cc bb aa ee ee"] * 3, 11, character_coverage=0.5, note=notes.append)
    assert tokenizer.pieces(range(5, 11)) == ["a", "b", "e", "##a", "##b", "##e"]
    assert pieces(tokenizer, "c") == ["[UNK]"]
    assert notes == [
        "alphabet: 3 of the text's 5 characters, 66.6667% of it, as character_coverage=0.5 asks; the others are unknown"
    ]


def test_coverage_beyond_the_commonest_thousand_characters_is_reached():
    characters = [chr(0x4E00 + n) for n in range(1200)]
    text = [*characters[:1100] * 9, *characters[1100:]]
    known = set(train(text, 1005, character_coverage=0.9).pieces(range(1005)))
    assert len(known & set(characters)) == 1000
    with pytest.raises(
        InputError, match=r"alphabet take 1205.* or --config.data.tokenizer.character_coverage=0\.99, whose"
    ):
        train(text, 1105, character_coverage=1.0)
    assert set(characters) <= set(train(text, 1205, character_coverage=1.0).pieces(range(1205)))


def test_a_long_word_is_passed_over_in_training(monkeypatch):
    monkeypatch.setattr("electra_jax.text.tokenizers.wordpiece._LONGEST_TRAINED", 20)
    monkeypatch.setattr("electra_jax.text.tokenizers.wordpiece._LONG_RUN", re.compile(r"(?<!\S)\S{21,}"))
    notes = []
    words = ["ab"] * 9
    tokenizer = train([*words, "xy" * 20 + ",ab", "中" * 30], 12, note=notes.append)
    assert tokenizer.sha256 == train([*words, ", ab", "中" * 30], 12).sha256
    assert notes == [
        "1 stretches of more than 20 characters without blank or punctuation, 40 characters in all, were passed over in "
        "training"
    ]


def test_sizes_that_cannot_be_are_refused_with_the_flag():
    with pytest.raises(InputError, match=r"8 pieces are too few; .* take 9.*--config.data.tokenizer.vocabulary_size=N"):
        train(["ab ab"], 8)
    with pytest.raises(
        InputError, match=r"yields 10 pieces .* fewer than 500.*--config.data.tokenizer.vocabulary_size=N"
    ):
        train(["ab ab"], 500)


def test_missing_special_tokens_are_named_with_the_flag(vocabulary):
    path = vocabulary([piece for piece in PIECES if piece not in ("[CLS]", "[MASK]")])
    with pytest.raises(InputError, match=r"no \[CLS\], \[MASK\].*tokenizer\.add_special_pieces=True") as error:
        load(path)
    assert str(path) in str(error.value)
    tokenizer = load(path, add_special_pieces=True)
    assert (tokenizer.cls_id, tokenizer.mask_id, tokenizer.vocabulary_size) == (20, 21, 22)
    assert pieces(tokenizer, "[MASK] the") == ["[", "mask", "]", "the"]


def test_of_a_repeated_piece_the_last_line_counts_and_empty_lines_are_rows(vocabulary):
    tokenizer = load(vocabulary([*PIECES[:6], "", *PIECES[6:], "the", ""]))
    assert tokenizer.vocabulary_size == len(PIECES) + 2
    assert tokenizer.encode(["the"])[0].tolist() == [len(PIECES) + 1]
    the = PIECES.index("the") + 1
    assert tokenizer.pieces([6, the]) == ["[spare row 6]", f"[spare row {the}]"]
    spelled = set(tokenizer.encode(["[spare row 6] the"])[0].tolist())
    assert not spelled & {6, the}


@pytest.mark.parametrize(
    ("letter", "options", "message"),
    [
        ("A", {}, r"200 pieces hold capitals, 'A0'.*lowercase=False"),
        ("é", {}, r"200 pieces hold accents, 'é0'.*strip_accents=False"),
        ("a", {"lowercase": False}, r"no piece holds a capital.*lowercase=True"),
    ],
)
def test_a_casing_that_the_pieces_contradict_is_refused(vocabulary, letter, options, message):
    path = vocabulary([*SPECIAL_PIECES, *(f"{letter}{n}" for n in range(200))])
    with pytest.raises(InputError, match=message) as error:
        load(path, **options)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("letter", "options"), [("a", {}), ("A", {"lowercase": False}), ("é", {"strip_accents": False}), ("中", {}), ("中", {"lowercase": False})])  # fmt: skip
def test_a_casing_that_suits_the_pieces_is_taken(vocabulary, letter, options):
    path = vocabulary([*SPECIAL_PIECES, *(f"{letter}{n}" for n in range(200))])
    assert load(path, **options).vocabulary_size == 205
