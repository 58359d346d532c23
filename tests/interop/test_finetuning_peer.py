"""Fine-tuning with transformers, which our tables are compared with: the same rows, losses and updates as ours."""

import dataclasses
import itertools
import pathlib

import jax
import numpy as np
import pytest

from electra_jax.finetuning import run
from electra_jax.interop import huggingface_folder
from electra_jax.progress import ProgressLine
from tests.configs import typed
from tests.interop import made

pytestmark = pytest.mark.interop

DATA = pathlib.Path(__file__).parents[1] / "data" / "finetuning"
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def finetuning_peer():
    return pytest.importorskip("benchmarks.finetuning_peer", reason="needs requirements-interop.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    huggingface_folder.write(made.discriminator_alone(), str(path))
    return path


@pytest.fixture
def make_config(folder):
    from electra_jax.configs.finetune import glue, tagging

    def make(variant, directory, max_length=24, **optimizer):
        config = (tagging if "conll" in variant else glue).get_config(f"{variant}+quicktest")
        config.init_from = str(folder)
        config.data.directory = str(DATA / directory)
        for task in config.tasks.values():
            task.max_length = max_length
        config.optimizer.update(optimizer)
        return typed(config)

    return make


def our_trainer(config, tmp_path):
    line = ProgressLine()
    beginning = run.start(config, tmp_path, line)
    tasks = run.make_tasks(config, run.read_examples(config, line).by_task, beginning.tokenizer)
    trainer = run.make_trainer(config, run.make_job(config, tasks, beginning), line)
    trainer.start_from(beginning.params())
    return trainer


@pytest.mark.parametrize(("variant", "directory"), [("cola", "glue"), ("sts", "glue"), ("conll2000", "conll2000")])
def test_rows_are_ours(finetuning_peer, make_config, folder, variant, directory):
    # No text is cut: there the two may leave different words.
    config = make_config(variant, directory, max_length=512)
    prepared = finetuning_peer.prepare(config, folder / "discriminator")
    (task,) = run.make_tasks(config, run.read_examples(config, ProgressLine()).by_task, made.tokenizer())
    for split, theirs in (("train", prepared.train), ("dev", prepared.dev)):
        ours = task.splits[split]
        assert len(theirs) == len(ours) > 5
        for number, row in enumerate(theirs):
            own = ours.batch(np.array([number]), int(ours.lengths_N[number]), prepared.pad_id)
            assert row["tokens"] == own["tokens"][0].tolist()
            assert row["segments"] == own["segments"][0].tolist()
            if "label" in row:
                assert row["label"] == pytest.approx(own["label"][0])
            else:
                np.testing.assert_array_equal(row["first"], own["first"][0])


@pytest.mark.parametrize(("variant", "directory"), [("rte", "glue"), ("sts", "glue"), ("conll2000", "conll2000")])
def test_updates_are_ours(finetuning_peer, make_config, folder, tmp_path, variant, directory):
    import torch

    from benchmarks.finetuning_peer_model import Recipe

    # A rate at which every parameter moves far more than rounding does, and is clipped.
    config = make_config(variant, directory, learning_rate=0.01, weight_decay=0.01, clip_norm=0.1, warmup_fraction=0.3)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model, dropout_rate=0.0, attention_dropout_rate=0.0, classifier_dropout_rate=0.0
        ),
        log=dataclasses.replace(config.log, every_steps=1),
        data=dataclasses.replace(config.data, lengths=1),
    )
    trainer = our_trainer(config, tmp_path)
    (name,) = trainer.job.order.rows
    prepared = finetuning_peer.prepare(config, folder / "discriminator")
    # We have a tag for each letter of BIOES and each type, the peer those that occur.
    outputs = trainer.abstract.params["heads"][f"{name}_head"]["prediction"]["bias"].shape[0]
    prepared = dataclasses.replace(prepared, outputs=outputs)
    model = finetuning_peer.make_model(config, prepared, folder / "discriminator", seed=0)
    with trainer.placed():
        state = trainer.initial_state()
        step = trainer.compile()
        head = state.params["heads"][f"{name}_head"]["prediction"]
        with torch.no_grad():
            model.head.weight.copy_(torch.tensor(np.asarray(head["kernel"]).T))
        recipe = Recipe(model, config.optimizer, trainer.optimizer_config.steps)
        before = model.encoder.encoder.layer[0].output.dense.weight.detach().clone()
        for number, batch in zip(range(4), trainer.job.training_batches(0), strict=False):
            theirs = {key: torch.as_tensor(array) for key, array in batch[name].items()}
            loss = recipe.update(model, theirs, number)
            state, metrics = step(state, trainer.put(batch), trainer.root_key)
            assert loss == pytest.approx(float(metrics["loss"][0]), rel=TOLERANCE)
    params = jax.device_get(state.params)
    layer = model.encoder.encoder.layer[0]
    assert (layer.output.dense.weight - before).abs().max() > 100 * TOLERANCE
    pairs = [
        (model.head.weight.detach().numpy().T, params["heads"][f"{name}_head"]["prediction"]["kernel"]),
        (layer.output.dense.weight.detach().numpy().T, params["encoder"]["layers"]["output"]["kernel"][0]),
        (layer.output.LayerNorm.weight.detach().numpy(), params["encoder"]["layers"]["output_layer_norm"]["scale"][0]),
        (model.encoder.embeddings.word_embeddings.weight.detach().numpy(), params["embeddings"]["word_embeddings"]),
    ]
    for theirs, ours in pairs:
        np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("variant", "directory", "metric"), [("rte", "glue", "accuracy"), ("conll2000", "conll2000", "span_f1")]
)
def test_a_run_ends_with_scores_in_the_unit_of_ours(finetuning_peer, make_config, folder, variant, directory, metric):
    config = dataclasses.replace(make_config(variant, directory), random_weights=True)
    prepared = finetuning_peer.prepare(config, folder / "discriminator")
    runs = [finetuning_peer.train(config, prepared, folder / "discriminator", seed) for seed in (1, 2)]
    assert all(run["steps"] == len(prepared.train) // config.batch_size > 1 for run in runs)
    summary = finetuning_peer.summary(runs)
    assert 0 <= summary[metric]["mean"] <= 1
    assert summary[metric]["sd"] >= 0


def test_every_row_comes_once_an_epoch_beside_rows_of_its_length(finetuning_peer):
    lengths = np.random.default_rng(0).integers(4, 100, 64)
    order = finetuning_peer.training_order(lengths, batch_size=4, seed=3)
    batches = list(itertools.islice(order, 16))
    assert sorted(np.concatenate(batches)) == list(range(64))
    assert np.mean([np.ptp(lengths[batch]) for batch in batches]) < 10


def test_a_config_of_googles_ways_is_refused(finetuning_peer, make_config, folder):
    config = make_config("rte+google_compat", "glue")
    with pytest.raises(ValueError, match="mean loss"):
        finetuning_peer.prepare(config, folder / "discriminator")
