"""The worst mistakes come first, each kind of task with what a reader needs to judge."""

import json
import re

import pytest

from electra_jax.errors import InputError
from electra_jax.reporting.mistakes import read_predictions, split_section


@pytest.fixture
def read(tmp_path):
    def read(records, notes=None):
        path = tmp_path / "task.dev.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return read_predictions(path, [] if notes is None else notes)

    return read


def mistake(key, loss, **changes):
    return {"key": key, "prediction": "a", "label": "b", "right": False, "loss": loss, "texts": ["…"], **changes}


def text_of(section):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", section))


def test_worst_come_first_up_to_twenty_and_equals_in_order(read):
    records = [mistake(key, loss) for key, loss in enumerate([0.5] * 30 + [3.0, float("nan"), 2.0])]
    records.append(mistake(99, 9.0, right=True, prediction="b"))
    found = read(records)
    assert [record["key"] for record in found.worst] == [31, 30, 32, *range(17)]
    assert (found.total, found.known, found.wrong) == (34, 34, 33)
    section = split_section(found)
    assert "33 of 34 are not right (97.1%); here the 20 with the largest loss." in section
    assert section.index("15 more") > section.index("example 1 ")


def test_a_split_without_mistakes_is_reported(read):
    assert split_section(read([mistake(1, 0.1, right=True)])) == "<p>All 1 are right.</p>"


def test_classes_show_how_sure_the_model_was(read):
    record = mistake(4, 2.5257, probabilities={"a": 0.92, "b": 0.08}, texts=["premise", "hypothesis"])
    text = text_of(split_section(read([record])))
    assert "predicted a 92% right b 8% example 4 · loss 2.53 premise hypothesis" in text


def test_several_labels_or_none_are_listed(read):
    record = mistake(1, 1.0, prediction=[], label=["x", "y"], probabilities={"x": 0.4, "y": 0.1, "z": 0})
    assert "predicted none right x 40%, y 10%" in text_of(split_section(read([record])))


def test_grades_are_ordered_by_their_error_not_their_loss(read):
    grades = [mistake(1, 9.0, prediction=2.0, label=2.5), mistake(2, 0.0, prediction=1.0, label=4.0)]
    for grade in grades:
        del grade["right"]
    found = read(grades)
    assert [record["key"] for record in found.worst] == [2, 1]
    assert "predicted 1 right 4 off by −3" in text_of(split_section(found))
    assert "The 2 largest errors of 2." in split_section(found)


def test_wrong_tags_have_the_true_one_above_and_the_guess_below(read):
    record = {"words": ["New", "York"], "labels": ["B", "I"], "predictions": ["B", "O"], "right": False, "loss": 1}
    section = split_section(read([record]))
    assert "1 of 2 tags wrong" in section
    assert (
        'New <span class="tagged"><small class="truth">I</small><small class="wrong guess">O</small>'
        '<b class="wrong">York</b></span>'
    ) in section


def test_answers_are_marked_in_their_context(read):
    record = {
        "key": "q1",
        "question": "Who?",
        "context": "Ada and Ada met Charles.",
        "prediction": "Ada",
        "probability": 0.75,
        "candidates": [{"text": "Ada", "start": 8, "probability": 0.8}],
        "label": ["Charles", "met Charles", "Charles"],
        "right": False,
        "f1": 0.0,
        "loss": 1.0,
    }
    section = split_section(read([record]))
    assert "predicted “Ada” 75% right “Charles” or “met Charles” F1 0.00" in text_of(section)
    assert 'Ada and <mark class="wrong">Ada</mark> <mark class="truth">met Charles</mark>.' in section


def test_having_no_answer_is_shown_in_words(read):
    record = {"question": "Who?", "context": "Nobody.", "prediction": "", "label": ["Nobody"], "right": False}
    other = {"question": "Who?", "context": "Nobody.", "prediction": "Nobody", "label": [], "right": False}
    text = text_of(split_section(read([record, other])))
    assert "predicted no answer right “Nobody”" in text
    assert "predicted “Nobody” right not answered in the context" in text


def test_unlabelled_predictions_are_only_counted(read):
    tags = [{"words": ["a", "b"], "predictions": ["O", "X"]}, {"words": ["c"], "predictions": ["O"]}]
    section = split_section(read(tags))
    assert "2 predictions; the answers are not known." in section
    assert re.findall(r"<td>([^<]*)</td><td>(\d+)</td>", section) == [("O", "2"), ("X", "1")]
    grades = [{"prediction": value, "texts": ["…"]} for value in (1.0, 4.0)]
    assert "From 1 to 4, mean 2.5." in split_section(read(grades))
    answers = [{"question": "?", "context": "c", "prediction": text} for text in ("c", "")]
    assert "<td>no answer</td><td>1</td><td>50.0%</td>" in split_section(read(answers))


def test_records_that_cannot_be_shown_are_named(read):
    with pytest.raises(InputError, match=r"task\.dev\.jsonl:1: expected lists of one length"):
        read([{"words": ["a"], "predictions": ["O", "O"], "labels": ["O"]}])
    with pytest.raises(InputError, match="expected a context"):
        read([{"question": "?", "prediction": "a"}])
