"""Our ids against those of transformers' tokenizers, in many scripts."""

import pathlib

import pytest

from electra_jax.text.tokenizers import tokenizer as tokenizers
from electra_jax.text.tokenizers import wordpiece

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
