"""All splits of a task are read together, and all their problems are reported at once."""

import hashlib
import zipfile

import pytest

from electra_jax.config import schema
from electra_jax.config.finetuning import ClassificationConfig
from electra_jax.configs.finetune import base
from electra_jax.errors import InputError
from electra_jax.finetuning.data.reading import problems_of_fields, subset
from tests.finetuning.labelled_files import notes_of, problems_of, reading_of, splits_of, text_task

GOOD = "text\tlabel\nyes\t1\nno\t0\n"


def table(count, label=lambda number: number % 2):
    return "text\tlabel\n" + "".join(f"text {number}\t{label(number)}\n" for number in range(count))


def test_splits_are_named_as_in_the_config_and_need_a_path(tmp_path):
    task = text_task(more={"harder": "harder.tsv", "left_out": ""})
    assert list(splits_of(tmp_path, task, train=GOOD, dev=GOOD, harder=GOOD)) == ["train", "dev", "harder"]


def test_paths_start_at_the_directory_unless_they_are_absolute(tmp_path):
    (tmp_path / "dev.tsv").write_text(GOOD)
    task = text_task(dev=str(tmp_path / "dev.tsv"))
    (tmp_path / "deeper").mkdir()
    assert len(splits_of(tmp_path / "deeper", task, train=GOOD)["dev"]) == 2


def test_missing_files_are_told_all_at_once_with_the_nearest_name(tmp_path):
    for name in ("readme.txt", "trian.tsv"):
        (tmp_path / name).write_text(GOOD)
    task = text_task(dev="else/dev.tsv", test="test.tsv", more={"harder": "harder.tsv"})
    train, dev, test, harder = problems_of(tmp_path, task)
    assert train.startswith(f"config.tasks.it.train: found no {tmp_path}/train.tsv (its folder has trian.tsv)")
    assert "its folder is missing or empty" in dev
    assert test.endswith("or leave this split out with --config.tasks.it.test=")
    assert harder.startswith("config.tasks.it.more.harder: ")


@pytest.mark.parametrize("content", ["", "text\tlabel\n", "\n"])
def test_an_empty_split_is_told(tmp_path, content):
    problems = problems_of(tmp_path, text_task(), train=GOOD, dev=content)
    assert len(problems) == 1
    assert problems[0].startswith("dev.tsv")


def test_bytes_of_another_encoding_are_told_with_their_line(tmp_path):
    content = GOOD.encode() + "café\t1\n".encode("latin-1")
    (problem,) = problems_of(tmp_path, text_task(), train=content, dev=GOOD)
    assert problem.startswith("train.tsv:4: byte 0xe9 is not utf-8;")
    assert problem.endswith("--config.tasks.it.encoding=latin-1")
    splits = splits_of(tmp_path, text_task(encoding="latin-1"), train=content, dev=GOOD)
    assert splits["train"][-1].texts == ("café",)


def test_labels_that_training_does_not_have_are_noted(tmp_path):
    dev = "text\tlabel\na\t0\nso\tmaybe\nwell\tmaybe\n"
    assert notes_of(tmp_path, text_task(test="test.tsv"), train=GOOD, dev=dev, test="text\tlabel\nso\t2\n") == [
        "dev.tsv: 2 of 3 examples have labels that are not in the training split, such as 'maybe' (dev.tsv:3); they "
        "count as wrong",
        "test.tsv: 1 of 1 examples have labels that are not in the training split, such as '2' (test.tsv:2); they count "
        "as wrong",
    ]


def test_labels_of_training_must_be_among_those_that_are_named(tmp_path):
    dev = GOOD + "so\tmaybe\n"
    (problem,) = problems_of(tmp_path, text_task(labels=("0", "x")), train=GOOD, dev="text\tlabel\nno\t0\n")
    assert problem.startswith("train.tsv:2: the label '1' is not in the labels ('0', 'x')")
    assert splits_of(tmp_path, text_task(labels=("0", "1", "maybe")), train=GOOD, dev=dev)


def test_unknown_types_of_spans_and_other_unknown_tags_are_noted(tmp_path):
    task = base.tagging_task(train="train.txt", dev="dev.txt")
    assert notes_of(tmp_path, task, train="a B-X\n", dev="a B-X\nb I-X\nc O\n") == []
    assert notes_of(tmp_path, task, train="a B-X\n", dev="a B-X\nb I-Y\n\nc B-X\n") == [
        "dev.txt: 1 of 2 sentences have tags that are not in the training split, such as 'Y' (dev.txt:1); those words "
        "count as wrong"
    ]
    task.spans = False
    (note,) = notes_of(tmp_path, task, train="a B-X\nb O\n", dev="c B-X\nb I-X\n")
    assert "such as 'I-X'" in note


def package(folder, **contents):
    """A wheel in the cache that `labelled_files` names, and the addresses of its files."""
    wheel = folder / "cache" / "pypi" / "tiny_tags-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"tiny_tags/{name}.txt", content)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return {name: f"pypi:tiny-tags==1.0!tiny_tags/{name}.txt#sha256={sha256}" for name in (*contents, "gone")}


def test_files_of_a_package_are_read_in_place(tmp_path):
    files = package(tmp_path, train="a B-X\nb O\n", dev="c O\n")
    splits = splits_of(tmp_path, base.tagging_task(train=files["train"], dev=files["dev"]))
    assert splits["train"][0].words == ("a", "b")
    assert splits["dev"][0].place == "pypi:tiny-tags==1.0!tiny_tags/dev.txt:1"


def test_what_is_wrong_with_files_of_a_package_is_told_with_the_field(tmp_path):
    files = package(tmp_path, train="a B-X\n", dev="c\n")
    train = files["train"][:-64] + "0" * 64
    task = base.tagging_task(train=train, dev=files["dev"], test=files["gone"])
    wrong_hash, wrong_columns, missing = problems_of(tmp_path, task)
    assert wrong_hash.startswith("config.tasks.it.train: ")
    assert "expected 0000" in wrong_hash
    assert wrong_columns.startswith("pypi:tiny-tags==1.0!tiny_tags/dev.txt:1: found 1 column")
    assert missing.startswith("config.tasks.it.test: nothing in tiny_tags-1.0-py3-none-any.whl matches")


def test_labels_of_several_are_each_compared(tmp_path):
    task = text_task(kind="multilabel")
    (note,) = notes_of(tmp_path, task, train="text\tlabel\na\tx,y\n", dev="text\tlabel\nc\tx,z\nb\t\n")
    assert "such as 'z' (dev.tsv:2)" in note


def test_a_long_list_of_problems_is_cut_and_counted(tmp_path):
    bad = "text\tlabel\n" + "\t1\n" * 30
    task = text_task(test="test.tsv")
    problems = problems_of(tmp_path, task, train=bad, dev=bad, test=bad)
    assert len(problems) == 21
    assert {problem.partition(":")[0] for problem in problems[:-1]} == {"train.tsv", "dev.tsv", "test.tsv"}
    assert problems[-1] == "and 70 more"


def test_subsets_are_deterministic_ordered_and_nested():
    numbers = list(range(100))
    small, large = subset(numbers, 5), subset(numbers, 40)
    assert small == sorted(small)
    assert set(small) < set(large)
    assert small == [7, 18, 40, 51, 86]
    assert subset(numbers, 0) == subset(numbers, 100) == subset(numbers, 200) == numbers


def test_train_and_dev_can_be_cut_and_the_others_stay_whole(tmp_path):
    task = text_task(test="test.tsv", train_examples=10, dev_examples=4)
    splits = splits_of(tmp_path, task, train=table(30), dev=table(20), test=table(20))
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 10, "dev": 4, "test": 20}


def test_a_label_that_a_subset_lost_is_noted_as_such(tmp_path):
    train = table(200, lambda number: "rare" if number == 0 else number % 2)
    task = text_task(train_examples=10)
    (note,) = notes_of(tmp_path, task, train=train, dev="text\tlabel\nso\trare\n")
    assert "are not in the subset of 10 training examples, such as 'rare' (dev.tsv:2)" in note


def test_texts_that_are_in_training_too_are_counted(tmp_path):
    (note,) = notes_of(tmp_path, text_task(), train=GOOD, dev="text\tlabel\nyes\t1\nelse\t0\n")
    assert note == "dev: 1 of 2 examples have the same text as one in the training split"


@pytest.mark.parametrize(
    ("task", "content", "problem"),
    [
        (text_task(), "text\tlabel\na\t1\nb\t1\n", "train.tsv: every example has the class '1', expected two classes"),
        (text_task(kind="multilabel"), "text\tlabel\na\t\n", "train.tsv: no example has a label"),
        (base.tagging_task(train="train.txt", dev="dev.txt"), "a O\n", "train.txt: every word is tagged O"),
        (
            base.tagging_task(train="t", dev="d", format="columns", spans=False),
            "a X\n",
            "t: every word has the tag 'X'",
        ),
    ],
)
def test_nothing_to_tell_apart_is_refused(tmp_path, task, content, problem):
    assert problems_of(tmp_path, task, train=content, dev=content)[0].startswith(problem)


def test_few_examples_that_cannot_be_used_are_left_out_if_wanted(tmp_path):
    train = table(40) + "\t1\n"
    reading = reading_of(tmp_path, text_task(invalid_rows="skip"), train=train, dev=GOOD)
    assert len(reading.splits["train"]) == 40
    assert [(left_out.place, left_out.reason) for left_out in reading.left_out] == [
        ("train.tsv:42", "'text' is empty, expected a text")
    ]
    assert reading.notes == [
        "train.tsv: 1 of 41 examples (2.4%) left out, first train.tsv:42: 'text' is empty, expected a text"
    ]


def test_a_refusal_says_how_few_bad_examples_are_left_out(tmp_path):
    with pytest.raises(InputError, match=r"\n  A few such examples .* --config.tasks.it.invalid_rows=skip$"):
        reading_of(tmp_path, text_task(), train=GOOD + "\t1\n", dev=GOOD)


def test_many_examples_that_cannot_be_used_are_refused_all_the_same(tmp_path):
    train = table(9) + "\t1\n"
    problems = problems_of(tmp_path, text_task(invalid_rows="skip"), train=train, dev=GOOD)
    assert problems[0] == "train.tsv:11: 'text' is empty, expected a text"
    assert problems[1].startswith("train.tsv: 1 of 10 examples (10.0%) cannot be used")


def test_one_file_is_divided_by_a_column(tmp_path):
    content = "text\tlabel\tpart\na\t1\ttrain\nb\t0\tTraining\nc\t1\tvalidation\nd\t\ttest\n"
    task = text_task(dev="", split_column="part")
    splits = splits_of(tmp_path, task, train=content)
    assert {split: [example.texts[0] for example in found] for split, found in splits.items()} == {
        "train": ["a", "b"],
        "dev": ["c"],
        "test": ["d"],
    }
    assert "test" not in splits_of(tmp_path, task, train=content.replace("d\t\ttest\n", ""))
    (problem,) = problems_of(tmp_path, task, train=content.replace("validation", "other"))[:1]
    assert problem == "train.tsv:4: 'part' is 'other', expected train, dev or test"


def test_one_file_is_divided_by_a_fraction_with_each_class(tmp_path):
    train = table(200, lambda number: "rare" if number % 10 == 0 else "common")
    task = text_task(dev="", dev_fraction=0.2)
    splits = splits_of(tmp_path, task, train=train)
    assert len(splits["train"]) + len(splits["dev"]) == 200
    assert [sum(example.label == "rare" for example in splits[split]) for split in ("train", "dev")] == [16, 4]
    assert splits == splits_of(tmp_path, task)
    places = [int(example.place.partition(":")[2]) for example in splits["dev"]]
    assert places == sorted(places)


def test_equal_texts_stay_on_one_side_of_a_division(tmp_path):
    train = "text\tlabel\n" + "".join(f"{number // 4}\t{number % 2}\n" for number in range(80))
    splits = splits_of(tmp_path, text_task(dev="", dev_fraction=0.3), train=train)
    sides = [{example.texts for example in splits[split]} for split in ("train", "dev")]
    assert sides[1]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(tmp_path, encoding):
    reading = reading_of(tmp_path, text_task(), train=GOOD.replace("yes", "café").encode(encoding), dev=GOOD)
    assert reading.splits["train"][0].texts == ("café",)
    assert f"read as {encoding}" in reading.notes[0]
    (problem,) = problems_of(tmp_path, text_task(), train=GOOD.encode("utf-16-le"), dev=GOOD)
    assert "--config.tasks.it.encoding=utf-16-le" in problem


def test_pairs_are_trained_on_in_both_orders_if_wanted(tmp_path):
    pairs = "text1\ttext2\tlabel\na\tb\t1\nc\td\t0\n"
    task = text_task(text_columns=("text1", "text2"), double_unordered=True)
    splits = splits_of(tmp_path, task, train=pairs, dev=pairs)
    assert [(e.texts, e.label) for e in splits["train"]] == [
        (("a", "b"), "1"),
        (("c", "d"), "0"),
        (("b", "a"), "1"),
        (("d", "c"), "0"),
    ]
    assert len(splits["dev"]) == 2


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (text_task(train=""), "train: is empty"),
        (
            text_task(format="squad"),
            "format: found 'squad', expected auto or, for kind classification, tsv, csv, jsonl, lines",
        ),
        (text_task("xls"), "the name 'train.xls' has none of the suffixes"),
        (text_task(test="tfds:glue"), "names no split"),
        (text_task(test="tfds:Glue#split=test"), "is not of the form"),
        (text_task(test="tfds:glue#split=test&field=text"), "expected split, words, tags"),
        (text_task(test="pypi:tiny-tags!test.tsv"), "is not of the form pypi:NAME==VERSION!PATH#sha256=HEX"),
        (base.tagging_task(train="train.txt", tag_separator=""), "tag_separator: is empty"),
        (text_task(encoding="utf-9"), "encoding: found 'utf-9'"),
        (text_task(text_columns=()), "text_columns"),
        (text_task(label_column="text"), "label_column"),
        (text_task(columns=("label", "body")), "columns: found ('label', 'body'), expected 'text'"),
        (text_task(double_unordered=True), "double_unordered"),
        (text_task(labels=("a", "a")), "labels"),
        (text_task(kind="multilabel", label_separator=""), "label_separator"),
        (text_task("txt", text_columns=("a", "b")), "expected one name, as lines have one text"),
        (text_task(more={"dev": "dev.tsv"}), "more: found 'dev', the name of a field"),
        (base.tagging_task(train="train.conllu"), "word_column=1 --config.tasks.it.tag_column=3"),
        (base.tagging_task(train="train.txt", tag_column=0), "tag_column"),
        (base.answering_task(train="train.tsv"), "has none of the suffixes .json, .jsonl"),
    ],
)
def test_wrong_fields_are_told_before_anything_is_opened(task, expected):
    problems = problems_of_fields("it", task)
    assert problems
    assert all(problem.startswith("config.tasks.it") for problem in problems)
    assert expected in problems[0]


def test_an_unknown_quoting_is_refused_when_the_config_is_read():
    problems = schema.Problems()
    schema.read(ClassificationConfig, text_task(quoting="double").to_dict(), "config.tasks.it", problems)
    assert problems.lines == ["config.tasks.it.quoting: found 'double', expected one of auto, csv, none"]


def test_right_fields_have_no_problems():
    assert problems_of_fields("it", text_task(test="tfds:glue/rte#split=test")) == []
    assert problems_of_fields("it", base.answering_task(train="train.jsonl.gz")) == []


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "train.tsv").mkdir()
    (tmp_path / "train.tsv" / "a.tsv").write_text("")
    (problem,) = problems_of(tmp_path, text_task(), dev="text\tlabel\na\tb\n")
    assert problem.endswith("train.tsv is a folder (with a.tsv), expected a file; set --config.tasks.it.train")
