"""Labelled examples of TFDS datasets, mocked by the library itself, become examples of tasks."""

import pytest
import tensorflow
import tensorflow_datasets as tfds

from electra_jax.configs.finetune import base, glue, squad
from electra_jax.errors import InputError
from electra_jax.finetuning.data.examples import Answer, QuestionExample
from electra_jax.finetuning.data.reading import read_splits
from electra_jax.text.sources import tfds_examples
from tests.configs import typed_task

COUNT = 12


def read(config):
    """The splits of the one task of a config, of invented examples."""
    ((name, task),) = config.tasks.items()
    with tfds.testing.mock_data(num_examples=COUNT):
        return task, read_splits(name, typed_task(task), config.data.directory, config.data.download_cache).splits


@pytest.mark.parametrize("name", ["cola", "sst", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli"])
def test_every_task_of_glue_is_read_with_the_names_of_its_files(name):
    task, splits = read(glue.get_config(f"{name}+tfds"))
    more = ["dev_mismatched", "diagnostic", "test_mismatched"] if name == "mnli" else []
    assert list(splits) == ["train", "dev", "test", *more]
    for examples in splits.values():
        assert len(examples) == COUNT
        assert all(len(example.texts) == len(task.text_columns) for example in examples)
    assert {example.label for example in splits["train"]} <= set(task.labels)
    assert splits["train"][3].place == f"{task.train}: example 3"


def test_the_grades_of_sts_are_numbers():
    _, splits = read(glue.get_config("sts+tfds"))
    assert all(isinstance(example.label, float) for example in splits["train"])


@pytest.mark.parametrize("name", ["mnli", "qnli", "rte"])
def test_labels_are_in_the_order_of_the_numbers_of_the_catalogue(name):
    task = glue.get_config(name).tasks[name]
    assert list(task.labels) == tfds.builder(f"glue/{name}").info.features["label"].names


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_squad_is_read_from_the_catalogue(version):
    answers = {"text": ["five"], "answer_start": [4]}
    plain = {"id": "a", "title": "t", "question": "How many?", "context": "All five.", "answers": answers}
    records = [plain]
    if version == "v2":
        nothing = {"text": [], "answer_start": []}
        plain |= {"is_impossible": False, "plausible_answers": nothing}
        records += [plain | {"id": "b", "is_impossible": True, "answers": nothing, "plausible_answers": answers}]

    def as_dataset(builder, **options):
        # What the library invents by itself has as many texts as it likes, and they stand nowhere in the context.
        signature = builder.info.features.get_tensor_spec()
        return tensorflow.data.Dataset.from_generator(lambda: iter(records), output_signature=signature)

    ((name, task),) = squad.get_config(f"{version}+tfds").tasks.items()
    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        splits = read_splits(name, typed_task(task), "", "").splits
    assert list(splits) == ["train", "dev"]
    assert splits["dev"][0] == QuestionExample(
        f"{task.dev}: example 0, question 'a'", "a", "How many?", "All five.", (Answer("five", 4),)
    )
    assert [example.answers for example in splits["train"][1:]] == [()] * (version == "v2")


def test_answers_and_starts_of_different_number_are_reported(monkeypatch):
    record = {"id": "a", "question": "q", "context": "c", "answers": {"text": [], "answer_start": [0]}}
    monkeypatch.setattr(tfds_examples, "open_split", lambda source, field: ({}, iter([record])))
    task = base.answering_task(train="tfds:it#split=train")
    with pytest.raises(InputError, match="question 'a': found 0 answers and 1 places, expected as many"):
        read_splits("it", typed_task(task), "", "")


def test_words_and_tags_of_sentences_are_named_by_the_path(monkeypatch):
    names = ("O", "B-PER", "I-PER")
    records = [{"tokens": ["Lady", "Macbeth", "walks"], "ner": [1, 2, 0], "pos": [7, 7, 8]}]
    monkeypatch.setattr(tfds_examples, "open_split", lambda source, field: ({"ner": names}, iter(records)))
    path = "tfds:conll2003#split=train&tags=ner"
    (example,) = read_splits("ner", typed_task(base.tagging_task(train=path, dev=path)), "", "").splits["train"]
    assert example.words == ("Lady", "Macbeth", "walks")
    assert example.tags == ("B-PER", "I-PER", "O")
    assert example.place == f"{path}: example 0"


def test_the_names_of_tags_come_with_the_sentences():
    with tfds.testing.mock_data(num_examples=COUNT):
        source = tfds_examples.parse("tfds:conll2003#split=train&tags=ner")
        names, records = tfds_examples.open_split(source, "config.tasks.ner")
        record = next(records)
    assert names["ner"][:3] == ("O", "B-PER", "I-PER")
    assert all(isinstance(word, str) for word in record["tokens"])
    assert all(isinstance(tag, int) for tag in record["ner"])


def test_a_class_of_minus_one_is_not_known(monkeypatch):
    records = [{"text": "so", "label": -1}, {"text": "so", "label": 1}]
    monkeypatch.setattr(tfds_examples, "open_split", lambda source, field: ({"label": ("no", "yes")}, iter(records)))
    path = "tfds:it#split=test"
    task = base.classification_task(train=path, dev=path, test=path)
    with pytest.raises(InputError, match="#split=test: example 0: 'label' is empty"):
        read_splits("it", typed_task(task), "", "")
    records = [{"text": "so", "label": 1}, {"text": "or", "label": 0}]
    monkeypatch.setattr(
        tfds_examples,
        "open_split",
        lambda source, field: (
            {"label": ("no", "yes")},
            iter([{"text": "so", "label": -1}] * (source.split == "test") + records),
        ),
    )
    task = base.classification_task(train="tfds:it#split=train", dev="tfds:it#split=train", test=path)
    assert [example.label for example in read_splits("it", typed_task(task), "", "").splits["test"]] == [
        None,
        "yes",
        "no",
    ]
    task.labels = ("0", "1")
    assert [example.label for example in read_splits("it", typed_task(task), "", "").splits["test"]] == [None, "1", "0"]


def test_a_grade_of_minus_one_is_not_known_in_a_test_split_alone(monkeypatch):
    monkeypatch.setattr(tfds_examples, "open_split", lambda source, field: ({}, iter([{"text": "so", "label": -1.0}])))
    paths = {split: f"tfds:it#split={split}" for split in ("train", "dev", "test")}
    splits = read_splits("it", typed_task(base.classification_task(kind="regression", **paths)), "", "").splits
    assert [splits[split][0].label for split in ("train", "dev", "test")] == [-1.0, -1.0, None]


def test_missing_fields_are_reported(monkeypatch):
    monkeypatch.setattr(tfds_examples, "open_split", lambda source, field: ({}, iter([{"body": "so", "label": "a"}])))
    task = base.classification_task(train="tfds:it#split=train", dev="tfds:it#split=dev")
    with pytest.raises(InputError, match="found 'body', 'label', expected 'text'; name the fields with text_columns"):
        read_splits("it", typed_task(task), "", "")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tfds:no_such_set#split=train", "config.tasks.it: tfds:no_such_set is not known to TensorFlow Datasets"),
        ("tfds:glue#split=train", "several datasets; name one of its 12 configs"),
    ],
)
def test_missing_datasets_are_reported(path, message):
    with pytest.raises(InputError, match=message):
        tfds_examples.open_split(tfds_examples.parse(path), "config.tasks.it")


def test_a_failed_read_names_the_split(monkeypatch):
    def fail(builder, **options):
        raise OSError("input/output error")

    with tfds.testing.mock_data(num_examples=1), monkeypatch.context() as patched:
        patched.setattr(tfds.core.DatasetBuilder, "as_dataset", fail)
        _, examples = tfds_examples.open_split(tfds_examples.parse("tfds:glue/rte#split=train"), "config.tasks.it")
        with pytest.raises(InputError, match=r"glue/rte, split train, cannot be read \(input/output error\)"):
            next(examples)


def test_a_path_is_parsed():
    assert tfds_examples.parse("tfds:glue/rte:2.0.0#split=train") == tfds_examples.Source("glue/rte:2.0.0", "train")
    assert tfds_examples.parse("tfds:a#words=w&tags=t&split=s") == tfds_examples.Source("a", "s", "w", "t")
