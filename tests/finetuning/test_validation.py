import importlib

import pytest

from electra_jax.errors import InputError
from electra_jax.finetuning import validation
from tests.configs import checked, typed


def preset(variant="glue:rte", **changes):
    family, _, names = variant.partition(":")
    config = importlib.import_module(f"electra_jax.configs.finetune.{family}").get_config(names)
    config.init_from = "runs/base"
    for name, value in changes.items():
        *path, last = name.split("__")
        section = config
        for part in path:
            section = section[part]
        with section.ignore_type():
            section[last] = value
    return config


def problems(variant="glue:rte", **changes):
    with pytest.raises(InputError) as raised:
        checked(preset(variant, **changes), 8)
    head, *lines = str(raised.value).splitlines()
    assert head == f"The config has {len(lines)} problem{'s' if len(lines) > 1 else ''}:"
    return [line.removeprefix("  - ") for line in lines]


@pytest.mark.parametrize("variant", ["glue:rte", "glue:mrpc,sts+large", "squad:v2", "tagging:conll2000", "text"])
def test_the_presets_are_valid(variant):
    checked(preset(variant), 8)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"init_from": ""}, "config.init_from: is empty, expected the model to fine-tune"),
        ({"epochs": 0}, "config.epochs: found 0.0, expected a number above 0"),
        ({"trials": 0}, "config.trials: found 0, expected a number above 0"),
        ({"seed": -1}, "config.seed: found -1, expected 0 or more"),
        ({"batch_size": 12}, "config.batch_size: 12 rows cannot be sharded evenly over 8 devices"),
        ({"data__lengths": 0}, "config.data.lengths: found 0, expected a number above 0"),
        ({"evaluation__chosen": "first"}, "config.evaluation.chosen: found 'first', expected one of last, best"),
        ({"evaluation__per_epoch": 0}, "config.evaluation.per_epoch: found 0.0, expected a number above 0"),
        ({"loss_reduction": "median"}, "config.loss_reduction: found 'median', expected one of mean, sum"),
        ({"optimizer__warmup_fraction": 1.0}, "config.optimizer.warmup_fraction: found 1.0, expected a fraction"),
        (
            {"model__classifier_dropout_rate": -0.1},
            "config.model.classifier_dropout_rate: found -0.1, expected a fraction",
        ),
        ({"tasks__rte__kind": "ranking"}, "config.tasks.rte.kind: found 'ranking', expected one of classification"),
        ({"tasks__rte__max_length": 0}, "config.tasks.rte.max_length: found 0, expected 8 or more"),
        ({"tasks__rte__max_length": 4}, "config.tasks.rte.max_length: found 4, expected 8 or more"),
        ({"tasks__rte__weight": 0.0}, "config.tasks.rte.weight: found 0.0, expected a number above 0"),
        ({"tasks__rte__train_examples": -1}, "config.tasks.rte.train_examples: found -1, expected 0 or more"),
        ({"tasks__rte__head": "papyrus"}, "config.tasks.rte.head: found 'papyrus', expected one of paper, huggingface"),
        ({"tasks__rte__metrics": ("bleu",)}, "config.tasks.rte.metrics: found 'bleu', expected some of accuracy"),
        ({"tasks__rte__metrics": ()}, "config.tasks.rte.metrics: is empty, expected some of accuracy"),
        ({"tasks__rte__dev": ""}, "config.tasks.rte.dev: is empty, expected labelled examples to score"),
        ({"tasks": {}}, "config.tasks: is empty, expected at least one; choose one with a variant"),
    ],
)
def test_each_problem_is_said_with_its_field(changes, expected):
    found = problems(**changes)
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    ("variant", "changes", "expected"),
    [
        ("glue:sts", {"tasks__sts__metrics": ("mse", "pearson")}, "found 'mse' first"),
        ("tagging:ud", {"tasks__pos__metrics": ("span_f1",)}, "'span_f1' scores spans, and config.tasks.pos.spans"),
        ("squad:v1", {"tasks__squad__metrics": ("f1", "best_f1")}, "'best_f1' scores questions without an answer"),
        ("squad:v1", {"tasks__squad__longest_question": 510}, "leaves no room for a context"),
        ("squad:v2", {"tasks__squad__head": "huggingface"}, "set --config.tasks.squad.null_threshold=0.0"),
    ],
)
def test_fields_that_contradict_each_other_are_named(variant, changes, expected):
    (found,) = problems(variant, **changes)
    assert expected in found


def test_all_problems_of_all_tasks_are_said_at_once():
    found = problems("glue:mrpc,sts", epochs=0, tasks__mrpc__head="x", tasks__sts__max_length=-1)
    assert len(found) == 3


def test_rows_longer_than_the_model_reads_are_refused():
    config = preset("glue:mrpc,sts", tasks__sts__max_length=1024)
    (problem,) = validation.check_positions(typed(config), 512)
    assert problem.startswith(
        "config.tasks.sts.max_length: found 1024, expected at most 512, the positions of runs/base"
    )
