"""Workdirs as fine-tuning leaves them: small, with weights of effect everywhere, for the tests that read them."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from electra_jax.configs.finetune import base
from electra_jax.finetuning.data.examples import Answer, QuestionExample, SentenceExample, TextExample
from electra_jax.finetuning.finetuning_job import FinetuningJob
from electra_jax.finetuning.tasks import kinds
from electra_jax.finetuning.tasks.answering import AnsweringTask
from electra_jax.finetuning.tasks.classification import ClassificationTask
from electra_jax.finetuning.tasks.tagging import TaggingTask
from electra_jax.interop import checkpoints, export, finetuned
from electra_jax.interop.model import sizes_as_fields
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.recent_updates import nothing_yet
from electra_jax.training.state import TrainState
from tests.configs import typed_task
from tests.interop import made, peer

KINDS = tuple(kinds.KINDS)
HEAD_RATE = 0.2
LABELS = {
    "classification": ("no", "perhaps", "yes"),
    "multilabel": (("red",), ("green", "red")),
    "regression": (1.5, 4.0),
}
TEXTS = (("ab cd", "ef gh"), ("ab",), ("cd ef. gh!",))


def task(name, kind, tokenizer=None, examples=None, **changes):
    """A task whose training split says which labels there are; the examples make its dev split."""
    tokenizer = tokenizer or made.tokenizer()
    changes = {"max_length": peer.TINY.positions} | changes
    if kind == "tagging":
        settings = base.tagging_task(**changes)
        train = [SentenceExample("-", "0", ("ab", "cd", "ef"), ("B-X", "I-X", "O"))]
        return TaggingTask(name, typed_task(settings), {"train": train, "dev": examples or train}, tokenizer, HEAD_RATE)
    if kind == "answering":
        settings = base.answering_task(**{"stride": 8, "longest_question": 8, "beams": 4} | changes)
        train = [QuestionExample("-", "0", "ab?", "cd ef gh", (Answer("ef", 3),))]
        splits = {"train": train, "dev": examples or train}
        return AnsweringTask(name, typed_task(settings), splits, tokenizer, HEAD_RATE)
    scale = {"label_scale": 5.0} if kind == "regression" else {}
    metric = {"classification": "accuracy", "multilabel": "micro_f1", "regression": "pearson"}[kind]
    settings = base.classification_task(**{"kind": kind, "metrics": (metric,)} | scale | changes)
    train = [TextExample("-", str(n), TEXTS[n], label) for n, label in enumerate(LABELS[kind])]
    return ClassificationTask(
        name, typed_task(settings), {"train": train, "dev": examples or train}, tokenizer, HEAD_RATE
    )


def job(*tasks, encoder=peer.TINY):
    """The job of these tasks."""
    options = dict(batch_size=4, last_batch="drop", seed=0, temperature=1.0, most_lengths=1, reduction="mean", pad_id=0)
    return FinetuningJob(tasks=tasks, encoder=encoder, **options)


def params_of(made_job, seed=0):
    """Weights for all parts of a job, strong enough that no part is without effect."""
    shapes = nn.unbox(jax.eval_shape(made_job.init, jax.random.key(0)))
    draw = np.random.default_rng(seed)
    width = np.float32(made_job.encoder.hidden_size)

    def weights(path, leaf):
        noise = draw.standard_normal(leaf.shape, np.float32)
        name = path[-1].key
        if name.endswith("bias"):
            return 0.1 * noise
        return 1 + 0.1 * noise if name == "scale" else noise / width**0.5 if name.endswith("kernel") else 0.02 * noise

    return jax.tree_util.tree_map_with_path(weights, shapes)


def write_run(workdir, made_job, params, steps=(10, 20), tokenizer=None, reported=None):
    """A workdir as fine-tuning leaves it: the parameters times the step over ten, so that checkpoints differ."""
    workdir.mkdir(parents=True)
    write_config(workdir, made_job)
    (tokenizer or made.tokenizer()).save(workdir / "tokenizer")
    write_json(workdir / "tasks.json", {task.name: task.description() for task in made_job.tasks})
    checkpoints = Checkpoints(str(workdir / "checkpoints"), keep_last=3, keep_every_steps=0, cluster=Cluster())
    for step in steps:
        scaled = jax.tree.map(lambda leaf, step=step: jnp.asarray(leaf) * (step / 10), params)
        state = TrainState(
            jnp.int32(step), scaled, optax.sgd(1e-3).init(scaled), {"loss": jnp.zeros(2)}, nothing_yet(2)
        )
        checkpoints.save(state, Progress(step, 0.0))
    checkpoints.wait()
    checkpoints.close()
    if reported is not None:
        write_json(workdir / "result.json", {"seed": 42, "step": reported, "scores": {}})


def write_config(workdir, made_job):
    """The config.json of a run."""
    config = base.get_config()
    config.init_from = "exported/small"
    fields = json.loads(config.to_json_best_effort())
    encoder = dataclasses.replace(made_job.encoder, dropout_rate=0.1)
    fields["model"] |= sizes_as_fields(encoder) | {"classifier_dropout_rate": HEAD_RATE}
    fields["tasks"] = {
        task.name: {"train": f"{task.name}/train.tsv", "metrics": [task.metric]} for task in made_job.tasks
    }
    write_json(workdir / "config.json", fields | {"fingerprint": "0"})


def write_json(path, content):
    path.write_text(json.dumps(content))


def predicted(made_job, params, name, split="dev"):
    """What the job's own evaluation says of a split, the outputs of the head by name."""
    (mine,) = (task for task in made_job.tasks if task.name == name)
    evaluate = jax.jit(made_job.evaluate)
    results = [evaluate(params, batch, jax.random.key(0)) for batch in made_job.batches_of(mine, split)]
    return mine, made_job.predictions(mine, split, jax.device_get(results))


HEADS = [(kind, head) for kind in KINDS for head in (("paper", "huggingface") if kind != "tagging" else ("paper",))]


def with_head(kind, head, **changes):
    """A fine-tuned model with weights of effect everywhere."""
    changes |= {"segment": 1} if kind == "tagging" else {}
    mine = task("mine", kind, head=head, **changes)
    params = params_of(job(mine))
    heads = finetuned.task_heads({"mine": mine.description()}, params["heads"], 0.1, "tasks.json")
    parts = {"embeddings": params["embeddings"], "discriminator": params["encoder"]}
    return dataclasses.replace(made.discriminator_alone(), params=parts, task_head=heads["mine"])


def exported_run(folder, tokenizer, kind, examples, max_length, **changes):
    """Makes a run of a task in `folder`/run and its export for transformers in `folder`/hf; returns job and weights."""
    mine = task("mine", kind, tokenizer, examples, max_length=max_length, **changes)
    sizes = dataclasses.replace(peer.TINY, vocabulary_size=tokenizer.vocabulary_size, positions=64)
    made_job = job(mine, encoder=sizes)
    params = params_of(made_job)
    write_run(folder / "run", made_job, params, steps=(10,), tokenizer=tokenizer, reported=10)
    export.write(checkpoints.open_model(str(folder / "run")), str(folder / "hf"), "huggingface")
    return made_job, params
