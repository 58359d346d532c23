"""Pieces of work: their inputs, where results are stored, and the pieces of a plan.

The file name of a result ends in the fingerprint of its inputs. A changed plan therefore finds no results of pieces
that it changes, and a plan that is changed back finds them again.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from benchmarks.objectives import recipes
from benchmarks.objectives.plan import Plan
from benchmarks.objectives.recipes import Run
from benchmarks.objectives.tasks import RANDOM, TASKS, TaskFiles
from electra_jax import nested, storage
from electra_jax.config import schema
from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.config.pretraining import PretrainingConfig

_SPLITS = ("train", "dev", "test")
# Distance between the seeds of random weights; far from the seeds of other runs.
_RANDOM_SEED_DISTANCE = 10_000

WORK = ("calibration", "pretraining", "finetuning", "similarity")


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece of work with one result.

    Attributes:
      name: name in messages and paths.
      inputs: everything that determines the result, as JSON.
      work: type of work, one of `WORK`.
      config: its config; for a calibration, the configs of all contenders by name.
      kind: pieces of the same kind take time in proportion to their `amount`.
      amount: size of this piece.
    """

    name: str
    inputs: Mapping[str, Any]
    work: str
    config: PretrainingConfig | FinetuningConfig | Mapping[str, PretrainingConfig]
    kind: str
    amount: float

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the inputs, in hexadecimal."""
        return nested.fingerprint(self.inputs)

    @property
    def path(self) -> str:
        """The name with the first digits of the fingerprint."""
        return f"{self.name}.{self.fingerprint[:12]}"


@dataclasses.dataclass(frozen=True)
class Store:
    """Results and folders of pieces of work.

    Attributes:
      workdir: absolute path.
    """

    workdir: pathlib.Path

    def folder(self, piece: Piece) -> pathlib.Path:
        """Working directory of a piece."""
        return self.workdir / "work" / piece.path

    def log(self, piece: Piece) -> pathlib.Path:
        """Log file of a piece."""
        return self.workdir / "logs" / f"{piece.path}.log"

    def record(self, piece: Piece) -> dict[str, Any] | None:
        """The record written by `finish`; None if the piece is not done."""
        try:
            record = json.loads(self._path(piece).read_text("utf-8"))
        except FileNotFoundError:
            return None
        # The file name has twelve digits of the fingerprint; all of them must match.
        return record if record["fingerprint"] == piece.fingerprint else None

    def result(self, piece: Piece) -> dict[str, Any] | None:
        """The result of a piece; None if it is not done."""
        record = self.record(piece)
        return record and record["result"]

    def finish(self, piece: Piece, result: Mapping[str, Any], seconds: float) -> None:
        """Writes a result atomically, and removes the folder if it is no longer needed."""
        record = {"name": piece.name, "fingerprint": piece.fingerprint, "seconds": round(seconds, 1)}
        record |= {"inputs": piece.inputs, "result": result}
        storage.write_json(self._path(piece), record, indent=1)
        if piece.work != "pretraining":
            shutil.rmtree(self.folder(piece), ignore_errors=True)

    def _path(self, piece: Piece) -> pathlib.Path:
        return self.workdir / "results" / f"{piece.path}.json"


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to score: a checkpoint of a run, or random weights of its sizes.

    Attributes:
      contender: its name, or `tasks.RANDOM`.
      kind, amount: its budget, see `Run`; "" and 0 for random weights.
      seed: pre-training seed; for random weights, the seed of the models that they are compared with.
      step: updates before the checkpoint.
      run: pre-training run; for random weights, the run whose sizes and tokenizer are used.
      number: index of the seed in the plan.
    """

    contender: str
    kind: str
    amount: float
    seed: int
    step: int
    run: Run
    number: int

    @property
    def name(self) -> str:
        """Name in messages and paths."""
        budget = f"/{self.kind}_{self.amount:g}" if self.kind else ""
        return f"{self.contender}{budget}/seed_{self.seed}"


def sources_of(runs: list[Run], plan: Plan) -> list[Source]:
    """The models to score from the runs of a seed."""
    return [
        Source(run.contender, run.kind, amount, run.seed, step, run, plan.seeds.index(run.seed))
        for run in runs
        for amount, step in run.scored
    ]


def random_source(run: Run, number: int, seed: int) -> Source:
    """Random weights with the sizes of a run."""
    return Source(RANDOM, "", 0.0, seed, run.scored[0][1], run, number)


def calibration(plan: Plan) -> Piece:
    """The piece that measures the step time of all contenders."""
    contenders = {name: recipes.contender_config(plan, name) for name in plan.contenders}
    unimportant = ("data.directory", "data.download_cache", "compile_cache", "checkpoint", "evaluation", "steps")
    inputs = {
        name: {
            field: value
            for field, value in nested.flatten(schema.as_tree(config)).items()
            if not field.startswith(unimportant)
        }
        for name, config in contenders.items()
    }
    return Piece("calibration", {"contenders": inputs}, "calibration", contenders, "calibration", len(contenders))


def pretraining(plan: Plan, run: Run, flops: float) -> Piece:
    """The piece of a pre-training run; `flops` is the cost of one update."""
    config = recipes.pretraining_config(plan, run)
    inputs = {"config": recipes.trained_fields(config), "scored": [step for _, step in run.scored]}
    name = f"pretraining/{run.contender}/{run.kind}_{run.amount:g}/seed_{run.seed}"
    return Piece(name, inputs, "pretraining", config, f"pretraining {run.contender}", run.steps * flops)


def scoring(
    plan: Plan, source: Source, task: str, files: TaskFiles, rate: float | None, pretrained: Piece, store: Store
) -> Piece:
    """The piece that scores a model on a task, fine-tuned once per seed or without fine-tuning.

    Args:
      plan: the comparison.
      source: the model.
      task: name of the task.
      files: splits of the task.
      rate: learning rate; None for a task without fine-tuning.
      pretrained: pre-training run of the model.
      store: knows the folder of that run.
    """
    model_config, is_random = pretrained.config, source.contender == RANDOM
    if not isinstance(model_config, PretrainingConfig):
        raise TypeError(f"{pretrained.name}: found work {pretrained.work!r}, expected a pre-training run")
    config = recipes.finetuning_config(
        plan, task, files, positions=model_config.model.positions, learning_rate=rate, seed=_first_seed(source)
    )
    config = dataclasses.replace(
        config,
        init_from=str(store.folder(pretrained) / "checkpoints" / str(source.step)),
        random_weights=is_random,
        compile_cache=model_config.compile_cache,
    )
    if is_random:
        # Only sizes and tokenizer: nothing else of pre-training matters.
        fields = recipes.trained_fields(model_config)
        model = {name: value for name, value in fields.items() if name.startswith(("model.", "data."))}
    else:
        model = {"fingerprint": pretrained.fingerprint, "step": source.step}
    # Files are identified by their content.
    paths = {"init_from", "data.directory", *(f"tasks.{TASKS[task].field}.{split}" for split in _SPLITS)}
    inputs = {"model": model, "files": files.sha256, "seeds": config.trials}
    inputs["config"] = recipes.trained_fields(config, without=paths)
    name = f"scoring/{task}/{source.name}" + (f"/rate_{rate:g}" if rate is not None else "")
    return Piece(name, inputs, "finetuning" if rate is not None else "similarity", config, f"scoring {task}", 1.0)


def _first_seed(source: Source) -> int:
    """The first fine-tuning seed: the same for all pre-trained models, a different one for each random start."""
    return 1 + (_RANDOM_SEED_DISTANCE * (source.number + 1) if source.contender == RANDOM else 0)
