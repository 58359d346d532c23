import importlib
import math

import jax
import jax.numpy as jnp
import pytest

from electra_jax.models import flops
from electra_jax.models.electra import Electra, MaskedLanguageModel
from electra_jax.pretraining.corruption import num_slots
from electra_jax.pretraining.jobs import pretraining_job
from tests.configs import typed


def job_of(name):
    return pretraining_job(typed(importlib.import_module(f"electra_jax.configs.{name}").get_config()), None, "cpu")


def product_flops(jaxpr):
    """Operations of all matrix products of a jaxpr, those in a scan as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, output = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2 * math.prod(output) * math.prod(left[axis] for axis in contracted)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            if inner := getattr(value, "jaxpr", value if hasattr(value, "eqns") else None):
                total += times * product_flops(inner)
    return total


@pytest.mark.parametrize(("name", "published"), [("small", 9.2e9), ("base", 3.5e11), ("large", 1.1e12)])
def test_training_flops_of_an_example_are_the_published_ones(name, published):
    job = job_of(name)
    assert job.flops_per_step / job.batch_size == pytest.approx(published, rel=0.04)


@pytest.mark.parametrize("name", ["small", "base", "large", "mlm_base"])
def test_forward_flops_are_those_of_the_traced_products(name):
    job = job_of(name)
    length, slots = job.row_length, num_slots(job.row_length, job.objective.mask_fraction)
    row = jax.ShapeDtypeStruct((1, length), jnp.int32)
    positions = jax.ShapeDtypeStruct((1, slots), jnp.int32)
    if name == "mlm_base":
        model = MaskedLanguageModel(job.encoder)
        counted = flops.masked_language_model_flops(job.encoder, length, slots)
    else:
        model = Electra(job.encoder, job.generator)
        counted = flops.electra_flops(job.encoder, job.generator, length, slots)
    params = jax.eval_shape(job.init, jax.eval_shape(lambda: jax.random.key(0)))
    forward = lambda params, row, positions: model.apply({"params": params}, row, row, row, positions)  # noqa: E731
    assert counted == product_flops(jax.make_jaxpr(forward)(params, row, positions).jaxpr)


def test_training_counts_the_backward_pass_twice_the_forward_pass():
    assert flops.training_flops(1.0) == 3.0


# Results of Google's script for the models in the paper's tables: steps and rows of their recipes.
@pytest.mark.parametrize(
    ("name", "steps", "published"),
    [
        ("small", 1_000_000, 1.29e18),
        ("base", 766_000, 6.42e19),
        ("large", 400_000, 7.12e20),
        ("large", 1_750_000, 3.11e21),
    ],
)
def test_paper_count_gives_the_paper_figures(name, steps, published):
    job = job_of(name)
    networks = {"words": job.generator, "replaced": job.encoder}
    counted = flops.paper_training_flops(networks, job.row_length, steps * job.batch_size)
    assert counted == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    ("name", "length", "rows", "published"),
    [
        ("small", 128, 1_450_000 * 128, 1.42e18),
        ("base", 512, 1_000_000 * 256, 6.43e19),
        ("large", 512, 1_000_000 * 256, 1.92e20),
    ],
)
def test_paper_count_gives_the_paper_figures_for_bert(name, length, rows, published):
    config = job_of(name).encoder
    assert flops.paper_training_flops({"words": config}, length, rows) == pytest.approx(published, rel=0.02)
