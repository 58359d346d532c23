"""Steps and evaluations of fine-tuning, compiled by the TPU's compiler for four chips that are not there."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from electra_jax.configs.finetune import base
from electra_jax.finetuning.data.examples import Answer, QuestionExample
from electra_jax.finetuning.finetuning_job import FinetuningJob
from electra_jax.finetuning.tasks.answering import AnsweringTask
from electra_jax.text.tokenizers import wordpiece
from electra_jax.training import partitioning
from electra_jax.training.optimizer import OptimizerConfig
from electra_jax.training.trainer import LoopConfig, Trainer
from tests.configs import typed_task
from tests.finetuning.made import WordTokenizer, classification, encoder, sentences, tagging, texts

pytestmark = pytest.mark.tpu_compiler

CONTEXT = "the cat sat on the mat and the dog sat on the log"


def task_of(kind):
    words = WordTokenizer("a b c d e f g h")
    if kind == "classification":
        return classification(words, texts(("a b", "x"), (("c", "d"), "y")))
    if kind == "tagging":
        return tagging(words, sentences(("a b", "B-X O"), ("c", "O")))
    tokenizer = wordpiece.train([CONTEXT, "who sat where"] * 9, vocabulary_size=50, lowercase=True, strip_accents=True)
    question = QuestionExample("made", "q", "who sat", CONTEXT, (Answer("cat", 4),))
    settings = base.answering_task(max_length=32, longest_question=8, stride=8, beams=4)
    return AnsweringTask("qa", typed_task(settings), {"train": [question], "dev": [question]}, tokenizer, 0.1)


@pytest.mark.parametrize("sharding", ["dp", "fsdp_tp"])
@pytest.mark.parametrize("kind", ["classification", "tagging", "answering"])
def test_steps_and_evaluations_compile_for_four_chips(v5e_devices, kind, sharding):
    sizes = dataclasses.replace(encoder(), vocabulary_size=64, dtype=jnp.dtype(jnp.bfloat16))
    job = FinetuningJob((task_of(kind),), sizes, 8, "train", 0, 1.0, 2, "mean", 0)
    optimizer = OptimizerConfig(steps=10, warmup_steps=1, learning_rate=1e-4, weight_decay=0.0, layer_decay=0.8)
    mesh = partitioning.make_mesh((-1, 1, 1) if sharding == "dp" else (1, 2, 2), devices=v5e_devices)
    loop = LoopConfig(
        seed=0, log_every_steps=5, evaluate_every_steps=5, save_every_steps=5, keep_last=1, keep_every_steps=0,
        sharding=sharding,
    )  # fmt: skip
    trainer = Trainer(job, optimizer, loop, mesh, lambda note: None)
    rows = partitioning.batch_sharding(mesh)
    with trainer.placed():
        assert "all-reduce" in trainer.lower().compile().as_text()
        place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)  # noqa: E731
        state = jax.tree.map(place, trainer.abstract, trainer.shardings)
        batch = jax.tree.map(lambda leaf: place(leaf, rows), job.batch_shapes()[0])
        key = place(jax.eval_shape(lambda: jax.random.key(0)), partitioning.replicated(mesh))
        trainer.evaluation_step.lower(state, batch, key).compile()
