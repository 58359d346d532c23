"""Names of the Hugging Face hub are told from paths with typing errors."""

import pytest

from electra_jax import hub_names


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("google/electra-small-discriminator", "google/electra-small-discriminator"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("https://huggingface.co/google/electra-base-generator/tree/main", "google/electra-base-generator"),
    ],
)
def test_a_name_is_answered_with_how_to_fetch_it(given, name):
    advice = hub_names.advice(given)
    assert "nothing is downloaded here" in advice
    assert f"`hf download {name} --local-dir={name.rpartition('/')[2]}`" in advice
    assert advice.endswith(f"with huggingface_hub installed, give hf://{name}")


@pytest.mark.parametrize(
    "path",
    ["", "/abs/model", "./model", "~/model", "a/b/c", "vocab.txt", "data/corpus.jsonl", "gs://b/m", "a b", "x/y"],
)
def test_a_path_is_no_name(path, tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub_names.advice(path) == ""
