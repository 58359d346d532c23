"""Tokenizers: WordPiece worked by hand, training that repeats, and files that are refused."""

import json
import pathlib
import random
import subprocess
import sys

import pytest
import tokenizers

from electra_jax.errors import InputError
from electra_jax.text.tokenizer import SPECIAL_PIECES, Tokenizer, train_wordpiece

SHAKESPEARE = pathlib.Path(__file__).parents[1] / "data" / "shakespeare.txt"
PIECES = [*SPECIAL_PIECES, "un", "##aff", "##able", "want", "##ed", "the", "cafe", "café", "The", "中", "国", "[", "]", "mask", ",", "a", "##a"]  # fmt: skip


@pytest.fixture
def vocabulary(tmp_path):
    def make(pieces=PIECES, name="vocab.txt"):
        path = tmp_path / name
        path.write_text("".join(f"{piece}\n" for piece in pieces))
        return path

    return make


def train(lines, size, **options):
    return train_wordpiece(lines, vocabulary_size=size, **{"lowercase": True, "strip_accents": True} | options)


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
    tokenizer = Tokenizer.load(vocabulary())
    assert tokenizer.pieces(tokenizer.encode_batch([text])[0]) == expected


def test_casing_and_accents_follow_the_flags(vocabulary):
    text = "The café the cafe"

    def pieces(**options):
        tokenizer = Tokenizer.load(vocabulary(), **options)
        return tokenizer.pieces(tokenizer.encode_batch([text])[0])

    assert pieces() == ["the", "cafe", "the", "cafe"]
    assert pieces(lowercase=True, strip_accents=False) == ["the", "café", "the", "cafe"]
    assert pieces(lowercase=False, strip_accents=False) == ["The", "café", "the", "cafe"]
    # As in Google's tokenizer, accents go only together with capitals.
    assert pieces(lowercase=False, strip_accents=True) == ["The", "café", "the", "cafe"]


def test_text_never_gives_a_special_id():
    tokenizer = train(SHAKESPEARE.read_text().splitlines() + ["[mask] [MASK]"] * 1000, 1000, lowercase=False)
    special = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id}
    for ids in tokenizer.encode_batch([*SPECIAL_PIECES, "x[SEP]y", "[CLS] [SEP]\n[PAD][MASK]"]):
        assert not special & set(ids)


def test_remembering_words_changes_no_id():
    tokenizer = train(SHAKESPEARE.read_text().splitlines(), 1000)
    random.seed(0)
    odd = "ab \t\n\u00a0\u0085\u2028\u3000\x1c\u200b\u0301éÅσς中の.,-'[]\u0660\U0001f600ﬁİ"
    texts = ["".join(random.choices(odd, k=random.randrange(30))) for _ in range(3000)]
    texts += SHAKESPEARE.read_text().splitlines()[:1000]
    assert tokenizer.encode_batch(texts) == tokenizer._encode(texts)
    assert tokenizer.encode_batch(texts) == tokenizer._encode(texts)


def test_what_is_remembered_stays_small(monkeypatch):
    monkeypatch.setattr("electra_jax.text.tokenizer._REMEMBERED_CHARACTERS", 100)
    tokenizer = train(SHAKESPEARE.read_text().splitlines(), 1000)
    for number in range(50):
        tokenizer.encode_batch([f"word{number} and another"])
    assert len(tokenizer._remembered) < 20


def test_trained_ids_begin_with_the_special_pieces_and_have_the_size_asked():
    tokenizer = train(SHAKESPEARE.read_text().splitlines(), 1200)
    assert tokenizer.vocabulary_size == 1200
    assert tokenizer.pieces(range(5)) == list(SPECIAL_PIECES)
    ids = [tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    assert ids == [0, 1, 2, 3, 4]
    (encoded,) = tokenizer.encode_batch(["Double, double toil and trouble"])
    assert tokenizer.decode(encoded) == "double, double toil and trouble"


def test_training_gives_the_same_ids_in_every_process():
    program = (
        "import sys; from electra_jax.text.tokenizer import train_wordpiece as train\n"
        "lines = open(sys.argv[1]).read().splitlines()\n"
        "for size in (300, 1024, 4096):\n"
        "    print(train(lines, vocabulary_size=size, lowercase=True, strip_accents=True).sha256)"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", program, SHAKESPEARE], capture_output=True, check=True).stdout
        for _ in range(5)
    }
    assert len(outputs) == 1


def test_an_alphabet_beyond_the_limit_is_cut_by_frequency_then_code_point(monkeypatch):
    monkeypatch.setattr("electra_jax.text.tokenizer._LARGEST_ALPHABET", 3)
    tokenizer = train(["dd cc bb aa ee ee"] * 3, 11)
    assert tokenizer.pieces(range(5, 11)) == ["a", "b", "e", "##a", "##b", "##e"]
    assert tokenizer.encode_batch(["c"]) == [[tokenizer.unknown_id]]


def test_sizes_that_cannot_be_are_refused_with_the_flag():
    with pytest.raises(InputError, match=r"8 pieces are too few; .* take 9.*--config.data.tokenizer.vocabulary_size=N"):
        train(["ab ab"], 8)
    with pytest.raises(
        InputError, match=r"yields 10 pieces .* fewer than 500.*--config.data.tokenizer.vocabulary_size=N"
    ):
        train(["ab ab"], 500)


def test_training_reads_no_further_than_its_sample(monkeypatch):
    monkeypatch.setattr("electra_jax.text.tokenizer._SAMPLE_CHARACTERS", 1000)

    def endless():
        while True:
            yield "ab ab"

    assert train(endless(), 10).vocabulary_size == 10


@pytest.mark.parametrize("kind", ["directory", "tokenizer.json", "vocab.txt"])
def test_saved_and_loaded_is_the_same_tokenizer(tmp_path, kind):
    tokenizer = train(SHAKESPEARE.read_text().splitlines(), 500, strip_accents=False)
    tokenizer.save(tmp_path / "t")
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["tokenizer.json", "vocab.txt"]
    path = tmp_path / "t" if kind == "directory" else tmp_path / "t" / kind
    assert Tokenizer.load(path, lowercase=True, strip_accents=False).sha256 == tokenizer.sha256


def test_a_foreign_tokenizer_json_is_not_truncated_or_padded(vocabulary, tmp_path):
    Tokenizer.load(vocabulary()).save(tmp_path)
    foreign = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    foreign.enable_truncation(3)
    foreign.enable_padding(length=8)
    foreign.save(str(tmp_path / "tokenizer.json"))
    assert len(Tokenizer.load(tmp_path).encode_batch(["aaaaa the"])[0]) == 6


def test_a_tokenizer_in_which_text_can_spell_special_pieces_is_refused(vocabulary, tmp_path):
    Tokenizer.load(vocabulary()).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text()) | {"pre_tokenizer": {"type": "WhitespaceSplit"}, "normalizer": None}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="gives special ids to text"):
        Tokenizer.load(path)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([piece for piece in PIECES if piece not in ("[CLS]", "[MASK]")], r"no \[CLS\], \[MASK\]"),
        ([*PIECES, "the"], "line 23: 'the' is already on line 11"),
        ([*PIECES[:6], "", *PIECES[6:]], "line 7: the line is empty"),
    ],
)
def test_a_bad_vocabulary_is_refused_with_file_and_line(vocabulary, pieces, said):
    path = vocabulary(pieces)
    with pytest.raises(InputError, match=said) as error:
        Tokenizer.load(path)
    assert str(path) in str(error.value)


def test_ids_with_holes_are_refused(vocabulary, tmp_path):
    Tokenizer.load(vocabulary()).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["the"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="ids up to 99; expected every id from 0 to 21"):
        Tokenizer.load(path)


def test_unreadable_tokenizer_files_are_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "vocab.txt").write_bytes(b"caf\xe9\n")
    for name, said in [("tokenizer.json", "cannot read it"), ("vocab.txt", "byte 3"), ("none.txt", "No such file")]:
        with pytest.raises(InputError, match=said) as error:
            Tokenizer.load(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
