"""Our ids against those of transformers' tokenizers, in many scripts."""

import pathlib

import pytest

from benchmarks import tokenizer_ids
from electra_jax.text.tokenizers import self_check, wordpiece
from electra_jax.text.tokenizers import tokenizer as tokenizers

pytestmark = pytest.mark.interop

DATA = pathlib.Path(__file__).parents[1] / "data"
TEXTS = [
    *(DATA / "scripts.txt").read_text().splitlines(),
    *(DATA / "shakespeare.txt").read_text().splitlines()[2000:3000],
    "tabs\tand  blanks\u00a0\u3000here\u200b \x07 bell, x\u0301y Ångström E\u0301 \ufffd ##ing [ MASK ]",
    "a" * 100,
]


@pytest.mark.parametrize(
    "casing",
    [
        {"lowercase": True, "strip_accents": True},
        {"lowercase": True, "strip_accents": False},
        {"lowercase": False, "strip_accents": False},
    ],
)
def test_wordpiece_gives_the_ids_of_transformers(tmp_path, casing):
    from transformers import BertTokenizerFast

    lines = (DATA / "shakespeare.txt").read_text().splitlines()[:2000] + TEXTS * 3
    wordpiece.train(lines, vocabulary_size=1500, **casing).save(tmp_path)
    ours = tokenizers.load(tmp_path / "vocab.txt", **casing)
    theirs = BertTokenizerFast(
        vocab=str(tmp_path / "vocab.txt"),
        do_lower_case=casing["lowercase"],
        strip_accents=casing["strip_accents"],
    )
    assert theirs.vocab_size == ours.vocabulary_size
    for text in TEXTS:
        assert ours.encode([text])[0].tolist() == theirs(text, add_special_tokens=False).input_ids


def test_a_saved_tokenizer_json_adds_special_tokens_in_transformers(tmp_path):
    from transformers import PreTrainedTokenizerFast

    made = wordpiece.train(TEXTS * 3, vocabulary_size=1200, lowercase=True, strip_accents=True)
    made.save(tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        assert theirs(text).input_ids == [made.cls_id, *made.encode([text])[0].tolist(), made.sep_id]


FOLDERS = {
    "uncased": dict(do_lower_case=True),
    "cased": dict(do_lower_case=False),
    "accents kept": dict(do_lower_case=True, strip_accents=False),
    "accents stripped, cased": dict(do_lower_case=False, strip_accents=True),
    "Chinese words whole": dict(do_lower_case=False, tokenize_chinese_chars=False),
    "added pieces": dict(additional_special_tokens=["[E1]", "<ent>"], do_lower_case=True),
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("whole", [True, False], ids=["tokenizer.json", "vocab.txt"])
def test_a_folder_that_transformers_wrote_gives_its_ids(name, whole, tmp_path):
    from transformers import AutoTokenizer, BertTokenizer

    lines = [*(DATA / "scripts.txt").read_text("utf-8").splitlines(), "x[E1] <ent>y É é", "a" * 150, *TEXTS]
    wordpiece.train(lines * 3, vocabulary_size=1200, lowercase=False, strip_accents=False).save(tmp_path / "made")
    pieces = (tmp_path / "made" / "vocab.txt").read_text("utf-8").splitlines()
    # Of words in Chinese characters, too.
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, "东京", "##京"]))}
    folder = tmp_path / "folder"
    BertTokenizer(vocabulary, **FOLDERS[name]).save_pretrained(folder)
    if not whole:
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary), "utf-8")
    theirs, ours = AutoTokenizer.from_pretrained(folder), tokenizers.load(folder)
    assert ours.vocabulary_size == len(theirs)
    for line in lines:
        assert ours.encode([line])[0].tolist() == theirs.encode(line, add_special_tokens=False), line


@pytest.mark.parametrize("name", ["unigram with added tokens", "byte-fallback BPE"])
def test_folders_of_other_kinds_give_transformers_ids_both_ways(name, tmp_path):
    folder, lines = tokenizer_ids.FOLDERS[name], [*self_check.sentences(), *TEXTS]
    trained = tokenizer_ids.TRAINED[folder.trained](lines * 3)
    tokenizer_ids.save(folder, trained, tmp_path / "theirs")
    lines += [f"x{piece} {piece}y" for piece in tokenizer_ids.ADDED]
    assert tokenizer_ids.differences(tmp_path / "theirs", tmp_path / "ours", lines) == ([], [])
