"""Configs of a plan's runs: config files with the plan's values, and the number of steps in a budget."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Collection, Mapping
from typing import Any

import ml_collections
from absl import flags

from benchmarks.objectives.plan import Plan
from benchmarks.objectives.tasks import TASKS, TaskFiles
from electra_jax import config_rules, presets
from electra_jax.config import files as config_files
from electra_jax.config import identity, schema
from electra_jax.config.finetuning import ClassificationConfig, FinetuningConfig
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.errors import InputError, RunError

_FEWEST_STEPS = 10  # With fewer, a schedule is mostly rounding.
_SAVES = 10  # Checkpoints in a run, approximately: a kill loses at most a tenth of it.


@dataclasses.dataclass(frozen=True)
class StepCost:
    """Cost of one update of a contender.

    Attributes:
      tokens: tokens in a batch.
      flops: FLOPs of matrix products; the backward pass counts as two forward passes.
      paper_flops: FLOPs as counted in the ELECTRA paper.
      seconds: measured time; None if the plan has no budget in seconds.
    """

    tokens: int
    flops: float
    paper_flops: float
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """A pre-training run.

    Attributes:
      contender: its name.
      kind: kind of its budget, see `plan.KINDS`.
      amount: its budget; for "at_tokens" the largest.
      seed: pre-training seed.
      steps: updates in the run.
      scored: pairs (amount, updates in that amount); the model is scored after each of them.
    """

    contender: str
    kind: str
    amount: float
    seed: int
    steps: int
    scored: tuple[tuple[float, int], ...]


def load(path: str, overrides: Mapping[str, Any], place: str) -> ml_collections.ConfigDict:
    """Loads a config file and changes some of its fields.

    Args:
      path: the file, with a variant after a colon if any.
      overrides: values by dotted name; a list becomes a tuple where the field is one.
      place: name of the overrides in messages.

    Raises:
      InputError: there is no such file or variant, or fields do not exist or have another type; all are listed.
    """
    values = flags.FlagValues()
    presets.define_flag("", values)
    try:
        presets.locate(path)
    except InputError as error:
        missing = path.partition(":")[0]
        raise InputError(f"{place}: there is no file {missing}; paths start where the command is run") from error
    try:
        values(["", f"--config={path}"])
        config = values.config
    # A config file is the user's code and may raise anything; the flag wraps some exceptions.
    except Exception as error:
        raise InputError(f"{place}: {path} cannot be loaded: {str(error).strip().splitlines()[-1]}") from error
    problems = []
    for name, value in overrides.items():
        section, _, last = name.rpartition(".")
        try:
            parent = functools.reduce(operator.getitem, section.split("."), config) if section else config
            old = parent[last]
            with config.ignore_type() if old is None else config.unlocked():
                parent[last] = tuple(value) if isinstance(old, tuple) and isinstance(value, list) else value
        except (KeyError, AttributeError):
            problems.append(f"{place}.{name}: {path} has no such field")
        except TypeError as error:
            problems.append(f"{place}.{name}: found {value!r}: {error}")
    if problems:
        raise InputError("\n".join(problems))
    return config.lock()


def contender_config(plan: Plan, name: str) -> PretrainingConfig:
    """The config of a contender before steps, seed and warm-up are set.

    Raises:
      InputError: see `load`; or the config sets `init_from`.
    """
    contender = plan.contenders[name]
    given = load(contender.config, {**plan.overrides, **contender.overrides}, f"contenders.{name}.overrides")
    config = config_files.typed(given)
    if not isinstance(config, PretrainingConfig):
        raise InputError(f"contenders.{name}.config: {contender.config} is not a config of pre-training")
    if config.init_from:
        raise InputError(f"contenders.{name}: config.init_from is set, and every contender starts from scratch here")
    return config


def step_cost(config: PretrainingConfig, seconds: float | None = None) -> StepCost:
    """Tokens and FLOPs of one update."""
    from electra_jax.pretraining.jobs import pretraining_job

    job = pretraining_job(config, None, "cpu")
    tokens = config.batch_size * config.data.sequence_length
    return StepCost(tokens, job.flops_per_step, job.paper_flops_per_step, seconds)


def runs_of(plan: Plan, costs: Mapping[str, StepCost], seed: int) -> list[Run]:
    """All pre-training runs of a seed.

    Raises:
      InputError: a budget is too small for one of the contenders.
    """
    runs, problems = [], []
    for kind, amounts in plan.budgets.items():
        for name in plan.contenders:
            runs += _runs(kind, amounts, name, costs[name], seed)
    for run in runs:
        amount, steps = run.scored[0]
        if steps < _FEWEST_STEPS:
            problems.append(
                f"budgets.{run.kind}: {amount:g} buys {run.contender} {steps} steps, expected at least {_FEWEST_STEPS}"
            )
    if problems:
        raise InputError("\n".join(problems))
    return runs


def _runs(kind: str, amounts: tuple[float, ...], contender: str, cost: StepCost, seed: int) -> list[Run]:
    if kind == "at_tokens":
        # One run with checkpoints at equal distances.
        distance = round(amounts[0] / cost.tokens)
        scored = tuple((amount, distance * round(amount / amounts[0])) for amount in amounts)
        return [Run(contender, kind, amounts[-1], seed, scored[-1][1], scored)]
    unit = cost.flops if kind == "flops" else cost.seconds
    if unit is None:
        raise ValueError(f"{contender}: a budget in seconds needs the measured seconds of a step")
    steps = {amount: round(amount / unit) for amount in amounts}
    return [Run(contender, kind, amount, seed, steps[amount], ((amount, steps[amount]),)) for amount in amounts]


def pretraining_config(plan: Plan, run: Run) -> PretrainingConfig:
    """The config of a run.

    Raises:
      InputError: see `contender_config`.
    """
    config = contender_config(plan, run.contender)
    distance = run.scored[0][1] if len(run.scored) > 1 else 0
    warmup_steps = max(1, round(plan.warmup_fraction * run.steps))
    return dataclasses.replace(
        config,
        seed=run.seed,
        steps=run.steps,
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=warmup_steps),
        # Only before the first update and after the last, since evaluations take time.
        evaluation=dataclasses.replace(config.evaluation, every_steps=run.steps),
        checkpoint=dataclasses.replace(
            config.checkpoint,
            keep_last=1,
            keep_every_steps=distance,
            every_steps=distance or max(1, run.steps // _SAVES),
        ),
    )


def finetuning_config(
    plan: Plan, task: str, files: TaskFiles, *, positions: int, learning_rate: float | None, seed: int
) -> FinetuningConfig:
    """The config of a task's fine-tuning, without the model and the compile cache.

    Args:
      plan: the comparison.
      task: name of the task.
      files: splits of the task.
      positions: number of the model's positions, to which rows are truncated.
      learning_rate: peak learning rate; None if the model is scored without fine-tuning.
      seed: seed of the first run.

    Raises:
      InputError: see `load`.
    """
    kind, settings = TASKS[task], plan.tasks[task]
    config = config_files.typed_finetuning(load(kind.config, plan.finetuning.overrides, "finetuning.overrides"))
    optimizer = config.optimizer
    if learning_rate is not None:
        optimizer = dataclasses.replace(optimizer, learning_rate=learning_rate)
    fields = config.tasks[kind.field]
    fields = dataclasses.replace(
        fields,
        # A task without fine-tuning has one split, which is used for all that a config must name.
        train=files.train or files.test,
        dev=files.dev or files.test,
        test=files.test,
        train_examples=settings.train_examples,
        dev_examples=settings.dev_examples,
        metrics=kind.metrics,
        max_length=min(fields.max_length, positions),
    )
    if isinstance(fields, ClassificationConfig):
        fields = dataclasses.replace(fields, submission={})
    return dataclasses.replace(
        config,
        seed=seed,
        trials=plan.finetuning.seeds,
        epochs=settings.epochs,
        last_batch="drop",  # As in the figures that are recorded.
        reseeds=0,  # A run that learned nothing is a result; repeating it would bias the comparison.
        optimizer=optimizer,
        # Before the first update and after the last.
        evaluation=dataclasses.replace(config.evaluation, per_epoch=0.5 / settings.epochs, chosen="last"),
        tasks={kind.field: fields},
    )


def problems(plan: Plan) -> list[str]:
    """Problems of a plan's configs, one per line; reads no text."""
    found = []
    for name in plan.contenders:
        try:
            config = contender_config(plan, name)
            optimizer = dataclasses.replace(config.optimizer, warmup_steps=1)
            config = dataclasses.replace(config, steps=max(config.steps, 2), optimizer=optimizer)
            config_rules.check(config, device_count=1)
        except RunError as error:
            lines = [line.strip(" -") for line in str(error).splitlines() if not line.startswith("The config has")]
            found += [line if line.startswith("contenders.") else f"contenders.{name}: {line}" for line in lines]
    return found


def data_problems(plan: Plan, files: Mapping[str, TaskFiles]) -> list[str]:
    """Problems of the tasks' examples, found before the first model is trained."""
    from electra_jax.finetuning.data import reading

    found = []
    for task in plan.tasks:
        try:
            config = finetuning_config(plan, task, files[task], positions=512, learning_rate=None, seed=0)
            reading.read_splits(TASKS[task].field, config.tasks[TASKS[task].field], "", config.data.download_cache)
        except InputError as error:
            # A field that is wrong for all tasks is reported once.
            found.append(str(error) if str(error).startswith("finetuning.") else f"tasks.{task}: {error}")
    return list(dict.fromkeys(found))


def trained_fields(config: config_files.RunConfig, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The fields that determine a run's numbers, by dotted name, except those in `without`."""
    fields = identity.trained_fields(schema.as_tree(config))
    return {name: value for name, value in fields.items() if name not in without}
