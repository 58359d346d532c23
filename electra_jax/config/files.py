"""Conversion of ml_collections config files to typed configs."""

import functools
import operator
from collections.abc import Mapping
from typing import Any

import ml_collections

from electra_jax.config import schema
from electra_jax.config.finetuning import TASK_CONFIGS, FinetuningConfig, ProbeConfig, updated_run
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.config.schema import Problems
from electra_jax.errors import InputError

RunConfig = PretrainingConfig | FinetuningConfig


def defaults(kind: type) -> ml_collections.ConfigDict:
    """Returns a section with its defaults, for a config file to change."""
    made = _config_dict(schema.as_tree(kind()))
    for name, field in schema.leaves(kind):
        if field.type == schema.BoolOrAuto:
            *path, last = name.split(".")
            section = functools.reduce(operator.getitem, path, made)
            # Otherwise ml_collections refuses a value of another type than the default's, in a file and as a flag.
            section[last] = ml_collections.FieldReference(field.default, field_type=object)
    return made


def _config_dict(tree: Mapping[str, Any]) -> ml_collections.ConfigDict:
    fields = {name: _config_dict(value) if isinstance(value, Mapping) else value for name, value in tree.items()}
    return ml_collections.ConfigDict(fields)


def read_config(given: ml_collections.ConfigDict) -> tuple[RunConfig, Problems]:
    """Turns a config file with its overrides into typed values.

    Args:
      given: what `get_config` of a config file returned.

    Returns:
      The config, with defaults in the place of what is wrong, and the problems with single fields.

    Raises:
      InputError: the file is a config of neither kind of run.
    """
    tree = given.to_dict()
    kind = {"objective": PretrainingConfig, "tasks": FinetuningConfig}.get(
        next((name for name in ("objective", "tasks") if name in tree), "")
    )
    if kind is None:
        raise InputError(
            "--config: found neither a section `objective` nor `tasks`; expected a config of pre-training, which "
            "starts from configs/base.py, or of fine-tuning, which starts from configs/finetune/base.py"
        )
    task = kind().task
    if tree.get("task") != task:
        raise problems_error([f"config.task: found {tree.get('task')!r}, expected {task} with this config file"])
    problems = Problems()
    return schema.read(kind, tree, "config", problems, _task_class), problems


def typed(given: ml_collections.ConfigDict) -> RunConfig:
    """Returns the typed config of a file, if each field by itself is valid.

    Raises:
      InputError: lists every field that has another type or value than it may have.
    """
    config, problems = read_config(given)
    if problems.lines:
        raise problems_error(problems.lines)
    return config


def typed_pretraining(given: ml_collections.ConfigDict) -> PretrainingConfig:
    """See `typed`.

    Raises:
      InputError: as there; or it is a config of fine-tuning.
    """
    config = typed(given)
    if not isinstance(config, PretrainingConfig):
        raise InputError(f"config.task: found {config.task}, expected a config of pre-training")
    return config


def typed_finetuning(given: ml_collections.ConfigDict) -> FinetuningConfig:
    """See `typed`.

    Raises:
      InputError: as there; or it is a config of pre-training.
    """
    config = typed(given)
    if not isinstance(config, FinetuningConfig):
        raise InputError(f"config.task: found {config.task}, expected a config of fine-tuning")
    return config


def recorded(tree: Mapping[str, Any], path: str) -> RunConfig:
    """Returns the config of a run from its config.json; a field that was added since has its default, or the value
    that trains as the run did.

    Args:
      tree: what config.json holds.
      path: path of that file, for messages.

    Raises:
      InputError: it is not the config of a run.
    """
    kind = {"pretraining": PretrainingConfig, "finetuning": FinetuningConfig}.get(str(tree.get("task")))
    if kind is None:
        raise InputError(f"{path}: found task {tree.get('task')!r}, expected the config.json of a run")
    problems = Problems()
    for name in ("data", "model", "objective" if kind is PretrainingConfig else "tasks"):
        if not isinstance(tree.get(name), Mapping):
            problems.add(f"config.{name}", repr(tree.get(name)), "a section")
    config: RunConfig = schema.read(kind, _filled_run(kind, tree), "config", problems, _task_class)
    if problems.lines:
        raise InputError(f"{path}: is not the config of a {tree['task']} run ({'; '.join(problems.lines)})")
    return config


def _filled_run(kind: type[RunConfig], tree: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config, tasks and probe included, with the fields that were added since."""
    known = _filled(schema.as_tree(kind()), tree if kind is PretrainingConfig else updated_run(tree))
    if isinstance(known.get("tasks"), Mapping):
        known["tasks"] = {name: _filled_task(task) for name, task in known["tasks"].items()}
    if isinstance(known.get("probe"), Mapping) and known["probe"]:  # Empty if the run has none.
        known["probe"] = _filled_run(ProbeConfig, known["probe"])
    return known


def _filled(defaults_tree: Mapping[str, Any], tree: Any) -> Any:
    """A recorded tree with the fields of the defaults: unknown ones are left out, missing ones filled in."""
    if not isinstance(tree, Mapping):
        return tree
    if not defaults_tree:  # A table, or a section that may be absent.
        return tree
    return {
        name: (_filled(default, tree[name]) if isinstance(default, Mapping) else tree[name])
        if name in tree
        else default
        for name, default in defaults_tree.items()
    }


def _filled_task(tree: Any) -> Any:
    kind = TASK_CONFIGS.get(str(tree.get("kind"))) if isinstance(tree, Mapping) else None
    return _filled(schema.as_tree(kind()), tree) if kind else tree


def _task_class(place: str, tree: Any, problems: Problems) -> type | None:
    """The section of a task, by its kind."""
    kind = tree.get("kind") if isinstance(tree, Mapping) else None
    if not isinstance(kind, str) or kind not in TASK_CONFIGS:
        problems.add(f"{place}.kind", repr(kind), f"one of {', '.join(TASK_CONFIGS)}")
        problems.broken.add(place.rpartition(".")[0])  # The table lacks this task.
        return None
    return TASK_CONFIGS[kind]


def problems_error(problems: list[str]) -> InputError:
    """All problems of a config as one error."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return InputError(f"The config has {count}:\n" + "\n".join(f"  - {problem}" for problem in problems))
