"""The presets hold the paper's table, Google's values where they are asked for, and run on shipped files."""

import importlib

import pytest

from electra_jax.configs.finetune import base, glue, squad, tagging, text
from electra_jax.finetuning import validation
from electra_jax.finetuning.data.reading import read_splits
from electra_jax.finetuning.tasks.kinds import KINDS
from tests.configs import typed_task

GLUE = ("cola", "sst", "mrpc", "sts", "qqp", "mnli", "qnli", "rte", "wnli")
EVERY = [
    *(("glue", name) for name in (*GLUE, "mrpc,sts")),
    *(("squad", name) for name in ("v1", "v2", "mrqa", "naturalqs", "newsqa,searchqa")),
    *(("tagging", name) for name in ("", "conll2000", "conll2002", "conll2003", "ud")),
    *(("text", name) for name in ("", "classification", "pairs", "multilabel", "regression", "trec")),
]


def preset(file, *variants):
    return importlib.import_module(f"electra_jax.configs.finetune.{file}").get_config("+".join(filter(None, variants)))


@pytest.mark.parametrize(("file", "name"), EVERY)
@pytest.mark.parametrize(
    ("size", "learning_rate", "layer_decay"),
    [("", 1e-4, 0.8), ("small", 3e-4, 0.8), ("base", 1e-4, 0.8), ("large", 5e-5, 0.9)],
)
def test_every_preset_has_the_recipe_of_the_paper(file, name, size, learning_rate, layer_decay):
    config = preset(file, name, size)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.layer_decay) == (learning_rate, layer_decay)
    assert (optimizer.weight_decay, optimizer.warmup_fraction, optimizer.schedule) == (0.0, 0.1, "linear")
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.999, 1e-6)
    assert (optimizer.clip_norm, optimizer.top_layer_exponent, config.loss_reduction) == (1.0, 1, "mean")
    assert config.batch_size == 32
    model = config.model
    assert (model.dropout_rate, model.attention_dropout_rate, model.classifier_dropout_rate) == (0.1, 0.1, 0.1)
    assert all(task.head == "paper" for task in config.tasks.values())


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_epochs_and_lengths_follow_the_kind_of_task(file, name):
    config = preset(file, name)
    epochs, length = {"squad": (2, 512), "tagging": (3, 256)}.get(file, (3, 128))
    assert config.epochs == (10 if name in ("rte", "sts") else epochs)
    assert {task.max_length for task in config.tasks.values()} == {length}


def test_ten_epochs_are_for_rte_and_sts_alone():
    assert glue.get_config("rte,sts").epochs == 3
    assert glue.get_config("rte+large+tfds").epochs == 10


@pytest.mark.parametrize(("file", "name"), EVERY)
@pytest.mark.parametrize(("size", "learning_rate"), [("small", 1e-4), ("base", 1e-4), ("large", 5e-5)])
def test_google_compat_has_the_values_of_the_published_code(file, name, size, learning_rate):
    config = preset(file, name, size, "google_compat")
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay) == (learning_rate, 0.01)
    assert (optimizer.top_layer_exponent, optimizer.schedule) == (2, "warmup_times_decay")
    assert (optimizer.gradient_scope, config.loss_reduction) == ("per_device", "sum")
    assert optimizer.layer_decay == (0.9 if size == "large" else 0.8)
    assert {task.segment for task in config.tasks.values() if task.kind == "tagging"} <= {1}


def test_questions_have_the_settings_of_the_paper():
    for config, unanswerable in ((squad.get_config("v1"), False), (squad.get_config("v2"), True)):
        task = config.tasks.squad
        assert task.unanswerable == unanswerable
        assert (task.stride, task.longest_question, task.longest_answer, task.beams) == (128, 64, 30, 20)
        assert task.null_threshold == -2.75
    assert set(squad.get_config("mrqa").tasks) == {"newsqa", "naturalqs", "triviaqa", "searchqa"}


def test_metrics_are_those_of_the_benchmarks_with_the_one_of_the_paper_first():
    chosen = {name: task.metrics for name, task in glue.get_config(",".join(GLUE)).tasks.items()}
    assert chosen == {
        "cola": ("matthews",),
        "sst": ("accuracy",),
        "mrpc": ("accuracy", "f1"),
        "sts": ("spearman", "pearson"),
        "qqp": ("accuracy", "f1"),
        "mnli": ("accuracy",),
        "qnli": ("accuracy",),
        "rte": ("accuracy",),
        "wnli": ("accuracy",),
    }
    assert glue.get_config("sts").tasks.sts.label_scale == 5.0
    assert tagging.get_config("ud").tasks.pos.metrics == ("accuracy",)
    assert tagging.get_config("conll2000").tasks.chunk.metrics[0] == "span_f1"


def test_predictions_are_submitted_under_the_names_that_glue_expects():
    tasks = glue.get_config(",".join(GLUE)).tasks
    files = [file for task in tasks.values() for file in task.submission.values()]
    assert sorted(files) == sorted(
        ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "AX"]
    )
    for task in tasks.values():
        assert set(task.submission) <= {"test", *task.more}


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_every_field_is_right_and_every_quicktest_finds_its_files(file, name):
    for size in ("", "small"):
        config = preset(file, name, size, "quicktest")
        config.init_from = "a model"
        assert list(validation.problems(config)) == []
        assert config.optimizer.learning_rate == base.SIZES[size or "base"][0]
        for task_name, task in config.tasks.items():
            assert task.metrics[0] in KINDS[task.kind].metrics
            splits = read_splits(task_name, typed_task(task), config.data.directory, config.data.download_cache).splits
            assert len(splits["train"]) >= config.batch_size
            assert splits["dev"]


def test_the_files_of_glue_have_the_slips_of_the_official_ones():
    qqp = glue.get_config("qqp+quicktest")
    notes = read_splits("qqp", typed_task(qqp.tasks.qqp), qqp.data.directory, "").notes
    assert notes == [
        "QQP/train.tsv: 1 of 49 examples (2.0%) left out, first QQP/train.tsv:19: found 4 cells, expected 6 (id, qid1, "
        "qid2, question1, question2, is_duplicate)"
    ]
    mnli = glue.get_config("mnli+quicktest")
    splits = read_splits("mnli", typed_task(mnli.tasks.mnli), mnli.data.directory, "").splits
    assert list(splits) == ["train", "dev", "test", "dev_mismatched", "diagnostic", "test_mismatched"]
    assert {example.label for example in splits["diagnostic"]} == {None}


@pytest.mark.parametrize(
    ("module", "variant"),
    [
        (glue, "rte,cola2"),
        (glue, "rte+smal"),
        (squad, "v3"),
        (squad, "newsqa,v1"),
        (tagging, "conll2001"),
        (text, "pair"),
    ],
)
def test_a_variant_that_is_not_known_is_told_with_those_that_are(module, variant):
    with pytest.raises(ValueError, match=r"expected .*small, base, large, google_compat, quicktest"):
        module.get_config(variant)


def test_without_a_task_glue_and_squad_ask_for_one():
    for module in (glue, squad):
        assert any("config.tasks: is empty" in problem for problem in validation.problems(module.get_config("small")))
