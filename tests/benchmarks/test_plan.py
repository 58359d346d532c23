import pathlib

import pytest

from benchmarks.objectives.plan import read_plan
from electra_jax.errors import InputError
from tests.benchmarks.made import write_plan
from tests.running import ROOT


def problems(path):
    with pytest.raises(InputError) as caught:
        read_plan(path)
    return str(caught.value)


def test_a_plan_is_read_with_its_defaults(tmp_path):
    plan = read_plan(write_plan(tmp_path, ("warmup_fraction = 0.1\n", "")))
    assert (plan.baseline, plan.seeds, plan.warmup_fraction) == ("mlm", (1, 2), 0.05)
    assert plan.budgets == {"flops": (1e6, 4e6)}
    assert plan.contenders["mlm"].overrides == {"objective.name": "mlm"}
    assert plan.finetuning.learning_rates == (1e-3, 2e-3)
    task = plan.tasks["trec"]
    assert (task.directory, task.train_examples, task.dev_examples, task.epochs) == ("trec", 0, 500, 3.0)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "plans").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_plans_are_read(path):
    plan = read_plan(path)
    assert {"electra", "mlm"} <= plan.contenders.keys()


def test_smallest_plan_has_three_seeds_and_three_budgets():
    plan = read_plan(ROOT / "benchmarks" / "plans" / "smallest.toml")
    assert len(plan.seeds) >= 3
    assert len(plan.budgets["flops"]) == 3


def test_quoted_and_dotted_overrides_are_the_same(tmp_path):
    path = write_plan(tmp_path, ('overrides.objective.name = "mlm"', 'overrides = { "objective.name" = "mlm" }'))
    assert read_plan(path).contenders["mlm"].overrides == {"objective.name": "mlm"}


def test_all_problems_are_reported_at_once(tmp_path):
    found = problems(
        write_plan(
            tmp_path,
            ('baseline = "mlm"', 'baseline = "bert"\nbudget = 3'),
            ("seeds = [1, 2]", "seeds = [1, 1]"),
            ("warmup_fraction = 0.1", "warmup_fraction = 1"),
            ("flops = [1e6, 4e6]", "flops = [4e6, 1e6]\nhours = [1]"),
            ('[contenders.mlm]\nconfig = "configs/quickstart.py:quicktest"', "[contenders.mlm]"),
            ("seeds = 2", "seeds = true"),
            ('directory = "trec"', 'directory = "trec"\ndev_examples = 0\nepoch = 3'),
            ("[tasks.stsb]", "[tasks.squad]"),
        )
    )
    for line in (
        "has 11 problems:",
        "baseline: found 'bert', expected a contender (electra, mlm)",
        "budget: unknown, expected one of baseline, seeds,",
        "seeds: found [1, 1], expected a list of different whole numbers",
        "warmup_fraction: found 1, expected 0 to below 1",
        "budgets.flops: found [4000000.0, 1000000.0], expected an ascending list",
        "budgets.hours: unknown, expected one of flops, seconds, at_tokens",
        "contenders.mlm.config: is missing, expected a config file",
        "finetuning.seeds: found True, expected a whole number above 0",
        "tasks.trec.dev_examples: found 0, expected a whole number above 0",
        "tasks.trec.epoch: unknown, expected one of directory,",
        "tasks.squad: unknown, expected one of conll2000,",
    ):
        assert line in found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("flops = [1e6, 4e6]", "", "budgets: found {}, expected at least one of flops, seconds, at_tokens"),
        ("flops = [1e6, 4e6]", "at_tokens = [10, 25]", "budgets.at_tokens: found [10, 25], expected multiples"),
        ("[contenders.electra]", "[contenders.random]", "contenders.random: expected letters"),
        (
            "learning_rates =",
            "overrides.optimizer.learning_rate = 1e-3\nlearning_rates =",
            "use finetuning.learning_ra",
        ),
        ('[tasks.stsb]\ndirectory = "glue/STS-B"', "[tasks.stsb]", "tasks.stsb.directory: is missing"),
        ('directory = "glue/STS-B"', 'directory = "x"\nepochs = 3', "tasks.stsb.epochs: unknown"),
        ("[budgets]\nflops = [1e6, 4e6]", "budgets = 3", "budgets: found 3, expected a table"),
    ],
)
def test_a_problem_names_its_field(tmp_path, old, new, expected):
    assert expected in problems(write_plan(tmp_path, (old, new)))


def test_missing_and_malformed_files_are_errors(tmp_path):
    assert "cannot be read (No such file or directory)" in problems(pathlib.Path("nowhere.toml"))
    (tmp_path / "broken.toml").write_text("seeds = [1")
    assert "is not TOML" in problems(tmp_path / "broken.toml")
