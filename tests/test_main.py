"""`electra_jax.main`, run as a user runs it. `:quicktest` is the real recipe shrunk, so these are real runs."""

import json
import shutil
import signal

import numpy as np
import pytest

from tests.running import ROOT, learned, main, quicktest_flags, slowed, started, wait_for


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Flags of a run into a workdir; all runs here share the dataset and the compiled programs."""
    shared = tmp_path_factory.mktemp("shared")
    return lambda workdir: quicktest_flags("small", workdir, shared)


@pytest.fixture(scope="module")
def straight(flags, tmp_path_factory):
    """An undisturbed run, and its output."""
    workdir = tmp_path_factory.mktemp("runs") / "straight"
    return workdir, main(*flags(workdir))


def parameters(workdir, step):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(workdir / "checkpoints" / str(step) / "state")


def assert_equal_runs(first, second, step):
    import jax

    assert learned(first) == learned(second)
    assert (first / "samples.jsonl").read_text() == (second / "samples.jsonl").read_text()
    jax.tree.map(np.testing.assert_array_equal, parameters(first, step), parameters(second, step))


@pytest.mark.slow
def test_a_run_writes_the_documented_workdir(straight):
    workdir, printed = straight
    assert {path.name for path in workdir.iterdir()} >= {
        "config.json", "environment.json", "metrics.jsonl", "samples.jsonl", "checkpoints", "tokenizer", "report.html",
    }  # fmt: skip
    assert any(path.name.startswith("events.out.tfevents") for path in workdir.iterdir())
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"10", "20"}
    for fact in ("devices", "parameters", "FLOPs", "tokens", "Held out, step 20", "original", "corrupted", "Report:"):
        assert fact in printed
    names = set().union(*learned(workdir))
    assert {
        "train/loss", "train/generator_loss", "train/generator_accuracy", "train/discriminator_loss",
        "train/discriminator_accuracy", "train/discriminator_precision", "train/discriminator_recall",
        "train/replaced_fraction", "optimizer/learning_rate", "optimizer/gradient_norm", "eval/loss",
        "eval/generator_loss", "eval/discriminator_auc", "eval/discriminator_auc_unigram", "eval/unigram_entropy",
    } <= names  # fmt: skip
    measured = set().union(*map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())) - names
    assert {"performance/tokens_per_second", "performance/mfu", "performance/goodput"} <= measured
    config = json.loads((workdir / "config.json").read_text())
    assert config["steps"] == 20
    assert len(config["fingerprint"]) == 64


@pytest.mark.slow
def test_a_complete_run_is_reported_and_does_nothing(straight, flags):
    workdir, _ = straight
    before = (workdir / "metrics.jsonl").read_text()
    assert "This run is complete" in main(*flags(workdir))
    assert (workdir / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_resume_after_sigkill_is_bit_equal(straight, flags, tmp_path):
    workdir = tmp_path / "killed"
    process = started(flags(workdir))
    wait_for((workdir / "checkpoints" / "10").exists, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "Resumed from checkpoint 10" in main(*flags(workdir))
    assert_equal_runs(straight[0], workdir, 20)


@pytest.mark.slow
def test_sigterm_saves_exits_75_and_resume_is_bit_equal(straight, flags, tmp_path):
    workdir = tmp_path / "stopped"
    process = started(flags(workdir), slowed("training", tmp_path / "phase", 2))
    wait_for((tmp_path / "phase").exists, process)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate()[0]
    assert process.returncode == 75, printed
    assert "SIGTERM: stopped after step 10 of 20; it is saved" in printed
    main(*flags(workdir))
    assert_equal_runs(straight[0], workdir, 20)


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "number"), [("preparing", signal.SIGINT), ("compiling", signal.SIGTERM)])
def test_a_signal_before_the_first_step_exits_75_at_once(straight, flags, tmp_path, phase, number):
    workdir = tmp_path / "stopped"
    process = started(flags(workdir), slowed(phase, tmp_path / "phase"))
    wait_for((tmp_path / "phase").exists, process)
    process.send_signal(number)
    printed = process.communicate()[0]
    assert process.returncode == 75, printed
    assert f"{signal.Signals(number).name}: stopped while {phase}" in printed
    assert "with nothing to save" in printed
    assert "eport:" not in printed
    assert list(workdir.glob("checkpoints/*")) == []


@pytest.mark.slow
def test_a_run_that_diverges_ends_with_76_and_its_evidence(flags, tmp_path):
    workdir = tmp_path / "diverged"
    absurd = "--config.optimizer.learning_rate=1e30", "--config.evaluation.every_steps=20"
    printed = main(*flags(workdir), *absurd, "--config.divergence.rollbacks=1", check=76)
    assert "Back to the start (rollback 1 of 1); batches 0 to 14 are passed over." in printed
    assert "not finite" in printed
    assert "--config.optimizer.learning_rate (1e+30 now)" in printed
    # Nothing is saved right after an update that was skipped.
    assert list((workdir / "checkpoints").iterdir()) == []
    first, second = (json.loads((workdir / "divergence" / f"{number}.json").read_text()) for number in (1, 2))
    assert [update["batch"] for update in first["skipped"]] == list(range(1, 15))
    assert [update["batch"] for update in second["skipped"]] == list(range(16, 30))
    assert second["ends_the_run"]
    update = second["diagnosed"][0]
    assert update["rows_not_finite"] == 8
    assert update["largest"][0]["text"].startswith("[CLS]")
    assert len(update["gradient_norms"]["discriminator/layers"]) == 2
    page = (workdir / "report.html").read_text()
    assert "<h2>Divergence</h2>" in page
    assert "discriminator/layers/1" in page


@pytest.mark.slow
def test_a_changed_config_is_refused_with_a_diff_unless_allowed(straight, flags):
    workdir, _ = straight
    change = "--config.model.layers=3", "--config.seed=7"
    printed = main(*flags(workdir), *change, check=77)
    assert "config.model.layers: was 2, is 3" in printed
    assert "config.seed: was 42, is 7" in printed
    allowed = main(*flags(workdir), *change, "--allow_config_change=seed", check=77)
    assert "config.seed" not in allowed


def test_forgotten_dashes_are_pointed_out():
    printed = main("--config=configs/base.py", "config.seed=1", check=64)
    assert "did you mean --config.seed=1?" in printed


def test_an_unknown_field_and_an_unknown_flag_suggest_the_nearest(tmp_path):
    printed = main("--config=configs/base.py", f"--workdir={tmp_path}", "--config.optimizer.learning_rat=1", check=64)
    assert "learning_rate" in printed
    assert "workdir" in main("--config=configs/base.py", f"--workdirr={tmp_path}", check=64)


def test_a_value_of_the_wrong_type_is_named():
    assert "config.steps" in main("--config=configs/base.py", "--config.steps=many", check=64)


def test_a_config_file_or_variant_that_is_not_there_is_named():
    assert "configs/bass.py" in main("--config=configs/bass.py", "--workdir=x", check=64)
    assert "quicktest" in main("--config=configs/base.py:quick", "--workdir=x", check=64)


def test_three_mistakes_are_reported_at_once_before_anything_is_written(tmp_path):
    workdir = tmp_path / "run"
    mistakes = "--config.batch_size=0", "--config.data.sequence_length=1024", "--config.model.heads=7"
    printed = main("--config=configs/base.py", f"--workdir={workdir}", *mistakes, check=64)
    assert "config.batch_size: found 0" in printed
    assert "config.model.positions" in printed
    assert "config.model.heads: 7" in printed
    assert "config.data.sources" in printed
    assert not workdir.exists()


def test_a_batch_that_the_mesh_does_not_divide_is_refused(tmp_path):
    printed = main(
        "--config=configs/small.py:quicktest",
        f"--workdir={tmp_path / 'run'}",
        "--config.batch_size=12",
        check=64,
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )
    assert "config.batch_size: 12" in printed
    assert "multiple of 8" in printed


def test_a_workdir_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    printed = main("--config=configs/small.py:quicktest", f"--workdir={tmp_path}", check=64)
    assert "not the workdir of a run" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    printed = main("--config=configs/small.py:quicktest", f"--workdir={tmp_path}/file/run", check=64)
    assert f"--workdir={tmp_path}/file/run" in printed


def test_addresses_are_never_taken_for_local_folders():
    printed = main("--config=configs/small.py:quicktest", "--workdir=memory://run", check=64)
    assert "--workdir=memory://run: found memory://, expected a local path or gs://BUCKET/NAME" in printed
    assert not (ROOT / "memory:").exists()
    printed = main(
        "--config=configs/small.py:quicktest", "--workdir=x", "--config.data.directory=nonsense://data", check=64
    )
    assert "config.data.directory: nonsense://data: nonsense:// cannot be used" in printed
    assert not (ROOT / "nonsense:").exists()


@pytest.mark.slow
def test_a_run_refuses_another_tokenizer_than_it_began_with(straight, flags, tmp_path):
    workdir = tmp_path / "other"
    shutil.copytree(straight[0], workdir)
    path = workdir / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase":true', '"lowercase":false'))
    printed = main(*flags(workdir), "--mode=eval", check=77)
    assert "this run began with another tokenizer" in printed


@pytest.mark.slow
def test_a_longer_run_continues_and_a_shorter_one_is_complete(straight, flags, tmp_path):
    workdir = tmp_path / "extended"
    shutil.copytree(straight[0], workdir)
    printed = main(*flags(workdir), "--config.steps=25", "--allow_config_change=steps")
    assert "Resumed from checkpoint 20" in printed
    assert (workdir / "checkpoints" / "25").exists()
    assert "complete: 25 of 10" in main(*flags(workdir), "--config.steps=10", "--allow_config_change=steps")


def test_nothing_to_evaluate_is_reported(tmp_path):
    printed = main("--config=configs/small.py:quicktest", f"--workdir={tmp_path / 'none'}", "--mode=eval", check=64)
    assert "no run to evaluate" in printed
