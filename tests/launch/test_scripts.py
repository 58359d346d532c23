"""The shell scripts are free of what shellcheck knows to go wrong, and the requirements agree with each other."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.running import ROOT

SCRIPTS = sorted([*ROOT.glob("launch/*.sh"), ROOT / ".ci/run"])


def find_shellcheck():
    installed = pathlib.Path(sys.executable).with_name("shellcheck")
    found = str(installed) if installed.exists() else shutil.which("shellcheck")
    assert found, "shellcheck is missing: .venv/bin/python -m pip install -r requirements-dev.txt"
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    checked = subprocess.run(
        [find_shellcheck(), "--external-sources", script], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_shellcheck_would_find_something(tmp_path):
    (tmp_path / "bad.sh").write_text('#!/usr/bin/env bash\nset -u\ncd $1\nrm -rf "$1/"*\n')
    checked = subprocess.run([find_shellcheck(), tmp_path / "bad.sh"], capture_output=True, text=True)
    assert checked.returncode == 1
    assert "SC2086" in checked.stdout


@pytest.mark.parametrize(
    "script", [path for path in SCRIPTS if path.name != "environment.sh"], ids=lambda path: path.name
)
def test_scripts_can_be_executed(script):
    listed = subprocess.run(
        ["git", "ls-files", "--stage", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert script.name == "run" or listed.stdout.startswith("100755"), f"git update-index --chmod=+x {script}"


def test_gpus_and_tpus_get_the_jax_of_the_requirements():
    pins = {
        name: dict(
            re.findall(r"^jax(?:-cuda12-plugin)?==([\w.]+) ; python_full_version (\S+ '3.12')", text, re.MULTILINE)
        )
        for name in ("requirements.txt", "requirements-gpu.txt")
        if (text := (ROOT / name).read_text())
    }
    assert len(pins["requirements.txt"]) == 2
    assert pins["requirements-gpu.txt"] == pins["requirements.txt"]
