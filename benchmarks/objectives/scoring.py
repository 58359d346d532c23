"""What a pre-trained model is worth on a task: fine-tuned by the project's own code, or scored as it is."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.config import schema
from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.finetuning import run
from electra_jax.finetuning.data.examples import TextExample, of_kind
from electra_jax.finetuning.finetuning_job import FinetuningJob
from electra_jax.finetuning.metrics import label_metrics
from electra_jax.models.encoder import Embeddings, Encoder
from electra_jax.progress import ProgressLine
from electra_jax.training.compile_cache import use_compile_cache
from electra_jax.training.run_context import RunContext
from electra_jax.training.trainer import Trainer

# Fields that a trainer does not depend on: which weights it is given, and how often.
_OF_THE_MODEL = ("init_from", "random_weights", "seed", "trials")


class Finetuner:
    """Fine-tunes models one after the other; the next model of equal sizes uses the last recipe's compiled programs."""

    def __init__(self) -> None:
        self._recipe: Any = None
        self._trainer: Trainer | None = None

    def run(self, config: FinetuningConfig, workdir: pathlib.Path, line: ProgressLine) -> dict[str, Any]:
        """Trains and scores once for each seed; goes on where a stopped call was.

        Args:
          config: of the fine-tuning, with a single task and its `init_from`.
          workdir: belongs to this config alone.
          line: the log.

        Returns:
          "dev" and "test": scores by metric, a list with one of each seed; "collapsed": how many seeds learned
          nothing.

        Raises:
          RunError: see `finetuning/run.py`.
        """
        use_compile_cache(config.compile_cache, workdir)
        beginning = run.start(config, workdir, line)
        fields = schema.as_tree(config)
        recipe = {name: value for name, value in fields.items() if name not in _OF_THE_MODEL}
        recipe |= {"tokenizer": beginning.tokenizer.sha256, "encoder": beginning.encoder}
        if self._trainer is None or recipe != self._recipe:
            tasks = run.make_tasks(config, run.read_examples(config, line), beginning.tokenizer)
            self._trainer = run.make_trainer(config, run.make_job(config, tasks, beginning), line)
            self._recipe = recipe
        trials = run.make_trials(config, self._trainer, beginning, RunContext(workdir, line), "benchmarks.objectives")
        results = trials.run()
        scores = {
            split: {metric: values["values"] for metric, values in results["summary"][split].items()}
            for split in ("dev", "test")
        }
        return scores | {"collapsed": sum(bool(trial["collapsed"]) for trial in results["trials"])}


def similarity(config: FinetuningConfig, workdir: pathlib.Path, line: ProgressLine) -> dict[str, Any]:
    """Correlation of grades with the cosine of two sentences' mean last hidden states, without any training.

    Args:
      config: of a task of graded pairs, as for `Finetuner.run`; its seed draws random weights.
      workdir: of this piece of work.
      line: the log.

    Returns:
      "test": "spearman", a list of one value.
    """
    use_compile_cache(config.compile_cache, workdir)
    (name,) = config.tasks
    examples = of_kind(run.read_examples(config, line)[name]["test"], TextExample)
    beginning = run.start(config, workdir, line)
    # The sentences of a pair are read one by one, as two splits of equal length.
    sides = {
        split: [dataclasses.replace(example, texts=(example.texts[place],)) for example in examples]
        for place, split in enumerate(("train", "dev"))
    }
    tasks = run.make_tasks(config, {name: sides}, beginning.tokenizer)
    job = run.make_job(config, tasks, beginning)
    params = beginning.params() or nn.unbox(job.init(jax.random.key(config.seed)))
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
