"""The command electra_jax.demo, and its page in Chromium: what is typed gets the scores that Python gives."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest

import electra_jax
from electra_jax.browser import onnxruntime_web, page
from electra_jax.config.shared import DOWNLOAD_CACHE
from electra_jax.errors import InputError
from electra_jax.interop import export, finetuned
from tests.browser import chromium, made_texts
from tests.interop import made, made_finetuned, peer
from tests.running import main

demo = functools.partial(main, program=("-m", "electra_jax.demo"))

TEXTS = (
    "To be or not to potato, that is the question.",
    "Ça va? e\u0301te\u0301 naïve ÉTÉ  don't\tstop",
    "東京 한국어 😀👍🏽 עולם x😀y ﬁ ½ \u200b ©",
    "<img src=x onerror=alert(1)> & <b>bold</b>",
    "ab" * 101,
)


def test_missing_flags_and_full_folders_end_with_64(tmp_path):
    assert "Two flags are needed, for example --model=runs/quickstart" in demo("--model=x", check=64)
    (tmp_path / "mine").write_text("mine")
    said = demo(f"--model={tmp_path}/none", f"--target={tmp_path}", "--overwrite", check=64)
    assert f"--target={tmp_path}: holds something other than a page of this command" in said
    assert (tmp_path / "mine").read_text() == "mine"


def encoder(tokenizer):
    """The sizes of a small network for a tokenizer."""
    return dataclasses.replace(peer.TINY, vocabulary_size=tokenizer.vocabulary_size, positions=64)


def discriminator():
    """An ELECTRA pair with random weights, and pieces in many scripts."""
    tokenizer = made_texts.tokenizer()
    config = encoder(tokenizer)
    return made.model((config, config.scaled(1 / 2)), tokenizer=tokenizer)


def classifier(kind, columns):
    """A fine-tuned model with random weights."""
    tokenizer = made_texts.tokenizer()
    task = made_finetuned.task("mine", kind, tokenizer, max_length=32)
    params = made_finetuned.params_of(made_finetuned.job(task, encoder=encoder(tokenizer)))
    heads = finetuned.task_heads({"mine": task.description()}, params["heads"], 0.1, "tasks.json", {"mine": columns})
    parts = {"embeddings": params["embeddings"], "discriminator": params["encoder"]}
    whole = made.discriminator_alone(tokenizer=tokenizer, discriminator=encoder(tokenizer))
    return dataclasses.replace(whole, params=parts, task_head=heads["mine"])


@pytest.fixture(scope="module")
def runtime():
    """onnxruntime-web, downloaded once."""
    if chromium.PROGRAM is None:
        pytest.skip(chromium.MISSING)
    try:
        return onnxruntime_web.fetch(DOWNLOAD_CACHE)
    except InputError as error:
        pytest.skip(f"needs onnxruntime-web: {error}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory, runtime):
    del runtime  # Skips without it.
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def detecting(tmp_path_factory, runtime):
    """A page that the command wrote for a pair, and the model that it shows."""
    del runtime
    folder = tmp_path_factory.mktemp("detecting")
    export.write(discriminator(), str(folder / "pair"), "electra_jax")
    said = demo(f"--model={folder}/pair", f"--target={folder}/page", "--precision=fp32")
    assert f"python -m http.server --bind 127.0.0.1 --directory {folder}/page 8000" in said
    with chromium.served(folder / "page") as address:
        yield address, electra_jax.load(folder / "pair"), folder / "page"


@pytest.mark.interop
def test_the_page_detects_as_python_does(browser, detecting):
    address, model, _ = detecting
    browser.open(address)
    for text, ours in zip(TEXTS, model.detect(TEXTS), strict=True):
        browser.type(text)
        pieces = browser.value(
            "[...document.querySelectorAll('.word')].flatMap((word) => JSON.parse(word.dataset.pieces))"
        )
        assert [piece["start"] for piece in pieces] == ours.starts_T.tolist()
        assert [piece["end"] for piece in pieces] == ours.ends_T.tolist()
        found = [piece["probability"] for piece in pieces]
        np.testing.assert_allclose(found, ours.probabilities_T, atol=1e-3)
        shown = (
            "[...document.querySelector('.sentence').childNodes].map((node) => (node.firstChild ?? node).data).join('')"
        )
        assert browser.value(shown) == text
    assert browser.value("document.images.length + document.querySelectorAll('b b').length") == 0
    assert {request.startswith(address) for request in browser.requests} == {True}
    assert browser.messages == []


@pytest.mark.interop
def test_the_page_is_used_with_the_keyboard(browser, detecting):
    browser.open(detecting[0])
    browser.type("ab cd " * 40)
    assert "reads 64 tokens at once; " in browser.value("document.getElementById('hint').innerText")
    browser.type("ab cd ef")
    focused = "[...document.querySelectorAll('.word')].indexOf(document.activeElement)"
    places = []
    for key in ("Tab", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Home", "End"):
        browser.press(key)
        places.append(browser.value(focused))
    assert places == [0, 1, 2, 2, 1, 0, 2]
    assert browser.value("document.activeElement.ariaLabel").startswith("ef, ")
    assert browser.value("document.querySelector('.about').innerText").startswith("ef ")
    browser.type(" \n")
    assert browser.value("document.getElementById('hint').innerText") == "Type a text."


@pytest.mark.interop
def test_the_page_can_ask_no_other_host(browser, detecting):
    browser.open(detecting[0])
    asked = "fetch('http://localhost:9/').then(() => 'answered', (error) => String(error))"
    assert "Failed to fetch" in browser.value(asked)
    assert any("Content Security Policy" in message for message in browser.messages)
    browser.messages.clear()


@pytest.mark.interop
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "onnxruntime" / "ort-wasm-simd-threaded.wasm").unlink(), "threaded.wasm: the server answers 404"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"damaged"), "model.onnx: 7 of its "),
        (lambda folder: rewrite(folder / "tokenizer.json", longest_word=3), "divides the text “To be or not to potato"),
    ],
    ids=["no runtime", "half a network", "another tokenizer"],
)  # fmt: skip
def test_what_is_wrong_with_a_page_is_said(browser, detecting, tmp_path, change, said):
    shutil.copytree(detecting[2], tmp_path / "page")
    change(tmp_path / "page")
    with chromium.served(tmp_path / "page") as address:
        browser.open(address)
        assert said in browser.value("document.getElementById('problem').innerText")
    browser.messages.clear()


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.interop
@pytest.mark.parametrize(("kind", "columns"), [("classification", ("one", "other")), ("multilabel", ("text",))])
def test_the_page_classifies_as_python_does(browser, runtime, quick_jit, monkeypatch, tmp_path, kind, columns):
    monkeypatch.setattr("jax.jit", quick_jit)
    model = classifier(kind, columns)
    page.write(page.shown(model, "runs/mine"), runtime, str(tmp_path / "page"), "fp32")
    export.write(model, str(tmp_path / "model"), "electra_jax")
    given = ("To be or not to be, ab cd ef gh ij kl mn op qr st", "ef gh naïve")[: len(columns)]
    (ours,) = electra_jax.load(tmp_path / "model").classify([given])
    probabilities = dict(zip(ours.labels, ours.probabilities_C.tolist(), strict=True))
    with chromium.served(tmp_path / "page") as address:
        browser.open(address)
        labels = browser.value("[...document.querySelectorAll('label')].map((label) => label.innerText)")
        assert labels == (list(columns) if len(columns) == 2 else ["Text"])
        for number, text in enumerate(given):
            browser.type(text, number)
        shown = browser.value("[...document.querySelectorAll('.classes li')].map((item) => ({...item.dataset}))")
        found = {item["label"]: float(item["probability"]) for item in shown}
        assert found == pytest.approx(probabilities, abs=1e-3)
        chosen = browser.value("[...document.querySelectorAll('.classes .chosen')].map((item) => item.dataset.label)")
        assert sorted(chosen) == (sorted(ours.chosen) if kind == "multilabel" else [ours.label])
        if kind == "multilabel":
            # A grade is a logit as it is.
            rewrite(tmp_path / "page" / "page.json", task="regression")
            browser.open(address)
            browser.type(given[0])
            first = probabilities[ours.labels[0]]
            grade = float(browser.value("document.querySelector('.label').dataset.grade"))
            assert grade == pytest.approx(np.log(first / (1 - first)), abs=1e-3)
    assert browser.messages == []
