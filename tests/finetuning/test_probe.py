"""The probe of a pre-training run: its baseline by hand, and whole runs of a shrunk preset that have one."""

import json
import signal

import pytest

from electra_jax.finetuning.probe import word_frequency_accuracy
from tests.finetuning.made import sentences
from tests.running import learned, main, started, wait_for

TRAINING = sentences(("to go to", "P V P"), ("to a", "I D"), ("a", "N"), ("hail go", "N N"))


def accuracy(words, tags):
    return word_frequency_accuracy(TRAINING, sentences((words, tags)))


def test_a_word_gets_the_tag_it_has_most_often_in_training():
    assert accuracy("to to to hail", "P P I N") == 3 / 4


def test_of_equally_frequent_tags_the_one_of_more_words_counts():
    # "a" is D and N once each; N is the tag of three words, D of one.
    assert accuracy("a a a", "N D N") == 2 / 3


def test_new_words_get_the_most_frequent_tag_of_all():
    assert accuracy("sky sea", "N P") == 1 / 2


def test_words_count_and_not_sentences():
    scored = sentences(("to to to", "P P P"), ("to", "I"))
    assert word_frequency_accuracy(TRAINING, scored) == 3 / 4


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Flags of a run with a probe; all runs share the dataset and the compiled programs."""
    shared = tmp_path_factory.mktemp("shared")
    line = "the/DT king/NN gives/VB a/DT crown/NN\n"
    (shared / "train.txt").write_text(line * 64)
    (shared / "dev.txt").write_text(line.replace("crown", "ring") * 4)
    return lambda workdir: (
        "--config=tests/finetuning/probed_preset.py",
        f"--config.probe.data.directory={shared}",
        f"--workdir={workdir}",
        f"--config.data.directory={shared}/prepared",
        f"--config.compile_cache={shared}/compiled",
    )


def results(workdir):
    return json.loads((workdir / "probe" / "results.json").read_text())


@pytest.mark.slow
def test_the_probe_at_the_end_is_repeated_only_if_interrupted(flags, tmp_path):
    # So long that the signal comes before its end; the probe's fields may change between two starts.
    process = started((*flags(tmp_path), "--config.probe.epochs=4000.0"))
    metrics = tmp_path / "probe" / "pretrained" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and "train/loss" in metrics.read_text(), process)
    process.send_signal(signal.SIGINT)
    printed = process.communicate()[0]
    assert process.returncode == 75, printed
    assert "Run the same command again to repeat the probe alone." in printed
    trained = learned(tmp_path)

    printed = main(*flags(tmp_path))
    assert "This run is complete" in printed
    found = results(tmp_path)
    assert found["sentences"] == {"train": 64, "dev": 4}
    assert found["word_frequencies"] == 0.8  # "ring" is new, and gets the DT that training has most often.
    scores = {
        "step": 4,
        "probe/word_accuracy": found["word_accuracy"][0],
        "probe/random_weights": found["random_weights"][0],
        "probe/word_frequencies": 0.8,
        "probe/reference": 0.75,
    }
    assert learned(tmp_path) == [*trained, scores]
    *_, model, random, frequencies, reference = printed.rstrip().splitlines()
    assert model.split() == ["this", "model", f"{found['word_accuracy'][0]:.3f}"]
    assert random.startswith("  the same network from random weights")
    assert frequencies.split()[-3:] == ["0.800", "no", "network"]
    assert reference.endswith("recorded in docs/results.md, for 10,000 steps; this run has 4")
    assert "What the model is worth" in (tmp_path / "report.html").read_text()

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "probe").rglob("*")}
    again = main(*flags(tmp_path))
    assert "Probe:" not in again
    assert again.rstrip().splitlines()[-1] == reference
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "probe").rglob("*")} == before
    assert learned(tmp_path) == [*trained, scores]


@pytest.mark.slow
def test_a_probe_whose_examples_are_wrong_is_refused_before_the_training(flags, tmp_path):
    printed = main(*flags(tmp_path), "--config.probe.tasks.parts.tag_separator=_", check=64)
    assert "--config.probe.tasks.parts.tag_separator=…" in printed
    assert "found 'the/DT', expected a word and a tag joined by '_'" in printed
    assert not (tmp_path / "metrics.jsonl").exists()
