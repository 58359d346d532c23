import functools
import importlib
import json
import os
import pathlib

import pytest

from electra_jax import config_rules
from electra_jax.config import identity, schema
from electra_jax.errors import InputError
from tests.configs import checked, typed

ROOT = pathlib.Path(__file__).parents[1]
GOLDENS = ROOT / "tests" / "golden" / "configs"
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("[!_]*.py"))
VARIANTS = ("", "quicktest", "google_compat", "google_compat+quicktest")


def preset(name="small", variant=""):
    config = importlib.import_module(f"electra_jax.configs.{name}").get_config(variant)
    config.data.sources = (str(ROOT / "tests" / "data" / "shakespeare.txt"),)
    return config


def set_field(config, name, value):
    *path, last = name.split(".")
    for part in path:
        config = config[part]
    # Like a flag that was given a number: validate() sees what the config's own type check lets through.
    with config.ignore_type():
        config[last] = value


def problems_of(devices=8, name="small", **changes):
    """Problems of a preset with some fields changed; dots are written as double underscores."""
    config = preset(name)
    for field_name, value in changes.items():
        set_field(config, field_name.replace("__", "."), value)
    with pytest.raises(InputError) as raised:
        checked(config, devices)
    assert raised.value.exit_code == 64
    head, *lines = str(raised.value).splitlines()
    assert head == f"The config has {len(lines)} problem{'s' if len(lines) > 1 else ''}:"
    assert all(line.startswith("  - config") for line in lines), lines
    return [line.removeprefix("  - ") for line in lines]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_valid(name, variant):
    checked(preset(name, variant), 8)


@pytest.mark.parametrize(
    ("field_name", "value", "says"),
    [
        ("steps", 0, "0, expected a number above 0"),
        ("model.layers", 0, "0, expected a number above 0"),
        ("optimizer.learning_rate", -1e-3, "-0.001, expected a number above 0"),
        ("optimizer.learning_rate", float("nan"), "nan, expected a number above 0"),
        ("objective.temperature", 0.0, "0.0, expected a number above 0"),
        ("evaluation.rows", 0, "0, expected a number above 0"),
        ("optimizer.weight_decay", -0.1, "-0.1, expected 0 or more"),
        ("evaluation.shown_rows", -1, "-1, expected 0 or more"),
        ("objective.mask_fraction", 1.0, "1.0, expected a fraction, at least 0 and below 1"),
        ("objective.kept_fraction", -0.1, "-0.1, expected a fraction, at least 0 and below 1"),
        ("model.dropout_rate", 1.0, "1.0, expected a fraction, at least 0 and below 1"),
        ("optimizer.beta2", 1.0, "1.0, expected a fraction, at least 0 and below 1"),
        ("model.generator_width", 0.0, "0.0, expected a factor above 0 and up to 1"),
        ("model.generator_depth", 1.5, "1.5, expected a factor above 0 and up to 1"),
        ("objective.name", "elektra", "'elektra', expected one of electra, hybrid, mlm"),
        ("task", "finetuning", "'finetuning', expected pretraining with this config file"),
        ("data.rows", "folded", "found 'folded', expected one of segment_pairs, packed"),
        ("model.attention_bias", "rotary", "'rotary', expected one of none, distance_decay"),
        ("model.compute_dtype", "float16", "'float16', expected one of auto, float32, bfloat16"),
        ("model.attention", "flash", "'flash', expected one of auto, plain, fused, splash, cudnn"),
        ("model.saved_activations", "some", "'some', expected one of all, products, layer_inputs"),
        ("mesh.sharding", "zero", "'zero', expected one of dp, fsdp, fsdp_tp"),
        ("model.heads", 5, "5 heads do not divide config.model.hidden_size=256"),
        ("data.sequence_length", 513, "513 is above the position table, config.model.positions=512"),
        ("data.sequence_length", 7, "7, expected 8 or more"),
        ("objective.mask_fraction", 0.99, "0.99 of 128 tokens makes 127 slots"),
        ("objective.mask_fraction", 0.001, "0.001 of 128 tokens makes 0 slots"),
        ("optimizer.warmup_steps", 1_000_000, "1000000 is not below config.steps=1000000"),
        ("batch_size", 100, "100 rows cannot be sharded evenly over 8 devices"),
        ("mesh.data", 3, "data=3 × fsdp=1 × tensor=1 does not use exactly the 8 devices here"),
        ("mesh.fsdp", 3, "data=-1 × fsdp=3 × tensor=1 does not use exactly the 8 devices here"),
        ("mesh.tensor", 0, "0, expected a number of devices, or -1"),
        ("mesh.fsdp", -1, "more than one axis is -1"),
        ("mesh.slices", 0, "0, expected a number above 0"),
        ("mesh.slices", 3, "3 slices do not split data=8, and fsdp=1 × tensor=1 devices must lie within one slice"),
        ("mesh.rules", "width:fsdp", "'width:fsdp' names no axis that can be sharded; expected one of length"),
        ("mesh.rules", "embed:fsdp,mlp:fsdp", "places both 'embed' and 'mlp'"),
        ("accumulation", 0, "0, expected a number above 0"),
        ("accumulation", 3, "128 rows on 8 devices cannot be split into 3 equal microbatches; use a divisor of 16"),
    ],
)
def test_one_mistake_is_one_problem_that_names_its_field(field_name, value, says):
    [problem] = problems_of(**{field_name.replace(".", "__"): value})
    expected = "config.mesh" if field_name.startswith("mesh.") else f"config.{field_name}"
    assert problem.startswith(expected)
    assert says in problem


def test_a_generator_whose_heads_do_not_divide_it_is_a_problem():
    [problem] = problems_of(model__generator_width=0.7)
    assert problem.startswith("config.model.generator_width: 0.7 makes a generator of width 179 with 3 heads")
    # The baseline has no generator.
    config = preset("mlm_base")
    config.model.generator_width = 0.7
    checked(config, 8)


def test_problems_of_a_probe_name_its_own_fields():
    changes = {
        "probe__epochs": 0.0,
        "probe__tasks__slots__max_length": 128,
        "probe__tasks__slots__spans": True,
        "probe__reference": {"mean": 0.8},
    }
    epochs, *reference, spans, length = problems_of(devices=1, name="quickstart", **changes)
    assert epochs.startswith("config.probe.epochs: found 0.0, expected")
    assert [line.split(":")[0] for line in reference] == [
        f"config.probe.reference.{name}" for name in ("name", "sd", "seeds", "steps", "recorded")
    ]
    assert spans.startswith("config.probe.tasks.slots: a probe counts words with the right tag")
    assert length.endswith("set --config.probe.tasks.slots.max_length=64")


def test_accents_cannot_be_stripped_by_sentencepiece():
    [problem] = problems_of(data__tokenizer__kind="unigram", data__tokenizer__strip_accents=True)
    assert problem.startswith("config.data.tokenizer.strip_accents: ")
    config = preset("small")
    set_field(config, "data.tokenizer.kind", "unigram")
    set_field(config, "data.tokenizer.strip_accents", False)
    checked(config, 8)


def test_missing_text_is_a_problem():
    [problem] = problems_of(data__sources=())
    assert problem.startswith("config.data.sources")
    [problem] = problems_of(data__sources=("nowhere/*.txt",))
    assert "nowhere/*.txt" in problem


def test_all_mistakes_are_reported_at_once():
    mistakes = {
        "steps": 0,
        "batch_size": 100,
        "data.sequence_length": 1024,
        "data.sources": (),
        "model.heads": 5,
        "model.dropout_rate": 1.0,
        "objective.name": "elektra",
        "optimizer.learning_rate": 0.0,
        "mesh.sharding": "zero",
    }
    problems = problems_of(**{name.replace(".", "__"): value for name, value in mistakes.items()})
    assert sorted(problem.split(":")[0] for problem in problems) == sorted(f"config.{name}" for name in mistakes)


def test_fsdp_and_tensor_stay_within_a_slice():
    config = preset()
    config.mesh.slices = 2
    config.mesh.fsdp, config.mesh.tensor = 2, 2
    checked(config, 8)
    [problem] = problems_of(mesh__slices=2, mesh__fsdp=8)
    assert problem.startswith("config.mesh.slices: 2 slices do not split data=1, and fsdp=8 × tensor=1")


def test_gradients_per_device_need_replicated_weights():
    for changes in ({"mesh__sharding": "fsdp"}, {"mesh__rules": "embed:fsdp"}, {"mesh__tensor": 2}):
        [problem] = problems_of(optimizer__gradient_scope="per_device", **changes)
        assert problem.startswith("config.optimizer.gradient_scope: per_device needs replicated weights")


def test_a_mesh_of_every_kind_uses_all_devices():
    for mesh in ((-1, 1, 1), (1, -1, 1), (2, 2, 2), (-1, 2, 2), (8, 1, 1), (1, 1, 8)):
        config = preset()
        config.mesh.data, config.mesh.fsdp, config.mesh.tensor = mesh
        checked(config, 8)


def test_each_process_must_read_as_many_rows_as_the_others():
    config = preset("small")
    config.batch_size, config.mesh.data, config.mesh.tensor = 6, 2, 4
    checked(config, 8, 2)
    with pytest.raises(InputError, match="4 devices would share rows across the 4 processes, which have 2 each"):
        checked(config, 8, 4)
    config.mesh.data, config.mesh.tensor = 1, -1
    with pytest.raises(InputError, match="8 devices would share rows across the 2 processes, which have 4 each"):
        checked(config, 8, 2)
    config.mesh.data, config.mesh.tensor = -1, 1
    with pytest.raises(InputError, match=r"6 rows cannot be sharded evenly over 4 devices .*; use a multiple of 4"):
        checked(config, 4, 4)


def test_only_devices_that_share_a_batch_must_divide_it():
    config = preset()
    config.batch_size, config.mesh.data, config.mesh.tensor = 2, 2, 4
    checked(config, 8)
    assert "over 8 devices" in problems_of(batch_size=4, mesh__data=2, mesh__fsdp=4)[0]


def as_json(config):
    """The config as recorded in a workdir."""
    return json.loads(json.dumps(schema.as_tree(typed(config))))


def test_a_config_survives_a_round_trip_through_json():
    config = preset("quickstart").to_dict()
    assert isinstance(config["data"]["sources"], tuple)
    assert identity.difference(config, as_json(preset("quickstart"))) == []
    assert identity.fingerprint(config) == identity.fingerprint(as_json(preset("quickstart")))


def test_a_changed_model_field_is_named_with_both_values():
    before, after = as_json(preset()), as_json(preset())
    after["model"]["layers"] = 6
    assert identity.difference(before, after) == ["config.model.layers: was 12, is 6"]
    assert identity.fingerprint(before) != identity.fingerprint(after)


@pytest.mark.parametrize(("recorded", "given"), [(True, "auto"), (False, "auto"), ("auto", False), ("auto", "auto")])
def test_a_casing_left_to_the_text_is_no_other_config(recorded, given):
    before, after = as_json(preset()), as_json(preset())
    before["data"]["tokenizer"]["lowercase"], after["data"]["tokenizer"]["lowercase"] = recorded, given
    assert identity.difference(before, after) == []
    # What is recorded stays, so that later starts are compared with it.
    kept = identity.with_recorded_casing(before, after)
    assert kept["data"]["tokenizer"] == before["data"]["tokenizer"]
    assert kept["model"] == after["model"]


def test_a_casing_that_contradicts_the_recorded_one_is_named():
    before, after = as_json(preset()), as_json(preset())
    before["data"]["tokenizer"]["lowercase"], after["data"]["tokenizer"]["lowercase"] = True, False
    assert identity.difference(before, after) == ["config.data.tokenizer.lowercase: was True, is False"]
    assert identity.with_recorded_casing(before, after) == after


def test_new_and_vanished_fields_are_named():
    before, after = as_json(preset()), as_json(preset())
    after["model"]["rotary"] = True
    del after["seed"]
    assert identity.difference(before, after) == [
        "config.model.rotary: was not there, is True",
        "config.seed: was 42, is gone",
    ]


def test_free_fields_may_change_and_their_neighbours_may_not():
    changed = preset()
    changed.mesh.data = 4
    changed.mesh.sharding = "fsdp"
    changed.mesh.shard_optimizer = True
    changed.accumulation = 4
    changed.log.every_steps = 7
    changed.evaluation.rows = 9
    changed.checkpoint.keep_last = 1
    changed.divergence.max_skipped = 1
    changed.compile_cache = "elsewhere"
    changed.data.directory = "elsewhere"
    changed.data.download_cache = "elsewhere"
    changed.probe = preset("quickstart").probe
    before = as_json(preset())
    assert identity.difference(before, as_json(changed)) == []
    assert identity.fingerprint(before) == identity.fingerprint(as_json(changed))
    changed.data.seed = 1
    changed.batch_size = 64
    named = [line.split(":")[0] for line in identity.difference(before, as_json(changed))]
    assert named == ["config.batch_size", "config.data.seed"]


def test_every_field_but_the_free_ones_changes_the_fingerprint():
    config = as_json(preset())
    trained = identity.trained_fields(config)
    free = identity.flatten(config).keys() - trained.keys()
    wings = {"mesh", "log", "evaluation", "checkpoint", "divergence", "hang"}
    assert {name for name in free if name.split(".")[0] not in wings} == {
        "accumulation",
        "compile_cache",
        "data.directory",
        "data.download_cache",
        "model.attention",
        "model.saved_activations",
        "model.unrolled_layers",
    }
    for name in trained:
        changed = as_json(preset())
        *path, last = name.split(".")
        functools.reduce(dict.__getitem__, path, changed)[last] = "something else"
        assert identity.fingerprint(changed) != identity.fingerprint(config), name


def test_a_tokenizer_of_another_size_is_refused():
    config_rules.check_vocabulary(typed(preset()), 30_522)
    with pytest.raises(InputError, match=r"--config\.data\.tokenizer\.vocabulary_size=512"):
        config_rules.check_vocabulary(typed(preset()), 512)


def listed(name, variant):
    config = importlib.import_module(f"electra_jax.configs.{name}").get_config(variant)
    flat = identity.flatten(config.to_dict())
    return "".join(f"{field_name} = {flat[field_name]!r}\n" for field_name in sorted(flat))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_presets_equal_their_snapshots(name, variant):
    path = GOLDENS / f"{name}{'.' if variant else ''}{variant}.txt"
    text = listed(name, variant)
    if os.environ.get("UPDATE_GOLDENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    update = (
        "; if the change is wanted: UPDATE_GOLDENS=1 python -m pytest tests/test_config.py, and commit the snapshots"
    )
    assert path.exists(), f"configs/{name}.py has no snapshot {path.relative_to(ROOT)}{update}"
    expected = path.read_text(encoding="utf-8")
    changes = sorted(set(expected.splitlines()) ^ set(text.splitlines()), key=lambda line: line.split(" = ")[0])
    assert text == expected, f"configs/{name}.py differs from {path.relative_to(ROOT)} in {changes}{update}"


def test_no_snapshot_is_left_behind_by_a_config_that_is_gone():
    if os.environ.get("UPDATE_GOLDENS"):
        for path in GOLDENS.glob("*.txt"):
            if path.stem.partition(".")[0] not in NAMES:
                path.unlink()
    assert {path.stem.partition(".")[0] for path in GOLDENS.glob("*.txt")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(ValueError, match="variant"):
        importlib.import_module(f"electra_jax.configs.{name}").get_config("quickest")
