"""What the tests of whole runs share: the main door as a subprocess, and what a run learned."""

import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
# A run of a test is mostly compilation: without the compiler's costly passes it takes two thirds of the time.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}
# Of a metrics line; these measure the machine and not the model.
_MEASURED = ("time/", "performance/")


def main(*arguments, check=0, program=("-m", "electra_jax.main"), **environment):
    """Runs electra_jax.main, or another program, to its end and returns everything it printed."""
    finished = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=400,
    )
    assert finished.returncode == check, finished.stdout
    return finished.stdout


def quicktest_flags(config, workdir, shared):
    """Flags of a shrunk preset whose dataset and compiled programs lie in `shared`."""
    return (
        f"--config=configs/{config}.py:quicktest",
        f"--workdir={workdir}",
        f"--config.data.directory={shared}/{config}",
        f"--config.compile_cache={shared}/compiled",
    )


def started(arguments):
    """electra_jax.main as a process that runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "electra_jax.main", *arguments],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, process, seconds=240):
    """Returns when the condition holds; fails if the process ends before that."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def learned(workdir):
    """The lines of metrics.jsonl without what differs between machines."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(_MEASURED)} for line in lines]
