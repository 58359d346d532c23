"""Exports of programs: what is refused before work starts, StableHLO without this package, model cards."""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import yaml

from electra_jax.errors import InputError
from electra_jax.interop import checkpoints, export, export_formats, model_card
from electra_jax.interop.model import Score, Training, outputs
from tests.interop import made, made_finetuned, made_run, peer
from tests.running import ROOT


@pytest.mark.parametrize(
    ("form", "precisions", "message"),
    [
        (
            "onnx",
            ["fp32", "fp64"],
            r"--precision=fp32,fp64: found fp32, fp64, expected fp32, fp16, int8, one or several",
        ),
        ("onnx", [], r"--precision=: found nothing"),
        ("onnx", ["int8", "int8"], r"--precision=int8,int8: found"),
        ("huggingface", ["int8"], r"--precision=int8: found int8, expected fp32 for --to=huggingface"),
    ],
)
def test_a_precision_that_a_format_does_not_have_is_refused(monkeypatch, form, precisions, message):
    monkeypatch.setattr(export_formats.Format, "missing_packages", lambda self: [])
    with pytest.raises(InputError, match=message):
        export.check_form(form, precisions)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(export_formats.Format, "missing_packages", lambda self: ["onnxruntime"])
    message = r"needs the packages onnx and onnxruntime, found no onnxruntime; .*pip install 'electra_jax\[onnx\]'"
    with pytest.raises(InputError, match=message):
        export.check_form("onnx", ["fp32"])


@pytest.mark.slow
def test_stablehlo_is_computed_without_this_package(tmp_path):
    """The program of docs/export.md."""
    model = made.model()
    written = export.write(model, str(tmp_path / "copy"), "stablehlo")
    assert max(written.difference.values()) < 1e-5
    block = re.search(r"```python\n(import jax\n.*?)```", (ROOT / "docs" / "export.md").read_text("utf-8"), re.DOTALL)
    program = block.group(1).replace("exported/small/discriminator", str(tmp_path / "copy" / "discriminator"))
    assert "electra_jax" not in program
    ran = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; assert 'electra_jax' not in sys.modules\nprint(logits.tolist())"],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    with pytest.raises(InputError, match=r"found model\.stablehlo, a program of jax\.export"):
        checkpoints.open_model(str(tmp_path / "copy"))
    (text,) = re.findall(r'encode\("(.*?)"\)', program)
    tokens = [model.tokenizer.cls_id, *model.tokenizer.encode([text])[0].tolist(), model.tokenizer.sep_id]
    rows = np.array([tokens], np.int32)
    ours = outputs(model, rows, np.zeros_like(rows))["discriminator"]
    np.testing.assert_allclose(json.loads(ran.stdout.splitlines()[-1]), ours, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["classification", pytest.param("answering", marks=pytest.mark.release)],
)
def test_stablehlo_has_the_heads_of_tasks(tmp_path, kind):
    job = made_finetuned.job(made_finetuned.task("mine", kind))
    made_finetuned.write_run(tmp_path / "run", job, made_finetuned.params_of(job), steps=(10,), reported=10)
    model = checkpoints.open_model(str(tmp_path / "run"))
    assert export.write(model, str(tmp_path / "copy"), "stablehlo").difference["discriminator"] < 1e-5
    described = json.loads((tmp_path / "copy" / "program.json").read_text())
    inputs = ["input_ids", "attention_mask", "token_type_ids", *(["allowed"] if kind == "answering" else [])]
    assert [each["name"] for each in described["inputs"]] == inputs
    assert described["platforms"] == ["cpu", "cuda", "tpu"]
    if kind == "classification":
        assert described["outputs"] == [{"name": "logits", "dtype": "float32", "axes": ["batch_size", 3]}]
    exported = jax.export.deserialize(bytearray((tmp_path / "copy" / "model.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")


def head_of(card):
    """The YAML head of a model card, and the rest."""
    _, head, body = card.split("---\n", 2)
    return yaml.safe_load(head), head, body


def test_the_card_has_what_the_hub_reads_and_invents_nothing():
    training = Training(
        {"seed": 42, "optimizer.learning_rate": 1e-3},
        (Score("rte", "dev", "accuracy", 0.75), Score("rte", "dev", "matthews", 0.5), Score("a: b", "dev", "f1", 0.25)),
        "runs/small\n- bad",
    )
    model = made.discriminator_alone(task_head=made.task_head(), training=training)
    for form, library in (("huggingface", "transformers"), ("onnx", "onnx"), ("stablehlo", "jax")):
        architecture = model.task_head.architecture
        head, text, body = head_of(model_card.text(model, "discriminator", architecture, form))
        assert head["library_name"] == library
        assert head["pipeline_tag"] == "text-classification"
        assert head["metrics"] == ["accuracy", "matthews_correlation", "f1"]
        (index,) = head["model-index"]
        assert [entry["dataset"]["name"] for entry in index["results"]] == ["rte", "a: b"]
        assert index["results"][0]["metrics"][1] == {"type": "matthews_correlation", "name": "matthews", "value": 0.5}
        assert not head.keys() & {"language", "license", "base_model", "datasets"}
        for field in ("language", "license", "base_model", "datasets"):
            assert re.search(rf"^# {field}: .*to be filled in", text, re.MULTILINE)
        for part in (
            "## Recipe",
            "| seed | 42 |",
            "| rte, dev | accuracy | 0.75 |",
            "## Limits",
            "@inproceedings{clark",
        ):
            assert part in body


def test_a_card_is_written_with_every_weight_format(tmp_path):
    # Google's needs TensorFlow: tests/interop/test_google_checkpoint.py looks for its card.
    for form in ("huggingface", "electra_jax"):
        export_formats.FORMATS[form].write(made.model(), str(tmp_path / form))
        (card, *_) = (tmp_path / form).rglob("README.md")
        head, _, body = head_of(card.read_text())
        assert "electra" in head["tags"]
        assert "| made from | made for a test |" in body


def test_a_card_has_the_recipe_and_the_scores_of_a_run(tmp_path):
    config = made_run.quicktest()
    made_run.write_run(tmp_path / "run", config, peer.random_params(made_run.pair_of(config)), steps=(20,))
    lines = [{"step": 10, "eval/discriminator_auc": 0.5}, {"step": 20, "eval/discriminator_auc": 0.75}]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = checkpoints.open_model(str(tmp_path / "run")).training
    assert training.scores == (Score("the run's own text", "held out", "discriminator_auc", 0.75),)
    assert training.recipe["batch_size"] == config.batch_size
    assert training.recipe["optimizer.learning_rate"] == config.optimizer.learning_rate

    job = made_finetuned.job(made_finetuned.task("rte", "classification"))
    made_finetuned.write_run(tmp_path / "tuned", job, made_finetuned.params_of(job), steps=(10,))
    result = {"step": 10, "scores": {"dev": {"accuracy": 0.5, "loss": float("nan")}}}
    (tmp_path / "tuned" / "result.json").write_text(json.dumps(result))
    training = checkpoints.open_model(str(tmp_path / "tuned")).training
    assert training.scores == (Score("rte", "dev", "accuracy", 0.5),)
    assert training.base_model == "exported/small"


def test_scores_of_a_card_are_left_out_where_a_run_has_none(tmp_path):
    head, _, body = head_of(model_card.text(made.model(), "generator", "ElectraForMaskedLM"))
    assert head["pipeline_tag"] == "fill-mask"
    assert "model-index" not in head
    assert "## Results" not in body
    alone = dataclasses.replace(made.masked_language_model(), sources=())
    assert "# datasets" not in model_card.text(alone, "generator", "ElectraForMaskedLM")
