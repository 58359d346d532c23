import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.finetuning.finetuning_job import FinetuningJob
from electra_jax.models import flops
from electra_jax.models.draws import Microbatch
from electra_jax.training.optimizer import depth_scales
from tests.finetuning.made import WordTokenizer, classification, encoder, sentences, tagging, texts

TOKENIZER = WordTokenizer("a b c d e f g h")
TEXTS = texts(("a b c", "x"), ("d", "y"), (("e f", "g"), "x"), ("h h", "y"), ("a", "x"))


def job_of(*tasks, **changes):
    fields = dict(batch_size=4, last_batch="train", seed=0, temperature=1.0, most_lengths=2, reduction="mean", pad_id=0)
    return FinetuningJob(tasks=tasks, encoder=changes.pop("encoder", encoder()), **(fields | changes))


@pytest.fixture(scope="module")
def both(quick_jit):
    """A job of two tasks of different kinds, and its parameters."""
    job = job_of(
        classification(TOKENIZER, TEXTS, name="texts"),
        tagging(TOKENIZER, sentences(("a b", "B-X O"), ("c d e", "O B-X I-X"), ("f", "O")), name="words"),
    )
    return job, nn.unbox(quick_jit(job.init)(jax.random.key(0)))


@pytest.fixture(scope="module")
def evaluated(quick_jit):
    """A function that evaluates all held-out batches of a job."""

    def evaluate(job, params):
        step = quick_jit(job.evaluate)
        return [jax.device_get(step(params, batch, jax.random.key(1))) for batch in job.evaluation_batches()]

    return evaluate


def test_the_parameters_are_one_encoder_and_a_head_for_each_task(both):
    _, params = both
    assert set(params) == {"embeddings", "encoder", "heads"}
    assert set(params["heads"]) == {"texts_head", "words_head"}
    assert params["heads"]["texts_head"]["prediction"]["kernel"].shape == (16, 2)
    assert params["heads"]["words_head"]["prediction"]["kernel"].shape == (16, 5)


def test_layer_decay_leaves_heads_alone_and_slows_embeddings_most(both):
    _, params = both
    scales = depth_scales(params, 0.5, 1)
    assert scales["heads"]["texts_head"]["prediction"]["kernel"] == 1.0
    assert scales["encoder"]["layers"]["output"]["bias"][:, 0].tolist() == [0.25, 0.5]
    assert scales["embeddings"]["word_embeddings"] == 0.125


def test_every_batch_has_one_of_the_promised_shapes_and_each_of_them_is_needed(both):
    job, _ = both
    shape = lambda tree: str(jax.tree.map(lambda leaf: leaf.shape, tree))  # noqa: E731
    promised = {shape(shapes) for shapes in job.batch_shapes()}
    batches = job.training_batches(0)
    assert {shape(next(batches)) for _ in range(60)} == promised


def test_metrics_of_the_task_that_a_batch_is_not_of_weigh_nothing(both, quick_jit):
    job, params = both
    batch = next(batch for batch in job.training_batches(0) if "words" in batch)
    loss, metrics = quick_jit(job.loss)(params, batch, jax.random.key(0))
    assert set(metrics) == {"texts/loss", "texts/accuracy", "words/loss", "words/accuracy"}
    assert metrics["texts/loss"].tolist() == [0, 0]
    total, words = metrics["words/loss"]
    assert loss == pytest.approx(float(total / words))
    assert words == batch["words"]["first"].sum()


def test_google_s_loss_is_the_sum(both, quick_jit):
    job, params = both
    batch = next(job.training_batches(0))
    (name,) = batch
    loss, metrics = quick_jit(dataclasses.replace(job, reduction="sum").loss)(params, batch, jax.random.key(0))
    assert loss == pytest.approx(float(metrics[f"{name}/loss"][0]))


@pytest.mark.parametrize(("name", "reduction"), [("texts", "sum"), ("words", "mean")])
def test_losses_and_gradients_of_parts_add_up_to_those_of_the_batch(both, name, reduction, quick_jit):
    job, params = dataclasses.replace(both[0], reduction=reduction), both[1]
    batch = next(batch for batch in job.training_batches(0) if name in batch)
    key = jax.random.key(0)
    gradients_of = lambda loss: quick_jit(jax.value_and_grad(loss, has_aux=True))  # noqa: E731
    whole = gradients_of(job.loss)(params, batch, key)
    weights, parts = job.loss_weights(batch, key), []
    for number in range(2):
        rows = jax.tree.map(lambda leaf, first=number: leaf[first::2], batch)
        in_part = functools.partial(job.loss, microbatch=Microbatch(number, 2))
        parts.append(gradients_of(in_part)(params, rows, key, weights))
    summed = jax.tree.map(jnp.add, *parts)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), summed, whole)


def test_only_the_encoder_and_the_head_of_the_batch_have_gradients(both, quick_jit):
    job, params = both
    batch = next(batch for batch in job.training_batches(0) if "texts" in batch)
    gradients = quick_jit(jax.grad(lambda p: job.loss(p, batch, jax.random.key(0))[0]))(params)
    size = lambda tree: sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(gradients["heads"]["texts_head"]) > 0
    assert size(gradients["encoder"]) > 0
    assert size(gradients["heads"]["words_head"]) == 0


def test_dropout_follows_the_key_and_evaluation_has_none(both, quick_jit):
    job, params = both
    batch = next(job.training_batches(0))
    loss, evaluate = quick_jit(job.loss), quick_jit(job.evaluate)
    losses = [float(loss(params, batch, jax.random.key(number))[0]) for number in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    first, again = (evaluate(params, batch, jax.random.key(number)) for number in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_an_evaluation_scores_every_task_and_their_mean(both, evaluated):
    job, params = both
    scores = job.summarise(evaluated(job, params))
    assert set(scores) == {
        "score", "texts/accuracy", "texts/loss", "words/span_f1", "words/accuracy", "words/loss",
    }  # fmt: skip
    assert scores["score"] == pytest.approx((scores["texts/accuracy"] + scores["words/span_f1"]) / 2)
    assert job.metric == "score"


def test_scores_do_not_depend_on_how_rows_are_batched(quick_jit, evaluated):
    task = classification(TOKENIZER, TEXTS)
    jobs = [job_of(task, batch_size=size, most_lengths=lengths) for size, lengths in ((4, 2), (5, 1), (1, 4))]
    params = nn.unbox(quick_jit(jobs[0].init)(jax.random.key(3)))
    results = [evaluated(job, params) for job in jobs]
    found = [job.predictions(task, "dev", result) for job, result in zip(jobs, results, strict=True)]
    for other in found[1:]:
        np.testing.assert_allclose(other["logits"], found[0]["logits"], atol=1e-5)
    scores = [job.summarise(result) for job, result in zip(jobs, results, strict=True)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)
    assert set(scores[0]) == {"accuracy", "loss"}


def test_predictions_of_several_lengths_are_in_the_rows_order(both, evaluated, quick_jit):
    job, params = both
    task = job.tasks[1]
    found = job.predictions(task, "dev", evaluated(job, params))["tag"]
    alone = quick_jit(job_of(task, batch_size=1, most_lengths=4).evaluate)
    for row, length in enumerate(task.splits["dev"].lengths_N):
        batch = {"words": task.splits["dev"].batch(np.array([row]), int(length), 0)}
        own = {"heads": {"words_head": params["heads"]["words_head"]}}
        expected = alone(params | own, batch, jax.random.key(0))["words"]["predicted"]["tag"]
        np.testing.assert_array_equal(found[row, :length], expected[0])


def test_the_work_of_a_batch_follows_its_length():
    task = classification(TOKENIZER, TEXTS)
    job = job_of(task)
    short, long = ({"made": task.splits["train"].batch(np.arange(4), length, 0)} for length in (8, 16))
    assert job.work(short).tokens == 32
    assert job.work(long).flops == 3 * 4 * flops.encoder_flops(job.encoder, 16)


def test_the_first_screen_tells_sizes_and_lengths():
    lines = job_of(classification(TOKENIZER, TEXTS)).facts(5)
    assert lines["made"] == "train 5, dev 5; 4 rows of 8 tokens a step"
    assert lines["in all"].startswith("2.5 passes over the examples, at most")
