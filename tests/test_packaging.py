"""The package: presets by name, package data, pinned versions within the ranges, and a wheel in an empty folder."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import electra_jax
from electra_jax import presets, storage
from electra_jax.errors import InputError
from electra_jax.text.sources import text_sources as sources
from tests.running import ENVIRONMENT, ROOT, main

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13")


def read(path):
    return (ROOT / path).read_text("utf-8")


# --- Presets ----------------------------------------------------------------------------------------------------------


def test_every_config_file_is_a_preset():
    files = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in ROOT.glob("configs/**/*.py")}
    assert set(presets.names()) == files - {"__init__", "finetune/__init__", "finetune/base"}
    assert {"base", "quickstart", "finetune/glue"} <= set(presets.names())


@pytest.mark.parametrize("name", ["base", "quickstart:quicktest", "finetune/glue:rte+small"])
def test_a_preset_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _, variant = presets.locate(name).partition(":")
    assert pathlib.Path(path).samefile(ROOT / "configs" / f"{name.partition(':')[0]}.py")
    assert variant == name.partition(":")[2]


def test_an_existing_file_takes_precedence_over_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").write_text("mine")
    assert presets.locate("base:small") == "base:small"
    (tmp_path / "quickstart").mkdir()
    assert presets.locate("quickstart").endswith("quickstart.py")


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("bass", "--config=base?"),
        ("quick_start:quicktest", "--config=quickstart?"),
        ("finetune/gleu:rte", "--config=finetune/glue?"),
        ("configs/smal.py", "--config=small?"),  # There is no folder configs here.
        ("mine/own.py", "mine/owned.py?"),
    ],
)
def test_a_misspelled_name_gets_a_suggestion(argument, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "owned.py").touch()
    with pytest.raises(InputError, match=re.escape(f"did you mean {meant}")) as raised:
        presets.locate(argument)
    assert str(raised.value).startswith(f"--config={argument.partition(':')[0]}: found neither")


def test_an_unknown_name_lists_all_presets():
    with pytest.raises(InputError, match=f"Presets: {', '.join(presets.names())}"):
        presets.locate("xyz")


def test_entry_points_take_a_name():
    assert "config.data.sources" in main("--config=base", "--workdir=x", check=64)
    program = ("-m", "electra_jax.prepare")
    assert "did you mean --config=base?" in main("--config=bass", program=program, check=64)


# --- Package data -----------------------------------------------------------------------------------------------------


def test_package_data_has_the_same_address_wherever_it_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.matching("package:shakes*.txt") == ["package:shakespeare.txt"]
    assert storage.read("package:shakespeare.txt") == (ROOT / "electra_jax/data/shakespeare.txt").read_bytes()
    assert sources.problems(("package:shakespeare.txt",)) == []
    (piece,) = sources.pieces("package:french.txt", "", 1 << 30)
    assert piece.place == "package:french.txt"
    assert any(sources.documents(piece, ""))
    assert "no file matches package:lost.txt" in sources.problems(("package:lost.txt",))[0]


# --- Pinned versions --------------------------------------------------------------------------------------------------


def pins(*files, **environment):
    """Versions by name that pip installs from these files in an environment."""
    found = {}
    for line in (line for file in files for line in read(file).splitlines() if line and not line.startswith("#")):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            assert found.setdefault(name, pin.version) == pin.version, f"{name} has two pins in {files}"
    return found


@pytest.mark.parametrize("extra", ["", *EXTRAS])
@pytest.mark.parametrize("system", ["Linux", "Darwin"])
@pytest.mark.parametrize("python", PYTHONS)
def test_pinned_versions_lie_within_the_ranges(python, system, extra):
    environment = dict(
        python_version=python,
        python_full_version=f"{python}.0",
        platform_system=system,
        sys_platform=system.lower(),
        extra=extra,
    )
    pinned = pins("requirements.txt", *([f"requirements-{extra}.txt"] if extra else []), **environment)
    wanted = [*map(Requirement, PROJECT["dependencies"] + EXTRAS.get(extra, []))]
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{requirement} has no pin on Python {python}; run ./launch/lock.sh"
            assert version in requirement.specifier, f"{requirement} excludes {version}; run ./launch/lock.sh"
    assert extra != "gpu" or pinned["jax-cuda12-plugin"] == pinned["jax"]
    assert extra != "tpu" or "libtpu" in pinned


def test_every_extra_has_a_pinned_file_and_no_other_does():
    assert {path.name for path in ROOT.glob("requirements*.txt")} == {
        "requirements.txt",
        *(f"requirements-{extra}.txt" for extra in EXTRAS),
    }
    assert set(re.search(r"EXTRAS=\((.*)\)", read("launch/lock.sh"))[1].split()) == set(EXTRAS)


def test_tools_have_one_version_everywhere():
    pinned = pins("requirements-dev.txt", python_version="3.12", python_full_version="3.12.0")
    assert f"rev: v{pinned['ruff']}\n" in read(".pre-commit-config.yaml")
    assert f"UV_VERSION={pinned['uv']}\n" in read("launch/worker.sh")


# --- The wheel --------------------------------------------------------------------------------------------------------


def run(*command, expected=0, **options):
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    finished = subprocess.run(
        [*map(str, command)],
        env=environment | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    assert finished.returncode == expected, finished.stdout
    return finished.stdout


@pytest.mark.slow
def test_a_wheel_trains_and_exports_in_an_empty_folder(tmp_path):
    """Builds a wheel from a source distribution, and installs it with the newest versions that the ranges allow."""
    installed = pathlib.Path(sys.executable).with_name("uv")
    uv = installed if installed.exists() else shutil.which("uv")
    assert uv, "uv is missing: python -m pip install -r requirements-dev.txt"
    run(uv, "build", "--quiet", f"--out-dir={tmp_path / 'dist'}", ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob(f"dist/electra_jax-{electra_jax.__version__}-*.whl")
    run(uv, "venv", "--quiet", f"--python={sys.executable}", tmp_path / "venv")
    scripts = tmp_path / "venv" / "bin"
    run(uv, "pip", "install", "--quiet", f"--python={scripts / 'python'}", wheel)

    folder = tmp_path / "empty"
    folder.mkdir()
    where = run(scripts / "python", "-c", "import electra_jax.configs; print(electra_jax.configs.__file__)", cwd=folder)
    assert (tmp_path / "venv").resolve() in pathlib.Path(where.strip()).resolve().parents
    cache = f"--config.compile_cache={tmp_path}/compiled"
    run(scripts / "electra-train", "--config=quickstart:quicktest", "--workdir=r", cache, cwd=folder)
    run(scripts / "electra-convert", "--source=r", "--target=out", "--to=huggingface", cwd=folder)
    assert (folder / "out" / "discriminator" / "model.safetensors").exists()
    tuning = "--config=finetune/text:classification+small+quicktest", "--config.init_from=r", "--config.epochs=1"
    run(scripts / "electra-train", *tuning, "--workdir=t", cache, cwd=folder)
    run(scripts / "electra-report", "--workdir=t", cwd=folder)
    assert (folder / "t" / "report.html").exists()
    assert "--topology" in run(scripts / "electra-plan", "--config=base", cwd=folder, expected=64)
    assert "corpus" in run(scripts / "electra-prepare", "--config=base", cwd=folder, expected=64)
