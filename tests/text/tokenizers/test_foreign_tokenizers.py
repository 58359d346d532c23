"""Files of other kinds that are given as a tokenizer are named, with what to give instead."""

import gzip
import json

import pytest
import zstandard

from electra_jax.errors import InputError
from electra_jax.text.tokenizers import tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
VOCABULARY = "".join(f"{piece}\n" for piece in PIECES)
MODEL = {"model": {"type": "WordPiece", "vocab": {piece: number for number, piece in enumerate(PIECES)}}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", json.dumps(MODEL), "is a tokenizer.json; give it under a name that ends in .json"),
        ("vocab.txt", json.dumps(MODEL["model"]["vocab"]), "is JSON, a table of 7 pieces and their ids, as vocab.json"),
        ("tokenizer.json", json.dumps(MODEL["model"]["vocab"]), "is JSON, a table of 7 pieces and their ids"),
        ("vocab.txt", json.dumps(PIECES), "is a JSON list of 7 texts; expected a vocab.txt"),
        ("vocab.txt", '{"do_lower_case": true}', "is JSON that has the fields do_lower_case and no vocabulary"),
        ("tokenizer.json", '{"do_lower_case": true}', "is JSON that has the fields do_lower_case and no vocabulary"),
        ("vocab.txt", "{}", "is an empty JSON object; expected"),
        ("spiece.model", json.dumps(MODEL), "is a tokenizer.json; give it under a name that ends in .json"),
        ("m.vocab", "<unk>\t0\n<s>\t0\n▁a\t-3.25\n", "as a .vocab of SentencePiece; give the .model"),
        ("vocab.txt", "<pad>\t0\r\n<unk>\t-1\r\n▁a\t-2e-5\r\n", "as a .vocab of SentencePiece; give the .model"),
        ("vocab.txt", "the 500\nof 300\n", "has a number after the piece in each line; expected"),
        ("vocab.txt", VOCABULARY.encode("utf-16"), "is in UTF-16, expected UTF-8; convert it: iconv"),
        ("vocab.txt", VOCABULARY.encode("utf-16-le"), "is in UTF-16LE, expected UTF-8"),
        ("vocab.txt", VOCABULARY.encode("utf-16-be"), "is in UTF-16BE, expected UTF-8"),
        ("vocab.txt", gzip.compress(VOCABULARY.encode()), "is compressed with gzip; unpack it"),
        ("tokenizer.json", zstandard.compress(VOCABULARY.encode()), "is compressed with zstd; unpack it"),
        ("vocab.txt", b"PK\x03\x04 and more", "is a zip archive; unpack it"),
        ("vocab.txt", "\n<!DOCTYPE html><html>", "is a web page; download the file itself"),
        ("spiece.model", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_a_file_of_another_kind_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as error:
        tokenizer.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize("first", ["{", "[", "a 1", "<html", '{"a": 1'])
def test_a_vocabulary_with_odd_pieces_is_read(tmp_path, first):
    path = tmp_path / "vocab.txt"
    path.write_text(VOCABULARY.replace("a\n", f"{first}\n"))
    assert tokenizer.load(path).pieces([5]) == [first]
    path.write_text(f"{first}\n{VOCABULARY}")
    assert tokenizer.load(path).pieces([0]) == [first]
