import json

from electra_jax.training.telemetry import JsonLines, sample_lines


def test_resuming_drops_later_and_truncated_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "a": 1}\n{"step": 20, "a": 2}\n{"step": 30, "a": 3}\n{"step": 40, "a')
    lines = JsonLines(path, resumed_at=20)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]
    lines.append({"step": 30, "a": 4})
    assert json.loads(path.read_text().splitlines()[-1]) == {"step": 30, "a": 4}
    assert lines.holds(20, "a")
    assert not lines.holds(20, "b")
    assert lines.holds(30, "a")


def test_best_step_is_the_earliest_of_ties(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl", resumed_at=0)
    assert lines.best_step("eval/f1") is None
    for step, score in ((0, 0.9), (10, 0.5), (20, 0.75), (30, 0.75), (40, 0.25)):
        lines.append({"step": step, "eval/f1": score})
        lines.append({"step": step, "train/loss": 1.0})
    assert lines.best_step("eval/f1") == 20


def test_best_step_is_never_one_without_a_score(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl", resumed_at=0)
    for step, score in ((10, 0.4), (20, None), (30, 0.3)):
        lines.append({"step": step, "eval/score": score})
    assert lines.best_step("eval/score") == 10


def test_process_without_a_file_keeps_scores_alone(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl", resumed_at=9)
    lines.append({"step": 5, "train/loss": 2.0})
    lines.append({"step": 5, "eval/loss": 1.0})
    elsewhere = JsonLines(None, resumed_at=9)
    for line in lines.scores():
        elsewhere.append(line)
    assert elsewhere.scores() == [{"step": 5, "eval/loss": 1.0}]
    assert elsewhere.holds(5, "eval/loss")
    assert not elsewhere.holds(5, "train/loss")


def test_probabilities_are_aligned_with_their_words():
    original, corrupted, verdict = sample_lines(
        {"tokens": ["the", "dog", "sat"], "original": ["the", "cat", "sat"], "probability": [0.01, 0.8, 0.6]}
    )
    column = corrupted.index("[dog]")
    assert original[column:].startswith("cat")
    assert verdict[column:].startswith("80%")
    assert verdict.rstrip().endswith("60%")
