"""Runs that live in a bucket altogether, as a user starts them."""

import json
import os

import pytest

from benchmarks.reliability.object_store import object_store as served
from tests.running import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store():
    with served("bucket") as store:
        yield store


def start(store, *arguments, **options):
    return main(*arguments, **options, **store.environment)


def test_a_model_is_trained_tuned_scored_reported_and_exported_in_a_bucket(store, tmp_path):
    before = set(os.listdir())
    pretrained = (
        "--config=quickstart:quicktest",
        "--workdir=gs://bucket/runs/first",
        f"--config.data.directory={tmp_path}",
        "--config.compile_cache=workdir",
    )
    printed = start(store, *pretrained)
    assert "Report: gs://bucket/runs/first/report.html" in printed
    names = {name.removeprefix("runs/first/").partition("/")[0] for name in store.names("bucket", "runs/first/")}
    assert {name for name in names if not name.startswith("events.out.tfevents")} == {
        *("config.json", "environment.json", "metrics.jsonl", "samples.jsonl", "checkpoints", "compiled", "tokenizer"),
        *("checkpoints.json", "report.html"),
    }
    assert '"step": 20' in start(store, *pretrained, "--mode=eval")
    tuned = (
        "--config=configs/finetune/glue.py:rte+quicktest",
        "--config.init_from=gs://bucket/runs/first",
        "--workdir=gs://bucket/runs/tuned",
        "--config.trials=2",
        "--config.reseeds=0",  # So short a run often counts as failed.
        "--config.compile_cache=gs://bucket/compiled",
    )
    start(store, *tuned)
    results = json.loads(store.content("bucket", "runs/tuned/results.json"))
    assert [trial["directory"] for trial in results["trials"]] == ["seed_42", "seed_43"]
    for name in ("predictions/rte.dev.jsonl", "submission.zip", "metrics.jsonl", "tokenizer/tokenizer.json"):
        assert store.content("bucket", f"runs/tuned/seed_42/{name}")
    assert '"accuracy"' in start(store, *tuned, "--mode=eval")
    own = "gs://bucket/runs/tuned/seed_42/predictions/rte.dev.jsonl"
    asked = ("--model=gs://bucket/runs/tuned/seed_42", f"--input={own}", "--text_columns=texts")
    start(store, *asked, "--output=gs://bucket/answers.jsonl", program=("-m", "electra_jax.predict"))
    answers = [json.loads(line) for line in store.content("bucket", "answers.jsonl").splitlines()]
    records = [json.loads(line) for line in store.content("bucket", own.partition("bucket/")[2]).splitlines()]
    assert [(one["id"], one["label"]) for one in answers] == [(one["key"], one["prediction"]) for one in records]
    exported = ("--source=gs://bucket/runs/tuned", "--target=gs://bucket/exported", "--to=huggingface")
    start(store, *exported, program=("-m", "electra_jax.convert"))
    assert {"exported/config.json", "exported/model.safetensors"} <= set(store.names("bucket", "exported/"))
    assert set(os.listdir()) == before  # No folder "gs:".


@pytest.mark.parametrize(
    ("workdir", "problem"),
    [("gs://nowhere/run", "there is no such bucket"), ("s3://bucket/run", "s3://"), ("gs://bucket", "a name within")],
)
def test_a_workdir_that_cannot_be_is_refused_at_once(store, workdir, problem):
    printed = start(store, "--config=quickstart:quicktest", f"--workdir={workdir}", check=64)
    assert f"--workdir={workdir}: " in printed
    assert problem in printed
    assert "Traceback" not in printed
