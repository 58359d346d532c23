"""Fine-tuned runs, opened with transformers as a user opens them, say what the runs' own evaluation says."""

import pathlib

import numpy as np
import pytest

from electra_jax.finetuning.data.examples import Answer, QuestionExample, SentenceExample, TextExample
from electra_jax.text.tokenizers import tokenizer as tokenizers
from tests.interop import made_finetuned

pytestmark = pytest.mark.interop

TOLERANCE = 1e-5
LENGTH = 32
LINES = [
    line for line in (pathlib.Path(__file__).parents[1] / "data" / "shakespeare.txt").read_text().splitlines() if line
]
LONG = " ".join(LINES[40:60])
TEXTS = [
    *((line,) for line in LINES[:6]),
    *zip(LINES[6:12], LINES[12:18], strict=True),
    ("Ça va? ÉTÉ naïve, 東京 Привет (unaffable)",),
    ("e\u0301 \u200b x\u00a0y €5 😀", "½ ﬁ — “quoted” don't STOP..."),
    ("a" * 150,),
    ("a",),
    ("##ing <mask>", "?"),
    (LONG,),
    (LONG, "so short a second"),
    (LONG, LINES[2] + LINES[3]),
    ("so short a first", LONG),
]


@pytest.fixture(scope="module")
def tokenizer():
    options = dict(kind="wordpiece", lowercase=True, strip_accents=True, character_coverage=1.0)
    return tokenizers.train(LINES[:4000], vocabulary_size=400, **options)


@pytest.fixture
def exported(tokenizer, tmp_path):
    """Makes a run of a task, exports it, and returns the folder and what the run itself predicts."""

    def make(kind, examples, **changes):
        job, params = made_finetuned.exported_run(tmp_path, tokenizer, kind, examples, LENGTH, **changes)
        return (tmp_path / "hf", *made_finetuned.predicted(job, params, "mine"))

    return make


@pytest.mark.parametrize("head", ["paper", "huggingface"])
@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_the_text_classification_pipeline_repeats_the_runs_predictions(exported, kind, head):
    from transformers import pipeline

    label = made_finetuned.LABELS[kind][0]
    examples = [TextExample("-", str(number), texts, label) for number, texts in enumerate(TEXTS)]
    folder, task, predicted = exported(kind, examples, head=head)
    classify = pipeline("text-classification", model=str(folder))
    logits_NxC = predicted["logits"].astype(np.float64)
    match kind:
        case "classification":
            scores_NxC = np.exp(logits_NxC) / np.exp(logits_NxC).sum(axis=-1, keepdims=True)
        case "multilabel":
            scores_NxC = 1 / (1 + np.exp(-logits_NxC))
        case _:
            scores_NxC = logits_NxC * 5
    assert np.ptp(scores_NxC, axis=0).min() > 0.01
    for texts, scores_C, record in zip(TEXTS, scores_NxC, task.records(task.splits["dev"], predicted), strict=True):
        given = {"text": texts[0]} | ({"text_pair": texts[1]} if len(texts) == 2 else {})
        found = {answer["label"]: answer["score"] for answer in classify(given, truncation=True, top_k=None)}
        labels = task.labels or ("mine",)
        np.testing.assert_allclose([found[label] for label in labels], scores_C, rtol=TOLERANCE, atol=TOLERANCE)
        if kind == "classification":
            assert max(found, key=found.get) == record["prediction"]


def test_the_token_classification_pipeline_repeats_the_runs_tags(exported, tokenizer):
    import json

    from transformers import pipeline

    lines = [*LINES[:18], "Ça va? ÉTÉ naïve, 東京", "🙂 unaffable — “quoted”"]
    sentences = [SentenceExample("-", str(n), tuple(line.split()), None) for n, line in enumerate(lines)]
    folder, task, predicted = exported("tagging", sentences)
    assert task.splits["dev"].truncated == 0
    labels = json.loads((folder / "config.json").read_text())["id2label"]
    rows = task.splits["dev"]
    tag = pipeline("token-classification", model=str(folder), ignore_labels=[])
    seen = set()
    for number, (sentence, start, length) in enumerate(zip(sentences, rows.starts_N, rows.lengths_N, strict=True)):
        first = rows.by_token["first"][0][start : start + length] == 1
        expected = [labels[str(tag)] for tag in predicted["tag"][number, :length][first]]
        begins = np.cumsum([0, *(len(word) + 1 for word in sentence.words)])[:-1].tolist()
        (pieces,) = tag([list(sentence.words)], is_split_into_words=True)
        found = {piece["start"]: piece["entity"] for piece in reversed(pieces)}
        assert [found[begin] for begin in begins] == expected
        seen |= set(expected)
    assert len(seen) >= 3
    groups = pipeline("token-classification", model=str(folder), aggregation_strategy="first")(" ".join(lines[:3]))
    assert {group["entity_group"] for group in groups} == {"X"}


def test_the_question_answering_model_repeats_the_runs_starts_and_ends(exported):
    """transformers 5 has no pipeline for questions any more; so it is the model that is asked."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    examples = [
        QuestionExample("-", str(n), LINES[n], LINES[n + 20], (Answer(LINES[n + 20][:2], 0),)) for n in range(18)
    ]
    examples += [QuestionExample("-", "18", "Ça va?", "東京 Привет été", (Answer("été", 12),))]
    folder, task, predicted = exported("answering", examples, head="huggingface", longest_question=16)
    rows = task.splits["dev"]
    reader, report = AutoModelForQuestionAnswering.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    compared = 0
    for row, number in enumerate(rows.example_N):
        if np.sum(rows.example_N == number) > 1:
            continue
        example = examples[number]
        inputs = tokenizer(example.question, example.context, return_tensors="pt")
        tokens = slice(rows.starts_N[row], rows.starts_N[row] + rows.lengths_N[row])
        if inputs["input_ids"].shape[1] != rows.lengths_N[row]:
            continue
        np.testing.assert_array_equal(inputs["input_ids"][0].numpy(), rows.tokens_T[tokens])
        with torch.inference_mode():
            outputs = reader.eval()(**inputs)
        allowed = rows.by_token["allowed"][0][tokens] == 1
        for place in ("start", "end"):
            theirs = np.where(allowed, outputs[f"{place}_logits"][0].numpy(), -np.inf)
            assert theirs.argmax() == predicted[f"{place}_ids"][row, 0]
            ids_K, scores_K = (predicted[f"{place}_{what}"][row] for what in ("ids", "scores"))
            # A short row has fewer places than there are beams.
            real_K = scores_K > -500
            np.testing.assert_allclose(theirs[ids_K[real_K]], scores_K[real_K], atol=TOLERANCE)
        compared += 1
    assert compared >= 10
