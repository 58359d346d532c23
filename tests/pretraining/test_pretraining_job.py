import dataclasses
import importlib
import json
import math
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.pretraining import electra_job, objectives, schedules
from electra_jax.pretraining.electra_job import ElectraJob
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.pretraining.mlm_job import MaskedLanguageModelJob
from electra_jax.text.dataset import row_batches
from electra_jax.training.optimizer import OptimizerConfig, optimizer
from electra_jax.training.state import initial_state
from electra_jax.training.step import make_train_step
from tests.configs import typed

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
WORDS = 32
LENGTH = 16


def chained_rows(count, seed, shortest=LENGTH):
    """Rows in which each word follows from the one before it: word w is always followed by the same other word."""
    follower = np.random.default_rng(0).permutation(WORDS)
    rng = np.random.default_rng(seed)
    rows = np.full((count, LENGTH), PAD, np.int32)
    for row in rows:
        real = rng.integers(shortest, LENGTH + 1)
        word = rng.integers(WORDS)
        row[0], row[real - 1] = CLS, SEP
        for position in range(1, real - 1):
            row[position] = 5 + word
            word = follower[word]
    return rows


class Rows:
    def __init__(self, rows):
        self._rows, self.num_rows = rows, len(rows)

    def rows(self, indices):
        return self._rows[indices]


def stand_in_dataset(held_out=20, shortest=LENGTH):
    tokenizer = types.SimpleNamespace(
        pad_id=PAD, cls_id=CLS, sep_id=SEP, mask_id=MASK, pieces=lambda ids: [f"<{index}>" for index in ids]
    )
    return types.SimpleNamespace(
        tokenizer=tokenizer,
        unigram_counts=np.array([0] * 5 + [10] * WORDS),
        heldout_unigram_entropy=math.log(WORDS),
        heldout=Rows(chained_rows(held_out, seed=1, shortest=shortest)),
    )


def tiny_job(objective="electra", dataset=None, rows="segment_pairs", **model):
    config = importlib.import_module("electra_jax.configs.base").get_config("quicktest")
    config.batch_size = 8
    config.objective.name = objective
    config.evaluation.shown_rows = 5
    config.evaluation.rows = 1000
    config.data.sequence_length = LENGTH
    config.data.rows = rows
    config.data.tokenizer.vocabulary_size = 5 + WORDS
    sizes = dict(
        layers=1,
        hidden_size=16,
        embedding_size=16,
        heads=2,
        feed_forward_size=32,
        positions=LENGTH,
        generator_width=0.5,
    )
    config.model.update(sizes | model)
    return pretraining_job(typed(config), dataset or stand_in_dataset(shortest=4), "cpu")


def drawn_params(job):
    abstract = nn.unbox(jax.eval_shape(job.init, jax.eval_shape(lambda: jax.random.key(0))))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(scale=0.3, size=leaf.shape), jnp.float32), abstract)


def evaluated(job, params, evaluate):
    """Sums over all held-out batches."""
    sums = None
    for number, batch in enumerate(job.evaluation_batches()):
        more = jax.device_get(evaluate(params, batch, jax.random.fold_in(jax.random.key(5), number)))
        sums = more if sums is None else jax.tree.map(np.add, sums, more)
    return sums


@pytest.fixture(scope="module")
def electra(quick_jit):
    """A job, parameters, and its compiled evaluation."""
    job = tiny_job()
    return job, drawn_params(job), quick_jit(job.evaluate)


def test_the_objective_s_name_chooses_the_job():
    assert type(tiny_job("electra")) is ElectraJob
    assert type(tiny_job("mlm")) is MaskedLanguageModelJob


def test_a_job_without_a_dataset_can_still_be_traced():
    config = importlib.import_module("electra_jax.configs.small").get_config()
    job = pretraining_job(typed(config), None, "tpu")
    params = nn.unbox(jax.eval_shape(job.init, jax.eval_shape(lambda: jax.random.key(0))))
    (batch,) = job.batch_shapes()
    loss, _ = jax.eval_shape(job.loss, params, batch, jax.eval_shape(lambda: jax.random.key(0)))
    assert loss.shape == ()
    assert loss.dtype == jnp.float32


def test_an_evaluation_gives_finite_scores_of_both_networks(electra):
    job, params, evaluate = electra
    sums = evaluated(job, params, evaluate)
    scores = job.summarise([sums])
    assert set(scores) == {
        "loss", "generator_loss", "generator_accuracy", "discriminator_loss", "discriminator_accuracy",
        "discriminator_precision", "discriminator_recall", "replaced_fraction", "discriminator_auc",
        "discriminator_auc_unigram", "unigram_entropy", "discriminator_average_precision",
        "discriminator_base_rate_recall", "discriminator_cosine", "discriminator_rank", "generator_cosine",
        "generator_rank",
    }  # fmt: skip
    assert all(type(score) is float and math.isfinite(score) for score in scores.values())
    assert scores["loss"] == pytest.approx(scores["generator_loss"] + 50 * scores["discriminator_loss"])
    assert scores["unigram_entropy"] == math.log(WORDS)
    json.dumps(scores)


def test_evaluation_counts_every_held_out_token_once(electra):
    job, params, evaluate = electra
    rows = job.dataset.heldout.rows(np.arange(20))
    sums = evaluated(job, params, evaluate)
    assert sums["discriminator_loss"][1] == (rows != PAD).sum()
    words = (rows >= 5).sum()
    for name in ("own_histogram", "unigram_histogram"):
        assert sums[name].sum() == words, name
    for name in ("generator_moments", "discriminator_moments"):
        assert sums[name]["count"] == words, name
    # Replaced words are the positives, and unigrams replace nearly all that is masked.
    assert sums["own_histogram"][1].sum() == sums["replaced_fraction"][0]
    masked = sums["generator_loss"][1]
    assert 0.85 * masked < sums["unigram_histogram"][1].sum() <= masked


def test_an_evaluation_is_a_function_of_its_key(electra):
    job, params, evaluate = electra
    first, again = (evaluated(job, params, evaluate) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_evaluations_ignore_temperature_and_schedules(electra, quick_jit):
    (job, params, evaluate), key = electra, jax.random.key(3)
    objective = dataclasses.replace(
        job.objective, temperature=5.0, scheduled=(("mask_fraction", schedules.parse("0:0.4", 100)),)
    )
    other = dataclasses.replace(job, objective=objective)
    batch = next(iter(job.evaluation_batches()))
    assert other.loss_weights(batch, key)["generator_loss"] == job.loss_weights(batch, key)["generator_loss"]
    assert other.at(0).loss_weights(batch, key)["generator_loss"] > job.loss_weights(batch, key)["generator_loss"]
    jax.tree.map(
        np.testing.assert_array_equal, evaluate(params, batch, key), quick_jit(other.evaluate)(params, batch, key)
    )


def test_warning_of_a_collapsed_discriminator_only():
    job = tiny_job()
    width = job.encoder.hidden_size
    healthy = {"discriminator_rank": 0.2 * width, "discriminator_recall": 0.3}
    assert job.warning(healthy) == ""
    assert "has collapsed" in job.warning(healthy | {"discriminator_rank": 0.04 * width})
    assert "finds 0.7% of the replaced words" in job.warning(healthy | {"discriminator_recall": 0.007})
    assert tiny_job("mlm").warning({"encoder_rank": 0.1}) == ""


def packed_dataset():
    """Two chained documents in each row."""
    dataset = stand_in_dataset()
    short = chained_rows(40, seed=1)[:, : LENGTH // 2]
    short[:, -1] = SEP
    dataset.heldout = Rows(short.reshape(20, LENGTH))
    return dataset


def test_evaluation_of_packed_rows_counts_all_documents(quick_jit):
    job = tiny_job(dataset=packed_dataset(), rows="packed")
    sums = evaluated(job, drawn_params(job), quick_jit(job.evaluate))
    assert sums["discriminator_loss"][1] == 20 * LENGTH
    for name in ("own_histogram", "unigram_histogram"):
        assert sums[name].sum() == 20 * (LENGTH - 4), name


def test_an_evaluation_reads_packed_rows_the_same_way_both_times(quick_jit, monkeypatch):
    # If both generators write the same word, both scores are computed on the same rows.
    monkeypatch.setattr(objectives, "sample_tokens", lambda key, logits, *_: 7 + 0 * logits.argmax(-1))
    monkeypatch.setattr(electra_job, "sample_unigrams", lambda key, counts, shape: jnp.full(shape, 7, jnp.int32))
    job = tiny_job(dataset=packed_dataset(), rows="packed")
    sums = evaluated(job, drawn_params(job), quick_jit(job.evaluate))
    assert sums["own_histogram"][1].any()
    np.testing.assert_array_equal(sums["own_histogram"], sums["unigram_histogram"])


@pytest.mark.parametrize("name", ["electra", "mlm"])
def test_the_kind_of_rows_changes_no_parameter(name):
    shapes = [
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), drawn_params(tiny_job(name, rows=rows)))
        for rows in ("segment_pairs", "packed")
    ]
    assert shapes[0] == shapes[1]


def test_rows_are_packed_if_the_config_asks_for_it():
    assert tiny_job(rows="packed").objective.packed
    assert not tiny_job(rows="segment_pairs").objective.packed


def test_googles_variant_reaches_the_objective_and_the_optimizer():
    config = importlib.import_module("electra_jax.configs.small").get_config("google_compat+quicktest")
    job = pretraining_job(typed(config), None, "cpu")
    assert job.objective.with_replacement
    assert job.objective.sampling == "google_gumbel"
    settings = OptimizerConfig.of(config.optimizer, steps=config.steps, warmup_steps=config.optimizer.warmup_steps)
    assert settings.schedule == "warmup_times_decay"
    assert settings.gradient_scope == "per_device"
    assert settings.top_layer_exponent == 2
    assert config.data.rows == "google_segment_pairs"


def test_the_weights_of_the_sources_reach_the_batches(monkeypatch):
    config = importlib.import_module("electra_jax.configs.small").get_config("quicktest")
    config.data.sources = ("a.txt#weight=3", "b.txt")
    config.data.mixture_temperature = 2.0
    asked = {}
    monkeypatch.setattr(row_batches, "training_batches", lambda split, **options: asked.update(options))
    dataset = types.SimpleNamespace(tokenizer=stand_in_dataset().tokenizer, train=None)
    pretraining_job(typed(config), dataset, "cpu").training_batches(5)
    assert asked["weights"] == (3.0, 1.0)
    assert asked["temperature"] == 2.0
    assert asked["start"] == 5


def test_scores_of_nothing_are_finite(electra):
    job, params, _ = electra
    shapes = jax.eval_shape(job.evaluate, params, job.sample_batch(), jax.random.key(0))
    scores = job.summarise([jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)])
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["discriminator_auc"] == 0.5


def test_sample_rows_mark_replaced_words_without_padding(electra, quick_jit):
    job, params, _ = electra
    batch = job.sample_batch()
    assert batch.shape == (5, LENGTH)
    np.testing.assert_array_equal(batch, job.sample_batch())
    shown = job.describe(jax.device_get(quick_jit(job.inspect)(params, batch, jax.random.key(0))))
    assert [one["row"] for one in shown] == [0, 1, 2, 3, 4]
    for one, tokens_L in zip(shown, batch, strict=True):
        real = (tokens_L != PAD).sum()
        assert one["original"] == [f"<{index}>" for index in tokens_L[:real]]
        assert {len(one[name]) for name in ("tokens", "original", "masked", "replaced", "probability")} == {real}
        different = [token != original for token, original in zip(one["tokens"], one["original"], strict=True)]
        assert one["replaced"] == different
        assert all(masked for masked, replaced in zip(one["masked"], one["replaced"], strict=True) if replaced)
        assert 1 <= sum(one["masked"]) <= 2
        assert not one["masked"][0]
        assert not one["masked"][-1]
        assert all(0 <= probability <= 1 for probability in one["probability"])
    assert any(any(one["replaced"]) for one in shown)
    json.dumps(shown)


def test_mlm_baseline_has_scores_and_no_sample_rows(quick_jit):
    job = tiny_job("mlm")
    params = drawn_params(job)
    scores = job.summarise([evaluated(job, params, quick_jit(job.evaluate))])
    assert set(scores) == {"loss", "mlm_loss", "mlm_accuracy", "unigram_entropy", "encoder_cosine", "encoder_rank"}
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["loss"] == scores["mlm_loss"]
    assert job.describe(jax.device_get(job.inspect(params, job.sample_batch(), jax.random.key(0)))) == []


@pytest.mark.slow
def test_tiny_electra_learns_which_word_follows_which(quick_jit):
    sizes = dict(hidden_size=32, embedding_size=32, feed_forward_size=64, heads=4)
    job = tiny_job(
        dataset=stand_in_dataset(held_out=200), **sizes, attention_bias="distance_decay", initializer_range=0.1
    )
    steps, rows = 1600, 32
    settings = OptimizerConfig(
        steps=steps, learning_rate=3e-3, warmup_steps=50, decay_power=1.0, weight_decay=0.01,
        beta1=0.9, beta2=0.999, epsilon=1e-6, clip_norm=1.0,
    )  # fmt: skip
    transformation = optimizer(settings)
    train_step = jax.jit(make_train_step(job, transformation, settings, log_every_steps=steps), donate_argnums=0)
    state = nn.unbox(quick_jit(lambda key: initial_state(job, transformation, key))(jax.random.key(0)))
    evaluate = quick_jit(job.evaluate)
    before = job.summarise([evaluated(job, state.params, evaluate)])
    text, rng = chained_rows(2000, seed=2), np.random.default_rng(3)
    for _ in range(steps):
        state, _ = train_step(state, text[rng.integers(len(text), size=rows)], jax.random.key(4))
    after = job.summarise([evaluated(job, state.params, evaluate)])

    entropy = after["unigram_entropy"]
    assert abs(before["generator_loss"] - entropy) < 0.5
    assert abs(before["discriminator_auc"] - 0.5) < 0.1
    # Word frequencies alone give a loss of `entropy`; only a model that reads the neighbours goes below.
    assert after["generator_loss"] < 0.25 * entropy
    assert after["discriminator_auc"] > 0.7
    assert after["discriminator_auc_unigram"] > 0.7
