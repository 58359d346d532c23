"""Pieces of work: what their results follow from, where these are kept, and which pieces a plan consists of.

A result lies under a name that ends in the fingerprint of all it follows from. A changed plan therefore finds no result
of the old one, and a plan that is changed back finds them again.
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
# What each random start draws its weights from; far from the seeds of other runs.
_RANDOM_SEED_DISTANCE = 10_000

WORK = ("calibration", "pretraining", "finetuning", "similarity")


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece of work with one result.

    Attributes:
      name: for people and for paths.
      inputs: all that the result follows from, as JSON.
      work: what is done, one of `WORK`.
      config: of it; of a calibration the configs of all contenders by name.
      kind: pieces of a kind take time in proportion to their `amount`.
      amount: how large this one is.
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
        """The name with the beginning of the fingerprint."""
        return f"{self.name}.{self.fingerprint[:12]}"


@dataclasses.dataclass(frozen=True)
class Store:
    """Results and folders of pieces of work.

    Attributes:
      workdir: absolute.
    """

    workdir: pathlib.Path

    def folder(self, piece: Piece) -> pathlib.Path:
        """Where a piece works."""
        return self.workdir / "work" / piece.path

    def log(self, piece: Piece) -> pathlib.Path:
        """Where a piece reports in detail."""
        return self.workdir / "logs" / f"{piece.path}.log"

    def record(self, piece: Piece) -> dict[str, Any] | None:
        """What `finish` wrote; None if the piece is not done."""
        try:
            record = json.loads(self._path(piece).read_text("utf-8"))
        except FileNotFoundError:
            return None
        # Twelve digits name the file, all of them decide.
        return record if record["fingerprint"] == piece.fingerprint else None

    def result(self, piece: Piece) -> dict[str, Any] | None:
        """The result of a piece; None if it is not done."""
        record = self.record(piece)
        return record and record["result"]

    def finish(self, piece: Piece, result: Mapping[str, Any], seconds: float) -> None:
        """Writes a result, which appears whole, and removes the folder if it is not needed any more."""
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
      kind, amount: of the budget, see `Run`; of random weights "" and 0.
      seed: of pre-training; of random weights the seed that they are compared with.
      step: updates.
      run: of pre-training; of random weights the one that sizes and tokenizer are taken from.
      number: of the seed in the plan.
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
        """For people and for paths."""
        budget = f"/{self.kind}_{self.amount:g}" if self.kind else ""
        return f"{self.contender}{budget}/seed_{self.seed}"


def sources_of(runs: list[Run], plan: Plan) -> list[Source]:
    """The models that the runs of a seed give."""
    return [
        Source(run.contender, run.kind, amount, run.seed, step, run, plan.seeds.index(run.seed))
        for run in runs
        for amount, step in run.scored
    ]


def random_source(run: Run, number: int, seed: int) -> Source:
    """Random weights of the sizes of a run."""
    return Source(RANDOM, "", 0.0, seed, run.scored[0][1], run, number)


def calibration(plan: Plan) -> Piece:
    """Measures the step time of all contenders."""
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
    """A pre-training run, whose steps cost as many FLOPs each."""
    config = recipes.pretraining_config(plan, run)
    inputs = {"config": recipes.trained_fields(config), "scored": [step for _, step in run.scored]}
    name = f"pretraining/{run.contender}/{run.kind}_{run.amount:g}/seed_{run.seed}"
    return Piece(name, inputs, "pretraining", config, f"pretraining {run.contender}", run.steps * flops)


def scoring(
    plan: Plan, source: Source, task: str, files: TaskFiles, rate: float | None, pretrained: Piece, store: Store
) -> Piece:
    """Scores a model on a task: fine-tunes it once for each seed, or takes it as it is.

    Args:
      plan: the comparison.
      source: the model.
      task: its name.
      files: its splits.
      rate: the learning rate; None for a task without fine-tuning.
      pretrained: the run of the model.
      store: knows where that run is.
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
        # Sizes and tokenizer, and nothing that pre-training decides.
        fields = recipes.trained_fields(model_config)
        model = {name: value for name, value in fields.items() if name.startswith(("model.", "data."))}
    else:
        model = {"fingerprint": pretrained.fingerprint, "step": source.step}
    # Files are known by their content.
    paths = {"init_from", "data.directory", *(f"tasks.{TASKS[task].field}.{split}" for split in _SPLITS)}
    inputs = {"model": model, "files": files.sha256, "seeds": config.trials}
    inputs["config"] = recipes.trained_fields(config, without=paths)
    name = f"scoring/{task}/{source.name}" + (f"/rate_{rate:g}" if rate is not None else "")
    return Piece(name, inputs, "finetuning" if rate is not None else "similarity", config, f"scoring {task}", 1.0)


def _first_seed(source: Source) -> int:
    """Of fine-tuning: the same for all pre-trained models, and for each random start its own."""
    return 1 + (_RANDOM_SEED_DISTANCE * (source.number + 1) if source.contender == RANDOM else 0)
