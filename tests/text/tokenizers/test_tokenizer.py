"""Tokenizers loaded from files of three kinds and from directories, local and remote, and trained ones."""

import json
import pathlib

import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.tokenizers import tokenizer as tokenizers
from electra_jax.text.tokenizers.special_tokens import SPECIAL_PIECES

SHAKESPEARE = (pathlib.Path(__file__).parents[2] / "data" / "shakespeare.txt").read_text().splitlines()


def train(lines=SHAKESPEARE[:3000], **options):
    wanted = dict(kind="wordpiece", vocabulary_size=500, lowercase=True, strip_accents=False, character_coverage=0.9995)
    return tokenizers.train(lines, **wanted | options)


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_every_kind_implements_the_protocol(kind, tmp_path):
    made = train(kind=kind)
    assert (made.kind, made.vocabulary_size) == (kind, 500)
    assert made.pieces(range(5)) == list(SPECIAL_PIECES)
    ids, lengths = made.encode(["Double, double", "", "toil"])
    assert (ids.dtype, lengths.dtype, lengths.shape) == ("int32", "int64", (3,))
    assert lengths[1] == 0
    assert lengths.sum() == len(ids)
    assert made.decode(ids[: lengths[0]]) == "double, double"
    made.save(tmp_path)
    again = tokenizers.load(tmp_path)
    assert again.sha256 == made.sha256
    assert again.encode(["Double, double"])[0].tolist() == ids[: lengths[0]].tolist()


@pytest.mark.parametrize("place", ["local", "remote"])
@pytest.mark.parametrize("name", ["", "tokenizer.json", "vocab.txt"])
def test_saved_and_loaded_is_the_same_tokenizer(tmp_path, place, name):
    directory = str(tmp_path / "t") if place == "local" else f"memory://{tmp_path.name}/t"
    made = train()
    made.save(directory)
    assert storage.names(directory) == ["tokenizer.json", "vocab.txt"]
    path = storage.join(directory, name) if name else directory
    assert tokenizers.load(path, lowercase=True, strip_accents=False).sha256 == made.sha256


def test_a_directory_of_a_vocabulary_alone_is_read_with_the_casing_given(tmp_path):
    made = train()
    made.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert tokenizers.load(tmp_path, lowercase=True, strip_accents=False).sha256 == made.sha256


def test_the_saved_model_precedes_other_files_in_a_directory(tmp_path):
    train().save(tmp_path)
    made = train(kind="bpe")
    made.save(tmp_path)
    assert tokenizers.load(tmp_path).sha256 == made.sha256


def test_sentencepiece_does_not_strip_accents():
    with pytest.raises(InputError, match=r"\(bpe\) keeps accents; set --config\.data\.tokenizer\.strip_accents=False"):
        train(kind="bpe", strip_accents=True)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="found 'word', expected one of wordpiece, unigram, bpe"):
        train(kind="word")


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_training_reads_no_further_than_its_sample(monkeypatch, kind):
    monkeypatch.setattr("electra_jax.text.tokenizers.tokenizer.SAMPLE_CHARACTERS", 1000)

    def endless():
        while True:
            yield "ab ab"

    assert train(endless(), kind=kind, vocabulary_size=10 if kind == "wordpiece" else 8).kind == kind


def test_unreadable_tokenizer_files_are_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "vocab.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("tokenizer.json", "cannot read it"),
        ("vocab.txt", "byte 3"),
        ("none.txt", "No such file"),
        ("none.model", "No such file"),
        ("empty", "there is no tokenizer in this directory; expected tokenizer.json, spiece.model, vocab.txt"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            tokenizers.load(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
    with pytest.raises(InputError, match="cannot read a tokenizer"):
        tokenizers.load(f"memory://{tmp_path.name}/none.txt")


def test_the_hash_covers_casing(tmp_path):
    made = train()
    made.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"]["strip_accents"] = True
    path.write_text(json.dumps(content))
    assert tokenizers.load(tmp_path).sha256 != made.sha256
