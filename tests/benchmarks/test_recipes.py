import dataclasses
import math

import pytest

from benchmarks.objectives import recipes, tasks
from benchmarks.objectives.plan import read_plan
from electra_jax.errors import InputError
from tests.benchmarks.made import COSTS, FILES, write_plan, write_stsb, write_trec


def plan(directory, *changes):
    return read_plan(write_plan(directory, *changes))


def test_equal_flops_buy_steps_by_the_cost_of_a_step(tmp_path):
    runs = recipes.runs_of(plan(tmp_path), COSTS, seed=1)
    assert {(run.contender, run.amount): run.steps for run in runs} == {
        ("electra", 1e6): 100, ("electra", 4e6): 400, ("mlm", 1e6): 200, ("mlm", 4e6): 800,
    }  # fmt: skip
    for run in runs:
        assert run.scored == ((run.amount, run.steps),)
        assert run.steps * COSTS[run.contender].flops == run.amount


def test_equal_seconds_buy_steps_by_the_time_of_a_step(tmp_path):
    runs = recipes.runs_of(plan(tmp_path, ("flops = [1e6, 4e6]", "seconds = [10]")), COSTS, seed=1)
    assert [(run.contender, run.kind, run.steps) for run in runs] == [
        ("electra", "seconds", 20),
        ("mlm", "seconds", 40),
    ]


def test_at_tokens_is_one_run_with_checkpoints_at_equal_distances(tmp_path):
    made = plan(tmp_path, ("flops = [1e6, 4e6]", "at_tokens = [10e3, 30e3, 100e3]"))
    runs = recipes.runs_of(made, COSTS, seed=2)
    assert [run.contender for run in runs] == ["electra", "mlm"]
    assert runs[0].scored == ((10e3, 39), (30e3, 117), (100e3, 390))
    config = recipes.pretraining_config(made, runs[0])
    assert (config.steps, config.seed, config.checkpoint.keep_every_steps) == (390, 2, 39)
    assert all(step % config.checkpoint.every_steps == 0 for _, step in runs[0].scored)


def test_a_run_warms_up_for_a_share_of_its_steps(tmp_path):
    made = plan(tmp_path)
    short, long = (recipes.pretraining_config(made, run) for run in recipes.runs_of(made, COSTS, 1)[:2])
    assert (short.optimizer.warmup_steps, long.optimizer.warmup_steps) == (10, 40)
    assert long.objective.name == "electra"


def test_a_budget_of_a_few_steps_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"budgets\.flops: 40000 buys electra 4 steps, expected at least 10"):
        recipes.runs_of(plan(tmp_path, ("1e6, 4e6", "4e4, 4e6")), COSTS, seed=1)


def test_a_job_has_the_cost_of_a_step(tmp_path):
    made = plan(tmp_path)
    costs = {name: recipes.step_cost(recipes.contender_config(made, name)) for name in made.contenders}
    assert costs["electra"].tokens == 8 * 32
    assert costs["electra"].flops > costs["mlm"].flops
    assert costs["electra"].paper_flops > costs["mlm"].paper_flops
    assert all(cost.paper_flops != cost.flops for cost in costs.values())


def test_problems_of_all_contenders_are_reported_at_once(tmp_path):
    made = plan(
        tmp_path,
        ('overrides.objective.name = "mlm"', 'overrides.objective.name = "gan"\noverrides.model.depth = 3'),
        ("[contenders.electra]", "[contenders.lost]\nconfig = 'configs/lost.py'\n[contenders.electra]"),
        ('[contenders.electra]\nconfig = "configs/quickstart.py:quicktest"',
         '[contenders.electra]\nconfig = "configs/quickstart.py:quicktest"\noverrides.steps = "many"'),
    )  # fmt: skip
    lost, steps, depth = recipes.problems(made)
    assert lost == "contenders.lost.overrides: there is no file configs/lost.py; paths start where the command is run"
    assert steps.startswith("contenders.electra.overrides.steps: found 'many'")
    assert depth == "contenders.mlm.overrides.model.depth: configs/quickstart.py:quicktest has no such field"


def test_values_that_a_config_rejects_name_the_contender(tmp_path):
    (problem,) = recipes.problems(plan(tmp_path, ('objective.name = "mlm"', 'objective.name = "gan"')))
    assert problem.startswith("contenders.mlm: config.objective.name: found 'gan', expected one of")


def test_finetuning_takes_the_plan_and_counts_every_run(tmp_path):
    made = plan(tmp_path, ("learning_rates =", "overrides.batch_size = 16\nlearning_rates ="))
    config = recipes.finetuning_config(made, "trec", FILES["trec"], positions=64, learning_rate=2e-3, seed=1)
    task = config.tasks["trec"]
    assert (task.train, task.dev, task.test) == ("/data/train.txt", "/data/dev.txt", "/data/test.txt")
    assert (task.max_length, config.optimizer.learning_rate, config.batch_size) == (64, 2e-3, 16)
    assert (config.trials, config.reseeds, config.evaluation.chosen) == (2, 0, "last")


def test_equal_budgets_are_met_within_half_a_step(tmp_path):
    cost = dataclasses.replace(COSTS["electra"], flops=math.pi * 1e4)
    run = recipes.runs_of(plan(tmp_path), COSTS | {"electra": cost}, seed=1)[0]
    assert abs(run.steps * cost.flops - 1e6) <= cost.flops / 2


def test_bad_examples_are_found_before_any_training(tmp_path):
    write_trec(tmp_path / "trec")
    write_stsb(tmp_path / "sts")
    (tmp_path / "trec" / "test.txt").write_text("DESC:def\n")
    made = plan(tmp_path, ('directory = "trec"', 'directory = "trec"\ntrain_examples = 50'))
    files = {
        "trec": tasks.prepare("trec", tmp_path / "trec", 10, tmp_path),
        "stsb": tasks.prepare("stsb", tmp_path / "sts", 0, tmp_path),
    }
    (problem,) = recipes.data_problems(made, files)
    assert problem.startswith("tasks.trec: config.tasks.trec: 1 problem with its examples")
    assert "test.txt:1: found only 'DESC:def', expected a label, a blank and a text" in problem
