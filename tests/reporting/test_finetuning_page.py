"""The page of fine-tuning shows scores, trials, curves and mistakes of a workdir, and notes what is missing."""

import json
import pathlib
import re

import pytest

from electra_jax.errors import InputError
from electra_jax.reporting.pretraining_page import write_report

CONFIG = {"task": "finetuning", "init_from": "runs/small", "tasks": {"rte": {"metrics": ["accuracy"]}}}
CONFUSION = {"labels": ["no", "yes"], "counts": [[3, 1], [2, 4]]}
RESULT = {
    "seed": 42,
    "directory": ".",
    "step": 20,
    "chosen": "last",
    "metric": "accuracy",
    "scores": {"dev": {"accuracy": 0.7, "f1": 0.66}, "mismatched": {"accuracy": 0.6}},
    "collapsed": "",
    "truncated": {"train": 3},
    "seconds": 65.0,
    "confusion": {"dev": CONFUSION},
}
PREDICTIONS = [
    {"key": "0", "prediction": "yes", "label": "yes", "right": True, "loss": 0.1, "texts": ["right one"]},
    {
        "key": "1",
        "prediction": "no",
        "label": "yes",
        "right": False,
        "loss": 2.5,
        "texts": ["first text", "second text"],
        "probabilities": {"no": 0.92, "yes": 0.08},
    },
]


def metrics_of(accuracy):
    return [
        {"step": 10, "train/loss": 0.7},
        {"step": 10, "eval/accuracy": accuracy - 0.1, "eval/loss": 0.6},
        {"step": 20, "train/loss": 0.5},
        {"step": 20, "eval/accuracy": accuracy, "eval/loss": 0.5},
    ]


def write_run(directory, result=RESULT, metrics=None, predictions=None, config=CONFIG):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "environment.json").write_text("{}")
    if result is not None:
        (directory / "result.json").write_text(json.dumps(result))
    lines = metrics_of(0.7) if metrics is None else metrics
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, records in ({"rte.dev": PREDICTIONS} if predictions is None else predictions).items():
        (directory / "predictions").mkdir(exist_ok=True)
        text = "".join(json.dumps(record) + "\n" for record in records)
        (directory / "predictions" / f"{name}.jsonl").write_text(text)
    return directory


def write_trials(directory, accuracies=(0.6, 0.8), failed=(), results=True):
    trials = []
    for seed, accuracy in enumerate(accuracies, start=42):
        trial = {**RESULT, "seed": seed, "directory": f"seed_{seed}", "scores": {"dev": {"accuracy": accuracy}}}
        predictions = {"rte.dev": [{**PREDICTIONS[1], "texts": [f"mistake of {seed}"]}]}
        write_run(directory / f"seed_{seed}", trial, metrics_of(accuracy), predictions)
        trials.append(trial)
    (directory / "config.json").write_text(json.dumps({**CONFIG, "trials": len(trials)}))
    if results:
        spread = {"n": 2, "mean": 0.7, "median": 0.65, "sd": 0.1414, "best": 0.8, "values": list(accuracies)}
        value = {"metric": "accuracy", "higher_is_better": True, "trials": trials, "failed": list(failed)}
        value["summary"] = {"dev": {"accuracy": spread}}
        (directory / "results.json").write_text(json.dumps(value))
    return directory


def page_of(directory):
    return pathlib.Path(write_report(directory)).read_text("utf-8")


def facts_of(page):
    return {name: (value, remark) for name, value, remark in re.findall(r"<dt>(.*?)</dt><dd>(.*?)<small>(.*?)<", page)}


def titles_of(page):
    return re.findall(r"<h4>(.*?)</h4>", page)


def headings_of(page):
    return [re.sub(r"<small>.*", "", heading).strip() for heading in re.findall(r"<h[23]>(.*?)</h[23]>", page)]


def notes_of(page):
    return re.findall(r'<p class="note">(.*?)</p>', page)


def test_headline_names_metric_split_and_checkpoint(tmp_path):
    page = page_of(write_run(tmp_path / "run"))
    facts = facts_of(page)
    assert list(facts) == ["Accuracy, dev", "Accuracy, mismatched", "Seed", "Steps", "Wall time"]
    assert facts["Accuracy, dev"] == ("0.700", "last checkpoint, step 20")
    assert facts["Accuracy, mismatched"][0] == "0.600"
    assert facts["Wall time"][0] == "1 min 05 s"
    assert "<h1>Fine-tuning · rte · run</h1>" in page
    assert re.search(r"F1</th><td>0\.6600</td>", page)
    assert notes_of(page) == []
    assert "Too long for a row, and cut: 3 in train." in page


def test_curves_begin_with_the_main_metric_and_mark_the_best_checkpoint(tmp_path):
    page = page_of(write_run(tmp_path, {**RESULT, "chosen": "best", "step": 10}))
    assert titles_of(page) == ["Accuracy", "Loss"]
    figure = page[page.index("<h4>Accuracy") : page.index("<h4>Loss")]
    assert "dev <b>0.7</b>" in figure
    assert "reported, step 10 <b>0.6</b>" in figure
    assert "reported" not in page_of(write_run(tmp_path))


def test_curves_of_the_main_metric_precede_others_and_losses(tmp_path):
    metrics = [{"step": 1, "eval/loss": 1.0, "eval/f1": 0.5, "eval/accuracy": 0.5, "eval/exact": 0.4}]
    config = {**CONFIG, "tasks": {"rte": {"metrics": ["exact", "f1"]}}}
    assert titles_of(page_of(write_run(tmp_path, metrics=metrics, config=config))) == [
        "Exact match",
        "F1",
        "Accuracy",
        "Loss",
    ]


def test_trials_show_their_spread_and_every_value(tmp_path):
    failed = {**RESULT, "seed": 7, "directory": "failed/seed_7", "collapsed": "every example is predicted 'no'"}
    page = page_of(write_trials(tmp_path, failed=[failed]))
    facts = facts_of(page)
    assert facts["Accuracy, dev"] == ("0.700 ± 0.141", "mean ± deviation; median 0.650, best 0.800")
    assert facts["Trials"] == ("2", "their last checkpoints; 1 more learned nothing")
    assert facts["Wall time"][0] == "3 min 15 s"
    row = re.search(r"<tr><th[^>]*>Accuracy</th>(.*?)</tr>", page)[1]
    assert re.findall(r">([\d.]+)<", row) == ["0.7000", "0.6500", "0.1414", "0.8000", "0.6000", "0.8000"]
    assert notes_of(page) == [
        "Not counted: 1 run learned nothing and had to be repeated with another seed: seed 7: every example is predicted "
        "&#39;no&#39;."
    ]


def test_trials_share_a_frame_with_their_mean(tmp_path):
    page = page_of(write_trials(tmp_path))
    assert titles_of(page) == ["Accuracy, dev", "Loss, dev", "Loss, train"]
    figure = page[page.index("<h4>Accuracy, dev") : page.index("<h4>Loss, dev")]
    assert "2 trials, at their ends <b>0.6000 to 0.8000</b>" in figure
    assert "mean <b>0.7000</b>" in figure
    assert figure.count("opacity: 0.4") == 2


def test_mean_of_trials_ends_where_one_of_them_does(tmp_path):
    directory = write_trials(tmp_path, results=False)
    (directory / "seed_43/metrics.jsonl").write_text('{"step": 10, "eval/accuracy": 0.9}\n')
    assert "mean <b>0.7000</b>" in page_of(directory)


def test_mistakes_are_those_of_the_best_trial(tmp_path):
    page = page_of(write_trials(tmp_path))
    assert "mistake of 43" in page
    assert "mistake of 42" not in page
    assert "seed 43, the best trial<" in page


def test_a_trial_with_a_report_of_its_own_is_linked(tmp_path):
    directory = write_trials(tmp_path)
    write_report(directory / "seed_42")
    assert re.findall(r'<a href="(.*?)">(.*?)</a>', page_of(directory)) == [("seed_42/report.html", "seed 42")]


def test_unfinished_trials_make_a_page_with_a_note(tmp_path):
    directory = write_trials(tmp_path, results=False)
    (directory / "seed_43/result.json").unlink()
    page = page_of(directory)
    assert notes_of(page) == [
        "The trials have not ended: results.json is missing. 2 have started, 1 of them have ended."
    ]
    assert facts_of(page) == {"Trials": ("1", "ended, of 2 started")}
    assert "mistake of 42" in page


def test_an_unfinished_run_shows_its_progress(tmp_path):
    page = page_of(write_run(tmp_path, result=None, predictions={}))
    assert facts_of(page)["Accuracy, dev"] == ("0.700", "so far")
    assert len(notes_of(page)) == 1
    assert "result.json" in notes_of(page)[0]


def test_one_trial_is_shown_as_a_run_of_its_own(tmp_path):
    directory = write_run(tmp_path)
    failed = [{**RESULT, "seed": 7, "collapsed": "nothing"}]
    spread = {"mean": 0.7, "median": 0.7, "sd": None, "best": 0.7, "values": [0.7]}
    results = {"trials": [RESULT], "failed": failed, "summary": {"dev": {"accuracy": spread}}}
    (directory / "results.json").write_text(json.dumps(results))
    page = page_of(directory)
    assert facts_of(page)["Accuracy, dev"] == ("0.700", "last checkpoint, step 20")
    assert "seed 7: nothing" in notes_of(page)[0]
    assert titles_of(page) == ["Accuracy", "Loss"]


def test_a_collapsed_run_is_reported_on_top(tmp_path):
    page = page_of(write_run(tmp_path, {**RESULT, "collapsed": "all the same"}))
    assert "seed 42: all the same" in notes_of(page)[0]


def test_several_tasks_have_a_section_each(tmp_path):
    config = {**CONFIG, "tasks": {"rte": {"metrics": ["accuracy"]}, "sts": {"metrics": ["spearman"]}}}
    scores = {"sts/dev": {"spearman": 0.8}, "rte/dev": {"accuracy": 0.6}, "rte/test": {"accuracy": 0.5}}
    result = {**RESULT, "metric": "score", "scores": scores, "confusion": {"rte/dev": CONFUSION}}
    grade = {"key": "9", "prediction": 4.0, "label": 1.5, "loss": 0.3, "texts": ["graded text"]}
    metrics = [{"step": 20, "eval/score": 0.7, "eval/rte/accuracy": 0.6, "eval/sts/spearman": 0.8, "train/loss": 1.0}]
    page = page_of(write_run(tmp_path, result, metrics, {"rte.dev": PREDICTIONS, "sts.dev": [grade]}, config))
    facts = facts_of(page)
    assert [facts[name][0] for name in ("Score, dev", "sts · Spearman correlation, dev")] == ["0.700", "0.800"]
    assert list(facts)[3] == "rte · Accuracy, test"
    assert titles_of(page)[:3] == ["Score", "rte · Accuracy", "sts · Spearman correlation"]
    headings = headings_of(page)
    assert headings[1:5] == ["rte: what it gets wrong", "dev", "sts: what it gets wrong", "dev"]
    rte, sts = page.split("<h2>sts: what it gets wrong")
    assert "second text" in rte
    assert 'class="confusion"' in rte
    assert "graded text" in sts
    assert "off by +2.5" in sts
    assert 'class="confusion"' not in sts


def test_dev_comes_first_and_test_last(tmp_path):
    names = ("test", "alpha", "zeta", "dev")
    page = page_of(write_run(tmp_path, predictions={f"rte.{name}": PREDICTIONS for name in names}))
    assert headings_of(page)[2:6] == ["dev", "alpha", "zeta", "test"]


def test_unlabelled_splits_only_count_labels(tmp_path):
    record = {"key": "0", "prediction": "yes", "texts": ["a test text"]}
    page = page_of(write_run(tmp_path, predictions={"rte.test": [record, record], "rte.dev": PREDICTIONS}))
    dev, test = page.split("<h3>test</h3>")
    assert "<h3>dev</h3>" in dev
    assert "2 predictions; the answers are not known." in test
    assert "<td>yes</td><td>2</td><td>100.0%</td>" in test
    assert "a test text" not in test


def test_everything_from_the_files_is_escaped(tmp_path):
    evil = '<script>alert("1")</script>'
    tags = {"words": [evil], "predictions": [evil], "labels": ["O"], "right": False, "loss": 1.0}
    question = {"question": evil, "context": f"a {evil}", "prediction": evil, "label": ["a"], "right": False}
    predictions = {
        f"task.{name}": [{"key": evil, **record}]
        for name, record in {
            "dev": {
                **PREDICTIONS[1],
                "prediction": evil,
                "label": evil * 2,
                "texts": [evil],
                "probabilities": {evil: 1},
            },
            "tags": tags,
            "answers": question,
            "test": {"prediction": evil, "texts": [evil]},
        }.items()
    }
    confusion = {"labels": [evil, "b"], "counts": [[1, 1], [1, 1]]}
    result = {**RESULT, "scores": {evil: {evil: 0.5}}, "confusion": {"dev": confusion}, "collapsed": evil}
    result |= {"chosen": evil, "metric": evil, "truncated": {evil: 1}}
    config = {"task": "finetuning", "init_from": evil, "tasks": {"task": {"metrics": [evil]}}}
    page = page_of(write_run(tmp_path, result, [{"step": 1, f"eval/{evil}": 1.0}], predictions, config))
    assert "<script" not in page
    assert '"1")' not in page
    assert page.count("&lt;script&gt;") > 15


def test_page_is_self_contained_with_the_same_bytes_each_time(tmp_path):
    directory = write_trials(tmp_path)
    page = page_of(directory)
    assert page_of(directory) == page
    assert "<script" not in page
    assert not re.search(r"<link|@import|url\((?!#)", page)
    assert {re.sub(r"^https?://www\.w3\.org/.*", "", url) for url in re.findall(r"https?://[^\s\"'<]*", page)} <= {""}
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_missing_files_become_notes(tmp_path):
    directory = write_run(tmp_path, metrics=[], predictions={})
    notes = notes_of(page_of(directory))
    assert any("metrics.jsonl is missing or empty" in note for note in notes)
    assert any("predictions/ is missing or empty" in note for note in notes)
    with (write_run(tmp_path) / "predictions/rte.dev.jsonl").open("a") as file:
        file.write('{"key": "2", "pred')
    assert notes_of(page_of(directory)) == [
        "The last line of rte.dev.jsonl is cut off, as after a killed run; it is left out."
    ]


def test_without_a_config_scores_and_files_name_the_tasks(tmp_path):
    directory = write_run(tmp_path)
    (directory / "config.json").unlink()
    page = page_of(directory)
    assert facts_of(page)["Accuracy, dev"][0] == "0.700"
    assert "second text" in page
    (directory / "predictions/rte.dev.jsonl").unlink()
    assert facts_of(page_of(directory))["Accuracy, dev"][0] == "0.700"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("result.json", "{", r"result\.json: cannot be read \(it is not JSON"),
        ("result.json", '{"scores": [1]}', r"result\.json: scores: found \[1\], expected an object"),
        ("result.json", '{"scores": {"dev": {"f1": "x"}}}', r'scores\.dev\.f1: found "x", expected a number'),
        (
            "result.json",
            '{"scores": {}, "confusion": {"dev": {"labels": ["a"], "counts": [[1, 2]]}}}',
            r"confusion\.dev: .*expected counts: a square with 1 rows",
        ),
        ("results.json", '{"summary": {}}', r"results\.json: trials: found nothing, expected"),
        ("results.json", '{"trials": []}', r"results\.json: summary: found nothing, expected"),
        ("results.json", '{"trials": [3], "summary": {}}', r"results\.json: trials\[0\]: found 3, expected an object"),
        ("predictions/rte.dev.jsonl", '{"key": 1}\n{"prediction": "a", "texts": []}\n', r"rte\.dev\.jsonl:1: found no"),
        ("predictions/rte.dev.jsonl", '{"prediction": "a"}\n', r"rte\.dev\.jsonl:1: expected a list named texts"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, text, message):
    directory = write_run(tmp_path)
    (directory / name).write_text(text)
    with pytest.raises(InputError, match=message):
        write_report(directory)


def test_a_directory_without_a_run_is_no_report(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(InputError, match=r"found a directory without metrics\.jsonl"):
        write_report(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match="found no metrics yet and no results"):
        write_report(tmp_path)
