"""Plans and labelled data for the tests of the comparison."""

import copy
import pathlib
import textwrap

from benchmarks.objectives.comparison import Comparison
from benchmarks.objectives.plan import read_plan
from benchmarks.objectives.recipes import StepCost
from benchmarks.objectives.tasks import TaskFiles
from benchmarks.objectives.work import Store

PLAN = """
    baseline = "mlm"
    seeds = [1, 2]
    warmup_fraction = 0.1
    [budgets]
    flops = [1e6, 4e6]
    [contenders.electra]
    config = "configs/quickstart.py:quicktest"
    overrides.objective.name = "electra"
    overrides.objective.corrective_weight = 0.0
    [contenders.mlm]
    config = "configs/quickstart.py:quicktest"
    overrides.objective.name = "mlm"
    [finetuning]
    seeds = 2
    learning_rates = [1e-3, 2e-3]
    [tasks.trec]
    directory = "trec"
    [tasks.stsb]
    directory = "glue/STS-B"
"""
COSTS = {
    "electra": StepCost(tokens=256, flops=1e4, paper_flops=2e4, seconds=0.5),
    "mlm": StepCost(tokens=256, flops=5e3, paper_flops=6e3, seconds=0.25),
}
FILES = {
    "trec": TaskFiles("/data/train.txt", "/data/dev.txt", "/data/test.txt", "a" * 64),
    "stsb": TaskFiles("", "", "/data/dev.tsv", "b" * 64),
}


def write_plan(directory, *changes):
    """Writes PLAN with each (old, new) of the changes, and returns the path."""
    text = textwrap.dedent(PLAN)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = pathlib.Path(directory) / "plan.toml"
    path.write_text(text)
    return path


def comparison(directory, *changes, costs=None, files=None):
    """A comparison of PLAN that stores results in the directory; no piece is done yet."""
    plan = read_plan(write_plan(directory, *changes))
    return Comparison(plan, files or copy.copy(FILES), costs or COSTS, Store(pathlib.Path(directory)))


def write_trec(folder, train=96, test=16):
    """Writes questions whose first word determines their type."""
    folder.mkdir(parents=True)
    kinds = [("HUM:ind", "Who"), ("LOC:other", "Where"), ("NUM:date", "When")]
    for name, count in (("train", train), ("test", test)):
        lines = [f"{kinds[n % 3][0]} {kinds[n % 3][1]} is the king of number {n} ?" for n in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", "latin-1")


def write_stsb(folder, count=16):
    """Writes pairs of sentences; the more alike, the higher the grade."""
    folder.mkdir(parents=True)
    words = ["the", "king", "and", "the", "queen", "of", "the", "north", "walked", "home"]
    lines = ["index\tsentence1\tsentence2\tscore"]
    lines += [
        f"{n}\t{' '.join(words)}\t{' '.join(words[: 1 + n % 9])}\t{5 * (1 + n % 9) / 9:.3f}" for n in range(count)
    ]
    (folder / "dev.tsv").write_text("\n".join(lines) + "\n")
