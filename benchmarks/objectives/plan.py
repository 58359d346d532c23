"""A plan: which objectives are compared, with how much compute, on which tasks. Read from TOML and checked."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.objectives import tasks
from electra_jax import nested
from electra_jax.errors import InputError

KINDS = ("flops", "seconds", "at_tokens")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_REQUIRED = object()


@dataclasses.dataclass(frozen=True)
class Contender:
    """An objective with its config.

    Attributes:
      config: a config file of pre-training, with its variant.
      overrides: values of config fields by dotted name.
    """

    config: str
    overrides: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """How every model is fine-tuned.

    Attributes:
      seeds: runs for each model, task and learning rate.
      learning_rates: the grid from which a dev split chooses.
      overrides: values of fine-tuning fields by dotted name, the same for all.
    """

    seeds: int
    learning_rates: tuple[float, ...]
    overrides: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """A task's data.

    Attributes:
      directory: folder of its files.
      train_examples: training examples to use; 0 for all.
      dev_examples: dev examples that the learning rate is chosen on; 0 for the complete dev split.
      epochs: passes over the training examples.
    """

    directory: str
    train_examples: int = 0
    dev_examples: int = 500
    epochs: float = 3.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
      baseline: the contender that the others are compared with.
      seeds: pre-training seeds; runs with the same seed are paired.
      warmup_fraction: share of a run's steps in which the learning rate rises.
      overrides: values of pre-training fields by dotted name, for all contenders.
      budgets: amounts by kind: each of "flops" and "seconds" is a separate run, "at_tokens" checkpoints of one run.
      contenders: what is compared, by name.
      finetuning: how every model is fine-tuned.
      tasks: settings by task name, see `tasks.TASKS`.
    """

    baseline: str
    seeds: tuple[int, ...]
    warmup_fraction: float
    overrides: Mapping[str, Any]
    budgets: Mapping[str, tuple[float, ...]]
    contenders: Mapping[str, Contender]
    finetuning: Finetuning
    tasks: Mapping[str, TaskSettings]


def read_plan(path: pathlib.Path) -> Plan:
    """Reads and checks a plan; the config files that it names are not opened.

    Raises:
      InputError: the file cannot be read or is not TOML; otherwise it lists all problems.
    """
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"--plan={path}: cannot be read ({error.strerror}); see benchmarks/plans/") from error
    except ValueError as error:  # Also bytes that are not UTF-8.
        raise InputError(f"--plan={path}: is not TOML: {error}") from error
    problems: list[str] = []
    plan = _plan(fields, problems)
    if problems:
        raise InputError(worded(path, problems))
    return plan


def worded(path: pathlib.Path, problems: Sequence[str]) -> str:
    """All problems of a plan as one message."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return f"--plan={path} has {count}:\n" + "\n".join(f"  - {problem}" for problem in problems)


class _Table:
    """One table of the file: takes known fields out of it and records problems."""

    def __init__(self, fields: Any, place: str, problems: list[str]) -> None:
        self._place, self._problems = place, problems
        if not isinstance(fields, dict):
            self.problem("", fields, "a table")
            fields = {}
        self._fields = dict(fields)

    def problem(self, name: str, found: Any, expected: str) -> None:
        """Records one problem."""
        place = ".".join(filter(None, [self._place, name])) or "the plan"
        self._problems.append(f"{place}: found {found!r}, expected {expected}")

    def take(self, name: str, check: Callable[[Any], bool], expected: str, default: Any = _REQUIRED) -> Any:
        """The value of a field, or the default; None if it is missing or fails its check."""
        value = self._fields.pop(name, default)
        if value is _REQUIRED:
            self._problems.append(f"{'.'.join(filter(None, [self._place, name]))}: is missing, expected {expected}")
            return None
        if value is not default and not check(value):
            self.problem(name, value, expected)
            return None
        return value

    def tables(self, name: str, required: bool = True) -> dict[str, Any]:
        """A table of tables, by name."""
        found = self.take(name, lambda value: isinstance(value, dict), "a table", _REQUIRED if required else {})
        return dict(found or {})

    def end(self, known: Sequence[str]) -> None:
        """Records the fields that were not taken."""
        for name in self._fields:
            self._problems.append(
                f"{'.'.join(filter(None, [self._place, name]))}: unknown, expected one of {', '.join(known)}"
            )


def _plan(fields: Mapping[str, Any], problems: list[str]) -> Plan:
    table = _Table(fields, "", problems)
    contenders = {
        name: _contender(name, value, problems) for name, value in table.tables("contenders").items()
    }  # fmt: skip
    if "contenders" in fields and not contenders:
        table.problem("contenders", {}, "at least one")
    baseline = table.take("baseline", lambda value: value in contenders, f"a contender ({', '.join(contenders)})")
    seeds = table.take("seeds", _is_seeds, "a list of different whole numbers, 0 or more, such as [1, 2, 3]")
    warmup = table.take("warmup_fraction", lambda value: _is_number(value) and 0 <= value < 1, "0 to below 1", 0.05)
    given = {name: _task(name, value, problems) for name, value in table.tables("tasks").items()}
    plan = Plan(
        baseline=baseline,
        seeds=tuple(seeds or ()),
        warmup_fraction=warmup,
        overrides=nested.flatten(table.tables("overrides", required=False)),
        budgets=_budgets(table.take("budgets", lambda _: True, "a table"), problems),
        contenders=contenders,
        finetuning=_finetuning(table.take("finetuning", lambda _: True, "a table", {}), problems),
        tasks={name: settings for name, settings in given.items() if settings is not None},
    )
    if "tasks" in fields and not given:
        table.problem("tasks", {}, f"at least one of {', '.join(tasks.TASKS)}")
    table.end([field.name for field in dataclasses.fields(Plan)])
    return plan


def _contender(name: str, fields: Any, problems: list[str]) -> Contender:
    table = _Table(fields, f"contenders.{name}", problems)
    if not _NAME.fullmatch(name) or name == tasks.RANDOM:
        problems.append(f"contenders.{name}: expected letters, digits, _ and -, and not {tasks.RANDOM!r}")
    config = table.take("config", lambda value: isinstance(value, str), "a config file, configs/NAME.py")
    contender = Contender(config or "", nested.flatten(table.tables("overrides", required=False)))
    table.end(["config", "overrides"])
    return contender


def _budgets(fields: Any, problems: list[str]) -> dict[str, tuple[float, ...]]:
    if fields is None:
        return {}
    table = _Table(fields, "budgets", problems)
    expected = "an ascending list of numbers above 0"
    amounts = {kind: table.take(kind, _is_ascending, expected, ()) or () for kind in KINDS}
    if isinstance(fields, dict) and not any(kind in fields for kind in KINDS):
        table.problem("", fields, f"at least one of {', '.join(KINDS)}")
    tokens = amounts["at_tokens"]
    if tokens and any(not math.isclose(amount / tokens[0], round(amount / tokens[0])) for amount in tokens):
        table.problem("at_tokens", tokens, "multiples of the first, as checkpoints are kept at equal distances")
    table.end(KINDS)
    return {kind: tuple(map(float, found)) for kind, found in amounts.items() if found}


def _finetuning(fields: Any, problems: list[str]) -> Finetuning:
    table = _Table(fields, "finetuning", problems)
    seeds = table.take("seeds", _is_count, "a whole number above 0", 3)
    rates = table.take("learning_rates", _is_ascending, "an ascending list of numbers above 0", (3e-4, 1e-3, 2e-3))
    overrides = nested.flatten(table.tables("overrides", required=False))
    if "optimizer.learning_rate" in overrides:
        problems.append("finetuning.overrides.optimizer.learning_rate: is chosen; use finetuning.learning_rates")
    table.end([field.name for field in dataclasses.fields(Finetuning)])
    return Finetuning(seeds, tuple(map(float, rates or ())), overrides)


def _task(name: str, fields: Any, problems: list[str]) -> TaskSettings | None:
    if name not in tasks.TASKS:
        problems.append(f"tasks.{name}: unknown, expected one of {', '.join(tasks.TASKS)}")
        return None
    table = _Table(fields, f"tasks.{name}", problems)
    taken = {"directory": table.take("directory", lambda value: isinstance(value, str) and bool(value), "a folder")}
    if tasks.TASKS[name].is_finetuned:
        taken |= {
            "train_examples": table.take("train_examples", lambda value: _is_count(value, 0), "0 for all, or more", 0),
            "dev_examples": table.take("dev_examples", _is_count, "a whole number above 0", 500),
            "epochs": table.take("epochs", lambda value: _is_number(value) and value > 0, "a number above 0", 3.0),
        }
    table.end(list(taken))
    return TaskSettings(**taken)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_seeds(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_count(seed, 0) for seed in value) and _differ(value)


def _is_ascending(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(_is_number(number) and number > 0 for number in value):
        return False
    return value == sorted(value) and _differ(value)


def _differ(values: Sequence[Any]) -> bool:
    return len(set(values)) == len(values)
