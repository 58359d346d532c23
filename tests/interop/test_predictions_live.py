"""What electra_jax.load predicts is what transformers' pipelines predict with the exported folder."""

import dataclasses
import pathlib

import numpy as np
import pytest

import electra_jax
from electra_jax.finetuning.data.examples import SentenceExample, TextExample
from electra_jax.interop import export
from electra_jax.text.tokenizers import tokenizer as tokenizers
from tests.interop import made, made_finetuned, peer

pytestmark = pytest.mark.interop

TOLERANCE = 1e-5
LENGTH = 48
LINES = [
    line for line in (pathlib.Path(__file__).parents[1] / "data" / "shakespeare.txt").read_text().splitlines() if line
]
TEXTS = [
    *LINES[:200],
    "Ça va? ÉTÉ naïve, 東京 Привет (unaffable)",
    "e\u0301 x\u00a0y €5 — “quoted” don't STOP...",
    " ".join(LINES[:9]),
]


@pytest.fixture(scope="module")
def tokenizer():
    options = dict(kind="wordpiece", lowercase=True, strip_accents=True, character_coverage=1.0)
    return tokenizers.train(LINES[:4000], vocabulary_size=400, **options)


@pytest.fixture
def opened(tokenizer, tmp_path):
    """Makes a run of a task and returns its predictor and its exported folder."""

    def make(kind, examples, **changes):
        made_finetuned.exported_run(tmp_path, tokenizer, kind, examples, LENGTH, **changes)
        return electra_jax.load(tmp_path / "run"), str(tmp_path / "hf")

    return make


def test_classes_are_those_of_the_text_classification_pipeline(opened):
    from transformers import pipeline

    model, folder = opened("classification", [TextExample("-", "0", ("ab",), "no")], head="paper")
    theirs = pipeline("text-classification", model=folder)(TEXTS, truncation=True, top_k=None)
    for found, answers in zip(model.classify(TEXTS), theirs, strict=True):
        scores = {answer["label"]: answer["score"] for answer in answers}
        np.testing.assert_allclose([scores[label] for label in found.labels], found.probabilities_C, atol=TOLERANCE)
        assert found.label == answers[0]["label"]


def test_tags_are_those_of_the_token_classification_pipeline(opened):
    from transformers import pipeline

    model, folder = opened("tagging", [SentenceExample("-", "0", ("ab", "cd"), None)])
    short = [text for text in TEXTS[:60] if len(text) < 60]
    tag = pipeline("token-classification", model=folder, aggregation_strategy="first", ignore_labels=[])
    compared = 0
    for text, found, groups in zip(short, model.tag(short), tag(short), strict=True):
        # The library's groups of words, and our words in them.
        for group in groups:
            inside = [n for n, start in enumerate(found.starts_W) if group["start"] <= start < group["end"]]
            kinds = {found.tags[n].partition("-")[2] or "O" for n in inside}
            assert kinds == {group["entity_group"]}, text
            assert np.mean(found.probabilities_W[inside]) == pytest.approx(group["score"], abs=TOLERANCE)
            compared += len(inside)
    assert compared > 200


def test_masks_are_filled_as_by_the_fill_mask_pipeline(tmp_path, tokenizer):
    from transformers import pipeline

    sizes = dataclasses.replace(peer.TINY, vocabulary_size=tokenizer.vocabulary_size)
    model = made.model((sizes, sizes), tokenizer=tokenizer)
    export.write(model, str(tmp_path / "both"), "huggingface")
    texts = [f"{line[:20]} [MASK] {line[20:40]}" for line in LINES[:12]]
    fill = pipeline("fill-mask", model=str(tmp_path / "both" / "generator"))
    for found, answers in zip(electra_jax.load(tmp_path / "both").fill(texts), fill(texts), strict=True):
        (mask,) = found.masks
        assert [each.id for each in mask.candidates] == [answer["token"] for answer in answers]
        probabilities = [each.probability for each in mask.candidates]
        np.testing.assert_allclose(probabilities, [answer["score"] for answer in answers], atol=TOLERANCE)
