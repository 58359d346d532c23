"""Fine-tuning through `electra_jax.main`, as a user runs it: every family of tasks, shrunk, from a model of our own."""

import json
import os
import re
import shutil
import signal
import zipfile

import pytest

from tests.running import ROOT, learned, main, quicktest_flags, started, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def pretrained(shared):
    """The workdir of a pre-training run."""
    main(*quicktest_flags("small", shared / "pretrained", shared))
    return shared / "pretrained"


@pytest.fixture(scope="module")
def flags(pretrained, shared):
    def made(variant, workdir, *more):
        family, _, names = variant.partition(":")
        return (
            f"--config=configs/finetune/{family}.py:{names}{'+' if names else ''}quicktest",
            f"--config.init_from={pretrained}",
            f"--config.compile_cache={shared}/compiled",
            f"--workdir={workdir}",
            *more,
        )

    return made


@pytest.fixture(scope="module")
def straight(flags, shared):
    """An undisturbed run on a pair task, and its output."""
    workdir = shared / "straight"
    return workdir, main(*flags("glue:rte", workdir))


def result(workdir):
    return json.loads((workdir / "result.json").read_text())


def test_a_run_leaves_scores_predictions_and_a_report(straight):
    workdir, printed = straight
    assert {path.name for path in workdir.iterdir()} >= {
        "config.json", "environment.json", "metrics.jsonl", "checkpoints", "tokenizer", "tasks.json", "result.json",
        "results.json", "predictions", "submission.zip", "report.html",
    }  # fmt: skip
    for fact in ("taken: encoder", "not used: generator", "rte", "Held out, step", "accuracy", "Report:"):
        assert fact in printed
    names = set().union(*learned(workdir))
    assert {"train/loss", "train/accuracy", "eval/accuracy", "eval/loss", "optimizer/learning_rate"} <= names
    last = [line for line in learned(workdir) if "eval/accuracy" in line][-1]
    assert result(workdir)["scores"]["dev"]["accuracy"] == last["eval/accuracy"]
    records = [json.loads(line) for line in (workdir / "predictions" / "rte.dev.jsonl").read_text().splitlines()]
    share = sum(record["right"] for record in records) / len(records)
    assert share == pytest.approx(result(workdir)["scores"]["dev"]["accuracy"])
    with zipfile.ZipFile(workdir / "submission.zip") as archive:
        lines = archive.read("RTE.tsv").decode().splitlines()
    assert lines[0] == "index\tprediction"
    assert all(re.fullmatch(r"\d+\t(entailment|not_entailment)", line) for line in lines[1:])


@pytest.mark.parametrize(
    ("variant", "metric", "more"),
    [
        ("squad:v2", "f1", ()),
        ("tagging:conll2000", "span_f1", ()),
        pytest.param("tagging:ud", "accuracy", (), marks=pytest.mark.release),
        pytest.param("text", "accuracy", (), marks=pytest.mark.release),
        pytest.param("text:multilabel", "micro_f1", ("--config.random_weights=True",), marks=pytest.mark.release),
    ],
)
def test_every_other_family_of_tasks_runs_shrunk(flags, tmp_path, variant, metric, more):
    printed = main(*flags(variant, tmp_path / "run", *more))
    assert ("the encoder starts from random weights" in printed) == bool(more)
    assert (tmp_path / "run" / "tokenizer").exists()
    assert metric in result(tmp_path / "run")["scores"]["dev"]
    if variant.startswith("squad"):
        predictions = tmp_path / "run" / "predictions"
        answers = json.loads((predictions / "squad.dev.predictions.json").read_text())
        assert answers.keys() == json.loads((predictions / "squad.dev.null_odds.json").read_text()).keys()


def test_several_tasks_share_an_encoder_and_seeds_make_a_table(flags, tmp_path):
    printed = main(*flags("glue:cola,mrpc,sts", tmp_path / "run", "--config.trials=2", "--config.reseeds=0"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [trial["seed"] for trial in results["trials"]] == [42, 43]
    assert set(results["summary"]) >= {"cola/dev", "mrpc/dev", "sts/dev"}
    assert results["metric"] == "score"
    for of_one in (r"cola/dev\s+matthews", r"mrpc/dev\s+accuracy", r"sts/dev\s+spearman"):
        assert re.search(of_one, printed)
    assert printed.count("Compiling the training step") == 2
    assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "tokenizer").exists()
    # The table is made of the files; the same command again trains nothing.
    again = main(*flags("glue:cola,mrpc,sts", tmp_path / "run", "--config.trials=2", "--config.reseeds=0"))
    assert "Held out" not in again


# test_main.py kills a run of the same loop.
@pytest.mark.release
def test_resume_after_sigkill_is_bit_equal(straight, flags, tmp_path):
    # Two evaluations, and so two checkpoints, in the one epoch of a quicktest.
    more = ("--config.evaluation.per_epoch=2",)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    main(*flags("glue:rte", undisturbed, *more))
    process = started(flags("glue:rte", killed, *more))
    wait_for(lambda: any((killed / "checkpoints").glob("[1-9]*")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    main(*flags("glue:rte", killed, *more))
    assert learned(killed) == learned(undisturbed)
    name = os.path.join("predictions", "rte.dev.jsonl")
    assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()


def test_an_evaluation_repeats_the_scores_of_the_run(straight, flags):
    workdir, _ = straight
    printed = main(*flags("glue:rte", workdir), "--mode=eval")
    summary = json.loads(printed[printed.index("{") :])
    assert summary["dev"]["accuracy"]["mean"] == result(workdir)["scores"]["dev"]["accuracy"]


def test_four_devices_with_sharded_weights_train_as_one(straight, flags, tmp_path):
    mesh = ("--config.mesh.fsdp=2", "--config.mesh.tensor=2", "--config.mesh.sharding=fsdp_tp")
    printed = main(*flags("glue:rte", tmp_path / "run", *mesh), XLA_FLAGS="--xla_force_host_platform_device_count=4")
    assert "mesh data 1 × fsdp 2 × tensor 2" in printed
    for one, four in zip(learned(straight[0]), learned(tmp_path / "run"), strict=True):
        assert four == pytest.approx(one, rel=1e-4, abs=1e-5)


@pytest.mark.release
def test_google_s_recipe_runs_on_several_devices(flags, tmp_path):
    devices = "--xla_force_host_platform_device_count=4"
    main(*flags("glue:sts+google_compat", tmp_path / "run"), XLA_FLAGS=devices)
    assert result(tmp_path / "run")["scores"]["dev"]["spearman"] > -1


def test_a_run_refuses_to_resume_with_other_examples(flags, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(ROOT / "tests/data/finetuning/classification", data)
    own = (f"--config.data.directory={data}", "--config.trials=2")
    main(*flags("text", tmp_path / "run", *own))
    text = (data / "dev.tsv").read_text()
    (data / "dev.tsv").write_text(text.replace("\n", "\nAnd one more. ", 1))
    shutil.rmtree(tmp_path / "run" / "seed_43" / "predictions")
    (tmp_path / "run" / "seed_43" / "result.json").unlink()
    printed = main(*flags("text", tmp_path / "run", *own), check=77)
    assert "config.tasks.text: the examples of dev are not those that the run" in printed


def test_all_problems_are_reported_at_once(flags, tmp_path):
    shutil.copytree(ROOT / "tests/data/finetuning/glue/RTE", tmp_path / "glue" / "RTE")
    dev = tmp_path / "glue" / "RTE" / "dev.tsv"
    lines = dev.read_text().splitlines()
    lines[2] = lines[2].rsplit("\t", 1)[0] + "\tmaybe"
    lines[3] = lines[3].rsplit("\t", 2)[0]
    dev.write_text("\n".join(lines) + "\n")
    printed = main(
        *flags("glue:rte", tmp_path / "run", f"--config.data.directory={tmp_path / 'glue'}"), check=64
    )  # fmt: skip
    assert "dev.tsv:3" in printed
    assert "maybe" in printed
    assert "dev.tsv:4" in printed
    assert not (tmp_path / "run").exists()
    printed = main(
        *flags("glue:rte", tmp_path / "run", "--config.epochs=0", "--config.tasks.rte.head=papyrus"), check=64
    )  # fmt: skip
    assert "The config has 2 problems" in printed
    assert "config.init_from" in main(
        "--config=configs/finetune/glue.py:rte", f"--workdir={tmp_path / 'run'}", check=64
    )
