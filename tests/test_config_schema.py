"""Every field of every config: wrong types, values that are not finite, and both ends of its range."""

import dataclasses
import functools
import json
import math

import pytest

from electra_jax.config import files, identity, reference, schema, shared
from electra_jax.config.finetuning import TASK_CONFIGS, FinetuningConfig, ProbeConfig
from electra_jax.config.pretraining import TOKENIZERS, PretrainingConfig, SchedulesConfig
from electra_jax.errors import InputError
from electra_jax.finetuning.tasks.kinds import KINDS
from electra_jax.pretraining.objectives import Objective
from electra_jax.text.tokenizers import tokenizer
from electra_jax.training import sharding_rules
from tests.configs import ROOT, checked, preset, typed

WRONG_TYPES = {bool: "yes", int: "many", float: "much", str: 3}


def complete(task):
    """A config with every section filled in, as nested plain values."""
    if task == "pretraining":
        tree = preset("quickstart").to_dict()
        assert tree["probe"]["reference"]
        return tree
    tree = schema.as_tree(FinetuningConfig())
    tree["tasks"] = {kind: schema.as_tree(section(kind=kind)) for kind, section in TASK_CONFIGS.items()}
    return tree


def fields(tree, kind, prefix=""):
    """Dotted names and fields of all values, those in tables and optional sections too."""
    for field in schema.fields_of(kind):
        name, inner = prefix + field.name, schema.section_class(field.type)
        if inner:
            yield from fields(tree[field.name], inner, f"{name}.")
        elif schema.is_table(field.type):
            for item, value in tree[field.name].items():
                if isinstance(value, dict):
                    yield from fields(value, TASK_CONFIGS[value["kind"]], f"{name}.{item}.")
        else:
            yield name, field


ALL = [
    (task, name, field)
    for task, kind in (("pretraining", PretrainingConfig), ("finetuning", FinetuningConfig))
    for name, field in fields(complete(task), kind)
]


def problems(task, name, value):
    """Problems of a complete config with one field changed."""
    tree = complete(task)
    *path, last = name.split(".")
    section = tree
    for part in path:
        section = section[part]
    section[last] = value
    kind = PretrainingConfig if task == "pretraining" else FinetuningConfig
    found = schema.Problems()
    schema.read(kind, tree, "config", found, files._task_class)
    return found.lines


def test_the_table_has_every_field_of_both_configs():
    assert len(ALL) == len({(task, name) for task, name, _ in ALL})
    names = {(task, name) for task, name, _ in ALL}
    for task, kind in (("pretraining", PretrainingConfig), ("finetuning", FinetuningConfig)):
        plain = {name for name, field in schema.leaves(kind) if field.type in WRONG_TYPES}
        assert {name for owner, name in names if owner == task} >= plain
    assert ("pretraining", "probe.tasks.slots.spans") in names
    assert ("finetuning", "tasks.answering.null_threshold") in names


@pytest.mark.parametrize(("task", "name", "field"), ALL, ids=lambda part: part if isinstance(part, str) else "")
def test_a_field_accepts_its_range_and_names_itself_otherwise(task, name, field):
    bounds = field.setting.range
    wrong = [None, {"a": 1}, WRONG_TYPES.get(field.type, (1, 2))]
    right = [field.default] if name != "task" else [task]
    if field.type is bool:
        wrong.append(1)
    if field.type in (int, float):
        wrong += [math.nan, math.inf, -math.inf, True, "1"]
        step = 1 if field.type is int else 1e-9
        for end, included, inward in (
            (bounds.low, bounds.includes_low, step),
            (bounds.high, bounds.includes_high, -step),
        ):
            if math.isfinite(end):
                end = field.type(end)
                (right if included else wrong).append(end)
                right.append(end + inward) if end + inward not in bounds.excluded else None
                wrong.append(end - inward)
    if field.type is int:
        wrong.append(1.5)
    if bounds.choices:
        right, wrong = list(bounds.choices), [*wrong, "no such choice"]
    wrong += bounds.excluded
    if name.endswith(".kind") and task == "finetuning":
        right = [name.split(".")[1]]  # Another kind has other fields.
    if name.endswith("slots.kind"):
        right = ["tagging"]
    for value in right:
        assert problems(task, name, value) == [], value
    for value in wrong:
        found = problems(task, name, value)
        assert len(found) == 1, (value, found)
        assert found[0].startswith(f"config.{name}: found {value!r}, expected "), found


def test_fields_that_are_missing_or_unknown_are_named():
    tree = complete("pretraining")
    del tree["optimizer"]["beta1"]
    tree["optimizer"]["beta_2"] = 0.9
    found = schema.Problems()
    schema.read(PretrainingConfig, tree, "config", found, files._task_class)
    assert found.lines == [
        "config.optimizer.beta_2: no such field; did you mean config.optimizer.beta2?",
        "config.optimizer.beta1: is missing; its default is 0.9",
    ]


def test_a_config_file_of_neither_kind_is_refused():
    given = preset("base")
    given.unlock()
    del given["objective"]
    with pytest.raises(InputError, match="found neither a section `objective` nor `tasks`"):
        files.read_config(given)


@pytest.mark.parametrize("task", ["pretraining", "finetuning"])
def test_a_typed_config_is_its_tree(task):
    kind = PretrainingConfig if task == "pretraining" else FinetuningConfig
    found = schema.Problems()
    config = schema.read(kind, complete(task), "config", found, files._task_class)
    assert not found.lines
    assert identity.flatten(schema.as_tree(config)) == identity.flatten(complete(task))


def test_integers_pass_as_floats_with_the_same_fingerprint():
    tree = complete("pretraining")
    before = identity.fingerprint(tree)
    tree["optimizer"]["weight_decay"] = 0
    tree["objective"]["corrective_weight"] = 1
    config = schema.read(PretrainingConfig, tree, "config", schema.Problems(), files._task_class)
    assert type(config.optimizer.weight_decay) is float
    tree = complete("pretraining")
    tree["optimizer"]["weight_decay"] = 0.0
    tree["objective"]["corrective_weight"] = 1.0
    assert identity.fingerprint(schema.as_tree(config)) == identity.fingerprint(tree) != before


def test_one_mistake_is_one_problem_whatever_else_reads_the_field():
    for name, value in (("mixture_temperature", 0.0), ("sequence_length", 4), ("sequence_length", 5)):
        given = preset("quickstart")
        given.data[name] = value
        with pytest.raises(InputError, match=rf"1 problem:\n  - config\.data\.{name}: found {value}, expected"):
            checked(given, 1, reads_text=False)


def test_an_older_recorded_config_has_defaults_for_new_fields():
    tree = schema.as_tree(typed(preset("small")))
    del tree["optimizer"]["name"], tree["model"]["position_start"]
    tree["retired"] = 1
    assert files.recorded(tree, "config.json") == typed(preset("small"))
    with pytest.raises(InputError, match=r"config\.json: found task None"):
        files.recorded({}, "config.json")
    tree["model"]["layers"] = "twelve"
    with pytest.raises(InputError, match=r"config\.model\.layers: found 'twelve', expected a whole number"):
        files.recorded(tree, "config.json")


def test_recorded_tasks_have_defaults_for_new_fields_too():
    config = typed(preset("finetune.glue", "sst"))
    tree = schema.as_tree(config)
    del tree["tasks"]["sst"]["dev_fraction"]
    tree["tasks"]["sst"]["skip_broken_rows"] = False
    assert files.recorded(tree, "config.json") == config
    tree["tasks"]["sst"]["kind"] = "singing"
    with pytest.raises(InputError, match=r"config\.tasks\.sst\.kind: found 'singing'"):
        files.recorded(tree, "config.json")


def recorded_by_a_run(given):
    """The tree of a config.json."""
    return json.loads(json.dumps(schema.as_tree(typed(given))))


@pytest.mark.parametrize(("name", "place", "field", "other"), [
    ("small", ("model",), "position_start", 2),
    ("finetune.text", ("tasks", "text"), "dev_fraction", 0.1),
])  # fmt: skip
def test_a_field_that_the_recorded_config_lacks_must_have_its_default(name, place, field, other):
    before, after = recorded_by_a_run(preset(name)), recorded_by_a_run(preset(name))
    del functools.reduce(dict.__getitem__, place, before)[field]
    assert identity.difference(before, after) == []
    functools.reduce(dict.__getitem__, place, after)[field] = other
    assert identity.difference(before, after) == [
        f"config.{'.'.join(place)}.{field}: was not there, is {other!r}",
    ]


def test_a_renamed_field_of_a_task_is_compared_under_its_new_name():
    before, after = recorded_by_a_run(preset("finetune.glue", "qqp")), recorded_by_a_run(preset("finetune.glue", "qqp"))
    del before["tasks"]["qqp"]["invalid_rows"]
    before["tasks"]["qqp"]["skip_broken_rows"] = True
    assert identity.difference(before, after) == []
    before["tasks"]["qqp"]["skip_broken_rows"] = False
    before["tasks"]["qqp"]["read_backwards"] = True
    assert identity.difference(before, after) == [
        "config.tasks.qqp.invalid_rows: was 'refuse', is 'skip'",
        "config.tasks.qqp.read_backwards: was True, is gone",
    ]


def test_a_run_that_an_earlier_version_began_dropped_the_last_batch():
    before, after = recorded_by_a_run(preset("finetune.text")), recorded_by_a_run(preset("finetune.text"))
    tagging = recorded_by_a_run(preset("finetune.tagging"))
    del before["last_batch"], tagging["tasks"]["tagging"]["windows"]
    assert not files.recorded(tagging, "config.json").tasks["tagging"].windows
    assert files.recorded(before, "config.json").last_batch == "drop"
    assert identity.difference(before, after) == ["config.last_batch: was 'drop', is 'train'"]


def test_the_probe_of_an_older_recorded_config_has_defaults_for_new_fields():
    config = typed(preset("quickstart"))
    tree = schema.as_tree(config)
    probe = tree["probe"]
    del probe["last_batch"], probe["divergence"], probe["tasks"]["slots"]["invalid_rows"]
    assert files.recorded(tree, "config.json") == config


@pytest.mark.parametrize("tasks", [[1], None, {"sst": 3}])
def test_a_damaged_recorded_config_differs_without_a_foreign_exception(tasks):
    after = recorded_by_a_run(preset("finetune.glue", "sst"))
    lines = identity.difference({**after, "tasks": tasks}, after)
    assert any(line.startswith("config.tasks.sst.train: was not there") for line in lines)


def test_names_that_the_schema_repeats_are_those_of_the_code():
    assert tuple(sharding_rules.RULES) == shared.SHARDINGS
    assert TOKENIZERS == tokenizer.KINDS
    assert set(TASK_CONFIGS) == set(KINDS)
    assert {field.name for field in schema.fields_of(SchedulesConfig)} < {
        field.name for field in dataclasses.fields(Objective)
    }


def test_a_probe_is_a_finetuning_config():
    assert {field.name for field in schema.fields_of(ProbeConfig)} == {
        *(field.name for field in schema.fields_of(FinetuningConfig)),
        "reference",
    }


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "config.optimizer.learning_rate"),
        ("batch", "config.batch_size"),
        ("learning_rate", "config.optimizer.learning_rate"),
        ("task.max_length", "config.tasks.rte.max_length"),
        ("optimiser.learning_rate", "config.optimizer.learning_rate"),
        ("model.dropout", "config.model.dropout_rate"),
    ],
)
def test_an_unknown_field_answers_with_the_one_that_is_meant(name, meant):
    tree = preset("finetune.glue", "rte").to_dict()
    assert reference.unknown_field(tree, name) == f"--config.{name}: no such field; did you mean --{meant}?"


def test_a_section_answers_with_its_fields_and_a_field_with_nothing():
    tree = preset("base").to_dict()
    assert reference.unknown_field(tree, "log") == "--config.log: is a section; its fields are --config.log.every_steps"
    assert reference.unknown_field(tree, "steps") == ""
    assert reference.unknown_field(preset("quickstart").to_dict(), "probe") == "", "--config.probe={} drops it"
    assert reference.unknown_field(tree, "xyzzy") == "--config.xyzzy: no such field; see --config.help"


def test_help_lists_every_field_with_its_reason():
    tree = preset("finetune.glue", "rte").to_dict()
    shown = reference.flag_help(tree)
    for name, value in identity.flatten(tree).items():
        assert f"--config.{name}={tuple(value) if isinstance(value, list) else value!r}\n" in shown
    assert "peak learning rate; a number above 0" in shown


def test_the_page_of_fields_is_the_schema():
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert page == reference.page(), "python -m electra_jax.config.reference > docs/config.md"
