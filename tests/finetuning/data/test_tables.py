"""Tables, JSON lines and labelled lines become examples; every broken row is reported with its line."""

import pytest

from electra_jax.finetuning.data.examples import TextExample
from tests.finetuning.labelled_files import problems_of, reading_of, splits_of, text_task

GOOD = "text\tlabel\nyes\t1\nno\t0\n"


def shown(examples):
    return [(example.texts, example.label) for example in examples]


def test_an_example_says_where_it_stands_and_what_it_is_called(tmp_path):
    task = text_task(key_column="id")
    splits = splits_of(
        tmp_path, task, train="id\ttext\tlabel\n17\tyes\t1\nb\tno\t0\n", dev="id\ttext\tlabel\n0\tso\t1\n"
    )
    assert splits["train"] == [
        TextExample("train.tsv:2", "17", ("yes",), "1"),
        TextExample("train.tsv:3", "b", ("no",), "0"),
    ]
    numbered = splits_of(tmp_path, text_task(), train=GOOD, dev=GOOD)["train"]
    assert [example.key for example in numbered] == ["0", "1"]


@pytest.mark.parametrize("content", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), GOOD[:-1], GOOD + "\n\n"])
def test_byte_order_marks_and_line_ends_are_no_part_of_cells(tmp_path, content):
    splits = splits_of(tmp_path, text_task(), train=content, dev=GOOD)
    assert shown(splits["train"]) == [(("yes",), "1"), (("no",), "0")]


def test_quotes_mean_nothing_in_tsv_and_hold_a_cell_together_in_csv(tmp_path):
    tsv = splits_of(tmp_path, text_task(), train='text\tlabel\n"so\t1\nno\t0\n', dev=GOOD)
    assert shown(tsv["train"]) == [(('"so',), "1"), (("no",), "0")]
    content = 'text,label\n"a, b ""c""\nd",1\nno,0\n'
    csv = splits_of(tmp_path, text_task("csv"), train=content, dev=content)["train"]
    assert shown(csv) == [(('a, b "c"\nd',), "1"), (("no",), "0")]
    assert [example.place for example in csv] == ["train.csv:2", "train.csv:4"]
    quoted = splits_of(tmp_path, text_task(quoting="csv"), train='text\tlabel\n"a\tb"\t1\nno\t0\n', dev=GOOD)
    assert shown(quoted["train"]) == [(("a\tb",), "1"), (("no",), "0")]
    plain = splits_of(
        tmp_path, text_task("csv", quoting="none"), train='text,label\n"so,1\nno,0\n', dev="text,label\nso,1\n"
    )
    assert shown(plain["train"]) == [(('"so',), "1"), (("no",), "0")]


def test_quotes_that_do_not_match_are_told_rather_than_swallow_the_file(tmp_path):
    content = 'text,label\nno,0\n"so,1\nyes,0\n'
    (problem,) = problems_of(tmp_path, text_task("csv"), train=content, dev="text,label\nno,0\n")
    assert problem.startswith("train.csv:3: found unbalanced quotes")
    assert "--config.tasks.it.quoting=none" in problem


def test_text_may_be_longer_than_the_csv_module_allows_by_itself(tmp_path):
    long = "word " * 40_000
    splits = splits_of(tmp_path, text_task("csv"), train=f"text,label\n{long},1\nno,0\n", dev="text,label\nno,1\n")
    assert splits["train"][0].texts == (long.strip(),)


def test_configured_columns_apply_unless_the_first_line_names_them(tmp_path):
    task = text_task(columns=("source", "label", "mark", "text"), test="test.tsv")
    splits = splits_of(
        tmp_path, task, train="a\t1\t\tyes\nb\t0\t*\tno\n", dev="a\t1\t\tso\n", test="index\ttext\n0\tperhaps\n"
    )
    assert shown(splits["train"]) == [(("yes",), "1"), (("no",), "0")]
    assert splits["test"] == [TextExample("test.tsv:2", "0", ("perhaps",), None)]


def test_a_table_without_the_columns_says_what_its_first_line_has(tmp_path):
    (problem,) = problems_of(tmp_path, text_task(), train="yes\t1\nno\t0\n", dev=GOOD)
    assert problem.startswith("train.tsv:1: found the columns 'yes', '1' in the first line, expected 'text', 'label';")
    assert "--config.tasks.it.columns=…" in problem
    (problem,) = problems_of(tmp_path, text_task(), train=GOOD, dev="text\nyes\n")
    assert problem.startswith("dev.tsv:1: found the columns 'text' in the first line, expected 'label'")


def test_rows_with_another_number_of_cells_are_told_or_left_out_and_counted(tmp_path):
    broken = "text\tlabel\nyes\t1\nno\n\nso\t0\nbut\twhy\t0\nwell\t0\t\n"
    problems = problems_of(tmp_path, text_task(), train=broken, dev=GOOD)
    assert [problem.partition(";")[0] for problem in problems] == [
        "train.tsv:3: found 1 cell, expected 2 (text, label)",
        "train.tsv:4: found 1 cell, expected 2 (text, label)",
        "train.tsv:6: found 3 cells, expected 2 (text, label)",
    ]
    assert "tabs" in problems[2]
    many = broken + "".join(f"text {number}\t1\n" for number in range(60))
    reading = reading_of(tmp_path, text_task(invalid_rows="skip"), train=many)
    assert shown(reading.splits["train"])[:3] == [(("yes",), "1"), (("so",), "0"), (("well",), "0")]
    assert [left_out.place for left_out in reading.left_out] == ["train.tsv:3", "train.tsv:4", "train.tsv:6"]


def test_empty_texts_and_missing_labels_are_told_all_at_once(tmp_path):
    train = "text\tlabel\n \t1\nno\t\n\t \nyes\t1\n"
    assert problems_of(tmp_path, text_task(), train=train, dev=GOOD) == [
        "train.tsv:2: 'text' is empty, expected a text",
        "train.tsv:3: 'label' is empty, expected a label",
        "train.tsv:4: 'text' is empty, expected a text; 'label' is empty, expected a label",
    ]


def test_only_splits_that_are_neither_trained_on_nor_scored_may_lack_labels(tmp_path):
    task = text_task(test="test.tsv", more={"other": "other.tsv"})
    splits = splits_of(tmp_path, task, train=GOOD, dev=GOOD, test="text\nyes\n", other="text\tlabel\nyes\t\nno\t1\n")
    assert [example.label for example in splits["test"] + splits["other"]] == [None, None, "1"]


def test_grades_are_numbers(tmp_path):
    task = text_task(kind="regression")
    good = "text\tlabel\nyes\t4.5\nno\t-1e1\n"
    assert [example.label for example in splits_of(tmp_path, task, train=good, dev=good)["train"]] == [4.5, -10.0]
    bad = "text\tlabel\nyes\tfour\nno\tnan\nso\t1\n"
    assert problems_of(tmp_path, task, train=bad, dev=good) == [
        "train.tsv:2: 'label' is 'four', expected a number",
        "train.tsv:3: 'label' is 'nan', expected a number",
    ]


def test_several_labels_stand_in_one_cell_or_in_a_list_and_may_be_none(tmp_path):
    task = text_task(kind="multilabel", label_separator=";", test="test.tsv")
    train = "text\tlabel\none\tb; a\nnone\t\ntwice\ta;a\n"
    splits = splits_of(tmp_path, task, train=train, dev=train, test="text\nso\n")
    assert [example.label for example in splits["train"] + splits["test"]] == [("b", "a"), (), ("a",), None]
    lines = '{"text": "one", "label": ["b", 1]}\n{"text": "none", "label": []}\n{"text": "two", "label": "b;1"}\n'
    splits = splits_of(tmp_path, text_task("jsonl", kind="multilabel", label_separator=";"), train=lines, dev=lines)
    assert [example.label for example in splits["train"]] == [("b", "1"), (), ("b", "1")]


def test_labels_of_json_lines_may_be_numbers_and_truths(tmp_path):
    lines = '\n{"text": "a", "label": 3}\n{"text": "b", "label": true, "more": {}}\n{"label": "x\\r", "text": "c"}\n'
    splits = splits_of(tmp_path, text_task("jsonl"), train=lines, dev=lines)
    assert [(e.place, e.label) for e in splits["dev"]] == [
        ("dev.jsonl:2", "3"),
        ("dev.jsonl:3", "true"),
        ("dev.jsonl:4", "x"),
    ]


def test_damaged_json_lines_are_told(tmp_path):
    lines = '{"text": "a", "label": 3}\n{"text": "b"\n[1]\n{"label": 3}\n{"text": 5, "label": 3}\n{"text": "a"}\n'
    lines += '{"text": "a", "label": [3]}\n'
    problems = problems_of(tmp_path, text_task("jsonl"), train=lines, dev=lines[:26])
    assert [problem.partition(" ")[0] for problem in problems] == [f"train.jsonl:{line}:" for line in range(2, 8)]
    for problem, expected in zip(
        problems,
        (
            "is not JSON",
            "expected a JSON object",
            "found 'label', expected 'text'",
            "'text' is 5, expected a text",
            "'label' is empty",
            "--config.tasks.it.kind=multilabel",
        ),
        strict=True,
    ):
        assert expected in problem


def test_a_line_may_begin_with_its_label_of_which_a_part_may_count(tmp_path):
    lines = "NUM:dist How far ?\nHUM:ind Who ?\n"
    fine = splits_of(tmp_path, text_task("txt"), train=lines, dev=lines)["train"]
    assert shown(fine) == [(("How far ?",), "NUM:dist"), (("Who ?",), "HUM:ind")]
    coarse = splits_of(tmp_path, text_task("txt", label_until=":"), train=lines, dev=lines)["train"]
    assert [example.label for example in coarse] == ["NUM", "HUM"]
    (problem,) = problems_of(tmp_path, text_task("txt"), train=lines + "HUM:ind\n", dev=lines)
    assert problem == "train.txt:3: found only 'HUM:ind', expected a label, a blank and a text"


@pytest.mark.parametrize(("first", "separator"), [("sep=;\n", ";"), ("", ";"), ("", "|"), ("", "\t"), ("SEP=|\n", "|")])
def test_the_first_line_shows_what_separates_cells(tmp_path, first, separator):
    content = first + 'text,label\n"good, really",pos\nbad,neg\n'.replace(",", separator).replace(f"{separator} ", ", ")
    reading = reading_of(tmp_path, text_task("csv"), train=content, dev=content.replace("bad", "worse"))
    assert [(e.place, e.texts, e.label) for e in reading.splits["train"]] == [
        (f"train.csv:{2 + bool(first)}", ("good, really",), "pos"),
        (f"train.csv:{3 + bool(first)}", ("bad",), "neg"),
    ]
    assert bool(first) != any("cells are separated by" in note for note in reading.notes)


def test_columns_of_other_names_are_shown_apart(tmp_path):
    content = "Topic;Article\nWeb;'text; with'\n"
    (problem, *_) = problems_of(tmp_path, text_task("csv"), train=content, dev=content)
    assert problem.startswith("train.csv:1: found the columns 'Topic', 'Article' in the first line, expected 'text'")


def test_separator_and_quotes_can_be_named(tmp_path):
    content = "a;b,c;label\n'1; 2';x;pos\nno;y;neg\n"
    task = text_task("csv", text_columns=("a",), separator=";", quote="'")
    assert shown(splits_of(tmp_path, task, train=content, dev=content)["train"]) == [
        (("1; 2",), "pos"),
        (("no",), "neg"),
    ]
    problem = problems_of(tmp_path, text_task("csv", text_columns=("a",)))[0]
    assert problem.startswith("train.csv:2: found 4 cells, expected 3")
    assert """set --config.tasks.it.quote="'\"""" in problem


def test_repeated_names_of_columns_are_left_out_and_noted(tmp_path):
    reading = reading_of(tmp_path, text_task(), train=GOOD + "text\tlabel\nso\t1\n", dev="text\tlabel\nx\t1\n")
    assert [example.texts[0] for example in reading.splits["train"]] == ["yes", "no", "so"]
    assert reading.notes == ["train.tsv: line 4 repeats the names of the columns; left out"]


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    (problem,) = problems_of(tmp_path, text_task(), train="text\ttext\tlabel\na\tb\t1\n", dev=GOOD)
    assert problem.endswith("expected 'text' once; rename the other one")
    assert splits_of(tmp_path, text_task(), train="text\tx\tx\tlabel\na\tb\tb\t1\nc\t\t\t0\n", dev=GOOD)
