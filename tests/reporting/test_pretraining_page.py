"""The report shows a workdir, escaped, with the same bytes each time, and names bad files."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.reporting import pretraining_page as report
from electra_jax.reporting.probe_results import probe_lines

CONFIG = {
    "task": "pretraining",
    "steps": 200,
    "batch_size": 4,
    "objective": {"name": "electra"},
    "data": {"sequence_length": 8},
}
TRAIN = {"train/generator_loss": 5.0, "train/discriminator_loss": 0.4, "performance/tokens_per_second": 32.0}
EVALUATION = {
    "eval/generator_loss": 4.5,
    "eval/discriminator_auc": 0.875,
    "eval/discriminator_auc_unigram": 0.975,
    "eval/unigram_entropy": 7.0,
}
SIZED = {**CONFIG, "model": {"hidden_size": 128}, "optimizer": {"warmup_steps": 100}}
HEALTHY = {
    "eval/corrective_loss": 4.82,
    "eval/corrective_accuracy": 0.162,
    "eval/discriminator_recall": 0.1577,
    "eval/discriminator_precision": 0.67,
    "eval/discriminator_average_precision": 0.4467,
    "eval/discriminator_base_rate_recall": 0.4164,
    "eval/replaced_fraction": 0.2157,
    "eval/discriminator_cosine": 0.254,
    "eval/discriminator_rank": 20.53,
    "eval/generator_cosine": 0.151,
    "eval/generator_rank": 16.22,
}
COLLAPSED = {"eval/discriminator_recall": 0.005, "eval/discriminator_rank": 2.4}
SAMPLE = {
    "row": 0,
    "tokens": ["[CLS]", "light", "##ing", "keeper", "[SEP]"],
    "original": ["[CLS]", "light", "##house", "keeper", "[SEP]"],
    "masked": [False, False, True, True, False],
    "replaced": [False, False, True, False, False],
    "probability": [0.0, 0.1, 0.9, 0.2, 0.0],
}


@pytest.fixture
def make_run(tmp_path):
    def make(metrics=None, config=CONFIG, samples=None, environment=None):
        metrics = [{"step": 100, **TRAIN}, {"step": 100, **EVALUATION}] if metrics is None else metrics
        files = {"config.json": json.dumps(config), "environment.json": json.dumps(environment or {"python": "3.11"})}
        files["metrics.jsonl"] = "".join(json.dumps(line) + "\n" for line in metrics)
        if samples is not None:
            files["samples.jsonl"] = "".join(json.dumps(line) + "\n" for line in samples)
        for name, text in files.items():
            (tmp_path / name).write_text(text, "utf-8")
        return tmp_path

    return make


def page_of(directory):
    return pathlib.Path(report.write_report(directory)).read_text("utf-8")


def facts_of(page):
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)<small>", page))


def titles_of(page):
    return re.findall(r"<h4>(.*?)</h4>", page)


def test_headline_facts_follow_from_the_files(make_run):
    page = page_of(make_run())
    assert facts_of(page) == {
        "Steps": "100",
        "Generator loss": "4.50",
        "AUC, generator": "0.875",
        "AUC, unigram": "0.975",
        "Tokens seen": "3,200",
        "Training time": "1 min 40 s",
        "Tokens a second": "32",
    }
    assert "of 200" in page
    assert "2.50 below word frequencies alone (7.00)" in page


def test_charts_cover_known_unknown_and_baseline_metrics(make_run):
    page = page_of(make_run([{"step": 1, "train/mlm_loss": 9.0, "eval/f1": 0.5, "time/data_seconds": 0.1, "odd": 1}]))
    assert titles_of(page) == ["Masked-word loss", "data_seconds", "f1", "odd"]
    assert page.index("Other measurements") > page.index("Masked-word loss")
    assert facts_of(page)["f1"] == "0.5"


def test_health_and_detection_are_headline_facts(make_run):
    page = page_of(make_run([{"step": 100, **HEALTHY}], config=SIZED))
    facts = facts_of(page)
    assert [facts[name] for name in ("Recall", "Precision", "Average precision", "Effective rank")] == [
        "15.8%",
        "67.0%",
        "0.447",
        "20.5",
    ]
    assert "of 128 directions in use by the discriminator&#39;s hidden states" in page
    assert "guessing scores about the replaced share, 0.216" in page
    assert page.count("at a threshold of 50%") == 2


def test_precision_without_any_hit_is_not_a_number(make_run):
    nothing = {"eval/discriminator_recall": 0.0, "eval/discriminator_precision": 0.0}
    assert facts_of(page_of(make_run([{"step": 1, **nothing}])))["Precision"] == "–"


def test_an_encoder_alone_has_a_rank_and_a_run_without_width_too(make_run):
    facts = re.findall(
        r"<dt>Effective rank</dt><dd>(.*?)</small>", page_of(make_run([{"step": 1, "eval/encoder_rank": 31.64}]))
    )
    assert facts == ["31.6<small>directions in use by the encoder&#39;s hidden states"]


def test_charts_of_both_networks_share_a_frame(make_run):
    page = page_of(make_run([{"step": 100, **HEALTHY}], config=SIZED))
    assert titles_of(page) == [
        "Corrective loss",
        "Corrective accuracy",
        "Precision and recall",
        "Detection without a threshold",
        "Cosine of two tokens",
        "Effective rank",
        "Replaced share",
    ]
    assert "discriminator held-out <b>20.53</b>" in page
    assert "generator held-out <b>16.22</b>" in page
    assert "Other measurements" not in page


def test_a_collapsed_discriminator_is_warned_of_above_the_facts(make_run):
    page = page_of(make_run([{"step": 200, **HEALTHY}, {"step": 300, **COLLAPSED}], config=SIZED))
    box = re.search(r'<p class="warning" role="alert">(.*?)</p>', page)
    assert "Step 300: The discriminator has collapsed" in box[1]
    assert "2.4 of 128 directions" in box[1]
    assert "finds 0.5% of the replaced words" in box[1]
    assert box.start() < page.index("<dl>")


@pytest.mark.parametrize(
    "metrics",
    [
        [{"step": 300, **HEALTHY}],
        [{"step": 200, **COLLAPSED}, {"step": 300, **HEALTHY}],  # It recovered.
        [{"step": 100, **COLLAPSED}],  # The warm-up ends here.
        [{"step": 300, **EVALUATION}],  # Runs from before these metrics.
    ],
)
def test_healthy_young_and_old_runs_have_no_warning(make_run, metrics):
    assert 'class="warning"' not in page_of(make_run(metrics, config=SIZED))


def test_the_warning_needs_no_width_for_the_recall(make_run):
    page = page_of(make_run([{"step": 300, **COLLAPSED}], config={}))
    assert "collapsed: it finds 0.5% of the replaced words" in page


def test_generator_loss_is_compared_with_word_frequencies(make_run):
    page = page_of(make_run())
    figure = page[page.index("<h4>Generator loss") : page.index("<h4>Discriminator loss")]
    assert "stroke-dasharray" in figure
    assert "word frequencies alone <b>7</b>" in figure
    assert "train <b>5</b>" in figure
    assert "held-out <b>4.5</b>" in figure


def test_a_step_written_again_after_a_resume_counts_once(make_run):
    page = page_of(
        make_run([{"step": step, "train/loss": value} for step, value in ((2, 8.0), (1, 9.0), (2, 4.0), (1, 3.0))])
    )
    assert "train <b>4</b>" in page


def test_same_files_give_the_same_bytes_and_no_temporary_file_stays(make_run):
    directory = make_run(samples=[{"step": 100, **SAMPLE}])
    first = pathlib.Path(report.write_report(directory)).read_bytes()
    assert pathlib.Path(report.write_report(directory)).read_bytes() == first
    assert sorted(path.name for path in directory.iterdir()) == [
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "report.html",
        "samples.jsonl",
    ]


def test_a_failed_write_leaves_the_old_report(make_run, monkeypatch):
    directory = make_run()
    (directory / "report.html").write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(report.storage.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(directory)
    assert (directory / "report.html").read_text() == "old"
    assert not list(directory.glob(".*"))


PROBE = {
    "task": "a<b",
    "split": "dev",
    "sentences": {"train": 256, "dev": 893},
    "words": 9164,
    "updates": 64,
    "word_accuracy": [0.9, 0.91, 0.92],
    "random_weights": [0.8],
    "word_frequencies": 0.75,
    "reference": {"name": "before", "mean": 0.85, "sd": 0.01, "seeds": 3, "steps": 200, "recorded": "docs/results.md"},
    "pretraining_steps": 200,
}


def probed(directory, **changes):
    (directory / "probe").mkdir()
    (directory / "probe" / "results.json").write_text(json.dumps(PROBE | changes))
    return directory


def test_the_results_of_a_probe_are_a_table_and_no_charts(make_run):
    metrics = [{"step": 100, **TRAIN}, {"step": 200, "probe/word_accuracy": 0.91}]
    assert "What the model is worth" not in page_of(make_run(metrics))
    page = page_of(probed(make_run(metrics)))
    assert "Word accuracy on 893 sentences of a&lt;b (9,164 words) after 64 updates on 256 others." in page
    assert re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', page) == [
        ("this model", "0.910 ± 0.010  3 fine-tunings"),
        ("the same network from random weights", "0.800"),
        ("each word&#39;s most frequent tag", "0.750  no network"),
        ("before", "0.850 ± 0.010  3 seeds, recorded in docs/results.md"),
    ]
    assert not [title for title in titles_of(page) if "word" in title and "accuracy" in title]


def test_a_reference_of_another_number_of_steps_is_marked(make_run):
    *_, reference = probe_lines(probed(make_run(), pretraining_steps=100))
    assert reference.endswith("docs/results.md, for 200 steps; this run has 100")


def test_damaged_results_of_a_probe_are_named(make_run):
    with pytest.raises(InputError, match=r"probe/results\.json: has no scores of a probe"):
        page_of(probed(make_run(), word_accuracy=[]))


def divergence(workdir, name, **changes):
    """Evidence as `training/divergence.py` writes it, in a run's directory."""
    update = {
        "step": 7, "batch": 9, "metrics": {"loss": None}, "gradient_norm": None, "rows": 4, "rows_not_finite": 1,
        "gradient_norms": {"generator/layers": [None, 0.5], "embeddings": 2.0},
        "parameter_norms": {"generator/layers": [3.0, 4.0], "embeddings": 5.0},
        "largest": [{"row": 2, "share_of_loss": None, "text": "[CLS] <b>odd</b>"}],
    }  # fmt: skip
    content = {
        "step": 10, "cause": "11 of 100 updates were skipped", "ends_the_run": False, "rollbacks_before": 0,
        "advice": "Lower the rate.", "learning_rate": 0.1, "clip_norm": 1.0, "scores": {},
        "recent": {"loss": {"mean": 1.0, "standard_deviation": 0.25, "limit": None}},
        "skipped": [{"step": step, "batch": step + 2, "reason": "loss not finite", "values": {}} for step in range(25)],
        "diagnosed": [update],
    }  # fmt: skip
    (workdir / "divergence").mkdir(exist_ok=True)
    (workdir / "divergence" / name).write_text(json.dumps(content | changes))


def test_rollbacks_and_the_end_of_a_run_are_shown_with_their_rows(make_run):
    workdir = make_run()
    assert "Divergence" not in page_of(workdir)
    divergence(workdir, "2.json", rollbacks_before=1, ends_the_run=True, step=30)
    divergence(workdir, "1.json")
    page = page_of(workdir)
    assert page.index("Step 10: rollback 1") < page.index("Step 30: the run ended")
    assert "[CLS] &lt;b&gt;odd" in page
    assert "generator/layers/1" in page
    assert "text of these rows is the likely cause" in page
    assert "And 5 more" in page


def test_damaged_evidence_is_named(make_run):
    workdir = make_run()
    divergence(workdir, "1.json", recent=5)
    with pytest.raises(InputError, match=r"divergence/1\.json: found .* expected evidence"):
        report.write_report(workdir)


def test_score_that_was_not_finite_is_a_gap_and_noted(make_run):
    page = page_of(make_run([{"step": 100, **TRAIN}, {"step": 100, "eval/loss": None}]))
    assert "Not finite: eval/loss at step 100" in page


def test_page_needs_nothing_from_the_network(make_run):
    page = page_of(make_run(samples=[{"step": 100, **SAMPLE}]))
    addresses = set(re.findall(r"https?://[^\s\"'<]*", page))
    assert {re.sub(r"^https?://www\.w3\.org/.*", "", address) for address in addresses} <= {""}
    assert "<script" not in page
    assert not re.search(r"<link|@import|url\((?!#)", page)


def test_ids_in_the_page_are_unique(make_run):
    ids = re.findall(r' id="([^"]*)"', page_of(make_run()))
    assert ids
    assert len(ids) == len(set(ids))


def test_everything_from_the_files_is_escaped(make_run):
    evil = '<script>alert("1")</script>\\1$title'
    sample = {**SAMPLE, "step": 1, "tokens": [evil] * 5, "original": [evil] * 5}
    page = page_of(
        make_run(
            metrics=[{"step": 1, f"train/{evil}": 1.0, f"eval/{evil}": 1.0, f"text/{evil}": evil}],
            config={"task": evil, "objective": {"name": evil}, evil: {evil: [evil]}},
            environment={evil: evil, "config": evil},
            samples=[sample],
        )
    )
    assert "<script" not in page
    assert '="1")' not in page
    assert page.count("&lt;script&gt;") > 20


def test_pieces_are_joined_coloured_and_replaced_ones_show_the_original(make_run):
    page = page_of(make_run(samples=[{"step": 100, **SAMPLE}]))
    sentence = re.search(r'<p class="sentence">(.*?)</p>', page)[1]
    assert re.sub(r"<rt>.*?</rt>|<[^>]*>", "", sentence) == "[CLS] lighting keeper [SEP]"
    assert (
        '<ruby><span class="replaced" style="--p:1.00" title="90% replaced; was ##house">ing</span><rt>house</rt></ruby>'
        in sentence
    )
    assert '<span class="guessed" style="--p:0.12" title="20% replaced">keeper</span>' in sentence
    assert '<span class="special"' in sentence


def test_sentencepiece_marks_begin_words(make_run):
    sample = {**SAMPLE, "step": 1, "tokens": ["<s>", "▁le", "▁phare", "s", "</s>"]}
    sentence = re.search(r'<p class="sentence">(.*?)</p>', page_of(make_run(samples=[sample])))[1]
    assert re.sub(r"<rt>.*?</rt>|<[^>]*>", "", sentence) == "&lt;s&gt; le phares &lt;/s&gt;"


@pytest.mark.parametrize(("count", "shown"), [(1, []), (3, [0, 10]), (10, [0, 20, 30, 50, 60, 80])])
def test_latest_samples_come_first_then_earlier_ones_in_order(make_run, count, shown):
    page = page_of(make_run(samples=[{"step": 10 * index, **SAMPLE} for index in range(count)]))
    latest, *earlier = (
        int(step)
        for step in re.findall(r"<(?:h3|summary)>Step (\d+) <small>white up to 10%, full colour from 90% on", page)
    )
    assert latest == 10 * (count - 1)
    assert earlier == shown
    assert ("6 of 9 kept" in page) == (count == 10)


def test_a_cut_off_last_line_is_left_out_and_noted(make_run):
    directory = make_run(samples=[{"step": 100, **SAMPLE}])
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (directory / name).open("a") as file:
            file.write('{"step": 101, "tra')
    page = page_of(directory)
    assert facts_of(page)["Steps"] == "100"
    assert "The last line of metrics.jsonl is cut off" in page
    assert "The last line of samples.jsonl is cut off" in page


@pytest.mark.parametrize("line", ['{"step": 1, "tra', "[1]", '{"train/loss": 1.0}'])
def test_a_malformed_line_elsewhere_is_named(make_run, line):
    directory = make_run()
    (directory / "metrics.jsonl").write_text(f'{{"step": 1, "a": 1}}\n{line}\n{{"step": 3, "a": 1}}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: "):
        report.write_report(directory)


def test_samples_of_unequal_lengths_are_named(make_run):
    directory = make_run(samples=[{"step": 1, **SAMPLE}, {"step": 1, **SAMPLE, "masked": [True]}])
    with pytest.raises(InputError, match=r"samples\.jsonl:2: expected lists of one length"):
        report.write_report(directory)


def test_values_that_cannot_be_drawn_are_reported(make_run):
    page = page_of(
        make_run([{"step": 1, "train/loss": float("nan"), "eval/matrix": [1, 2]}, {"step": 2, "train/loss": 1.0}])
    )
    assert "Not finite: train/loss at step 1" in page
    assert "Not drawn, because not numbers: eval/matrix" in page


def test_missing_or_empty_runs_are_reported_with_what_was_found(tmp_path):
    with pytest.raises(InputError, match=r"found no directory.*python -m electra_jax\.main"):
        report.write_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"found a directory without metrics\.jsonl"):
        report.write_report(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match="found no metrics yet"):
        report.write_report(tmp_path)


def test_metrics_alone_make_a_page(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "train/loss": 1.0}\n')
    page = page_of(tmp_path)
    assert titles_of(page) == ["Total loss"]
    assert "This run keeps no samples." in page
    assert page.count("Not recorded.") == 2


def test_a_broken_config_is_named(make_run):
    directory = make_run()
    (directory / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json"):
        report.write_report(directory)


def test_command_line_prints_the_path_or_exits_64(make_run):
    directory = make_run()

    def run(*arguments):
        command = [sys.executable, "-m", "electra_jax.report", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    finished = run(f"--workdir={directory}")
    assert (finished.returncode, finished.stdout) == (0, f"{directory / 'report.html'}\n")
    for arguments in ([], ["--workdir=nowhere"], [f"--workdir={directory}", "workdir=left"], ["--workdirr=1"]):
        finished = run(*arguments)
        assert finished.returncode == 64
        assert "workdir" in finished.stderr


def test_a_run_that_has_logged_nothing_has_no_metrics(make_run, tmp_path):
    assert not report.has_metrics(tmp_path / "nowhere")
    assert not report.has_metrics(make_run(metrics=[]))
    assert report.has_metrics(make_run())


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", "results.json", "seed_42/metrics.jsonl"])
def test_files_of_either_task_count_as_metrics_once_they_hold_something(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert not report.has_metrics(tmp_path)
    path.write_text("{}")
    assert report.has_metrics(tmp_path)


def test_the_report_of_a_run_in_a_bucket_is_the_same(object_store, make_run):
    directory = make_run(samples=[{"step": 100, **SAMPLE}])
    divergence(directory, "1.json")
    for path in directory.rglob("*.*"):
        storage.write(f"gs://bucket/{directory.name}/{path.relative_to(directory)}", path.read_bytes())
    assert report.has_metrics(f"gs://bucket/{directory.name}")
    target = report.write_report(f"gs://bucket/{directory.name}")
    assert target == f"gs://bucket/{directory.name}/report.html"
    assert storage.read(target).decode().replace(f"gs://bucket/{directory.name}", str(directory)) == page_of(directory)
    with pytest.raises(InputError, match="found no directory at this address"):
        report.write_report("gs://bucket/nowhere")


def test_the_time_of_a_run_is_shown_as_one_bar_and_not_as_curves(make_run):
    ledger = {"goodput/step_seconds": 60.0, "goodput/save_seconds": 0.0, "goodput/lost_seconds": 40.0}
    page = page_of(make_run([{"step": 100, **TRAIN, **ledger}]))
    assert 'aria-label="steps 60.0%, steps done again 40.0%"' in page
    assert "flex-grow:0.60000" in page
    assert "save_seconds" not in page
    assert "Where the time went" not in page_of(make_run())
