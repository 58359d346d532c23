import csv
import io

from benchmarks.objectives import figure, report
from benchmarks.objectives.statistics import Statistic
from benchmarks.objectives.tasks import RANDOM
from tests.benchmarks.made import comparison


def finished(directory):
    """A comparison with all trec scores: electra is 0.1 above mlm at seed 1, 0.3 at seed 2."""
    made = comparison(directory)
    values = {
        ("mlm", 1): 0.5,
        ("mlm", 2): 0.4,
        ("electra", 1): 0.6,
        ("electra", 2): 0.7,
        (RANDOM, 1): 0.2,
        (RANDOM, 2): 0.2,
    }
    for name in ("mlm", "electra", RANDOM):
        for rate, piece in made.grid(name, "trec").items():
            value = values[name, 1] if rate == 1e-3 else 0.0
            made.store.finish(piece, {"dev": {"accuracy": [value]}, "test": {"accuracy": [value, value]}}, 1.0)
    for seed in (1, 2):
        for source, task, piece in made.scored(seed):
            if task == "trec":
                value = values[source.contender, seed]
                result = {"dev": {"accuracy": [value]}, "test": {"accuracy": [value, value]}, "collapsed": 0}
                made.store.finish(piece, result, 1.0)
    return made


def test_the_table_has_means_deviations_and_paired_differences(tmp_path):
    made = finished(tmp_path)
    lines = report.markdown(made, made.scores(), []).splitlines()
    assert "| electra | 2 | 0.6500 ± 0.0707 |  |" in lines
    assert "| electra − mlm | 2 | +0.2000 ± 0.1414 |  |" in lines
    assert "| mlm | 2 | 0.4500 ± 0.0707 |  |" in lines
    assert "| random | 2 | 0.2000 ± 0.0000 |  |" in lines
    assert "| electra | 0.001* |" in lines
    assert any(line.startswith("**Unfinished: ") for line in lines)
    assert any("held out of the training examples" in line for line in lines)


def test_a_report_without_results_is_written(tmp_path):
    made = comparison(tmp_path)
    report.write(made, tmp_path)
    assert "Unfinished: 0 of 31" in (tmp_path / "report.md").read_text()
    assert list(tmp_path.glob("*.png")) == []


def test_every_score_is_a_line_of_the_csv(tmp_path):
    made = finished(tmp_path)
    rows = list(csv.DictReader(io.StringIO(report.csv_text(made.scores()))))
    assert len([row for row in rows if row["split"] == "test"]) == (2 * 2 * 2 + 2) * 2
    row = next(row for row in rows if row["contender"] == "electra" and row["split"] == "test")
    assert (row["budget_kind"], row["task"], row["metric"], row["value"]) == ("flops", "trec", "accuracy", "0.6")


def test_figures_show_the_flops_that_were_spent(tmp_path):
    made = finished(tmp_path)
    (panel,) = report.figure_lines(made, made.scores(), "flops").values()
    assert [x for x, _ in panel["mlm"]] == [1e6, 4e6]
    assert panel[RANDOM][0][0] == 0.0
    assert panel["electra"][0][1].n == 2


def test_a_figure_is_a_png():
    lines = {
        "mlm": [(1e6, Statistic(0.5, None, 1)), (4e6, Statistic(0.6, 0.1, 2))],
        RANDOM: [(0.0, Statistic(0.2, 0.1, 2))],
    }
    assert figure.draw({"TREC": lines}, "Equal FLOPs", "FLOPs").startswith(b"\x89PNG")


def test_budgets_have_the_unit_of_their_kind(tmp_path):
    made = comparison(tmp_path, ("flops = [1e6, 4e6]", "flops = [4e6]\nseconds = [300]\nat_tokens = [5120]"))
    headings = [line for line in report.markdown(made, [], []).splitlines() if line.startswith("### ")]
    assert headings == ["### 4 MFLOPs", "### 5 min 00 s", "### 5.12 k tokens"]
