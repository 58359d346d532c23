"""A comparison from the command line: killed, resumed and reported."""

import csv
import os
import signal
import subprocess
import sys

import pytest

from tests.benchmarks.made import write_stsb, write_trec
from tests.running import ENVIRONMENT, ROOT, main, wait_for

pytestmark = pytest.mark.slow
_PROGRAM = ("-m", "benchmarks.objectives")


@pytest.fixture
def flags(tmp_path):
    """Flags for the shipped quick plan on made-up data."""
    write_trec(tmp_path / "labelled" / "trec")
    write_stsb(tmp_path / "labelled" / "STS-B")
    text = (ROOT / "benchmarks" / "plans" / "quicktest.toml").read_text()
    text = text.replace(
        "[overrides]\n",
        f'[overrides]\ndata.directory = "{tmp_path}/dataset"\ncompile_cache = "{tmp_path}/compiled"\n',
    )
    # One checkpoint of each run instead of two: a third less work.
    assert "at_tokens = [2560, 5120]" in text
    text = text.replace("at_tokens = [2560, 5120]", "at_tokens = [2560]")
    (tmp_path / "plan.toml").write_text(text)
    return (
        f"--plan={tmp_path}/plan.toml",
        f"--data={tmp_path}/labelled",
        f"--workdir={tmp_path}/work",
    )


@pytest.mark.release
def test_a_killed_comparison_resumes_and_reports(flags, tmp_path):
    work = tmp_path / "work"
    process = subprocess.Popen(
        [sys.executable, *_PROGRAM, *flags],
        cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(lambda: any(work.glob("results/pretraining/**/*.json")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in work.glob("results/**/*.json")}

    printed = main(*flags, program=_PROGRAM)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    # Two contenders × two seeds; the checkpoint of each and random weights on two tasks; the grid's second rates.
    assert len(list(work.glob("results/**/*.json"))) == 4 + 2 * (4 + 2) + 3
    assert f"[{len(before) + 1}/19] " in printed
    assert "[19/19] " in printed
    # Only the result of a scoring piece is kept.
    assert [path.name for path in (work / "work").iterdir() if any(path.rglob("*.json"))] == ["pretraining"]

    with (work / "scores.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    assert len(rows) == (4 + 2) * 2
    assert {row["steps"] for row in rows} == {"0", "10"}
    assert all(-1 <= float(row["value"]) <= 1 for row in rows)
    report = (work / "report.md").read_text()
    assert "Unfinished" not in report
    assert "| electra − mlm | 2 |" in report
    assert (work / "transfer_at_tokens.png").read_bytes().startswith(b"\x89PNG")

    (work / "report.md").unlink()
    assert "[" not in main(*flags, "--report_only", program=_PROGRAM)
    assert (work / "report.md").read_text() == report
