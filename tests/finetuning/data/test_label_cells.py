"""Labels in the ways that people write them: lists, lists as text, zeros and ones, numbers, nothing."""

import json

import pytest

from tests.finetuning.labelled_files import problems_of, splits_of, text_task


def labels_of(folder, task, values):
    """The labels that a training split with these values of JSON has."""
    lines = "".join(json.dumps({"text": f"text {n}", "label": value}) + "\n" for n, value in enumerate(values))
    return [example.label for example in splits_of(folder, task, train=lines, dev=lines)["train"]]


def problem_of(folder, task, values):
    lines = "".join(json.dumps({"text": f"text {n}", "label": value}) + "\n" for n, value in enumerate(values))
    return problems_of(folder, task, train=lines, dev=lines)[0]


def multilabel(**changes):
    return text_task("jsonl", kind="multilabel", **changes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([0, 1, 1], [1, 0, 0]),
        ([0.0, 1.0, 1.0], [1.0, 0.0, 0.0]),
        ([False, True, True], [True, False, False]),
        ("[0, 1, 1]", "[1, 0, 0]"),
        ("[0 1 1]", "[1 0 0]"),
        ("[0. 1. 1.]", "[1. 0. 0.]"),
        ("[False, True, True]", "[True, False, False]"),
        ("0,1,1", "1,0,0"),
    ],
)
def test_zeros_and_ones_choose_among_the_named_classes(tmp_path, one, other):
    task = multilabel(labels=("joy", "anger", "fear"))
    assert labels_of(tmp_path, task, [one, other, "[0, 0, 0]"]) == [("anger", "fear"), ("joy",), ()]


def test_zeros_and_ones_without_names_are_refused_once(tmp_path):
    problem = problem_of(tmp_path, multilabel(), [[1, 0, 1, 1], [1, 1, 1, 0]])
    assert problem == (
        "train.jsonl: the labels are lists of 4 zeros and ones, such as [1, 0, 1, 1], one for a class, and "
        "config.tasks.it.labels has no names; name the 4 classes in their order: "
        """--config.tasks.it.labels='("class1", "class2", "class3", …)'"""
    )
    assert "has 2 names" in problem_of(tmp_path, multilabel(labels=("a", "b")), [[1, 0, 1, 1], [1, 1, 1, 0]])


def test_a_column_for_each_class_holds_zeros_and_ones(tmp_path):
    content = "text,toxic,insult\na,0,1\nb,1,1\nc,0,0\n"
    task = text_task("csv", kind="multilabel", label_column="", labels=("toxic", "insult"))
    examples = splits_of(tmp_path, task, train=content, dev=content)["train"]
    assert [example.label for example in examples] == [("insult",), ("toxic", "insult"), ()]


@pytest.mark.parametrize("value", [["joy", "anger"], "['joy', 'anger']", '["joy", "anger"]', "joy, anger"])
def test_lists_of_names_may_be_text(tmp_path, value):
    assert labels_of(tmp_path, multilabel(), [value, "joy"]) == [("joy", "anger"), ("joy",)]


def test_numbers_that_are_no_zeros_and_ones_are_names(tmp_path):
    assert labels_of(tmp_path, multilabel(), [[3, 7], [1, 0]]) == [("3", "7"), ("1", "0")]


@pytest.mark.parametrize("value", ["['joy', anger]", "[1", [["joy"]], {"joy": 1}, [{"id": 1}], "[{[]: 1}]"])
def test_what_only_resembles_a_list_is_refused(tmp_path, value):
    problem = problem_of(tmp_path, multilabel(), ["joy", value])
    assert problem.startswith("train.jsonl:2: 'label' is ")
    assert "expected a list of names" in problem


@pytest.mark.parametrize("value", ["nan", "NaN", "<NA>"])
def test_missing_values_of_pandas_are_no_classes(tmp_path, value):
    assert "pandas" in problem_of(tmp_path, text_task("jsonl"), ["a", "b", value])
    assert labels_of(tmp_path, text_task("jsonl", labels=("a", value)), ["a", value]) == ["a", value]


def test_missing_numbers_are_missing_labels(tmp_path):
    train = '{"text": "a", "label": NaN}\n{"text": "b", "label": 1.0}\n{"text": "c", "label": 0.0}\n'
    (problem,) = problems_of(tmp_path, text_task("jsonl"), train=train, dev=train[train.index("\n") + 1 :])
    assert problem == "train.jsonl:1: 'label' is empty, expected a label"


def test_whole_numbers_need_no_point(tmp_path):
    assert labels_of(tmp_path, text_task("jsonl"), [1.0, 2, 1.5]) == ["1", "2", "1.5"]


def test_a_list_where_one_label_is_expected_is_refused(tmp_path):
    for value in (["a", "b"], "['a', 'b']", "[0, 1]"):
        assert "--config.tasks.it.kind=multilabel" in problem_of(tmp_path, text_task("jsonl"), ["a", value])
