"""Runs programs of the tests as subprocesses, and reads the metrics of a run."""

import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
# A run of a test is mostly compilation: without the compiler's costly passes it takes two thirds of the time.
QUICK_COMPILER = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK_COMPILER}
# Of a metrics line; these measure the machine and not the model.
_MEASURED = ("time/", "performance/", "goodput/")


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


def started_program(module, *arguments, devices=1, **environment):
    """A module such as `tests.training.programs.updates` as a process that runs, on so many fake devices."""
    flags = f"--xla_force_host_platform_device_count={devices} {QUICK_COMPILER}"
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(module, *arguments, devices=1, **environment):
    """Runs such a program to its end and returns what it printed; fails if it fails."""
    with started_program(module, *arguments, devices=devices, **environment) as process:
        try:
            output, errors = process.communicate(timeout=400)
        finally:
            process.kill()
    assert process.returncode == 0, f"{module} ended with {process.returncode}\n{output}{errors}"
    return output


def result_of(module, *arguments, devices=1, **environment):
    """Runs such a program, whose last line is JSON, and returns the value."""
    return json.loads(run_program(module, *arguments, devices=devices, **environment).splitlines()[-1])


def quicktest_flags(config, workdir, shared):
    """Flags of a shrunk preset whose dataset and compiled programs lie in `shared`."""
    return (
        f"--config=configs/{config}.py:quicktest",
        f"--workdir={workdir}",
        f"--config.data.directory={shared}/{config}",
        f"--config.compile_cache={shared}/compiled",
    )


def started(arguments, program=("electra_jax.main",)):
    """electra_jax.main, or another module with its first arguments, as a process that runs."""
    return subprocess.Popen(
        [sys.executable, "-m", *program, *arguments],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def slowed(phase, file, seconds=20):
    """The program to start in place of electra_jax.main so that it lingers in a phase, once `file` is there."""
    return "benchmarks.reliability.slowed_main", phase, str(file), str(seconds)


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
