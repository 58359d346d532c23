"""A tokenizer.json of any model: its library's ids, its special tokens, and files that are refused."""

import json
import pathlib
import random

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.tokenizers import wordpiece
from electra_jax.text.tokenizers.special_tokens import SPECIAL_PIECES
from electra_jax.text.tokenizers.tokenizer import load

DATA = pathlib.Path(__file__).parents[2] / "data"
SCRIPTS = (DATA / "scripts.txt").read_text().splitlines()
SHAKESPEARE = (DATA / "shakespeare.txt").read_text().splitlines()


def split(ids, lengths):
    """The ids of each text, as lists."""
    ids = iter(ids.tolist())
    return [[next(ids) for _ in range(length)] for length in lengths]


def library_ids(path, texts):
    library = tokenizers.Tokenizer.from_file(str(path))
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True
    return [library.encode(text, add_special_tokens=False).ids for text in texts]


def train(lines=SHAKESPEARE, size=1000, **options):
    return wordpiece.train(lines, vocabulary_size=size, **{"lowercase": True, "strip_accents": True} | options)


@pytest.fixture
def byte_level(tmp_path):
    """A tokenizer.json as RoBERTa's, with the given special tokens."""

    def write(special=("<s>", "<pad>", "</s>", "<unk>", "<mask>")):
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel()
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=list(special),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(SHAKESPEARE[:500], trainer)
        path = tmp_path / "tokenizer.json"
        backend.save(str(path))
        return path

    return write


@pytest.fixture
def saved(tmp_path):
    """A small WordPiece tokenizer's tokenizer.json, whose content can be changed."""
    train(["the cat sat on the mat"] * 9, 30).save(tmp_path)
    path = tmp_path / "tokenizer.json"

    def write(**changes):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return path

    return write


@pytest.mark.parametrize("casing", [{}, {"strip_accents": False}, {"lowercase": False}])
def test_wordpiece_ids_are_those_of_the_library(tmp_path, casing):
    tokenizer = train(SHAKESPEARE[:2000] + SCRIPTS * 20, 1500, **casing)
    tokenizer.save(tmp_path)
    random.seed(0)
    odd = "ab \t\n\u00a0\u0085\u2028\u3000\x1c\u200b\u0301\u0345éÅσς中の.,-'[]<`|~\u0660\U0001f600ﬁİ\u061c\u0483"
    texts = ["".join(random.choices(odd, k=random.randrange(30))) for _ in range(3000)]
    texts += ["a" * 300, ",".join("a" * n for n in range(190, 210)), "\n", "x\ny, z"]
    for batch in (SCRIPTS, SHAKESPEARE[2000:3000], texts, SCRIPTS, texts, []):
        assert split(*tokenizer.encode(batch)) == library_ids(tmp_path / "tokenizer.json", batch)


def test_byte_level_bpe_gives_the_ids_of_the_library(byte_level):
    path = byte_level()
    tokenizer = load(path)
    assert (tokenizer.kind, tokenizer.vocabulary_size) == ("bpe", 600)
    roles = (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert tokenizer.pieces(roles) == ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    texts = [*SCRIPTS, "<s> </s>, x<mask>y"]
    assert split(*tokenizer.encode(texts)) == library_ids(path, texts)
    assert tokenizer.decode(tokenizer.encode(["Il était là"])[0]).strip() == "Il était là"


def stretches(tokenizer, text):
    """The characters that each piece stands for; ids are those of `encode`."""
    ids, starts, ends = tokenizer.encode_with_offsets(text)
    assert (ids.dtype, starts.dtype, ends.dtype) == (np.int32, np.int64, np.int64)
    assert ids.tolist() == tokenizer.encode([text])[0].tolist()
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def test_offsets_count_characters_of_the_text_as_it_was_given():
    tokenizer = train(["ete deja la 中 x"] * 9, 26)
    # Upper case, accents of both kinds, a character of four bytes, a control character, and one that is its own word.
    text = " Été  DÉJÀ 😀là,x\x01中la "
    assert stretches(tokenizer, text) == ["Été", "DÉJÀ", "😀là", ",", "x", "中", "la"]
    assert stretches(tokenizer, "") == stretches(tokenizer, " ") == []


@pytest.mark.parametrize("casing", [{}, {"strip_accents": False}, {"lowercase": False}])
def test_every_nonblank_character_is_in_the_span_of_a_piece(casing):
    tokenizer = train(SHAKESPEARE[:2000] + SCRIPTS * 20, 1500, **casing)
    for text in SCRIPTS + SHAKESPEARE[2000:2300]:
        assert "".join(stretches(tokenizer, text)) == "".join(text.split())


def test_byte_level_offsets_leave_out_the_blank_before_a_word(byte_level):
    tokenizer = load(byte_level())
    text = "the cat, the là"
    found = stretches(tokenizer, text)
    assert found[0] == "the"
    assert not any(stretch != stretch.strip() for stretch in found)
    # Of a character that is several pieces, each stands for all of it.
    assert set(found[-2:]) == {"à"}


def test_missing_special_tokens_are_named_with_the_flag(byte_level, tmp_path):
    path = byte_level(["<s>", "</s>"])
    with pytest.raises(InputError, match=r"no \[PAD\], \[UNK\], \[MASK\].*add_special_pieces=True") as error:
        load(path)
    assert str(path) in str(error.value)
    tokenizer = load(path, add_special_pieces=True)
    assert (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.mask_id) == (600, 601, 602)
    assert tokenizer.vocabulary_size == 603
    tokenizer.save(tmp_path / "t")
    assert storage.names(tmp_path / "t") == ["tokenizer.json"]
    assert load(tmp_path / "t").sha256 == tokenizer.sha256


def test_an_ordinary_piece_is_not_a_special_token(byte_level):
    path = byte_level(["<pad>", "</s>", "<unk>", "<mask>"])
    content = json.loads(path.read_text())
    content["model"]["vocab"]["<s>"] = 600
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"no \[CLS\];"):
        load(path)


def test_the_unknown_piece_is_the_one_the_model_uses(tmp_path):
    pieces = [("?", 0.0), ("a", -1.0), *((piece, -2.0) for piece in SPECIAL_PIECES)]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load(tmp_path / "tokenizer.json")
    assert (tokenizer.kind, tokenizer.unknown_id) == ("unigram", 0)
    assert split(*tokenizer.encode(["a z"])) == [[1, 0]]


def test_a_foreign_tokenizer_json_is_not_truncated_or_padded(byte_level):
    path = byte_level()
    foreign = tokenizers.Tokenizer.from_file(str(path))
    foreign.enable_truncation(3)
    foreign.enable_padding(length=8)
    foreign.save(str(path))
    _, lengths = load(path).encode(["the the the the the", "the"])
    assert lengths.tolist() == [5, 1]


def test_a_tokenizer_in_which_text_can_spell_special_pieces_is_refused(saved):
    path = saved(pre_tokenizer={"type": "WhitespaceSplit"}, normalizer=None)
    with pytest.raises(InputError, match="gives special ids to text") as error:
        load(path)
    assert str(path) in str(error.value)


def test_a_unigram_whose_pieces_hold_special_tokens_cuts_them_in_text(tmp_path):
    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    pieces = [(piece, 0.0) for piece in special] + [(letter, -2.0) for letter in "▁<>s/xpad"]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=1))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens(special)
    backend.save(str(tmp_path / "tokenizer.json"))
    made = load(tmp_path / "tokenizer.json")
    assert made.pieces(made.encode(["x<s>"])[0]) == ["▁", "x", "<", "s", ">"]
    assert made.pieces(made.encode(["x </s"])[0]) == ["▁", "x", "▁", "<", "/", "s"]
    made.save(tmp_path / "again")
    assert load(tmp_path / "again" / "tokenizer.json").sha256 == made.sha256


def test_ids_with_gaps_are_refused(saved):
    path = saved()
    content = json.loads(path.read_text())
    content["model"]["vocab"]["the"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="30 pieces have ids up to 99; expected every id from 0 to 29"):
        load(path)


def test_a_text_is_normalized_as_the_model_sees_it(saved):
    assert load(saved()).normalize("É") == "e"
    assert load(saved(normalizer=normalizers_json(normalizers.NFD()))).normalize("É") == "É"


def normalizers_json(normalizer):
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizer
    return json.loads(backend.to_str())["normalizer"]


@pytest.mark.parametrize("place", ["vocab", "added_tokens"])
def test_an_enormous_id_is_refused_before_memory_is_taken_for_it(saved, place):
    path = saved()
    content = json.loads(path.read_text())
    if place == "vocab":
        content["model"]["vocab"]["the"] = 2**31 - 1
    else:
        content["added_tokens"][0]["id"] = 2**31 - 1
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="ids up to 2147483647; expected every id from 0"):
        load(path)
