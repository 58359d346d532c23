"""What the page shows of a model, and what it refuses."""

import dataclasses
import json

import pytest

from electra_jax.browser import page
from electra_jax.browser.onnxruntime_web import PACKAGE, Runtime
from electra_jax.errors import InputError
from electra_jax.interop.model import TaskHead, TaskSettings
from electra_jax.text.tokenizers import tokenizer
from tests.interop import made

RUNTIME = Runtime(PACKAGE, {"ort.wasm.bundle.min.js": b"export {}", "ort-wasm-simd-threaded.wasm": b"\0asm"})


def classifier(kind="classification", columns=("text",), **changes):
    """A fine-tuned model; without a kind, one whose settings are unknown."""
    settings = TaskSettings(name="mine", kind=kind, text_columns=list(columns)) if kind else None
    head = dataclasses.replace(made.task_head(), settings=settings, **changes)
    return made.discriminator_alone(task_head=head)


def test_a_pair_of_networks_shows_its_discriminator_alone():
    shown = page.shown(made.model(), "runs/small/")
    assert (shown.task, shown.name, shown.texts, shown.longest) == ("detect", "small", (("Text", False),), 24)
    assert set(shown.model.params) == {"embeddings", "discriminator", "discriminator_head"}
    assert list(shown.model.networks) == ["discriminator"]


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_a_classifier_shows_its_classes(kind):
    shown = page.shown(classifier(kind, max_length=16), "runs/reviews")
    assert (shown.task, shown.labels, shown.longest) == (kind, ("label 0", "label 1", "label 2"), 16)


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        (classifier(columns=("question", "answer")), (("question", False), ("answer", False))),
        (classifier(columns=("review",)), (("Text", False),)),
        (classifier(kind=None), (("Text", False), ("Second text", True))),
    ],
    ids=["pairs", "single texts", "unknown"],
)
def test_the_fields_are_the_texts_of_training(model, texts):
    assert page.shown(model, "runs/reviews").texts == texts


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (made.masked_language_model(), "found a masked language model alone"),
        (made.discriminator_alone(), "found an encoder without a head"),
        (
            made.discriminator_alone(task_head=TaskHead("ElectraForQuestionAnswering", {}, {})),
            "found a model fine-tuned for ElectraForQuestionAnswering",
        ),
    ],
    ids=["a generator", "an encoder", "answers"],
)
def test_other_models_are_refused_with_what_is_possible(model, found):
    with pytest.raises(InputError) as refused:
        page.shown(model, "runs/x")
    assert str(refused.value).startswith(
        f"runs/x: {found}; the page can show a pre-trained discriminator with its head"
    )


def test_a_model_without_a_usable_tokenizer_is_refused():
    with pytest.raises(InputError, match="runs/x: found no tokenizer next to the weights"):
        page.shown(made.model(tokenizer=None), "runs/x")
    texts = ["the cat sat on the mat, and a dog ran after the cat"] * 20
    options = {"lowercase": True, "strip_accents": False, "character_coverage": 1.0}
    pieces = tokenizer.train(texts, kind="bpe", vocabulary_size=30, **options)
    with pytest.raises(InputError, match="runs/x: found a tokenizer of the kind bpe"):
        page.shown(made.model(tokenizer=pieces), "runs/x")


def test_only_a_page_is_overwritten(tmp_path):
    page.check_target(str(tmp_path / "new"), overwrite=False)
    page.check_target(str(tmp_path), overwrite=False)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty; give another path, or replace a page with --overwrite"):
        page.check_target(str(tmp_path), overwrite=False)
    with pytest.raises(InputError, match="holds something other than a page of this command"):
        page.check_target(str(tmp_path), overwrite=True)
    with pytest.raises(InputError, match="is not a folder"):
        page.check_target(str(tmp_path / "mine.txt"), overwrite=True)
    with pytest.raises(InputError, match="is an address, expected a local folder"):
        page.check_target("gs://bucket/demo", overwrite=True)
    (tmp_path / "page.json").write_text('{"written_by": "electra_jax.demo"}')
    page.check_target(str(tmp_path), overwrite=True)


@pytest.mark.interop
def test_a_page_is_replaced_as_a_whole(tmp_path, monkeypatch):
    target = tmp_path / "pages" / "demo"
    lines = page.write(page.shown(made.model(), "runs/small"), RUNTIME, f"{target}/", "int8")
    assert "network    int8" in lines[1]
    facts = json.loads((target / "page.json").read_text())
    assert (facts["task"], facts["sizes"]["model.onnx"]) == ("detect", (target / "model.onnx").stat().st_size)
    written = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert written == [
        "icon.svg", "index.html", "model.onnx", "network.js", "onnxruntime/LICENSE.txt",
        "onnxruntime/ort-wasm-simd-threaded.wasm", "onnxruntime/ort.wasm.bundle.min.js", "page.js", "page.json", "rows.js",
        "style.css", "tokenizer.js", "tokenizer.json",
    ]  # fmt: skip
    (target / "old.txt").write_text("old")
    second = page.shown(classifier(), "runs/reviews")
    with monkeypatch.context() as failing:
        failing.setattr(page, "_license", lambda runtime: (target / "none").read_text())
        with pytest.raises(FileNotFoundError):
            page.write(second, RUNTIME, str(target), "int8", overwrite=True)
    assert (target / "old.txt").exists()
    page.write(second, RUNTIME, str(target), "int8", overwrite=True)
    assert json.loads((target / "page.json").read_text())["task"] == "classification"
    assert not (target / "old.txt").exists()
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["demo"]
