"""The Slurm script installs before it runs, starts one process a GPU, and goes back into the queue only after 75."""

import os
import shutil
import subprocess

import pytest

from tests.launch.stand_in import FAKE_PYTHON, REQUIREMENTS
from tests.running import ROOT

FLAGS = ("--config=configs/base.py", "--workdir=/shared/a b", "--config.data.sources=('*.txt',)")


class Cluster:
    """A checkout with stand-ins for Slurm's commands and for Python."""

    def __init__(self, directory):
        self.root, self.bin, self.calls_file = directory / "a checkout", directory / "bin", directory / "calls"
        shutil.copytree(ROOT / "launch", self.root / "launch")
        for name in REQUIREMENTS:
            (self.root / name).write_text(f"of {name}\n")
        self.bin.mkdir()
        record = '#!/bin/bash\nprintf "%s|" "${0##*/}" "$@" >> "$CALLS"; echo >> "$CALLS"\n'
        for name, text in (
            ("python3.12", FAKE_PYTHON),
            ("srun", record + 'exit "${RUN_STATUS:-0}"\n'),
            ("scontrol", record),
        ):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.spool = directory / "spool" / "slurm_script"
        self.spool.parent.mkdir()
        shutil.copy(ROOT / "launch/slurm.sh", self.spool)

    def run(self, *flags, script=None, **environment):
        self.calls_file.write_text("")
        process = subprocess.run(
            [script or self.spool, *flags],
            cwd=self.root,
            env={
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "CALLS": str(self.calls_file),
                "CLOUD": str(self.bin.parent),
                "WORKER": "0",
                **environment,
            },
            capture_output=True,
            text=True,
        )
        return process, self.calls_file.read_text().splitlines()

    def run_job(self, *flags, **environment):
        job = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(self.root), "SLURM_NTASKS_PER_NODE": "8(x2)"}
        return self.run(*flags, **{**job, "SLURM_GPUS_ON_NODE": "8", **environment})


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path)


def test_a_job_installs_for_gpus_and_starts_the_processes_with_its_flags(cluster):
    process, calls = cluster.run_job(*FLAGS)
    assert process.returncode == 0, process.stderr
    assert calls == [f"srun|--kill-on-bad-exit=0|.venv/bin/python|-m|electra_jax.main|{'|'.join(FLAGS)}|"]
    installed = (cluster.bin.parent / "installed").read_text().splitlines()
    assert installed[-1].endswith("-c requirements.txt -r requirements-gpu.txt")


def test_the_login_node_installs_and_the_job_finds_it_done(cluster):
    process, calls = cluster.run(script=cluster.root / "launch/slurm.sh")
    assert process.returncode == 0, process.stderr
    assert not calls
    assert "To train: sbatch" in process.stderr
    before = (cluster.bin.parent / "installed").read_text()
    assert cluster.run_job(*FLAGS)[0].returncode == 0
    assert (cluster.bin.parent / "installed").read_text() == before


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, False), (64, False), (75, True), (76, False), (77, False), (1, False)]
)
def test_only_a_run_that_saved_its_state_goes_back_into_the_queue(cluster, code, requeued):
    process, calls = cluster.run_job(*FLAGS, RUN_STATUS=str(code))
    assert process.returncode == code
    assert calls[1:] == (["scontrol|requeue|7|"] if requeued else [])


@pytest.mark.parametrize("tasks", ["1", "4(x2)", ""])
def test_another_number_of_processes_than_gpus_is_refused(cluster, tasks):
    process, calls = cluster.run_job(*FLAGS, SLURM_NTASKS_PER_NODE=tasks)
    assert process.returncode == 64
    assert "--ntasks-per-node=8" in process.stderr
    assert not calls


def test_what_is_missing_is_named(cluster):
    process, calls = cluster.run_job()
    assert process.returncode == 64
    assert "Two flags are needed" in process.stderr
    process, calls = cluster.run(*FLAGS, script=cluster.root / "launch/slurm.sh")
    assert process.returncode == 64
    assert "sbatch [options of sbatch] launch/slurm.sh --config=configs/base.py" in process.stderr
    process, calls = cluster.run_job(*FLAGS, SLURM_SUBMIT_DIR="/nowhere")
    assert process.returncode == 64
    assert "/nowhere is no checkout" in process.stderr
    assert not calls


def test_slurm_is_asked_to_signal_early_and_to_requeue():
    lines = (ROOT / "launch/slurm.sh").read_text().splitlines()
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    # Without "B:", which would signal this script and not the processes.
    assert "--signal=TERM@300" in options
    assert "--requeue" in options
    # Slurm reads its options up to the first command.
    first_command = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(n < first_command for n, line in enumerate(lines) if line.startswith("#SBATCH"))
