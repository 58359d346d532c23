"""Contradictions between the files of a tokenizer are reported with the first text that differs and its ids."""

import json
import unicodedata

import pytest

from electra_jax.errors import InputError
from electra_jax.text.tokenizers import self_check, tokenizer
from tests.text.tokenizers.test_huggingface_files import CASED, PIECES, folder_of

BERT = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "tokenize_chinese_chars": False}


def found(path):
    return self_check.contradictions(str(path), tokenizer.load(path, is_foreign=True))


def test_the_sentences_are_in_twenty_six_scripts():
    letters = [character for character in "".join(self_check.sentences()) if character.isalpha()]
    scripts = {unicodedata.name(character).split()[0] for character in letters}
    assert len(scripts - {"HALFWIDTH", "FULLWIDTH"}) == 26


def test_ids_are_split_by_text(tmp_path):
    made = tokenizer.load(folder_of(tmp_path, BERT))
    assert self_check.ids_of(made, ["x 京", "", "x"]) == [[15, 10], [], [15]]


def test_a_difference_is_shown_from_where_it_begins():
    said = self_check.first_difference(["a", "b"], [[1], [1, 2, *range(20)]], [[1], [1, 2, 9]], ("here", "there"))
    assert said == "'b' has the ids […, 0, 1, 2, 3, 4, 5, 6, 7, …] here, […, 9] there"
    assert self_check.first_difference(["a"], [[1]], [[1]], ("h", "t")) is None


def test_files_that_agree_are_not_mentioned(tmp_path):
    folder_of(tmp_path, BERT, CASED)
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    assert found(tmp_path) == ()


def test_nothing_is_compared_where_one_file_says_it(tmp_path):
    assert found(folder_of(tmp_path, BERT)) == ()


def test_rules_that_contradict_tokenizer_json_are_reported(tmp_path):
    (said,) = found(folder_of(tmp_path, {**BERT, "do_lower_case": True, "strip_accents": True}, CASED))
    assert "its files contradict each other" in said
    assert "'Ça va? ÉTÉ" in said or "by tokenizer.json alone" in said


def test_a_vocabulary_that_contradicts_tokenizer_json_is_reported(tmp_path):
    folder_of(tmp_path, BERT, CASED)
    others = [*PIECES[:5], PIECES[6], PIECES[5], *PIECES[7:]]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in others))
    (said,) = found(tmp_path)
    assert "'é' has the id 5 in vocab.txt and has the id 6 in tokenizer.json, which counts here" in said


def test_a_file_named_alone_is_compared_with_its_folder(tmp_path):
    folder_of(tmp_path, BERT)
    (said,) = found(tmp_path / "vocab.txt")
    assert f"{tmp_path}/vocab.txt is read alone" in said
    assert f"name the folder, {tmp_path}" in said
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**BERT, "word_tokenizer_type": "mecab"}))
    assert "as a folder it would be refused" in found(tmp_path / "vocab.txt")[0]


def test_a_written_file_of_other_ids_is_refused(tmp_path):
    made = tokenizer.load(folder_of(tmp_path, BERT))
    made.save(tmp_path / "copy" / "discriminator")
    assert self_check.check_written(made, str(tmp_path / "copy")) == 1
    path = tmp_path / "copy" / "discriminator" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {"x": 14, "##京": 15}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"discriminator/tokenizer\.json: .* has the ids .*15.* in the model"):
        self_check.check_written(made, str(tmp_path / "copy"))
