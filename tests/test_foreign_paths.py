"""Names inside files stay within their directory, and files of a run hold no secrets."""

import json

import pytest

from electra_jax.errors import InputError
from electra_jax.interop import finetuned, tensor_files
from electra_jax.reporting import results
from electra_jax.text.dataset.dataset import open_dataset
from electra_jax.training import telemetry

OUTSIDE = ("../other.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..\\b.safetensors", "")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_inside_a_file_cannot_leave_its_directory(tmp_path, write_small_dataset, name):
    (tmp_path / tensor_files.INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(InputError, match=r"index\.json: weight_map\.a: found"):
        tensor_files.read_folder(str(tmp_path))
    trial = {"scores": {"dev": {"f1": 0.5}}, "directory": name or ".."}
    with pytest.raises(InputError, match=r"trials\[0\]\.directory: found"):
        finetuned.best_trial({"trials": [trial]}, {"a": "f1"})
    if name:
        trial["directory"] = f"../{name}"
        with pytest.raises(InputError, match="directory: found"):
            results.read_trial(trial, "result.json")
    directory = write_small_dataset(tmp_path / "data")
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace("train-00000.bin", name.replace("\\", "\\\\")))
    with pytest.raises(InputError, match=r"splits\.train\.shards\[0\]\.file: found"):
        open_dataset(directory)


@pytest.fixture
def write_small_dataset():
    from benchmarks.reliability import foreign_files

    form = next(form for form in foreign_files.FORMATS if form.file == "manifest.json")

    def write(directory):
        directory.mkdir()
        form.make(directory)
        return directory

    return write


def test_no_environment_variable_is_recorded(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "very-secret-value")
    assert "very-secret-value" not in json.dumps(telemetry.environment())
