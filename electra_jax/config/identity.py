"""Identity of a run: the fields that determine trained numbers, their fingerprint, and differences of two configs."""

from collections.abc import Iterator, Mapping
from typing import Any

from electra_jax import nested
from electra_jax.config.finetuning import TASK_CONFIGS, FinetuningConfig, updated_run
from electra_jax.config.pretraining import CASING, PretrainingConfig
from electra_jax.config.schema import AUTO, fields_of, leaves, section_class

_CASING = frozenset(f"data.tokenizer.{name}" for name in CASING)


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names to JSON-ready leaves of a config."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in nested.flatten(tree).items()}


def free_fields(task: str) -> frozenset[str]:
    """Fields and sections that may change between two starts of a run, because they do not affect trained numbers.

    Args:
      task: "pretraining" or "finetuning".
    """
    return frozenset(_free(FinetuningConfig if task == "finetuning" else PretrainingConfig))


def _free(kind: type, prefix: str = "") -> Iterator[str]:
    for field in fields_of(kind):
        if field.setting.free:
            yield prefix + field.name
        elif inner := section_class(field.type):
            yield from _free(inner, f"{prefix}{field.name}.")


def trained_fields(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The flattened fields that determine trained numbers; a run keeps them from its first step to its last.

    Args:
      tree: a config as `schema.as_tree` or config.json has it; fields that no schema knows count as trained.
    """
    free = free_fields(tree.get("task", ""))
    prefixes = tuple(f"{name}." for name in free)
    return {name: value for name, value in flatten(tree).items() if name not in free and not name.startswith(prefixes)}


def fingerprint(tree: Mapping[str, Any]) -> str:
    """SHA-256 of the trained fields, in hexadecimal."""
    return nested.fingerprint(trained_fields(tree))


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns a line for each trained field that differs.

    A run that an earlier version began lacks the fields that were added since: their defaults train as that version
    did. Where either side leaves the tokenizer's casing to the text, the dataset decides: it records its own, and is
    compared by itself.

    Args:
      before: the config that a run recorded.
      after: the config that it is given now, with all fields of this version.
    """
    if before.get("task") == "finetuning":
        before = updated_run(before)
    old, new, added = trained_fields(before), trained_fields(after), _defaults(after)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            lines.append(f"config.{name}: was {old[name]!r}, is gone")
        elif name not in old:
            if name not in added or new[name] != added[name]:
                lines.append(f"config.{name}: was not there, is {new[name]!r}")
        elif old[name] != new[name] and not (name in _CASING and AUTO in (old[name], new[name])):
            lines.append(f"config.{name}: was {old[name]!r}, is {new[name]!r}")
    return lines


def with_recorded_casing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run that goes on, with its recorded casing where either side leaves it to the text.

    Otherwise an attempt that the dataset then refuses would change what the run has recorded.

    Args:
      before, after: as in `difference`, which found nothing that must not change.
    """
    old, new = (tree.get("data", {}).get("tokenizer", {}) for tree in (before, after))
    kept = {name: old[name] for name in CASING if name in old and AUTO in (old[name], new.get(name))}
    return {**after, "data": {**after["data"], "tokenizer": {**new, **kept}}} if kept else dict(after)


def _defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the fields of a config by dotted name, with those of its tasks."""
    kinds: list[tuple[str, type]] = [("", FinetuningConfig if tree.get("task") == "finetuning" else PretrainingConfig)]
    kinds += [(f"tasks.{name}.", TASK_CONFIGS[task["kind"]]) for name, task in tree.get("tasks", {}).items()]
    found = {name: field.default for prefix, kind in kinds for name, field in leaves(kind, prefix)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
