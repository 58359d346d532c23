"""The notebook for newcomers runs from top to bottom, in its quick form, and names only what is there."""

import base64
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import types

import nbformat
import pytest

from tests.running import ROOT

NOTEBOOK = ROOT / "launch" / "colab.ipynb"
# What a run of the notebook reads of a checkout.
NEEDED = ("electra_jax", "configs", "launch", "tests/data", "requirements.txt", "pyproject.toml")


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def sources(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_it_is_valid_and_as_nbformat_writes_it(notebook):
    nbformat.validate(notebook)
    assert NOTEBOOK.read_text("utf-8") == nbformat.writes(notebook) + "\n"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_it_holds_no_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_files_and_commands_it_names_exist(notebook):
    text = "\n".join(cell.source for cell in notebook.cells)
    files = set(re.findall(r"\b(?:configs|docs|tests|launch)/[\w/]+\.\w+", text)) | set(
        re.findall(r"requirements[\w-]*\.txt", text)
    )
    assert {"configs/quickstart.py", "configs/finetune/text.py", "docs/finetuning.md", "requirements.txt"} <= files
    assert [name for name in files if not (ROOT / name).is_file()] == []
    doors = set(re.findall(r"\belectra_jax\.(?!git)[a-z_]+", text))
    assert {"electra_jax.main", "electra_jax.convert"} <= doors
    assert [name for name in doors if importlib.util.find_spec(name) is None] == []
    assert '"tests" / "data" / "shakespeare.txt"' in text
    assert (ROOT / "tests" / "data" / "shakespeare.txt").is_file()


def test_configs_variants_and_fields_it_names_exist(notebook):
    found = 0
    for text in sources(notebook, "code"):
        for path, variant in re.findall(r"--config=(configs/[\w/]+)\.py(:[\w+]+)?", text):
            specification = importlib.util.spec_from_file_location("named", ROOT / f"{path}.py")
            module = importlib.util.module_from_spec(specification)
            specification.loader.exec_module(module)
            config = module.get_config(variant.removeprefix(":"))
            fields = re.findall(r"--config\.([\w.]+)=", text)
            assert fields
            for field in fields:
                value = config
                for name in field.split("."):
                    assert name in value, f"{path}.py has no field {field}"
                    value = value[name]
                found += 1
    assert found >= 5


class Runtime:
    """The notebook's cells up to the installation, in a session that records commands instead of running them."""

    def __init__(self, notebook, folder, monkeypatch):
        self.cells = {cell.id: cell.source for cell in notebook.cells}
        self.names = {}
        self.commands = []
        self.folder = folder
        monkeypatch.chdir(folder)
        monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)

    def install(self, repository="", does=lambda *command: None):
        for name in ("settings", "running"):
            exec(self.cells[name], self.names)
        self.names["REPOSITORY"] = repository

        def run(*command):
            self.commands.append(" ".join(command).replace(sys.executable, "python"))
            does(*command)

        self.names["run"] = run
        exec(self.cells["install"], self.names)

    def make_checkout(self, requirements, folder="electra_jax"):
        (self.folder / folder / "electra_jax").mkdir(parents=True)
        (self.folder / folder / "electra_jax" / "main.py").write_text("")
        (self.folder / folder / "requirements.txt").write_text(requirements)
        (self.folder / folder / "requirements-tpu.txt").write_text("libtpu==0.0.1\n")


@pytest.fixture
def runtime(notebook, tmp_path, monkeypatch):
    return Runtime(notebook, tmp_path, monkeypatch)


UNINSTALL = "python -m pip uninstall -y -q tensorflow jax-cuda12-plugin jax-cuda12-pjrt"
INSTALL = "python -m pip install -q --no-input --use-pep517 -r requirements.txt"
OLD = "jax==0.1.0  # no such version is installed\nnumpy==1.0; python_version < '3'\n"


def test_without_a_checkout_it_states_where_to_start(runtime, monkeypatch):
    with pytest.raises(
        RuntimeError, match="not in a checkout of electra_jax: start this notebook from its folder launch/"
    ):
        runtime.install()
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    with pytest.raises(RuntimeError, match="REPOSITORY is empty"):
        runtime.install()
    assert runtime.commands == []


def test_other_versions_than_the_pinned_ones_are_refused_outside_colab(runtime):
    runtime.make_checkout(OLD)
    with pytest.raises(RuntimeError, match=r"(?s)jax==0\.1\.0: found \d.*launch/local\.sh makes"):
        runtime.install()
    assert runtime.commands == []


def test_colab_clones_and_installs_what_is_pinned_and_checks_it(runtime, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(shutil, "which", lambda name: None)

    def does(*command):
        if command[0] == "git":
            runtime.make_checkout(OLD)

    with pytest.raises(RuntimeError, match=r"jax==0\.1\.0: found"):  # Nothing was really installed.
        runtime.install("https://example.org/electra_jax", does)
    clone = f"git clone --depth=1 https://example.org/electra_jax {runtime.folder / 'electra_jax'}"
    assert runtime.commands == [clone, UNINSTALL, INSTALL]


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_colab_installs_what_its_device_needs(runtime, monkeypatch, device):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/nvidia-smi" if device == "gpu" else None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: types.SimpleNamespace(returncode=0))
    monkeypatch.setattr("glob.glob", lambda pattern: ["/dev/accel0"] if device == "tpu" and "accel" in pattern else [])
    runtime.make_checkout(OLD)
    with pytest.raises(RuntimeError, match="libtpu==0.0.1" if device == "tpu" else "jax-cuda12-plugin==0.1.0"):
        runtime.install()
    extra = "-r requirements-tpu.txt" if device == "tpu" else "jax[cuda12]==0.1.0"
    assert runtime.commands == [UNINSTALL, f"{INSTALL} {extra}"]


def test_a_session_that_had_loaded_another_version_must_be_restarted(runtime, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    runtime.make_checkout(f"jax=={importlib.metadata.version('jax')}\nflax=={importlib.metadata.version('flax')}\n")
    monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace(__version__="1.0"))
    with pytest.raises(RuntimeError, match=r"loaded numpy 1\.0 before: choose Runtime → Restart session"):
        runtime.install()
    assert runtime.commands == []


@pytest.mark.parametrize(
    ("status", "message"), [(75, "run this cell again to go on"), (3, "exit code 3; the lines above")]
)
def test_a_failed_command_fails_its_cell(runtime, capsys, status, message):
    for name in ("settings", "running"):
        exec(runtime.cells[name], runtime.names)
    with pytest.raises(RuntimeError, match=message):
        runtime.names["run"](sys.executable, "-c", f"print('why'); raise SystemExit({status})")
    assert capsys.readouterr().out.endswith("why\n")


@pytest.mark.release
@pytest.mark.slow
def test_every_cell_runs_and_shows_what_it_promises(notebook, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    checkout = tmp_path / "checkout"
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        copy(
            ROOT / name,
            checkout / name,
            **({"ignore": shutil.ignore_patterns("__pycache__")} if copy is shutil.copytree else {}),
        )
    before = contents(checkout)
    (tmp_path / "temporary").mkdir()
    for name, value in {
        "QUICK": "1",
        "JAX_PLATFORMS": "cpu",
        "TMPDIR": str(tmp_path / "temporary"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)

    client = NotebookClient(
        notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(checkout / "launch")}}
    )
    client.execute()

    assert contents(checkout) == before
    printed = {cell.id: printed_by(cell) for cell in notebook.cells if cell.cell_type == "code"}
    assert f"electra_jax of {checkout}, jax" in printed["install"]
    assert "pip" not in printed["install"]
    assert "cpu: cpu" in printed["device"]
    assert "Held out, step 20:" in printed["pretrain"]
    assert printed["finetune"].count("its last checkpoint:") == 2
    for cell in ("curves", "sentences", "results"):
        (picture,) = shown_by(notebook, cell, "image/png")
        assert base64.b64decode(picture).startswith(b"\x89PNG")
    (scores,) = shown_by(notebook, "results", "text/html")
    assert re.findall(r"<td[^>]*>(pre-trained|random weights|always the most frequent label)</td>", scores) == [
        "pre-trained",
        "random weights",
        "always the most frequent label",
    ]
    (predictions,) = shown_by(notebook, "predictions", "text/html")
    rows = re.findall(r"<tr>(<td.*?)</tr>", predictions)
    assert len(rows) == 12
    for row in rows:
        mark, line, truth, guess, sure = re.findall(r"<td[^>]*>(.*?)</td>", row)
        assert len(line.split()) >= 4
        assert (mark == "✓") == (truth == guess)
        assert {truth, guess} <= {"written", "shuffled"}
        assert re.fullmatch(r"\d+%", sure)
    runs = tmp_path / "temporary" / "electra_jax_notebook" / "20_steps"
    assert (runs / "pretrained" / "report.html").is_file()
    assert (runs / "from_pretrained" / "report.html").is_file()


def contents(folder):
    """Every file and folder below, with the files' bytes."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def printed_by(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def shown_by(notebook, cell_id, kind):
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]
