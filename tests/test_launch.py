"""The launch scripts choose a Python, install once and pass all arguments on; fake Pythons record their calls."""

import os
import pathlib
import shutil
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
# Tells its version, makes environments that are copies of itself, and writes down the rest.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c import sys"*) echo "@version" ;;
  "-c import ensurepip, venv") exit @without_venv ;;
  "-c import pip") ;;
  "-m venv") rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo "venv @version" >> "$CALLS" ;;
  "-m pip") shift 4; echo "pip $*" >> "$CALLS"; echo "pip says this"; exit "${PIP_STATUS:-0}" ;;
  *) printf '%s|' "$@" >> "$CALLS"; echo "in $PWD" >> "$CALLS"
    case "$*" in *"${FAILING:-}"*) exit "${RUN_STATUS:-0}" ;; esac ;;
esac
"""
RUNTIME = ["pip --no-input --use-pep517 -r requirements.txt", "pip --no-input --use-pep517 --no-deps -e ."]


class Checkout:
    """A copy of the launch scripts in a path with spaces, with its own PATH of fake Pythons and the tools needed."""

    def __init__(self, directory):
        self.root = directory / "a checkout"
        self.calls_file = directory / "calls"
        self.bin = directory / "bin"
        shutil.copytree(LAUNCH, self.root / "launch")
        self.bin.mkdir()
        for tool in ("bash", "sh", "env", "dirname", "cat", "cp", "mv", "rm", "mkdir"):
            (self.bin / tool).symlink_to(shutil.which(tool))
        for name in (
            "requirements.txt",
            "requirements-dev.txt",
            "requirements-interop.txt",
            "requirements-onnx.txt",
            "requirements-beam.txt",
            "requirements-tpu.txt",
            "pyproject.toml",
        ):
            (self.root / name).write_text(f"of {name}\n")

    def add_python(self, name, version, without_venv=0):
        path = self.bin / name
        path.write_text(FAKE_PYTHON.replace("@version", version).replace("@without_venv", str(without_venv)))
        path.chmod(0o755)
        return path

    def run(self, script, *arguments, directory=None, **environment):
        """Returns the finished process and the calls that the fake Pythons recorded during it."""
        self.calls_file.write_text("")
        process = subprocess.run(
            [self.root / "launch" / script, *arguments],
            cwd=directory or self.root,
            env={"PATH": str(self.bin), "CALLS": str(self.calls_file), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return process, self.calls_file.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    ("version", "message"), [("3.10", "python3 is Python 3.10."), ("3.14", "python3 is Python 3.14.")]
)
def test_an_unsuitable_python_ends_with_64_and_is_named(checkout, version, message):
    checkout.add_python("python3", version)
    process, calls = checkout.run("local.sh")
    assert process.returncode == 64
    assert message in process.stderr
    assert "3.11, 3.12 or 3.13" in process.stderr
    assert "PYTHON=" in process.stderr
    assert not calls


def test_no_python_ends_with_64(checkout):
    process, _ = checkout.run("local.sh")
    assert process.returncode == 64
    assert "None of them runs" in process.stderr


def test_a_missing_venv_module_is_named(checkout):
    checkout.add_python("python3.12", "3.12", without_venv=1)
    process, _ = checkout.run("local.sh")
    assert process.returncode == 64
    assert "python3.12-venv" in process.stderr


def test_the_newest_suitable_python_is_taken(checkout):
    for name, version in (("python3", "3.14"), ("python3.11", "3.11"), ("python3.12", "3.12")):
        checkout.add_python(name, version)
    checkout.add_python("python3.13", "3.13", without_venv=1)
    _, calls = checkout.run("local.sh")
    assert calls[0] == "venv 3.12"


def test_a_shim_without_its_python_is_passed_over(checkout):
    shim = checkout.add_python("python3.13", "3.13")
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    checkout.add_python("python3", "3.11")
    process, calls = checkout.run("local.sh")
    assert process.returncode == 0
    assert calls[0] == "venv 3.11"


def test_the_variable_python_wins(checkout, tmp_path):
    checkout.add_python("python3.13", "3.13")
    elsewhere = checkout.add_python("other", "3.11").rename(tmp_path / "my python")
    assert checkout.run("local.sh", PYTHON=str(elsewhere))[1][0] == "venv 3.11"
    assert checkout.run("local.sh", PYTHON=str(tmp_path / "nowhere"))[0].returncode == 64


def test_without_flags_the_quickstart_runs(checkout):
    checkout.add_python("python3", "3.11")
    process, calls = checkout.run("local.sh")
    flags = "--config=configs/quickstart.py|--workdir=runs/quickstart|"
    assert calls == ["venv 3.11", *RUNTIME, f"-m|electra_jax.main|{flags}in {checkout.root}"]
    assert process.stderr.count("Installing") == 2


def test_flags_and_exit_code_pass_through(checkout, tmp_path):
    checkout.add_python("python3", "3.11")
    process, calls = checkout.run(
        "local.sh", "--config=a b.py", "--x=('*', \"$HOME\")", "", directory=tmp_path, RUN_STATUS="75"
    )
    assert process.returncode == 75
    assert calls[-1] == f"-m|electra_jax.main|--config=a b.py|--x=('*', \"$HOME\")||in {checkout.root}"
    assert "relative paths in flags start there" in process.stderr


def test_installs_again_only_when_the_requirements_change(checkout):
    checkout.add_python("python3", "3.11")
    checkout.run("local.sh")
    process, calls = checkout.run("local.sh")
    assert len(calls) == 1
    assert process.stderr == ""
    (checkout.root / "requirements.txt").write_text("of another version\n")
    assert checkout.run("local.sh")[1][:-1] == RUNTIME[:1]
    assert len(checkout.run("local.sh")[1]) == 1


def test_a_newer_python_does_not_replace_an_environment(checkout):
    checkout.add_python("python3.11", "3.11")
    checkout.run("local.sh")
    newer = checkout.add_python("python3.13", "3.13")
    assert len(checkout.run("local.sh")[1]) == 1
    assert checkout.run("local.sh", PYTHON=str(newer))[1][:-1] == ["venv 3.13", *RUNTIME]


def test_a_moved_repository_installs_again(checkout, tmp_path):
    checkout.add_python("python3", "3.11")
    checkout.run("local.sh")
    checkout.root = checkout.root.rename(tmp_path / "elsewhere")
    assert checkout.run("local.sh")[1][:-1] == RUNTIME


def test_a_failed_installation_shows_why_and_is_tried_again(checkout):
    checkout.add_python("python3", "3.11")
    checkout.run("local.sh")
    (checkout.root / "requirements.txt").write_text("of another version\n")
    process, calls = checkout.run("local.sh", PIP_STATUS="2")
    assert process.returncode == 1
    assert "pip says this" in process.stderr
    assert "run the same command again" in process.stderr
    assert calls == RUNTIME[:1]
    # The old requirements no longer count as installed either: some of the new ones may be.
    (checkout.root / "requirements.txt").write_text("of requirements.txt\n")
    assert checkout.run("local.sh")[1][:-1] == RUNTIME[:1]


def test_an_environment_interrupted_before_pip_is_made_again(checkout):
    checkout.add_python("python3", "3.11")
    half_made = checkout.root / ".venv" / "bin" / "python"
    half_made.parent.mkdir(parents=True)
    half_made.write_text('#!/bin/sh\necho 3.11\n[ "$2" != "import pip" ]\n')
    half_made.chmod(0o755)
    assert checkout.run("local.sh")[1][0] == "venv 3.11"


def test_tests_run_with_ruff_and_mypy_and_pass_arguments_on(checkout):
    checkout.add_python("python3", "3.11")
    _, calls = checkout.run("test.sh", "-k", "a b")
    place = f"in {checkout.root}"
    assert calls == [
        "venv 3.11",
        *RUNTIME,
        "pip --no-input --use-pep517 -c requirements.txt -r requirements-dev.txt",
        f"-m|ruff|check|.|{place}",
        f"-m|ruff|format|--check|.|{place}",
        f"-m|mypy|{place}",
        f"-m|pytest|-k|a b|{place}",
    ]


@pytest.mark.parametrize("failing", ["ruff check", "ruff format", "mypy", "pytest"])
def test_all_checks_run_and_each_failure_counts(checkout, failing):
    checkout.add_python("python3", "3.11")
    process, calls = checkout.run("test.sh", FAILING=failing, RUN_STATUS="3")
    assert process.returncode == 3
    assert sum(call.startswith("-m|") for call in calls) == 4


def test_options_install_their_stack_and_select_their_tests(checkout):
    checkout.add_python("python3", "3.11")
    checkout.run("test.sh")
    place = f"in {checkout.root}"
    assert checkout.run("test.sh", "--interop", "-x")[1] == [
        "pip --no-input --use-pep517 -c requirements.txt -r requirements-interop.txt",
        f"-m|pytest|-m|interop|-x|{place}",
    ]
    assert checkout.run("test.sh", "--tpu_compiler")[1] == [
        "pip --no-input --use-pep517 --upgrade --no-deps --target .venv/tpu_compiler -r requirements-tpu.txt",
        f"-m|pytest|-m|(tpu_compiler and not tpu_all)|{place}",
    ]
    assert checkout.run("test.sh", "--tpu_compiler", "--interop")[1] == [
        f"-m|pytest|-m|(tpu_compiler and not tpu_all) or interop|{place}"
    ]
    slow = "(slow and not release and not interop and not beam and not tpu_compiler)"
    assert checkout.run("test.sh", "--slow")[1] == [f"-m|pytest|-m|{slow}|{place}"]
    assert checkout.run("test.sh", "--release")[1] == [f"-m|pytest|-m|release|{place}"]
    assert checkout.run("test.sh", "--beam")[1] == [
        "pip --no-input --use-pep517 -c requirements.txt -r requirements-beam.txt",
        f"-m|pytest|-m|beam|{place}",
    ]


def test_another_folder_and_python_make_a_second_environment(checkout):
    checkout.add_python("python3", "3.11")
    second = checkout.add_python("python3.13", "3.13").rename(checkout.bin / "second")
    checkout.run("local.sh")
    process, calls = checkout.run("local.sh", VENV=".venv-3.13", PYTHON=str(second))
    assert calls[:-1] == ["venv 3.13", *RUNTIME]
    assert "into .venv-3.13" in process.stderr
    assert len(checkout.run("local.sh")[1]) == 1, "the first one is as it was"
    installed = checkout.run("test.sh", "--tpu_compiler", VENV=".venv-3.13")[1][-2]
    assert "--target .venv-3.13/tpu_compiler" in installed


def test_a_missing_requirements_file_is_named(checkout):
    checkout.add_python("python3", "3.11")
    os.unlink(checkout.root / "requirements-interop.txt")
    process, _ = checkout.run("test.sh", "--interop")
    assert process.returncode == 64
    assert "requirements-interop.txt is missing" in process.stderr
