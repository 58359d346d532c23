"""Fine-tuned models out of their workdirs: the reported checkpoint, the best trial, the head that transformers has."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from electra_jax.errors import InputError, MismatchError
from electra_jax.interop import checkpoints, export, finetuned
from electra_jax.interop.model import outputs
from electra_jax.interop.tensor_map import flatten
from tests.interop import made, made_finetuned, peer

TEXT = "ElectraForSequenceClassification"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three classes with the paper's head, checkpoints 10 and 20, and its parameters at step 10."""
    job = made_finetuned.job(made_finetuned.task("rte", "classification"))
    params = made_finetuned.params_of(job)
    workdir = tmp_path_factory.mktemp("runs") / "rte"
    made_finetuned.write_run(workdir, job, params)
    return workdir, job, params


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run of one task of each kind, the paper's heads wherever there are two."""
    job = made_finetuned.job(*(made_finetuned.task(kind, kind) for kind in made_finetuned.KINDS))
    params = made_finetuned.params_of(job)
    workdir = tmp_path_factory.mktemp("runs") / "several"
    made_finetuned.write_run(workdir, job, params, steps=(10,))
    return workdir, job, params


def copied(workdir, target, **files):
    """A copy of a run with other files in it."""
    shutil.copytree(workdir, target)
    for name, content in files.items():
        made_finetuned.write_json(target / f"{name}.json", content)
    return target


def test_a_run_is_read_as_an_encoder_with_its_head(run):
    workdir, job, params = run
    model = checkpoints.open_model(f"{workdir}/checkpoints/10")
    assert (model.discriminator, model.generator, model.step) == (job.encoder, None, 10)
    assert model.params.keys() == {"embeddings", "discriminator"}
    jax.tree.map(np.testing.assert_array_equal, model.params["discriminator"], params["encoder"])
    assert model.origin == "electra_jax run rte, fine-tuned from exported/small"
    assert model.sources == ("rte/train.tsv",)
    assert model.tokenizer.sha256 == made.tokenizer().sha256
    head = model.task_head
    assert (head.architecture, head.max_length, head.token_type) == (TEXT, 24, 0)
    assert head.fields == {
        "id2label": {"0": "no", "1": "perhaps", "2": "yes"},
        "label2id": {"no": 0, "perhaps": 1, "yes": 2},
        "problem_type": "single_label_classification",
        "classifier_dropout": made_finetuned.HEAD_RATE,
    }


def test_the_reported_checkpoint_is_read_unless_a_step_is_named(run, tmp_path):
    unfinished = checkpoints.open_model(str(run[0]))
    assert (unfinished.step, unfinished.notes) == (20, ("the run is unfinished: read its newest checkpoint",))
    workdir = copied(run[0], tmp_path / "run", result={"step": 10})
    assert (checkpoints.open_model(str(workdir)).step, checkpoints.open_model(str(workdir)).notes) == (10, ())
    assert checkpoints.open_model(f"{workdir}/checkpoints").step == 10
    assert checkpoints.open_model(f"{workdir}/checkpoints/20").step == 20
    made_finetuned.write_json(workdir / "result.json", {"step": 30})
    with pytest.raises(InputError, match=r"has no checkpoint 30; found \[10, 20\]"):
        checkpoints.open_model(str(workdir))


def trials(workdir, run, scores):
    """A workdir of trials of which only the last has weights."""
    workdir.mkdir()
    made_finetuned.write_config(workdir, run[1])
    shutil.copytree(run[0], workdir / f"seed_{scores[-1][0]}")
    listed = [{"seed": seed, "directory": f"seed_{seed}", "scores": found} for seed, found in scores]
    made_finetuned.write_json(workdir / "results.json", {"metric": "accuracy", "trials": listed})
    return workdir


def test_of_several_trials_the_best_on_dev_is_read_and_said(run, tmp_path):
    scores = [(42, {"dev": {"accuracy": 0.5, "f1": 1}}), (43, {"dev": {"accuracy": 0.75, "f1": 0}})]
    workdir = trials(tmp_path / "mrpc", run, scores)
    model = checkpoints.open_model(str(workdir))
    assert model.origin.startswith("electra_jax run mrpc/seed_43, ")
    assert "seed_43: the best of 2 trials on dev, accuracy 0.75" in model.notes
    # A trial is a workdir of its own.
    assert checkpoints.open_model(str(workdir / "seed_43")).step == 20


def test_trials_of_several_tasks_are_compared_by_the_mean_of_their_scores():
    found = [
        {"directory": "seed_1", "scores": {"a/dev": {"f1": 0.9, "accuracy": 0.9}, "b/dev": {"accuracy": 0.1}}},
        {"directory": "seed_2", "scores": {"a/dev": {"f1": 0.5, "accuracy": 0.1}, "b/dev": {"accuracy": 0.6}}},
    ]
    best = finetuned.best_trial({"trials": found}, {"a": "f1", "b": "accuracy"})
    assert best == ("seed_2", "seed_2: the best of 2 trials on dev, mean of a f1, b accuracy 0.55")


def test_trials_that_are_not_at_their_end_are_refused_with_their_names(run, tmp_path):
    workdir = trials(tmp_path / "mrpc", run, [(43, {"dev": {}})])
    with pytest.raises(InputError, match=r"has no scores of the trials.*name one of .*seed_43"):
        checkpoints.open_model(str(workdir))
    (workdir / "results.json").unlink()
    with pytest.raises(InputError, match=r"so the trials are unfinished.*name one of .*seed_43"):
        checkpoints.open_model(str(workdir))


def test_the_head_of_one_of_several_tasks_has_to_be_chosen(several):
    model = checkpoints.open_model(str(several[0]))
    assert model.task_head is None
    with pytest.raises(
        InputError, match="choose one of classification, multilabel, regression, tagging, answering, as"
    ):
        finetuned.choose_head(model, "")
    with pytest.raises(InputError, match="--head=rte: expected one of classification, multilabel"):
        finetuned.choose_head(model, "rte")
    assert finetuned.choose_head(model, "tagging").task_head.architecture == "ElectraForTokenClassification"
    assert finetuned.choose_head(made.model(), "").task_head is None
    with pytest.raises(InputError, match="--head=rte: the model is not from a fine-tuning run"):
        finetuned.choose_head(made.model(), "rte")


@pytest.mark.parametrize("head", ["paper", "huggingface"])
@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression", "tagging"])
def test_the_head_that_is_exported_computes_what_the_runs_own_does(kind, head):
    task = made_finetuned.task("mine", kind, head=head)
    job = made_finetuned.job(task)
    params = made_finetuned.params_of(job)
    heads = finetuned.task_heads({"mine": task.description()}, params["heads"], 0.1, "tasks.json")
    tokens, segments, _ = peer.rows(peer.TINY, 20)
    hidden_BxLxD = outputs(made.discriminator_alone(), tokens, segments)["discriminator"]
    module = task.head(job.encoder)
    own = module.apply({"params": params["heads"]["mine_head"]}, hidden_BxLxD, {}, deterministic=True)["logits"]
    own = np.asarray(own) * (5 if kind == "regression" else 1)
    exported = outputs(made.discriminator_alone(task_head=heads["mine"]), tokens, segments)["discriminator"]
    np.testing.assert_allclose(exported, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("classes", [1, 3, 20])
def test_the_papers_head_as_two_layers_keeps_its_precision(size, classes):
    """Relative to the largest logit, weights from tiny to huge; twenty classes are more than half of the width."""
    draw = np.random.default_rng(classes)
    kernel_DxC, bias_C = (
        draw.standard_normal(shape, np.float32) * np.float32(size) for shape in ((32, classes), classes)
    )
    description = {"kind": "classification", "head": "paper", "max_length": 24, "label_scale": 1.0}
    description["labels"] = [str(number) for number in range(classes)]
    params = {"mine_head": {"prediction": {"kernel": kernel_DxC, "bias": bias_C}}}
    heads = finetuned.task_heads({"mine": description}, params, 0.1, "tasks.json")
    bare = made.discriminator_alone()
    tokens, segments, _ = peer.rows(peer.TINY, 20)
    hidden_BxD = outputs(bare, tokens, segments)["discriminator"][:, 0]
    expected_BxC = hidden_BxD.astype(np.float64) @ kernel_DxC + bias_C
    found_BxC = outputs(made.discriminator_alone(task_head=heads["mine"]), tokens, segments)["discriminator"]
    assert np.abs(found_BxC - expected_BxC).max() < 1e-5 * np.abs(expected_BxC).max()


def test_each_kind_of_head_says_what_transformers_has_to_know(several):
    heads = checkpoints.open_model(str(several[0])).task_heads
    kinds = {name: head.fields.get("problem_type") for name, head in heads.items()}
    assert kinds == {
        "classification": "single_label_classification",
        "multilabel": "multi_label_classification",
        "regression": "regression",
        "tagging": None,
        "answering": None,
    }
    assert heads["multilabel"].fields["id2label"] == {"0": "green", "1": "red"}
    assert heads["regression"].fields["id2label"] == {"0": "regression"}
    # Transformers joins B and I alone, so S and E are shown as these; their own names stay beside them.
    assert list(heads["tagging"].fields["id2label"].values()) == ["O", "B-X", "I-X", "I-X", "B-X"]
    assert heads["tagging"].fields["label2id"] == {"O": 0, "B-X": 1, "I-X": 2, "E-X": 3, "S-X": 4}


def test_tags_that_are_no_spans_are_shown_as_they_are():
    task = made_finetuned.task("pos", "tagging", spans=False)
    params = made_finetuned.params_of(made_finetuned.job(task))
    description = task.description() | {"labels": ["ADJ", "S-ADJ", "X"]}
    (head,) = finetuned.task_heads({"pos": description}, params["heads"], 0.1, "tasks.json").values()
    assert list(head.fields["id2label"].values()) == ["ADJ", "S-ADJ", "X"]


@pytest.mark.parametrize("form", made.WEIGHT_FORMATS)
@pytest.mark.parametrize("kind", made_finetuned.KINDS)
def test_every_head_goes_to_every_format_that_has_it_and_back(several, tmp_path, kind, form):
    model = finetuned.choose_head(checkpoints.open_model(str(several[0])), kind)
    target = str(tmp_path / "copy")
    if (kind, form) == ("answering", "huggingface"):
        with pytest.raises(InputError, match=r"JointAnswerHead.*train with --config\.tasks\.NAME\.head=huggingface"):
            export.write(model, target, form)
        return
    written = export.write(model, target, form)
    assert written.difference == {"discriminator": 0}
    read = checkpoints.open_model(target)
    assert flatten(read.params).keys() == flatten(model.params).keys()
    if form == "google":
        assert written.skipped[0][0] == f"head of {model.task_head.architecture}"
        return
    assert (read.task_head.architecture, read.task_head.fields) == (
        model.task_head.architecture,
        model.task_head.fields,
    )
    jax.tree.map(np.testing.assert_array_equal, dict(read.task_head.tensors), dict(model.task_head.tensors))
    if form == "electra_jax":
        assert read.task_head.max_length == 24


def test_a_tagger_of_token_type_1_is_written_for_texts_of_type_0(tmp_path):
    task = made_finetuned.task("chunk", "tagging", segment=1)
    job = made_finetuned.job(task)
    params = made_finetuned.params_of(job)
    made_finetuned.write_run(tmp_path / "run", job, params, steps=(10,), reported=10)
    model = checkpoints.open_model(str(tmp_path / "run"))
    written = export.write(model, str(tmp_path / "hf"), "huggingface")
    assert any("token types are swapped" in note for note in written.notes)
    tokens, _, _ = peer.rows(peer.TINY, 20)
    tokens = tokens[:1]
    there = outputs(checkpoints.open_model(str(tmp_path / "hf")), tokens, np.zeros_like(tokens))
    np.testing.assert_array_equal(there["discriminator"], outputs(model, tokens, np.ones_like(tokens))["discriminator"])
    # In our own folder all stays as it was.
    export.write(model, str(tmp_path / "ours"), "electra_jax")
    ours = checkpoints.open_model(str(tmp_path / "ours"))
    assert ours.task_head.token_type == 1
    jax.tree.map(np.testing.assert_array_equal, ours.params, dict(model.params))


@pytest.mark.parametrize(
    "change",
    [
        {"tensors": {"classifier.dense.weight": np.zeros((32, 32), np.float32)}},
        {"fields": {"id2label": {"0": "other"}}},
        {"architecture": "ElectraForTokenClassification"},
    ],
    ids=["tensors", "labels", "architecture"],
)
def test_a_copy_with_another_head_is_deleted(run, tmp_path, monkeypatch, change):
    model = checkpoints.open_model(str(run[0]))
    tensors = dict(model.task_head.tensors) | change.pop("tensors", {})
    wrong = dataclasses.replace(model, task_head=dataclasses.replace(model.task_head, tensors=tensors, **change))
    monkeypatch.setattr(export, "open_model", lambda path: wrong)
    with pytest.raises(MismatchError, match=r"task_head/classifier|the task's head"):
        export.write(model, str(tmp_path / "copy"), "electra_jax")
    assert not list(tmp_path.iterdir())


def test_texts_are_cut_where_the_run_cut_them(tmp_path):
    job = made_finetuned.job(made_finetuned.task("rte", "classification", max_length=10))
    made_finetuned.write_run(tmp_path / "run", job, made_finetuned.params_of(job), steps=(10,), reported=10)
    written = export.write(checkpoints.open_model(str(tmp_path / "run")), str(tmp_path / "hf"), "huggingface")
    assert written.notes == (
        "tokenizer: call it with truncation=True to truncate texts at 10 tokens, as the run did",
        "tokenizer: where both texts of a pair are truncated, the longer one may be the other",
    )
    assert json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())["model_max_length"] == 10
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "| labels | no, perhaps, yes |" in card
    assert "# ELECTRA, fine-tuned" in card


def test_files_of_another_run_are_refused(run, tmp_path):
    description = json.loads((run[0] / "tasks.json").read_text())["rte"]
    two = copied(run[0], tmp_path / "two", tasks={"rte": description | {"labels": ["no", "yes"]}})
    with pytest.raises(MismatchError, match=r"tasks\.json: task rte has 2 labels, but its head 3 outputs"):
        checkpoints.open_model(str(two))
    other = copied(run[0], tmp_path / "other", tasks={"mnli": description})
    with pytest.raises(InputError, match=r"tasks\.json: task mnli has no 'mnli_head'"):
        checkpoints.open_model(str(other))
    (other / "tasks.json").unlink()
    with pytest.raises(InputError, match=r"tasks\.json: cannot be read"):
        checkpoints.open_model(str(other))
    fields = json.loads((run[0] / "config.json").read_text())
    del fields["model"]["hidden_size"]
    bad = copied(run[0], tmp_path / "bad", config=fields)
    with pytest.raises(InputError, match=r"config\.json: is not the config of a fine-tuning run.*hidden_size"):
        checkpoints.open_model(str(bad))
