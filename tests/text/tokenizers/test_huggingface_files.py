"""A tokenizer is all of the files of its folder, or it is refused by the name of what cannot be followed."""

import json

import pytest
import tokenizers as library

from electra_jax.errors import InputError
from electra_jax.text.tokenizers import tokenizer

PIECES = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "É", "é", "E", "e", "东", "京", "东京", "##é", "##e", "##京", "x",
]  # fmt: skip


def folder_of(path, stated=None, normalizer=None, pieces=PIECES, **files):
    """A folder with a vocabulary, as vocab.txt or in a tokenizer.json with that normalizer, and other JSON files."""
    if normalizer is None:
        (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), "utf-8")
    else:
        made = library.Tokenizer(library.models.WordPiece({p: n for n, p in enumerate(pieces)}, unk_token="[UNK]"))
        made.normalizer = library.normalizers.BertNormalizer(**normalizer)
        made.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        made.save(str(path / "tokenizer.json"))
    files = {"tokenizer_config": stated, **files}
    for name, value in files.items():
        if value is not None:
            (path / f"{name}.json").write_text(json.dumps(value), "utf-8")
    return path


def split(path, text="É 东京"):
    made = tokenizer.load(path)
    return made.pieces(made.encode([text])[0])


CASED = dict(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["e", "东", "京"]),
        ({"do_lower_case": False}, ["É", "东", "京"]),
        ({"do_lower_case": False, "strip_accents": True}, ["E", "东", "京"]),
        ({"do_lower_case": True, "strip_accents": False}, ["é", "东", "京"]),
        ({"do_lower_case": False, "tokenize_chinese_chars": False}, ["É", "东京"]),
    ],
)
@pytest.mark.parametrize("normalizer", [None, CASED])
def test_rules_of_bert_are_those_of_the_config(tmp_path, config, expected, normalizer):
    assert split(folder_of(tmp_path, {"tokenizer_class": "ElectraTokenizer", **config}, normalizer)) == expected


def test_a_whole_tokenizer_of_no_class_keeps_its_rules(tmp_path):
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}
    assert split(folder_of(tmp_path, config, CASED)) == ["É", "东京"]


def test_the_models_config_alone_makes_a_tokenizer_berts(tmp_path):
    folder_of(tmp_path, None, CASED, config={"model_type": "electra"})
    assert split(tmp_path) == ["e", "东", "京"]


def test_additional_special_tokens_of_a_foreign_file_are_found(tmp_path):
    folder_of(tmp_path, None, CASED)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    added = {"id": 16, "content": "[E1]", "special": True, "normalized": False}
    content["added_tokens"] = [added | {"single_word": False, "lstrip": False, "rstrip": False}]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    path = tmp_path / "tokenizer.json"
    assert tokenizer.load(path, is_foreign=True).encode(["x[E1]x"])[0].tolist() == [15, 16, 15]
    assert tokenizer.load(path).encode(["[E1]"])[0].tolist() != [16]


def test_a_folder_without_a_class_follows_its_model(tmp_path):
    folder_of(tmp_path, {"do_lower_case": False}, CASED, config={"model_type": "electra"})
    assert split(tmp_path) == ["É", "东", "京"]


@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens": {"[E1]": 16, "zork": 17}},
        {"special_tokens_map": {"additional_special_tokens": ["[E1]", {"content": "zork"}]}},
        {"config": {"additional_special_tokens": ["[E1]", "zork"]}},
        {"config": {"added_tokens_decoder": {"16": {"content": "[E1]", "special": True}, "17": {"content": "zork"}}}},
    ],
)
def test_added_pieces_are_never_split_and_have_ids_after_the_others(tmp_path, files):
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, **files.pop("config", {})}
    folder_of(tmp_path, config, **files)
    assert split(tmp_path, "x[E1] zork x") == ["x", "[E1]", "zork", "x"]
    made = tokenizer.load(tmp_path)
    assert made.vocabulary_size == 18
    assert made.encode(["[E1] zork"])[0].tolist() == [16, 17]
    made.save(tmp_path / "again")
    assert tokenizer.load(tmp_path / "again").sha256 == made.sha256
    assert split(tmp_path, "[CLS] x")[-1] == "x"
    assert 2 not in made.encode(["[CLS] x"])[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"word_tokenizer_type": "mecab"}, 'word_tokenizer_type: found "mecab", expected "basic"'),
        ({"subword_tokenizer_type": "character"}, 'subword_tokenizer_type: found "character", expected "wordpiece"'),
        ({"do_basic_tokenize": False}, "do_basic_tokenize: found false, expected true"),
        ({"never_split": ["@"]}, r'never_split: found \["@"\], expected none'),
        ({"tokenizer_class": "SudachiTokenizer"}, "tokenizer_class: found SudachiTokenizer, expected for a vocab.txt"),
        ({"do_lower_case": "no"}, "do_lower_case"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(tmp_path, config, message):
    with pytest.raises(InputError, match=rf"tokenizer_config\.json: {message}"):
        tokenizer.load(folder_of(tmp_path, {"tokenizer_class": "BertTokenizer", **config}))


def test_files_that_contradict_each_other_are_refused(tmp_path):
    folder_of(tmp_path, {"tokenizer_class": "BertTokenizer"}, added_tokens={"x": 3})
    with pytest.raises(InputError, match=r"'x' has the id 15 there and 3 in a file beside it"):
        tokenizer.load(tmp_path)
    folder_of(tmp_path, {"tokenizer_class": "BertTokenizer"}, added_tokens={"zork": 30})
    with pytest.raises(InputError, match=r"17 pieces have ids up to 30"):
        tokenizer.load(tmp_path)


def test_a_vocabulary_whose_casing_is_not_stated_is_checked(tmp_path):
    folder_of(tmp_path, {"tokenizer_class": "BertTokenizer"}, pieces=[*PIECES, *(f"W{n}" for n in range(200))])
    with pytest.raises(InputError, match="pieces hold capitals"):
        tokenizer.load(tmp_path)
    assert split(folder_of(tmp_path, {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}), "W1") == ["[UNK]"]
