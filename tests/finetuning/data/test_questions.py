"""Questions of SQuAD and MRQA are read, and answers at wrong places are reported."""

import gzip
import json

from electra_jax.configs.finetune import base
from electra_jax.finetuning.data.examples import Answer, QuestionExample
from tests.finetuning.labelled_files import problems_of, reading_of, splits_of

CONTEXT = "  Ünder Öl: five ships, and five crews."


def task(suffix="json", **changes):
    return base.answering_task(**({"train": f"train.{suffix}", "dev": f"dev.{suffix}"} | changes))


def squad(*questions, context=CONTEXT):
    return json.dumps(
        {"version": "1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": questions}]}]}
    )


def question(key="a", text="five", start=12, **changes):
    return {"id": key, "question": "How many?", "answers": [{"text": text, "answer_start": start}], **changes}


GOOD = squad(question())


def mrqa(*questions):
    header = {"header": {"dataset": "it", "mrqa_split": "train"}}
    return "\n".join(json.dumps(line) for line in (header, {"context": CONTEXT, "qas": questions})) + "\n"


def detected(text, *spans, key="a"):
    return {"qid": key, "question": "How many?", "detected_answers": [{"text": text, "char_spans": spans}]}


def test_answers_stand_where_the_context_has_them(tmp_path):
    (example,) = splits_of(tmp_path, task(), train=GOOD, dev=GOOD)["train"]
    assert example == QuestionExample(
        "train.json: article 1, paragraph 1, question 'a'", "a", "How many?", CONTEXT, (Answer("five", 12),)
    )


def test_equal_answers_of_several_people_are_one(tmp_path):
    both = question(answers=[{"text": "five", "answer_start": 12}] * 2 + [{"text": "five ships", "answer_start": 12}])
    (example,) = splits_of(tmp_path, task(), train=GOOD, dev=squad(both))["dev"]
    assert example.answers == (Answer("five", 12), Answer("five ships", 12))


def test_a_question_may_have_no_answer_and_one_of_a_test_split_an_unknown_one(tmp_path):
    impossible = question("b", answers=[], is_impossible=True, plausible_answers=[{"text": "crews", "answer_start": 0}])
    unknown = {"id": "c", "question": "How many?"}
    splits = splits_of(
        tmp_path,
        task(unanswerable=True, test="test.json"),
        train=squad(question(is_impossible=False), impossible),
        dev=GOOD,
        test=squad(unknown, impossible),
    )
    assert [example.answers for example in splits["train"]] == [(Answer("five", 12),), ()]
    assert [example.answers for example in splits["test"]] == [None, ()]
    (problem,) = problems_of(tmp_path, task(), train=squad(unknown))
    assert problem == "train.json: article 1, paragraph 1, question 'c': has no \"answers\""
    (problem,) = problems_of(tmp_path, task(), train=squad(question(is_impossible=True)))
    assert "has answers and is_impossible" in problem


def test_answers_that_are_elsewhere_or_nowhere_are_told(tmp_path):
    wrong = squad(question("a", start=13), question("b", "six", 12), question("c", "", 0), question("d", start="12"))
    problems = problems_of(tmp_path, task(), train=wrong, dev=GOOD)
    assert [problem.partition(", question ")[2] for problem in problems] == [
        "'a': its answer 'five' is not at answer_start 13, where the context has 'ive ', but at 12; count in characters, "
        "from 0, or set --config.tasks.it.realign_answers=True",
        "'b': its answer 'six' does not occur in the context",
        "'c': has an empty answer",
        "'d': has the answer {'text': 'five', 'answer_start': '12'}, expected \"text\" and a number \"answer_start\"",
    ]


def test_answers_that_are_elsewhere_are_taken_from_the_nearest_place_if_wanted(tmp_path):
    context = "five or five"
    moved = squad(question("a", start=7), question("b", start=1), context=context)
    reading = reading_of(tmp_path, task(realign_answers=True), train=moved, dev=GOOD)
    assert [example.answers for example in reading.splits["train"]] == [(Answer("five", 8),), (Answer("five", 0),)]
    assert reading.notes[0] == (
        "train.json: 2 answers are elsewhere in their context than stated, first train.json: article 1, paragraph 1, "
        "question 'a'"
    )


def test_ids_differ_and_texts_are_there(tmp_path):
    (problem,) = problems_of(tmp_path, task(), train=squad(question(), question()), dev=GOOD)
    assert "has the id of another question (train.json: article 1, paragraph 1, question 'a')" in problem
    (problem,) = problems_of(tmp_path, task(), train=squad(question(key="")), dev=GOOD)
    assert problem.endswith("has no id")
    (problem,) = problems_of(tmp_path, task(), train=squad(question(question=" ")), dev=GOOD)
    assert problem.endswith("found the question ' ', expected a text")
    (problem,) = problems_of(tmp_path, task(), train=squad(question(), context=""), dev=GOOD)
    assert problem.endswith("found the context '', expected a text")


def test_damaged_and_other_json_is_told(tmp_path):
    (problem,) = problems_of(tmp_path, task(), train='{"data": [\n{"paragraphs"', dev=GOOD)
    assert problem.startswith("train.json:2: is not JSON (")
    (problem,) = problems_of(tmp_path, task(), train='{"examples": []}', dev=GOOD)
    assert problem.startswith('train.json: is not in the format of SQuAD: found "examples"; expected {"data": [')
    (problem,) = problems_of(tmp_path, task(), train='{"data": [{"text": "a", "label": 1}]}', dev=GOOD)
    assert 'found "data", and in entry 1 "text", "label"; expected' in problem
    (problem,) = problems_of(tmp_path, task(), train='{"data": [{"paragraphs": [{"context": "a"}]}]}', dev=GOOD)
    assert 'article 1, paragraph 1: found "context", expected "context" and "qas"' in problem


def test_other_shapes_of_json_give_the_same_questions(tmp_path):
    paragraph = {"context": CONTEXT, "qas": [question()]}
    row = {**question(), "context": CONTEXT}
    lists = {**row, "answers": {"text": ["five"], "answer_start": [12]}}
    one = {**row, "answers": {"text": "five", "answer_start": 12}}
    article = {"title": "t", "paragraphs": [paragraph]}
    for shape in ([article], article, {"paragraphs": [paragraph]}, [paragraph], [row], {"data": [lists]}, [one]):
        (example,) = splits_of(tmp_path, task(), train=json.dumps(shape), dev=GOOD)["train"]
        assert (example.key, example.context, example.answers) == ("a", CONTEXT, (Answer("five", 12),))
    lines = "\n".join(json.dumps({**lists, "id": key}) for key in "ab")
    for suffix in ("json", "jsonl"):
        read = splits_of(tmp_path, task(suffix), train=lines, dev=lines)["train"]
        assert [(example.key, example.answers) for example in read] == [(key, (Answer("five", 12),)) for key in "ab"]


def test_lists_of_answers_and_places_must_be_as_long(tmp_path):
    row = {**question(), "context": CONTEXT, "answers": {"text": ["five"], "answer_start": []}}
    (problem,) = problems_of(tmp_path, task(), train=json.dumps([row]), dev=GOOD)
    assert problem.endswith("example 1, question 'a': found 1 answers and 0 places, expected as many")
    impossible = {**row, "answers": {"text": [], "answer_start": []}, "is_impossible": True}
    splits = splits_of(tmp_path, task(unanswerable=True), train=json.dumps([impossible]), dev=GOOD)
    assert splits["train"][0].answers == ()


def test_mrqa_offsets_are_inclusive_and_override_the_answer_text(tmp_path):
    lines = mrqa(detected("the Five", [12, 15], [28, 31]))
    (example,) = splits_of(tmp_path, task("jsonl"), train=lines, dev=lines)["train"]
    assert example.answers == (Answer("five", 12), Answer("five", 28))
    assert example.place == "train.jsonl:2, question 'a'"
    wrong = mrqa(detected("five", [13, 16]), detected("five", [12, 99], key="b"), detected("five", key="c"))
    problems = problems_of(tmp_path, task("jsonl"), train=wrong)
    assert [problem.partition(", question ")[2] for problem in problems] == [
        "'a': its answer 'five' is not at characters 13 to 16, where the context has 'ive '",
        "'b': its answer 'five' is not at characters 12 to 99, where the context has 'five ships, and five crews.'",
        "'c': has no detected answer",
    ]


def test_packed_files_are_unpacked(tmp_path):
    packed = gzip.compress(GOOD.encode())
    assert splits_of(tmp_path, task("json.gz"), train=packed, dev=packed)["train"][0].key == "a"
    packed = gzip.compress(mrqa(detected("five", [12, 15])).encode())
    assert splits_of(tmp_path, task("jsonl.gz"), train=packed, dev=packed)["train"][0].key == "a"
    (problem,) = problems_of(tmp_path, task("jsonl.gz"), train=packed[:-9])
    assert "train.jsonl.gz cannot be read (it ends early" in problem
