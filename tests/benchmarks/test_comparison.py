import pytest

from benchmarks.objectives.tasks import RANDOM
from tests.benchmarks.made import comparison


def finish_grid(made, contender, dev, test):
    """Gives each learning rate of the grid its scores."""
    for number, piece in enumerate(made.grid(contender, "trec").values()):
        made.store.finish(piece, {"dev": {"accuracy": dev[number]}, "test": {"accuracy": test[number]}}, 1.0)


def test_the_learning_rate_is_chosen_on_dev_not_on_test(tmp_path):
    for number, test in enumerate(([[0.9], [0.1]], [[0.1], [0.9]])):
        (tmp_path / str(number)).mkdir()
        made = comparison(tmp_path / str(number))
        finish_grid(made, "mlm", dev=[[0.4], [0.6]], test=test)
        assert made.rate("mlm", "trec") == 2e-3


def test_each_contender_has_its_own_rate_and_random_weights_too(tmp_path):
    made = comparison(tmp_path)
    finish_grid(made, "mlm", dev=[[0.4], [0.6]], test=[[0], [0]])
    finish_grid(made, "electra", dev=[[0.6], [0.4]], test=[[0], [0]])
    finish_grid(made, RANDOM, dev=[[0.6], [0.4]], test=[[0], [0]])
    assert [made.rate(name, "trec") for name in ("mlm", "electra", RANDOM)] == [2e-3, 1e-3, 1e-3]
    rates = {(source.contender, piece.config.optimizer.learning_rate) for seed in (1, 2)
             for source, task, piece in made.scored(seed) if task == "trec"}  # fmt: skip
    assert rates == {("mlm", 2e-3), ("electra", 1e-3), (RANDOM, 1e-3)}


def test_rates_are_chosen_with_the_first_seed_at_the_largest_budget(tmp_path):
    made = comparison(tmp_path)
    assert [piece.name for piece in made.grid("mlm", "trec").values()] == [
        "scoring/trec/mlm/flops_4e+06/seed_1/rate_0.001", "scoring/trec/mlm/flops_4e+06/seed_1/rate_0.002",
    ]  # fmt: skip
    assert made.grid("mlm", "stsb") == {}


def test_nothing_is_scored_before_its_rate_is_chosen(tmp_path):
    made = comparison(tmp_path)
    assert {task for _, task, _ in made.scored(1)} == {"stsb"}
    finish_grid(made, "mlm", dev=[[0.4], [0.6]], test=[[0], [0]])
    assert {source.contender for source, task, _ in made.scored(1) if task == "trec"} == {"mlm"}


def test_the_number_of_pieces_is_known_from_the_start(tmp_path):
    made = comparison(tmp_path)
    # Two contenders × two budgets × two seeds; for each of these models and random weights stsb and trec once; and
    # for each contender and random weights the second rate of the grid.
    expected = 8 + 2 * (8 + 2) + 3
    assert len({piece.path for piece in made.pieces()}) == expected
    for name in ("mlm", "electra", RANDOM):
        finish_grid(made, name, dev=[[0.4], [0.6]], test=[[0], [0]])
    assert len({piece.path for piece in made.pieces()}) == expected


def test_scores_have_the_compute_of_pretraining(tmp_path):
    made = comparison(tmp_path)
    finish_grid(made, "mlm", dev=[[0.4, 0.4], [0.6, 0.5]], test=[[0.1, 0.2], [0.3, 0.4]])
    finish_grid(made, RANDOM, dev=[[0.4], [0.3]], test=[[0.1], [0.2]])
    run = made.choosing_source("mlm").run
    made.store.finish(made.pretraining(run), {"seconds": 60.0}, 99.0)
    random, *own = [score for score in made.scores() if score.split == "test"]
    assert (random.contender, random.steps, random.flops, random.pretraining_seconds, random.value) == (
        RANDOM, 0, 0, None, 0.1,
    )  # fmt: skip
    assert [(score.finetuning_run, score.value, score.learning_rate) for score in own] == [
        (0, 0.3, 2e-3),
        (1, 0.4, 2e-3),
    ]
    assert (own[0].steps, own[0].tokens, own[0].flops, own[0].paper_flops) == (800, 800 * 256, 4e6, 4.8e6)
    assert own[0].pretraining_seconds == pytest.approx(60.0)


def test_an_intermediate_checkpoint_has_its_share_of_the_seconds(tmp_path):
    made = comparison(tmp_path, ("flops = [1e6, 4e6]", "at_tokens = [5120, 20480]"))
    finish_grid(made, "mlm", dev=[[0.4], [0.3]], test=[[0.1], [0.2]])
    early = next(source for source in made.sources(1) if source.contender == "mlm" and source.amount == 5120)
    made.store.finish(made.pretraining(early.run), {"seconds": 60.0}, 99.0)
    made.store.finish(made.scoring(early, "trec", 1e-3), {"dev": {}, "test": {"accuracy": [0.5]}}, 1.0)
    found = {score.steps: score.pretraining_seconds for score in made.scores() if score.contender == "mlm"}
    assert found == {20: pytest.approx(15.0), 80: pytest.approx(60.0)}
