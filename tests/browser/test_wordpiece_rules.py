"""The tokenizer of the page, in JavaScript, divides every text as ours does."""

import json
import shutil
import subprocess

import pytest

from electra_jax.browser import page, wordpiece_rules
from electra_jax.errors import InputError
from electra_jax.text.tokenizers import library_tokenizer, tokenizer
from tests.browser import made_texts
from tests.interop import made
from tests.running import ROOT

NODE = shutil.which("node")
SCRIPT = ROOT / "electra_jax" / "browser" / "files" / "tokenizer.js"


def saved(tokenizer_, folder):
    """Its tokenizer.json."""
    tokenizer_.save(folder)
    return (folder / "tokenizer.json").read_text()


def differences(tokenizer_, folder, texts):
    """Texts that the page's script divides otherwise, each with both results."""
    tables = wordpiece_rules.tables(saved(tokenizer_, folder), tokenizer_, "made")
    shutil.copyfile(SCRIPT, folder / "tokenizer.mjs")
    finished = subprocess.run(
        [NODE, ROOT / "tests" / "browser" / "encode.mjs", folder / "tokenizer.mjs"],
        input=json.dumps({"tables": tables, "texts": texts}).encode(),
        capture_output=True,
        check=True,
    )
    found = []
    for text, theirs in zip(texts, json.loads(finished.stdout), strict=True):
        ours = [array.tolist() for array in tokenizer_.encode_with_offsets(text)]
        if ours != [theirs[name] for name in ("ids", "starts", "ends")]:
            found.append((text, ours, theirs))
    return found


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="needs node, which is not installed")
@pytest.mark.parametrize(
    ("lowercase", "strip_accents"), [(True, True), (True, False), (False, False)], ids=["uncased", "accents", "cased"]
)
def test_the_script_divides_thousands_of_texts_as_ours_does(tmp_path, lowercase, strip_accents):
    ours = made_texts.tokenizer(lowercase=lowercase, strip_accents=strip_accents)
    assert differences(ours, tmp_path, [*page.CHECKS, *made_texts.texts(3000)]) == []


@pytest.mark.parametrize("change", [{"pre_tokenizer": {"type": "Whitespace"}}, {"normalizer": None}])
def test_other_rules_than_berts_are_refused(tmp_path, change):
    ours = made.tokenizer()
    changed = json.dumps(json.loads(saved(ours, tmp_path)) | change)
    with pytest.raises(InputError, match="expected WordPiece with BERT's rules, the only one that the page"):
        wordpiece_rules.tables(changed, library_tokenizer.from_json(changed, "made"), "made")


def test_sentencepiece_is_refused_by_name():
    texts = ["the cat sat on the mat, and a dog ran after the cat"] * 20
    options = {"lowercase": True, "strip_accents": False, "character_coverage": 1.0}
    ours = tokenizer.train(texts, kind="unigram", vocabulary_size=24, **options)
    with pytest.raises(InputError, match=r"made: found a tokenizer of the kind unigram, expected WordPiece"):
        wordpiece_rules.check(ours, "made")
