import io
import json
import zipfile

import jax
import pytest

from electra_jax import storage
from electra_jax.errors import InputError, MismatchError
from electra_jax.finetuning.finetuning_job import FinetuningJob
from electra_jax.finetuning.trials import Trials
from electra_jax.progress import ProgressLine
from electra_jax.training import partitioning
from electra_jax.training.optimizer import OptimizerConfig
from electra_jax.training.run_context import RunContext
from electra_jax.training.trainer import LoopConfig, Trainer
from tests.finetuning.made import WordTokenizer, classification, encoder, texts

TOKENIZER = WordTokenizer("good bad fine poor very film plot the a")
TRAIN = texts(*[(f"{filler} {word} film", label) for filler in ("the", "a", "very", "the very") for word, label in (
    ("good", "yes"), ("fine", "yes"), ("bad", "no"), ("poor", "no"))])  # fmt: skip


class Canned(Trials):
    """Trials whose runs are known beforehand: a score for each seed, and which of them fail."""

    def scores(self, scores, failing=()):
        object.__setattr__(self, "known", (scores, failing))
        return self

    def _run(self, directory, seed):
        path = storage.join(directory, "result.json")
        if storage.exists(path):
            return json.loads(storage.read(path))
        scores, failing = self.known
        result = {
            "seed": seed, "directory": "." if directory == self.workdir else storage.name(directory), "metric": "accuracy",
            "scores": {"dev": {"accuracy": scores[seed]}}, "collapsed": "all are 'no'" if seed in failing else "",
        }  # fmt: skip
        storage.write(path, json.dumps(result).encode())
        storage.write(storage.join(directory, "metrics.jsonl"), f"of seed {seed}".encode())
        return result


def canned(workdir, count=1, reseeds=3, **known):
    printed = io.StringIO()
    trials = Canned(RunContext(str(workdir), ProgressLine(printed)), 7, count, reseeds, "last", {}, None, None)
    return trials.scores(**known), printed


def test_results_are_statistics_over_the_trials_in_the_order_of_seeds(tmp_path):
    trials, _ = canned(tmp_path, 3, scores={7: 0.5, 8: 0.75, 9: 0.7})
    results = trials.run()
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert [trial["directory"] for trial in results["trials"]] == ["seed_7", "seed_8", "seed_9"]
    summary = results["summary"]["dev"]["accuracy"]
    assert summary.pop("values") == [0.5, 0.75, 0.7]
    assert summary == pytest.approx({"n": 3, "mean": 0.65, "median": 0.7, "sd": 0.1322875656, "best": 0.75})


def test_one_trial_lives_in_the_workdir_and_has_no_deviation(tmp_path):
    trials, _ = canned(tmp_path, scores={7: 0.5})
    results = trials.run()
    assert results["trials"][0]["directory"] == "."
    assert results["summary"]["dev"]["accuracy"]["sd"] is None
    assert (tmp_path / "result.json").exists()


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_learned_nothing_is_kept_apart_and_reseeded(tmp_path, count):
    (tmp_path / "config.json").write_text("{}")
    trials, printed = canned(tmp_path, count, scores={7: 0.5, 8: 0.8, 1007: 0.9}, failing=(7,))
    results = trials.run()
    assert [trial["seed"] for trial in results["trials"]] == [1007, 8][:count]
    assert [run["seed"] for run in results["failed"]] == [7]
    assert results["failed"][0]["collapsed"] == "all are 'no'"
    assert "Seed 7 has failed: all are 'no'. Repeated with seed 1007" in printed.getvalue()
    kept = tmp_path / "failed" / "seed_7"
    assert (kept / "metrics.jsonl").read_text() == "of seed 7"
    place = tmp_path if count == 1 else tmp_path / "seed_1007"
    assert (place / "metrics.jsonl").read_text() == "of seed 1007"
    assert (tmp_path / "config.json").exists()
    assert not (tmp_path / "seed_7").exists()


def test_finished_trials_are_not_repeated_and_more_use_the_next_seeds(tmp_path):
    scores = {7: 0.5, 8: 0.8, 9: 0.7, 1007: 0.4, 1008: 0.9}
    trials, _ = canned(tmp_path, 2, scores=scores, failing=(7, 1007))
    first = trials.run()
    again, printed = canned(tmp_path, 2, scores={})
    assert again.run() == first
    assert not printed.getvalue()
    more, _ = canned(tmp_path, 3, scores=scores)
    assert [trial["seed"] for trial in more.run()["trials"]] == [1008, 8, 9]


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_a_workdir_of_one_trial_is_not_used_for_several_nor_the_other_way_round(tmp_path, first, second):
    trials, _ = canned(tmp_path, first, scores={7: 0.5, 8: 0.8})
    trials.run()
    (tmp_path / "checkpoints").mkdir() if first == 1 else None
    with pytest.raises(MismatchError, match=f"expected config.trials={second}"):
        canned(tmp_path, second, scores={})[0].run()


def test_when_no_more_runs_may_be_repeated_a_failed_one_counts_and_that_is_said(tmp_path):
    scores = {7: 0.5, 1007: 0.5}
    trials, printed = canned(tmp_path, reseeds=1, scores=scores, failing=tuple(scores))
    results = trials.run()
    assert results["trials"][0]["seed"] == 1007
    assert results["trials"][0]["collapsed"]
    assert "Seed 1007 has failed, too" in printed.getvalue()


def real_trials(workdir, count, chosen="last", learning_rate=0.005, steps=80):
    task = classification(
        TOKENIZER, TRAIN, name="films", test=texts(("the good plot", None)), metrics=("accuracy", "f1")
    )
    job = FinetuningJob((task,), encoder(), 4, "drop", 7, 1.0, 2, "mean", 0)
    optimizer = OptimizerConfig(
        steps=steps, warmup_steps=2, learning_rate=learning_rate, weight_decay=0.0, layer_decay=0.8
    )
    best = "eval/accuracy" if chosen == "best" else ""
    loop = LoopConfig(
        seed=7, log_every_steps=4, evaluate_every_steps=8, save_every_steps=8, keep_last=1, keep_every_steps=0,
        sharding="dp", best_metric=best,
    )  # fmt: skip
    trainer = Trainer(job, optimizer, loop, partitioning.make_mesh((-1, 1, 1)), print)

    def trainer_for(seed, _):
        import dataclasses

        return trainer.for_seed(dataclasses.replace(job, seed=seed), seed)

    return Trials(
        RunContext(str(workdir), ProgressLine(io.StringIO())), 7, count, 0, chosen, {"films": {"test": "SST-2"}},
        trainer_for, lambda directory, seed: storage.make_directory(directory),
    )  # fmt: skip


@pytest.mark.slow
def test_trials_learn_and_leave_predictions_scores_and_confusions(tmp_path):
    results = real_trials(tmp_path, 2).run()
    assert results["summary"]["dev"]["accuracy"]["values"] == [1.0, 1.0]
    for seed in (7, 8):
        folder = tmp_path / f"seed_{seed}"
        result = json.loads((folder / "result.json").read_text())
        assert result["step"] == 80
        assert result["scores"] == {"dev": {"accuracy": 1.0, "f1": 1.0}}
        assert result["confusion"]["dev"] == {"labels": ["no", "yes"], "counts": [[8, 0], [0, 8]]}
        records = [json.loads(line) for line in (folder / "predictions" / "films.dev.jsonl").read_text().splitlines()]
        assert len(records) == len(TRAIN)
        assert all(record["right"] for record in records)
        (test,) = (folder / "predictions" / "films.test.jsonl").read_text().splitlines()
        assert json.loads(test)["prediction"] == "yes"
        with zipfile.ZipFile(folder / "submission.zip") as archive:
            assert archive.read("SST-2.tsv") == b"index\tprediction\n0\tyes\n"
    first, second = ((tmp_path / f"seed_{seed}" / "metrics.jsonl").read_text() for seed in (7, 8))
    assert first != second


@pytest.mark.slow
def test_the_best_checkpoint_stays_and_is_the_one_that_is_reported(tmp_path):
    # Far too high a rate, so that what was learned is lost again.
    result = real_trials(tmp_path, 1, "best", learning_rate=0.3, steps=32).run()["trials"][0]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["eval/accuracy"] for line in lines if line["step"] and "eval/accuracy" in line}
    best = max(sorted(scores), key=scores.get)
    assert result["step"] == best
    assert result["scores"]["dev"]["accuracy"] == scores[best]
    assert str(best) in {path.name for path in (tmp_path / "checkpoints").iterdir()}


@pytest.mark.slow
def test_an_evaluation_of_a_finished_run_says_the_same(tmp_path):
    # Put-aside runs lie in a folder of this name, and a workdir may, too.
    workdir = tmp_path / "failed"
    trials = real_trials(workdir, 2, steps=8)
    results = trials.run()
    before = (workdir / "seed_7" / "predictions" / "films.dev.jsonl").read_bytes()
    assert trials.evaluate()["summary"] == results["summary"]
    assert (workdir / "seed_7" / "predictions" / "films.dev.jsonl").read_bytes() == before


def test_evaluating_an_unfinished_run_is_an_error_in_any_workdir(tmp_path):
    workdir = tmp_path / "failed" / "run"
    workdir.mkdir(parents=True)
    with pytest.raises(InputError, match="found no finished trial; train first"):
        canned(workdir, scores={})[0].evaluate()


def test_trainers_of_several_seeds_share_programs_but_no_random_draws(tmp_path):
    trials = real_trials(tmp_path, 1)
    one, other = trials.make_trainer(7, True), trials.make_trainer(8, True)
    assert one._programs is other._programs
    assert not (jax.random.key_data(one.root_key) == jax.random.key_data(other.root_key)).all()
    assert any(
        next(a)["films"]["row"].tolist() != next(b)["films"]["row"].tolist()
        for a, b in [(one.job.training_batches(n), other.job.training_batches(n)) for n in range(4)]
    )


@pytest.mark.parametrize("count", [1, 2])
def test_a_failed_run_is_moved_within_a_bucket(object_store, count):
    workdir = "gs://bucket/run"
    storage.write(f"{workdir}/config.json", b"{}")
    known = dict(scores={7: 0.5, 8: 0.8, 1007: 0.9}, failing=(7,))
    results = canned(workdir, count, **known)[0].run()
    assert [trial["seed"] for trial in results["trials"]] == [1007, 8][:count]
    assert [run["seed"] for run in results["failed"]] == [7]
    assert storage.read(f"{workdir}/failed/seed_7/metrics.jsonl") == b"of seed 7"
    assert not storage.exists(f"{workdir}/seed_7")
    # A kill after the last file was copied, and before it was deleted where it was.
    left = workdir if count == 1 else f"{workdir}/seed_7"
    storage.write(f"{left}/result.json", storage.read(f"{workdir}/failed/seed_7/result.json"))
    again = canned(workdir, count, **known)[0].run()
    assert [trial["seed"] for trial in again["trials"]] == [1007, 8][:count]
    assert again["failed"] == results["failed"]
    assert not storage.exists(f"{workdir}/seed_7")
