"""SentencePiece tokenizers: the library's ids, special tokens however spelled, training that repeats, bad files."""

import io
import json
import pathlib
import random

import numpy as np
import pytest
import sentencepiece

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.tokenizers import sentencepiece_tokenizer
from electra_jax.text.tokenizers.special_tokens import ROLES, SPECIAL_PIECES
from electra_jax.text.tokenizers.tokenizer import load
from tests.running import started_program

DATA = pathlib.Path(__file__).parents[2] / "data"
SCRIPTS = (DATA / "scripts.txt").read_text().splitlines()
SHAKESPEARE = (DATA / "shakespeare.txt").read_text().splitlines()
TEXTS = SHAKESPEARE[:1000] + SCRIPTS * 20


def train(lines=TEXTS, kind="unigram", size=1000, **options):
    return sentencepiece_tokenizer.train(
        lines, kind=kind, vocabulary_size=size, **{"lowercase": False, "character_coverage": 1.0} | options
    )


@pytest.fixture
def write_model(tmp_path):
    """Trains a model with the library's own options, and writes it to a file."""

    def write(name="other.model", **options):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS),
            model_writer=model,
            **{"vocab_size": 1000, "character_coverage": 1.0, "minloglevel": 2} | options,
        )
        path = tmp_path / name
        path.write_bytes(model.getvalue())
        return path

    return write


@pytest.fixture(scope="module")
def unigram():
    return train()


def split(ids, lengths):
    """The ids of each text, as lists."""
    ids = iter(ids.tolist())
    return [[next(ids) for _ in range(length)] for length in lengths]


def roles(tokenizer):
    ids = (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    return tokenizer.pieces(ids)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("coverage", [1.0, 0.98])
def test_ids_are_those_of_the_library(write_model, kind, coverage):
    path = write_model(model_type=kind, character_coverage=coverage)
    library = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = load(path, add_special_pieces=True)
    random.seed(0)
    odd = "ab \t\n\u00a0\u0085\u2028\u3000\x1c\u200b\u0301éÅ¨´σς中の.,-'[]<>\u0660\U0001f600ﬁİ▁\u2585\x01"
    texts = ["".join(random.choices(odd, k=random.randrange(30))) for _ in range(3000)]
    # The last words of this one have two ways for unigram that are equally good.
    texts.append("thsa sesttshesteaee  tssa  ht hh asatshss sehea essesseshtehesta ")
    for batch in (SCRIPTS, SHAKESPEARE[1000:2000], texts, SCRIPTS, [text.replace("▁", "") for text in texts], []):
        assert split(*tokenizer.encode(batch)) == library.encode(batch)


def test_trained_ids_begin_with_the_special_pieces_and_have_the_size_asked(unigram):
    assert unigram.vocabulary_size == 1000
    assert unigram.pieces(range(5)) == list(SPECIAL_PIECES) == roles(unigram)
    assert unigram.kind == "unigram"
    assert train(kind="bpe").kind == "bpe"


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_accents_and_capitals_come_back(kind):
    tokenizer = train(kind=kind)
    text = "Il était déjà là, l'œuvre naïve où ça coûte"
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_an_uncased_model_lowers_and_keeps_accents():
    tokenizer = train(lowercase=True)
    assert tokenizer.decode(tokenizer.encode(["DÉJÀ là"])[0]) == "déjà là"


def stretches(tokenizer, text):
    """The characters that each piece stands for; ids are those of `encode`."""
    ids, starts, ends = tokenizer.encode_with_offsets(text)
    assert (ids.dtype, starts.dtype, ends.dtype) == (np.int32, np.int64, np.int64)
    assert ids.tolist() == tokenizer.encode([text])[0].tolist()
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_offsets_count_characters_of_the_text_as_it_was_given(kind):
    tokenizer = train(["abc d1⁄2fi"] * 9, kind=kind, size=16)
    assert stretches(tokenizer, "") == stretches(tokenizer, "  ") == []
    # Runs of blanks are one, ligatures and fractions several letters; 中 is unknown, and two of four bytes too.
    text = "  éabc 　 ﬁ½中 😀😀"
    found = stretches(tokenizer, text)
    assert "".join(found) == "éabcﬁ½中😀😀"
    assert not any(" " in stretch for stretch in found)


@pytest.mark.parametrize("options", [{"kind": "unigram"}, {"kind": "bpe"}, {"lowercase": True}])
def test_every_nonblank_character_is_in_the_span_of_a_piece(options):
    tokenizer = train(**options)
    for text in SCRIPTS + SHAKESPEARE[1000:1300]:
        assert "".join(stretches(tokenizer, text)) == "".join(text.split())


def test_decoding_keeps_special_pieces(unigram):
    (word,) = split(*unigram.encode(["the"]))
    ids = [unigram.cls_id, *word, *word, unigram.mask_id, *word, unigram.sep_id]
    assert unigram.decode(ids) == "[CLS] the the [MASK] the [SEP]"


def test_training_gives_the_same_bytes_in_every_process():
    arguments = "sentencepiece", DATA / "shakespeare.txt"
    programs = [
        started_program("tests.text.programs.train_tokenizers", *arguments, PYTHONHASHSEED=str(seed))
        for seed in range(2)
    ]
    outputs = [program.communicate() for program in programs]
    assert len({printed for printed, _ in outputs}) == 1
    assert len(outputs[0][0].split()) == 2
    # Nor has the library anything to say.
    assert [errors for _, errors in outputs] == ["", ""]


def test_long_lines_are_cut_at_blanks():
    parts = list(sentencepiece_tokenizer._training_lines([" ".join(["abcdef"] * 5000), "x" * 9000]))
    assert all(len(part) <= 4000 for part in parts)
    assert [word for part in parts for word in part.split()][:5000] == ["abcdef"] * 5000
    assert sum(part.count("x") for part in parts) == 9000


def test_long_lines_and_reserved_characters_are_learnt_from_too():
    with_blanks = " ".join(["abc"] * 10_000)
    without_blanks = "xyz" * 10_000
    reserved = "\u2585 uvw \0" * 10
    tokenizer = train(["no more"] * 5 + [with_blanks, without_blanks, reserved], size=24)
    ids, _ = tokenizer.encode(["abc xyz uvw"])
    assert tokenizer.unknown_id not in ids
    assert "▁abc" in tokenizer.pieces(range(24))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_sizes_that_cannot_be_are_refused_with_the_number(kind):
    flag = r"--config\.data\.tokenizer\.vocabulary_size=N"
    with pytest.raises(InputError, match=rf"this text yields \d+ pieces, fewer than 5000.*{flag}"):
        train(["the cat sat on the mat"] * 9, kind, 5000)
    with pytest.raises(InputError, match=rf"10 pieces are too few; special tokens and alphabet take 15.*{flag}"):
        train(["the cat sat on the mat"] * 9, kind, 10)


def test_without_text_there_is_nothing_to_train_on():
    with pytest.raises(InputError, match=r"config\.data\.sources: there is no text"):
        train([])


def test_common_spellings_of_the_special_pieces_are_found(write_model):
    path = write_model(pad_id=3, control_symbols=["<mask>"])
    assert roles(load(path)) == ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    path = write_model(pad_id=0, unk_id=1, pad_piece="[PAD]", unk_piece="???", control_symbols=["[CLS]", "[SEP]", "[MASK]"], bos_id=2, eos_id=3)  # fmt: skip
    assert roles(load(path)) == ["[PAD]", "???", "[CLS]", "[SEP]", "[MASK]"]


def test_missing_special_tokens_are_named_with_the_flag(write_model):
    path = write_model()
    with pytest.raises(InputError, match=r"no \[PAD\], \[MASK\].*tokenizer\.add_special_pieces=True") as error:
        load(path)
    assert str(path) in str(error.value)
    tokenizer = load(path, add_special_pieces=True)
    assert (tokenizer.pad_id, tokenizer.mask_id, tokenizer.vocabulary_size) == (1000, 1001, 1002)
    assert roles(tokenizer) == ["[PAD]", "<unk>", "<s>", "</s>", "[MASK]"]
    assert tokenizer.decode([1001]) == "[MASK]"


def test_an_ordinary_piece_is_not_a_special_token(write_model):
    path = write_model(bos_id=-1, eos_id=1, pad_id=2, control_symbols=["[MASK]"])
    content = path.read_bytes()
    assert content.count(b"\n\x03ing") == 1
    path.write_bytes(content.replace(b"\n\x03ing", b"\n\x03<s>"))
    with pytest.raises(InputError, match=r"no \[CLS\];"):
        load(path)


def test_text_never_gives_a_special_id(write_model):
    path = write_model(pad_id=3, user_defined_symbols=["<mask>"], control_symbols=["[CLS]"])
    tokenizer = load(path)
    special = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id}
    for text in ("<mask>", "a<mask>b", "<s> </s>", "<pad>", "[CLS] x", "▁<mask>"):
        assert not special & set(tokenizer.encode([text])[0].tolist())


@pytest.mark.parametrize("place", ["local", "remote"])
def test_saved_and_loaded_is_the_same_tokenizer(write_model, tmp_path, place):
    directory = str(tmp_path / "t") if place == "local" else f"memory://{tmp_path.name}/t"
    path = write_model()
    tokenizer = load(path, add_special_pieces=True)
    tokenizer.save(directory)
    assert storage.names(directory) == ["special_pieces.json", "spiece.model"]
    assert storage.read(f"{directory}/spiece.model") == path.read_bytes()
    again = load(directory)
    assert again.sha256 == tokenizer.sha256
    assert (again.vocabulary_size, roles(again)) == (1002, roles(tokenizer))


def test_the_hash_covers_the_special_pieces(write_model):
    path = write_model(pad_id=3, control_symbols=["<mask>"])
    content = path.read_bytes()
    ids = {"pad": 3, "unknown": 0, "cls": 1, "sep": 2, "mask": 4}
    hashes = {
        sentencepiece_tokenizer.SentencePieceTokenizer(
            content, "x", special=sentencepiece_tokenizer.Special(ids=given, appended=[])
        ).sha256
        for given in (ids, ids | {"cls": 2, "sep": 1})
    }
    assert len(hashes) == 2


@pytest.mark.parametrize("content", [b"", b"[PAD]\n[UNK]\n" * 50, b"\x00" * 10])
def test_a_file_that_is_not_a_model_is_refused(tmp_path, content):
    path = tmp_path / "wrong.model"
    path.write_bytes(content)
    with pytest.raises(InputError, match="SentencePiece cannot read it") as error:
        load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("cut", [2, 3])
def test_a_cut_model_is_refused(write_model, cut):
    path = write_model()
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // cut])
    with pytest.raises(InputError, match="SentencePiece cannot read it"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"ids": {"pad": 0}, "appended": []}),
        json.dumps({"ids": dict.fromkeys(ROLES, 1000), "appended": []}),
    ],
)
def test_damaged_special_pieces_are_refused(unigram, tmp_path, content):
    unigram.save(tmp_path)
    (tmp_path / "special_pieces.json").write_text(content)
    with pytest.raises(InputError, match=r"special_pieces\.json next to it is damaged"):
        load(tmp_path)
