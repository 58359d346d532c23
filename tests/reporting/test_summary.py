"""The terminal's table of trials is aligned, and names runs that learned nothing."""

from electra_jax.reporting.summary import summary_lines


def trial(seed, collapsed="", **scores):
    return {"seed": seed, "chosen": "last", "scores": {"dev": scores}, "collapsed": collapsed}


def test_lines_are_aligned_and_failed_runs_named():
    spread = {"n": 2, "mean": 0.65, "median": 0.65, "sd": 0.0707107, "best": 0.7, "values": [0.6, 0.7]}
    error = {"n": 2, "mean": 12.5, "median": 12.5, "sd": None, "best": 12.0, "values": [12.0, float("nan")]}
    results = {
        "trials": [trial(42, accuracy=0.6), trial(43, "one class for all", accuracy=0.7)],
        "failed": [trial(1, "loss is not finite")],
        "summary": {"dev": {"accuracy": spread}, "mismatched": {"mse": error}},
    }
    assert summary_lines(results) == [
        "2 trials, their last checkpoints:",
        "split       metric      mean  median      sd    best  all values",
        "dev         accuracy  0.6500  0.6500  0.0707  0.7000  0.6000 0.7000",
        "mismatched  mse        12.50   12.50       —   12.00  12.00 —",
        "Not counted: 1 run learned nothing and had to be repeated with another seed:",
        "  seed 1: loss is not finite",
        "Counted, though it looks as if nothing was learned:",
        "  seed 43: one class for all",
    ]


def test_one_trial_has_values_without_spread():
    spread = {"n": 1, "mean": 0.6, "median": 0.6, "sd": None, "best": 0.6, "values": [0.6]}
    results = {"trials": [trial(42, accuracy=0.6)], "failed": [], "summary": {"dev": {"accuracy": spread}}}
    assert summary_lines(results) == [
        "1 trial, its last checkpoint:",
        "split  metric    value",
        "dev    accuracy  0.6000",
    ]
