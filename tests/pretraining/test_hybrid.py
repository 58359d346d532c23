"""The hybrid objective: the discriminator predicts the original words too."""

import dataclasses
import functools
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.models import flops
from electra_jax.pretraining import objectives
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.pretraining.objectives import Corrective, corrective_metrics
from electra_jax.training.optimizer import OptimizerConfig, optimizer
from electra_jax.training.state import initial_state
from electra_jax.training.step import make_train_step
from tests.configs import typed


def job_of(**objective):
    config = importlib.import_module("electra_jax.configs.small").get_config("quicktest")
    config.data.tokenizer.vocabulary_size = 50
    config.model.layers, config.model.hidden_size, config.model.heads = 1, 16, 2
    config.model.feed_forward_size, config.model.embedding_size, config.model.generator_width = 32, 8, 0.5
    config.objective.update_from_flattened_dict(objective)
    config = typed(config)
    optimizer = OptimizerConfig.of(config.optimizer, steps=config.steps, warmup_steps=config.optimizer.warmup_steps)
    return pretraining_job(config, None, "cpu"), optimizer


def rows(seed=0):
    batch = np.random.default_rng(seed).integers(5, 50, (8, 32), dtype=np.int32)
    batch[:, 0], batch[:, -1] = 2, 3
    batch[3, 20], batch[3, 21:] = 3, 0
    return jnp.asarray(batch)


@pytest.fixture
def params_of(quick_jit):
    """Fresh parameters of a job."""
    return lambda job: nn.unbox(quick_jit(job.init)(jax.random.key(1)))


def test_corrective_loss_at_masked_slots_by_hand():
    logits = np.array([[[0, 0.5, 2], [1, -1, 0], [9, 9, 9]]], np.float32)
    targets, weights = np.array([[2, 1, 0]]), np.array([[1.0, 1.0, 0.0]])
    total = np.log(np.exp(logits[0, 0]).sum()) - 2 + np.log(np.exp(logits[0, 1]).sum()) + 1
    loss, accuracy = corrective_metrics(Corrective(*map(jnp.asarray, (logits, targets, weights))))
    np.testing.assert_allclose(loss, [total, 2], rtol=1e-6)
    np.testing.assert_array_equal(accuracy, [1, 2])


def test_corrective_loss_with_the_copy_gate_by_hand():
    logits = np.array([[[0, 0.5, 2], [1, -1, 0]]], np.float32)
    gate = np.array([[2.0, -0.5]])
    copy = 1 / (1 + np.exp(-gate[0]))
    softmax = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    # The first word is already there; the second has to come from the softmax.
    probabilities = copy[0] + (1 - copy[0]) * softmax[0, 2], (1 - copy[1]) * softmax[1, 1]
    given = Corrective(
        *map(jnp.asarray, (logits, np.array([[2, 1]]), np.ones((1, 2)), gate, np.array([[True, False]])))
    )
    loss, _ = corrective_metrics(given)
    np.testing.assert_allclose(loss, [-np.log(probabilities).sum(), 2], rtol=1e-6)


def test_all_positions_are_predicted_but_padding_and_special_tokens(params_of, quick_jit):
    job, _ = job_of(name="hybrid", corrective_weight=1.0, corrective_positions="all")
    _, metrics = quick_jit(job.loss)(params_of(job), rows(), jax.random.key(0))
    assert metrics["corrective_loss"][1] == 7 * 30 + 19
    assert job.loss_weights(rows(), jax.random.key(0))["corrective_loss"] == 7 * 30 + 19


def test_the_corrective_loss_enters_with_its_weight(params_of, quick_jit):
    (job, _), (heavier, _) = (job_of(name="hybrid", corrective_weight=weight) for weight in (1.0, 3.0))
    params = params_of(job)
    loss, metrics = quick_jit(job.loss)(params, rows(), jax.random.key(0))
    more, _ = quick_jit(heavier.loss)(params, rows(), jax.random.key(0))
    np.testing.assert_allclose(
        more - loss, 2 * metrics["corrective_loss"][0] / metrics["corrective_loss"][1], rtol=1e-5
    )


def test_without_weight_the_updates_are_electras_bit_for_bit(quick_jit):
    after = []
    for name in ("electra", "hybrid"):
        job, settings = job_of(name=name)
        transformation = optimizer(settings)
        start = functools.partial(initial_state, job, transformation)
        state = nn.unbox(quick_jit(start)(jax.random.key(1)))
        step = quick_jit(make_train_step(job, transformation, settings, 10))
        for number in range(3):
            state, _ = step(state, rows(number), jax.random.key(0))
        after.append(state.params)
    assert "corrective_head" in after[1]
    for (path, faithful), hybrid in zip(
        jax.tree_util.tree_leaves_with_path(after[0]),
        jax.tree.leaves({part: after[1][part] for part in after[0]}),
        strict=True,
    ):
        np.testing.assert_array_equal(faithful, hybrid, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("positions", ["masked", "all"])
def test_the_corrective_gradient_reaches_the_discriminator_alone(positions, params_of, quick_jit):
    job, _ = job_of(name="hybrid", corrective_positions=positions)
    weights = dict(generator_weight=0.0, discriminator_weight=0.0, corrective_weight=1.0)
    job = dataclasses.replace(job, objective=dataclasses.replace(job.objective, **weights))
    gradients_of = quick_jit(jax.grad(lambda params: job.loss(params, rows(), jax.random.key(0))[0]))
    gradients = gradients_of(params_of(job))
    norms = {
        part: float(sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(tree))) for part, tree in gradients.items()
    }
    assert norms["generator"] == norms["generator_head"] == 0
    # The gate is read, not trained, by the corrective loss.
    assert norms["discriminator_head"] == 0
    assert min(norms[part] for part in ("discriminator", "corrective_head", "embeddings")) > 0


def test_scheduled_fields_follow_the_step(params_of, quick_jit):
    schedule = {"schedules.corrective_weight": "0:1,10:3", "schedules.mask_fraction": "step 0:0.15,10:0.4"}
    job, _ = job_of(name="hybrid", **schedule)
    params, key = params_of(job), jax.random.key(0)
    constant, _ = job_of(name="hybrid", corrective_weight=2.0)
    loss_at = quick_jit(lambda step: job.at(step).loss(params, rows(), key))
    assert loss_at(jnp.int32(5))[1]["generator_loss"][1] == 8 * 5 - 1 - 1
    slots = objectives.num_slots(32, 0.4)
    assert job.objective.slots(32) == slots == 12
    later, metrics = loss_at(jnp.int32(10))
    assert metrics["generator_loss"][1] == 7 * 12 + 8
    means = {name: metrics[name][0] / metrics[name][1] for name in metrics}
    expected = means["generator_loss"] + 50 * means["discriminator_loss"] + 3 * means["corrective_loss"]
    np.testing.assert_allclose(later, expected, rtol=1e-5)
    assert constant.at(jnp.int32(5)) is constant


def test_both_flop_counts_include_the_second_word_head():
    (electra, _), (hybrid, _), (everywhere, _) = (
        job_of(name="electra"),
        job_of(name="hybrid"),
        job_of(name="hybrid", corrective_positions="all"),
    )
    head = 2 * 8 * (16 + 50)
    slots = electra.objective.slots(32)
    assert hybrid.flops_per_step - electra.flops_per_step == 3 * 8 * slots * head
    assert everywhere.flops_per_step - electra.flops_per_step == 3 * 8 * 32 * head
    extra = hybrid.paper_flops_per_step - electra.paper_flops_per_step
    alone = flops.paper_training_flops({"words": hybrid.encoder}, 32, 8)
    bare = flops.paper_training_flops({"replaced": hybrid.encoder}, 32, 8)
    detection = 2 * 8 * 32 * (2 * 16**2 + 9 * 16 + 2 * 16)
    np.testing.assert_allclose(extra, alone - (bare - detection), rtol=1e-12)
