import dataclasses
import json
import pathlib

import pytest

from benchmarks.objectives.work import Piece, Store
from tests.benchmarks.made import FILES, comparison


def piece(**inputs):
    return Piece("pretraining/mlm/seed_1", inputs, "pretraining", None, "pretraining mlm", 1.0)


def paths(made):
    return {piece.path for piece in made.pieces()}


def test_a_result_is_found_by_all_of_its_inputs(tmp_path):
    store = Store(tmp_path)
    store.finish(piece(steps=1), {"loss": 2.0}, 1.0)
    assert store.result(piece(steps=1)) == {"loss": 2.0}
    assert store.result(piece(steps=2)) is None


def test_a_file_of_the_same_short_name_is_no_result(tmp_path):
    store = Store(tmp_path)
    store.finish(piece(steps=1), {}, 1.0)
    (path,) = tmp_path.glob("results/**/*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "0" * 64}))
    assert store.result(piece(steps=1)) is None


def test_a_half_written_result_is_no_result(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    store = Store(tmp_path)
    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.finish(piece(steps=1), {}, 1.0)
    assert store.result(piece(steps=1)) is None


def test_only_pretrained_models_are_kept(tmp_path):
    store = Store(tmp_path)
    for work, kept in (("pretraining", True), ("finetuning", False)):
        made = dataclasses.replace(piece(), work=work)
        store.folder(made).mkdir(parents=True, exist_ok=True)
        store.finish(made, {}, 1.0)
        assert store.folder(made).exists() == kept


@pytest.mark.parametrize(
    ("change", "which"),
    [
        (("warmup_fraction = 0.1", "warmup_fraction = 0.2"), {"pretraining", "scoring"}),
        (('overrides.objective.name = "mlm"', 'overrides = {"objective.name" = "mlm", "model.layers" = 3}'),
         {"pretraining", "scoring"}),
        (("[finetuning]", "[finetuning]\noverrides.batch_size = 16"), {"scoring"}),
        (('directory = "trec"', 'directory = "trec"\ntrain_examples = 9'), {"scoring"}),
    ],
)  # fmt: skip
def test_a_changed_plan_finds_no_results_of_changed_pieces(tmp_path, change, which):
    before, after = paths(comparison(tmp_path)), paths(comparison(tmp_path, change))
    assert {path.split("/")[0] for path in after - before} == which


def test_pieces_that_a_plan_does_not_change_are_found_again(tmp_path):
    before = paths(comparison(tmp_path))
    assert before < paths(comparison(tmp_path, ("seeds = [1, 2]", "seeds = [1, 2, 3]")))
    with_larger = paths(comparison(tmp_path, ("4e6]", "4e6, 8e6]")))
    assert {path for path in before if "/random/" in path} <= with_larger
    assert {path for path in before if path.startswith("pretraining")} <= with_larger


def test_files_count_by_content_not_by_path(tmp_path):
    trec = FILES["trec"]
    before = paths(comparison(tmp_path))
    moved = FILES | {"trec": dataclasses.replace(trec, train="/elsewhere/train.txt")}
    assert paths(comparison(tmp_path, files=moved)) == before
    edited = FILES | {"trec": dataclasses.replace(trec, sha256="c" * 64)}
    assert all("/trec/" in path for path in paths(comparison(tmp_path, files=edited)) - before)
    assert paths(comparison(tmp_path, files=edited)) != before


def test_models_are_opened_at_the_checkpoint_that_is_scored(tmp_path):
    made = comparison(tmp_path, ("flops = [1e6, 4e6]", "at_tokens = [5120, 10240]"))
    opened = {source.amount: pathlib.Path(piece.config.init_from) for source, _, piece in made.scored(1, expected=True)
              if source.contender == "mlm"}  # fmt: skip
    assert {amount: path.name for amount, path in opened.items()} == {5120.0: "20", 10240.0: "40"}
    assert len({path.parent for path in opened.values()}) == 1


def test_random_weights_differ_between_seeds_and_models_share_theirs(tmp_path):
    made = comparison(tmp_path)
    seeds = {}
    for seed in (1, 2):
        for source, task, piece in made.scored(seed, expected=True):
            if task == "trec":
                seeds.setdefault(source.contender, []).append((piece.config.seed, piece.config.random_weights))
    assert seeds["random"] == [(10_001, True), (20_001, True)]
    assert set(seeds["mlm"] + seeds["electra"]) == {(1, False)}
