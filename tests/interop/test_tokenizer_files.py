"""Tokenizers among the files of others: which file counts, and how a vocab.txt that says nothing is read."""

import json
import pathlib

import pytest
import tokenizers as library

from electra_jax.errors import InputError
from electra_jax.interop import tokenizer_files
from electra_jax.text.tokenizers import casing, wordpiece
from electra_jax.text.tokenizers import tokenizer as tokenizers
from tests.interop import made

DATA = pathlib.Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def lines():
    return (DATA / "shakespeare.txt").read_text().splitlines()[:3000] + (
        DATA / "scripts.txt"
    ).read_text().splitlines() * 3


def vocabulary_of(pieces, directory):
    (directory / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return str(directory)


def test_without_files_there_is_no_tokenizer(tmp_path):
    assert tokenizer_files.load_beside(str(tmp_path)) == (None, ())
    assert tokenizer_files.load_saved(str(tmp_path / "tokenizer")) is None


def test_tokenizer_json_counts_before_the_vocabulary_beside_it(tmp_path):
    made.tokenizer(lowercase=False, strip_accents=False).save(tmp_path)
    loaded, notes = tokenizer_files.load_beside(str(tmp_path))
    assert (loaded.normalize("É"), notes) == ("É", ())


@pytest.mark.parametrize(
    ("pieces", "seen", "note"),
    [
        ([], "e", "capitals lower-cased, accents stripped"),
        ([f"é{n}" for n in range(200)], "é", "capitals lower-cased, accents kept"),
        ([f"W{n}" for n in range(200)], "É", "capitals kept, accents kept"),
    ],
)
def test_the_casing_of_a_vocabulary_is_told_by_its_pieces(tmp_path, pieces, seen, note):
    loaded, notes = tokenizer_files.load_beside(vocabulary_of([*made.vocabulary(), *pieces], tmp_path))
    assert loaded.normalize("É") == seen
    assert notes == (f"vocab.txt: {note}, inferred from its pieces",)


@pytest.mark.parametrize(
    ("declared", "seen"),
    [
        ({"do_lower_case": True}, "e"),
        ({"do_lower_case": True, "strip_accents": None}, "e"),
        ({"do_lower_case": True, "strip_accents": False}, "é"),
        ({"do_lower_case": False}, "É"),
    ],
)
def test_the_casing_that_a_file_declares_counts(tmp_path, declared, seen):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(declared))
    loaded, notes = tokenizer_files.load_beside(vocabulary_of(made.vocabulary(), tmp_path))
    assert (loaded.normalize("É"), notes) == (seen, ())


def test_a_vocabulary_that_fits_no_casing_and_a_damaged_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"vocab\.txt: the vocabulary has no \[PAD\]"):
        tokenizer_files.load_beside(vocabulary_of(["a", "b"], tmp_path))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer_config\.json: cannot be read \(it is not JSON"):
        tokenizer_files.load_beside(str(tmp_path))


def test_casing_says_what_a_vocabulary_has_to_be_loaded_with(tmp_path):
    for lowercase, strip_accents in ((True, True), (True, False), (False, False)):
        options = {"lowercase": lowercase, "strip_accents": strip_accents}
        assert casing.observed(made.tokenizer(**options).normalize) == options


def test_a_vocabulary_is_written_for_google_and_a_cased_one_is_pointed_out(tmp_path):
    assert tokenizer_files.write_vocabulary(made.tokenizer(), str(tmp_path)) == ()
    assert (tmp_path / "vocab.txt").read_text().splitlines() == made.vocabulary()
    cased = made.tokenizer(lowercase=False, strip_accents=False)
    assert "do_lower_case=false" in tokenizer_files.write_vocabulary(cased, str(tmp_path))[0]


def test_a_vocabulary_whose_rules_google_does_not_have_is_not_written(tmp_path, lines):
    pieces = {piece: index for index, piece in enumerate(made.vocabulary())}
    backend = library.Tokenizer(library.models.WordPiece(pieces, unk_token="[UNK]"))
    backend.normalizer = library.normalizers.Lowercase()
    backend.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(list(tokenizers.SPECIAL_PIECES))
    backend.save(str(tmp_path / "tokenizer.json"))
    other = tokenizers.load(tmp_path / "tokenizer.json")
    assert "Google's rules split text differently" in tokenizer_files.write_vocabulary(other, str(tmp_path))[0]
    assert not (tmp_path / "vocab.txt").exists()
    pieces = tokenizers.train(
        lines, kind="unigram", vocabulary_size=600, lowercase=True, strip_accents=False, character_coverage=0.99
    )
    assert "found unigram" in tokenizer_files.write_vocabulary(pieces, str(tmp_path))[0]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "wordpiece"])
@pytest.mark.parametrize("lowercase", [True, False])
def test_the_librarys_tokenizer_gives_the_same_ids_between_cls_and_sep(tmp_path, lines, kind, lowercase):
    ours = tokenizers.train(
        lines, kind=kind, vocabulary_size=2500, lowercase=lowercase, strip_accents=False, character_coverage=0.999
    )
    assert tokenizer_files.write_huggingface(ours, str(tmp_path), 64) == ()
    theirs = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for line in lines:
        assert theirs.encode(line).ids == [ours.cls_id, *ours.encode([line])[0].tolist(), ours.sep_id]
    pair = theirs.encode("a", "b")
    assert pair.type_ids == [0] * (len(pair.ids) - pair.type_ids.count(1)) + [1] * pair.type_ids.count(1)
    assert pair.ids.count(ours.sep_id) == 2
    again, _ = tokenizer_files.load_beside(str(tmp_path))
    assert tokenizer_files.same_ids(ours, again)
    fields = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert fields["model_max_length"] == 64
    assert theirs.token_to_id(fields["mask_token"]) == ours.mask_id


def test_cls_and_sep_are_added_to_a_tokenizer_that_had_none(tmp_path):
    made.tokenizer().save(tmp_path)
    plain = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    fields = json.loads(plain.to_str()) | {"post_processor": None}
    (tmp_path / "plain.json").write_text(json.dumps(fields))
    ours = tokenizers.load(tmp_path / "plain.json")
    tokenizer_files.write_huggingface(ours, str(tmp_path / "out"), 64)
    theirs = library.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert theirs.encode("ab").tokens == ["[CLS]", "a", "##b", "[SEP]"]


def test_tokenizers_of_other_pieces_parts_or_rules_are_not_the_same():
    ours = made.tokenizer()
    assert tokenizer_files.same_ids(ours, made.tokenizer())
    assert not tokenizer_files.same_ids(ours, made.tokenizer(lowercase=False, strip_accents=False))
    assert not tokenizer_files.same_ids(ours, made.tokenizer(65))
    pieces = made.vocabulary()
    pieces[-1] = "other"
    casing = {"lowercase": True, "strip_accents": True, "add_special_pieces": False}
    assert not tokenizer_files.same_ids(ours, wordpiece.from_vocabulary("\n".join(pieces), "made", **casing))
