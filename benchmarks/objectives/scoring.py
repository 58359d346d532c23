"""Scores of a pre-trained model on a task: fine-tuned with electra_jax, or without fine-tuning."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.objectives.training import stoppable
from electra_jax.config import schema
from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.finetuning import run
from electra_jax.finetuning.data.examples import TextExample, of_kind
from electra_jax.finetuning.finetuning_job import FinetuningJob
from electra_jax.finetuning.metrics import label_metrics
from electra_jax.models.encoder import Embeddings, Encoder
from electra_jax.progress import ProgressLine
from electra_jax.training.compile_cache import use_compile_cache
from electra_jax.training.trainer import Trainer

# Fields that a trainer does not depend on: initial weights and number of runs.
_OF_THE_MODEL = ("init_from", "random_weights", "seed", "trials")


class Finetuner:
    """Fine-tunes models one by one; models of equal sizes and recipe share compiled programs."""

    def __init__(self) -> None:
        self._recipe: Any = None
        self._trainer: Trainer | None = None

    def run(self, config: FinetuningConfig, workdir: pathlib.Path, line: ProgressLine) -> dict[str, Any]:
        """Trains and scores once per seed; resumes a stopped call.

        Args:
          config: fine-tuning config with a single task and `init_from`.
          workdir: used by this config alone.
          line: the log.

        Returns:
          "dev" and "test": scores by metric, a list with one per seed; "collapsed": number of runs that learned
          nothing.

        Raises:
          RunError: see `finetuning/run.py`.
        """
        use_compile_cache(config.compile_cache, workdir)
        start = run.start(config, workdir, line)
        fields = schema.as_tree(config)
        recipe = {name: value for name, value in fields.items() if name not in _OF_THE_MODEL}
        recipe |= {"tokenizer": start.tokenizer.sha256, "encoder": start.encoder}
        if self._trainer is None or recipe != self._recipe:
            tasks = run.make_tasks(config, run.read_examples(config, line).by_task, start.tokenizer)
            self._trainer = run.make_trainer(config, run.make_job(config, tasks, start), line)
            self._recipe = recipe
        with stoppable(workdir, line) as context:
            results = run.make_trials(config, self._trainer, start, context, "benchmarks.objectives").run()
        scores = {
            split: {metric: values["values"] for metric, values in results["summary"][split].items()}
            for split in ("dev", "test")
        }
        return scores | {"collapsed": sum(bool(trial["collapsed"]) for trial in results["trials"])}


def similarity(config: FinetuningConfig, workdir: pathlib.Path, line: ProgressLine) -> dict[str, Any]:
    """Correlation of grades with the cosine of two sentences' mean last hidden states, without any training.

    Args:
      config: as for `Finetuner.run`, with a task of graded pairs; its seed determines random weights.
      workdir: folder of this piece of work.
      line: the log.

    Returns:
      "test": "spearman", a list of one value.
    """
    use_compile_cache(config.compile_cache, workdir)
    (name,) = config.tasks
    examples = of_kind(run.read_examples(config, line).by_task[name]["test"], TextExample)
    start = run.start(config, workdir, line)
    # The two sentences of a pair are encoded separately, as two splits of equal length.
    sides = {
        split: [dataclasses.replace(example, texts=(example.texts[place],)) for example in examples]
        for place, split in enumerate(("train", "dev"))
    }
    tasks = run.make_tasks(config, {name: sides}, start.tokenizer)
    job = run.make_job(config, tasks, start)
    params = start.params() or nn.unbox(job.init(jax.random.key(config.seed)))
    first_NxD, second_NxD = (_pooled(job, params, split) for split in sides)
    norms_N = np.linalg.norm(first_NxD, axis=-1) * np.linalg.norm(second_NxD, axis=-1)
    cosines_N = np.sum(first_NxD * second_NxD, axis=-1) / np.maximum(norms_N, 1e-12)
    grades_N = np.array([example.label for example in examples])
    return {"test": {m: [v] for m, v in label_metrics.regression_scores(grades_N, cosines_N, ("spearman",)).items()}}


def _pooled(job: FinetuningJob, params: Mapping[str, Any], split: str) -> np.ndarray:
    """The mean of the last hidden states over a row's real tokens, float32 [N, D], for each row of a split."""
    (task,) = job.tasks

    @jax.jit
    def pooled(params: Mapping[str, Any], tokens_BxL: jax.Array, segments_BxL: jax.Array) -> jax.Array:
        documents_BxL = (tokens_BxL != job.pad_id).astype(jnp.int32)
        embeddings, encoder = Embeddings(job.encoder), Encoder(job.encoder)
        embedded_BxLxE = embeddings.apply(
            {"params": params["embeddings"]}, tokens_BxL, segments_BxL, deterministic=True
        )
        hidden_BxLxD = jnp.asarray(
            encoder.apply({"params": params["encoder"]}, embedded_BxLxE, documents_BxL, deterministic=True)
        )
        real_BxLx1 = documents_BxL[..., None].astype(jnp.float32)
        total_BxD = jnp.sum(hidden_BxLxD.astype(jnp.float32) * real_BxLx1, axis=1)
        return total_BxD / jnp.maximum(jnp.sum(real_BxLx1, axis=1), 1.0)

    means_NxD = np.zeros((len(task.splits[split]), job.encoder.hidden_size), np.float32)
    for batch in job.batches_of(task, split):
        arrays = batch[task.name]
        real_B = arrays["row"] >= 0
        batch_BxD = np.asarray(pooled(params, arrays["tokens"], arrays["segments"]))
        means_NxD[arrays["row"][real_B]] = batch_BxD[real_B]
    return means_NxD
