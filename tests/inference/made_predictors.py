"""Small models that predict, for tests, and what their own runs say of the same examples."""

import dataclasses
import functools
import unittest.mock

import jax

from electra_jax.inference import opening
from electra_jax.inference.jax_runtime import JaxRuntime
from electra_jax.inference.predictor import Predictor
from electra_jax.interop import finetuned
from electra_jax.interop.model import Model
from tests.interop import made, made_finetuned, peer


def opened(model):
    """A model of `interop` with its runtime, as `opening.open_for_inference` gives it."""
    positions = min(sizes.positions for sizes in model.networks.values())
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    with unittest.mock.patch("jax.jit", functools.partial(jax.jit, compiler_options=options)):
        runtime = JaxRuntime(model)
    return opening.Opened(runtime, model.tokenizer, model.task_head, tuple(model.task_heads), positions, model.origin)


def pretrained(**options):
    """An ELECTRA pair with random weights."""
    return Predictor(opened(made.model()), **options)


def job_of(kind, examples, tokenizer=None, name="mine", **changes):
    """A task with these examples, its job and parameters."""
    task = made_finetuned.task(name, kind, tokenizer, examples, **changes)
    tokenizer = tokenizer or made.tokenizer()
    job = made_finetuned.job(task, encoder=dataclasses.replace(peer.TINY, vocabulary_size=tokenizer.vocabulary_size))
    return task, job, made_finetuned.params_of(job)


def fine_tuned(kind, examples, tokenizer=None, text_columns=(), **changes):
    """A predictor of a fine-tuned model, and the records that its run writes for the examples."""
    task, job, params = job_of(kind, examples, tokenizer, **changes)
    heads = finetuned.task_heads(
        {"mine": task.description()}, jax.device_get(params["heads"]), 0.1, "tasks.json", {"mine": text_columns}
    )
    model = Model(
        discriminator=job.encoder,
        generator=None,
        params={"embeddings": params["embeddings"], "discriminator": params["encoder"]},
        tokenizer=tokenizer or made.tokenizer(),
        step=10,
        origin="made for a test",
        task_head=heads["mine"],
        task_heads=heads,
    )
    mine, predicted = made_finetuned.predicted(job, params, "mine")
    return Predictor(opened(model)), list(mine.records(mine.splits["dev"], predicted))
