"""All splits of a task are read together, and all their problems are reported at once."""

import hashlib
import zipfile

import pytest

from electra_jax.config import schema
from electra_jax.config.finetuning import ClassificationConfig
from electra_jax.configs.finetune import base
from electra_jax.finetuning.data.reading import problems_of_fields, subset
from tests.finetuning.labelled_files import notes_of, problems_of, splits_of, text_task

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


def test_labels_that_training_does_not_have_are_told_once_with_those_it_has(tmp_path):
    dev = GOOD + "so\tmaybe\nwell\tmaybe\n"
    assert problems_of(tmp_path, text_task(test="test.tsv"), train=GOOD, dev=dev, test="text\tlabel\nso\t2\n") == [
        "dev.tsv:4: the label 'maybe' (and 1 more such) is not in the training split ('0', '1'); fix the label or "
        "leave it out",
        "test.tsv:2: the label '2' is not in the training split ('0', '1'); fix the label or leave it out",
    ]
    (problem,) = problems_of(tmp_path, text_task(labels=("0",)), train=GOOD, dev="text\tlabel\nno\t0\n")
    assert problem.startswith("train.tsv:2: the label '1' is not in the labels ('0')")
    assert splits_of(tmp_path, text_task(labels=("0", "1", "maybe")), train=GOOD, dev=dev)


def test_unknown_types_of_spans_and_other_unknown_tags_are_noted(tmp_path):
    task = base.tagging_task(train="train.txt", dev="dev.txt")
    assert notes_of(tmp_path, task, train="a B-X\n", dev="a B-X\nb I-X\nc O\n") == []
    assert notes_of(tmp_path, task, train="a B-X\n", dev="a B-X\nb I-Y\n\na B-X\n") == [
        "dev.txt: 1 of 2 sentences have tags that are not in the training split, such as 'Y'; those words count as wrong"
    ]
    task.spans = False
    (note,) = notes_of(tmp_path, task, train="a B-X\n", dev="a B-X\nb I-X\n")
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
    (problem,) = problems_of(tmp_path, task, train="text\tlabel\na\tx,y\n", dev="text\tlabel\na\tx,z\nb\t\n")
    assert "the label 'z'" in problem


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


def test_a_label_that_a_subset_lost_is_told_as_such(tmp_path):
    train = table(200, lambda number: "rare" if number == 0 else number % 2)
    task = text_task(train_examples=10)
    (problem,) = problems_of(tmp_path, task, train=train, dev="text\tlabel\nso\trare\n")
    assert problem.startswith("dev.tsv:2: the label 'rare' is not in the subset of 10 training examples; raise")


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
