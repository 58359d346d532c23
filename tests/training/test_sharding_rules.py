import flax.linen as nn
import jax
import pytest
from jax.sharding import PartitionSpec as P

from electra_jax.configs import small
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.training import sharding_rules
from tests.configs import typed


def test_changes_override_single_entries_of_a_preset():
    table = sharding_rules.table("fsdp_tp", "mlp:none, vocab:fsdp+tensor,table:fsdp")
    placed = {}
    for name, axes in table:
        placed.setdefault(name, axes)
    assert placed["mlp"] is None
    assert placed["vocab"] == ("fsdp", "tensor")
    assert placed["table"] == "fsdp"
    assert placed["heads"] == "tensor"
    assert placed["batch"] == ("data", "fsdp")
    assert sharding_rules.table("fsdp") == sharding_rules.RULES["fsdp"]


def test_changed_entry_replaces_that_of_the_preset():
    assert [axes for name, axes in sharding_rules.table("fsdp", "embed:tensor") if name == "embed"] == ["tensor"]


@pytest.mark.parametrize(
    ("sharding", "changes", "says"),
    [
        ("dp", "embed", "'embed', expected entries such as embed:fsdp"),
        ("dp", "embed:", "'embed:', expected entries such as"),
        (
            "dp",
            "width:fsdp",
            "'width:fsdp' names no axis that can be sharded; expected one of length, embed_act, embed,",
        ),
        ("dp", "batch:tensor", "'batch:tensor' names no axis that can be sharded"),
        ("dp", "embed:model", "'embed:model' names 'model', expected one of data, fsdp, tensor"),
        ("dp", "embed:fsdp+none", "names 'none'"),
        ("dp", "embed:fsdp,embed:tensor", "several entries for 'embed'"),
        ("fsdp", "mlp:fsdp", "places both 'embed' and 'mlp' of arrays [layers, embed, mlp] on the mesh axis 'fsdp'"),
        ("fsdp_tp", "layers:tensor", "places both 'layers' and 'heads'"),
        ("dp", "embed_act:fsdp", "places both 'batch' and 'embed_act'"),
        ("dp", "embed:fsdp+fsdp", "places both 'embed' and 'embed'"),
    ],
)
def test_invalid_table_is_one_problem(sharding, changes, says):
    [problem] = sharding_rules.problems(sharding, changes)
    assert says in problem


@pytest.mark.parametrize("sharding", sharding_rules.RULES)
def test_presets_and_sound_changes_have_no_problems(sharding):
    assert list(sharding_rules.problems(sharding, "")) == []
    assert list(sharding_rules.problems(sharding, "embed:none,mlp:fsdp+tensor,vocab:fsdp")) == []


def logical_axes(tree):
    return {tuple(spec) for spec in jax.tree.leaves(nn.get_partition_spec(tree), is_leaf=lambda leaf: type(leaf) is P)}


def test_axes_of_every_parameter_are_checked_for_problems():
    key = jax.eval_shape(lambda: jax.random.key(0))
    config = small.get_config("quicktest")
    found = logical_axes(jax.eval_shape(pretraining_job(typed(config), None, "cpu").init, key))
    config.objective.name = "mlm"
    found |= logical_axes(jax.eval_shape(pretraining_job(typed(config), None, "cpu").init, key))
    assert len(found) > 5
    for axes in found:
        named = {axis for axis in axes if axis}
        assert any(named <= set(array) for array in sharding_rules.ARRAYS), axes
