"""The task of answering: its losses by hand, what it says, scores and files, and the same answers as transformers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.configs.finetune.base import answering_task
from electra_jax.errors import InputError
from electra_jax.finetuning.data.examples import Answer, QuestionExample
from electra_jax.finetuning.tasks.answering import AnsweringTask
from electra_jax.models.answer_heads import JointAnswerHead, SpanHead
from electra_jax.models.encoder import EncoderConfig
from electra_jax.text.tokenizers import wordpiece
from tests.configs import typed_task

CONTEXT = "the cat sat on the mat and the dog sat on the log"


@pytest.fixture(scope="module")
def tokenizer():
    return wordpiece.train([CONTEXT, "who sat where"] * 9, vocabulary_size=50, lowercase=True, strip_accents=True)


def question(key, answer=None, context=CONTEXT, **changes):
    answers = () if answer is None else (Answer(answer, context.index(answer)),)
    return QuestionExample(f"file:{key}", key, "Who sat?", context, **{"answers": answers} | changes)


@pytest.fixture
def task(tokenizer):
    def make(*dev, train=(), **settings):
        splits = {"train": list(train) or list(dev), "dev": list(dev)}
        settings = answering_task(**{"max_length": 128} | settings)
        return AnsweringTask("qa", typed_task(settings), splits, tokenizer, 0.1)

    return make


def predictions(rows, spans, null_scores, joint=True):
    """Outputs of a model that predicts one span for each row, given as its first and last word in the context."""
    places = np.array([[rows.place_N[row] + start, rows.place_N[row] + end] for row, (start, end) in enumerate(spans)])
    starts, ends = places[:, :1].astype(np.int32), places[:, 1:].astype(np.int32)
    scores = np.zeros((len(spans), 1), np.float32)
    return {
        "start_ids": starts,
        "start_scores": scores,
        "end_ids": ends[..., None] if joint else ends,
        "end_scores": scores[..., None] if joint else scores,
        "null_scores": np.array(null_scores, np.float32),
    }


def test_the_loss_is_the_mean_of_both_ends_and_half_of_answerability(task):
    batch = {
        "start": np.array([1, 0, 0]),
        "end": np.array([2, 0, 0]),
        "impossible": np.array([0, 1, 0], np.float32),
        "weight": np.array([1, 1, 0], np.float32),
    }
    outputs = {
        "start_logits": jnp.log(jnp.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [1, 1, 1]])),
        "end_logits": jnp.log(jnp.array([[0.6, 0.3, 0.1], [0.5, 0.25, 0.25], [1, 1, 1]])),
        "impossible_logits": jnp.array([np.log(0.2 / 0.8), np.log(0.9 / 0.1), 0.0]),
    }
    ends = -np.log(0.7) - np.log(0.1) - 2 * np.log(0.5)
    sums = task(question("a", "cat")).loss(outputs, batch)
    np.testing.assert_allclose(sums["loss"], [ends / 2 + 0.5 * (-np.log(0.8) - np.log(0.9)), 2], rtol=1e-5)
    assert sums["start_accuracy"].tolist() == [2, 2]
    assert sums["end_accuracy"].tolist() == [1, 2]
    del outputs["impossible_logits"]
    np.testing.assert_allclose(task(question("a", "cat")).loss(outputs, batch)["loss"], [ends / 2, 2], rtol=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("paper", JointAnswerHead), ("huggingface", SpanHead)])
def test_head_loss_prediction_and_scores_fit_together(task, quick_jit, name, kind):
    made = task(question("a", "cat"), question("b", "the dog"), head=name, beams=3, unanswerable=True)
    encoder = EncoderConfig(60, 8, 8, 1, 1, 8, 128)
    head = made.head(encoder)
    assert isinstance(head, kind)
    batch = made.splits["dev"].batch(np.array([0, 1, -1]), 32, 0)
    hidden_BxLxD = jax.random.normal(jax.random.key(0), (3, 32, 8))
    params = quick_jit(lambda: head.init(jax.random.key(1), hidden_BxLxD, batch, deterministic=True))()

    @quick_jit
    def both(params):
        training = head.apply(params, hidden_BxLxD, batch, deterministic=False)
        outputs = head.apply(params, hidden_BxLxD, batch, deterministic=True)
        return made.loss(training, batch), made.predict(outputs, batch)

    sums, predicted = both(params)
    assert np.isfinite(sums["loss"]).all()
    predicted = {name: np.array(array)[:2] for name, array in predicted.items()}
    assert sum(array[0].size for array in predicted.values()) <= 2 * (3 + 9) + 1
    scores = made.score(made.splits["dev"], predicted)
    assert {"exact", "f1", "best_f1"} <= set(scores)
    assert made.metric == "f1"
    assert len(list(made.records(made.splits["dev"], predicted))) == 2


def test_independent_heads_score_no_answer_by_the_logits_of_cls(task):
    outputs = {name: jnp.array([[1.0, 2.0], [3.0, 4.0]]) for name in ("start_logits", "end_logits")}
    beams = {name: jnp.zeros((2, 1)) for name in ("start_ids", "start_scores", "end_ids", "end_scores")}
    predicted = task(question("a", "cat"), head="huggingface").predict(outputs | beams, {})
    assert predicted["null_scores"].tolist() == [2.0, 6.0]


def test_an_answer_is_given_below_the_threshold_and_none_above(task):
    dev = [question("a", "cat"), question("b"), question("c", "the dog"), question("d")]
    made = task(*dev, unanswerable=True, null_threshold=0.0)
    rows = made.splits["dev"]
    # Right, rightly none, wrongly none, and an answer where there is none.
    predicted = predictions(rows, [(1, 1), (0, 0), (7, 8), (2, 2)], [-3.0, 2.0, 1.0, -1.0])
    scores = made.score(rows, predicted)
    assert (scores["exact"], scores["has_answer_exact"], scores["no_answer_exact"]) == (0.5, 0.5, 0.5)
    assert made.answer_files(rows, predicted) == {
        "predictions.json": {"a": "cat", "b": "", "c": "", "d": "sat"},
        "null_odds.json": {"a": -3.0, "b": 2.0, "c": 1.0, "d": -1.0},
    }
    records = list(made.records(rows, predicted))
    assert [record["prediction"] for record in records] == ["cat", "", "", "sat"]
    assert [record["right"] for record in records] == [True, True, False, False]
    assert [record["label"] for record in records] == [["cat"], [], ["the dog"], []]
    assert [record["loss"] for record in records] == [
        0,
        0,
        round(1 / (1 + np.exp(-1)), 5),
        round(1 / (1 + np.exp(-1)), 5),
    ]
    assert records[2]["candidates"][0] == {"text": "the dog", "start": 27, "probability": 1.0}
    json.dumps(records)


def test_questions_that_all_have_answers_get_one_whatever_the_odds(task):
    made = task(question("a", "the dog"))
    rows = made.splits["dev"]
    predicted = predictions(rows, [(8, 8)], [9.0])
    # The article does not count, as in SQuAD's evaluation.
    assert made.score(rows, predicted) == {"exact": 1.0, "f1": 1.0}
    assert made.answer_files(rows, predicted) == {"predictions.json": {"a": "dog"}}
    (record,) = made.records(rows, predicted)
    assert (record["right"], record["probability"], "null_odds" in record) == (True, 1.0, False)
    # Precision 1/2, recall 1.
    (record,) = made.records(rows, predictions(rows, [(8, 9)], [9.0]))
    assert (record["prediction"], record["right"], record["f1"], record["loss"]) == ("dog sat", False, 0.66667, 0.33333)


def test_questions_without_known_answers_are_answered_all_the_same(task):
    made = task(question("a", answers=None), train=[question("b", "cat")])
    (record,) = made.records(made.splits["dev"], predictions(made.splits["dev"], [(1, 1)], [0.0]))
    assert record["prediction"] == "cat"
    assert not {"label", "right", "loss", "f1"} & set(record)


def test_a_run_that_never_answers_has_collapsed(task):
    made = task(question("a", "cat"), question("b"), unanswerable=True)
    rows = made.splits["dev"]
    assert made.collapsed(rows, predictions(rows, [(1, 1), (1, 1)], [0.0, 0.0])) == "no question is given an answer"
    assert made.collapsed(rows, predictions(rows, [(1, 1), (1, 1)], [0.0, -9.0])) == ""
    made = task(question("a"), question("b"), train=[question("c", "cat")], unanswerable=True)
    rows = made.splits["dev"]
    assert made.collapsed(rows, predictions(rows, [(1, 1), (1, 1)], [0.0, 0.0])) == ""


def test_the_description_is_json(task):
    description = task(question("a", "cat"), unanswerable=True).description()
    assert json.loads(json.dumps(description)) == description
    assert (description["kind"], description["head"], description["null_threshold"]) == ("answering", "paper", -2.75)


@pytest.mark.interop
def test_answers_are_those_of_transformers_logits(task):
    """transformers 5 has no pipeline for this; its example `utils_qa.py` says what is to be done with the logits."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ElectraConfig(
        vocab_size=60,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    model = transformers.AutoModelForQuestionAnswering.from_config(config).eval()
    dev = [question("a", "cat"), question("b", "dog", context=f"{CONTEXT} {CONTEXT} {CONTEXT}"), question("c")]
    lengths = dict(max_length=32, stride=8, longest_question=8, longest_answer=5)
    made = task(*dev, head="huggingface", beams=32, unanswerable=True, null_threshold=0.0, **lengths)
    rows = made.splits["dev"]
    batch = rows.batch(np.arange(len(rows)), 32, 0)
    tokens, segments = (torch.tensor(batch[name]).long() for name in ("tokens", "segments"))
    mask = (torch.arange(32) < torch.tensor(rows.lengths_N)[:, None]).long()
    with torch.no_grad():
        outputs = model(tokens, mask, segments, output_hidden_states=True)
    output = {"kernel": model.qa_outputs.weight.detach().numpy().T, "bias": model.qa_outputs.bias.detach().numpy()}
    hidden = outputs.hidden_states[-1].numpy()
    ours = SpanHead(beams=32).apply({"params": {"output": output}}, hidden, batch, deterministic=True)
    starts, ends = outputs.start_logits.numpy(), outputs.end_logits.numpy()
    allowed = batch["allowed"] == 1
    np.testing.assert_allclose(ours["start_logits"][allowed], starts[allowed], rtol=1e-5, atol=1e-6)

    answers, null_odds = {}, {}
    for number, example in enumerate(dev):
        best, text, null_score = -np.inf, "", np.inf
        for row in np.flatnonzero(rows.example_N == number):
            null_score = min(null_score, starts[row, 0] + ends[row, 0])
            context, place = rows.context_N[row], rows.place_N[row]
            for start in range(place, place + rows.size_N[row]):
                for end in range(start, min(start + 5, place + rows.size_N[row])):
                    if starts[row, start] + ends[row, end] > best:
                        best = starts[row, start] + ends[row, end]
                        first, last = (rows.window_N[row] + position - place for position in (start, end))
                        text = example.context[context.starts_C[first] : context.ends_C[last]]
        null_odds[example.key] = null_score - best
        answers[example.key] = "" if null_score - best > 0 else text
    files = made.answer_files(rows, {name: np.array(array) for name, array in made.predict(ours, batch).items()})
    assert len(rows) > 3
    assert files["predictions.json"] == answers
    np.testing.assert_allclose(list(files["null_odds.json"].values()), list(null_odds.values()), atol=1e-5)


def test_a_question_without_an_answer_is_refused_where_all_have_one(task):
    with pytest.raises(InputError, match=r"file:b: question 'b' has no answer.*--config\.tasks\.qa\.unanswerable=True"):
        task(question("a", "cat"), question("b"))
