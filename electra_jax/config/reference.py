"""The reference of config fields: `--config.help`, docs/config.md, and suggestions for mistyped flags.

`python -m electra_jax.config.reference > docs/config.md` writes the page.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from electra_jax.config import schema
from electra_jax.config.finetuning import (
    AnsweringConfig,
    ClassificationConfig,
    FinetuningConfig,
    ReferenceConfig,
    TaggingConfig,
)
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.config.schema import Field

_TASKS = (ClassificationConfig, TaggingConfig, AnsweringConfig)
_NEAR = 0.75  # Share of equal characters from which a name is taken for a misspelling of another.


def flag_help(tree: Mapping[str, Any]) -> str:
    """Every field of a config with its value here, unit, range and reason.

    Args:
      tree: nested mapping, such as a config file with its overrides.
    """
    lines = []
    for name, value in _values(tree):
        field = _field(tree, name)
        lines.append(f"--config.{name}={value!r}")
        if field is None:
            continue
        facts = [field.setting.reason, *_bounds(field)]
        if field.default != value:
            facts.append(f"default {field.default!r}")
        lines.append("    " + "; ".join(facts))
    return "\n".join(lines)


def unknown_field(tree: Mapping[str, Any], name: str) -> str:
    """Returns a message on a name that is no field of a config; "" if it is one.

    Args:
      tree: nested mapping, such as a config file.
      name: dotted, without "config.".
    """
    known = dict(_values(tree))
    field = _field(tree, name)
    # `--config.probe={}` and the like replace a section that may be absent, or a table.
    if name in known or (field and (field.default is None or schema.is_table(field.type))):
        return ""
    inside = [full for full in known if full.startswith(f"{name}.")]
    if inside:
        return f"--config.{name}: is a section; its fields are {', '.join(f'--config.{full}' for full in inside)}"
    meant = _meant(tree, known, name)
    hint = f"did you mean {' or '.join(f'--config.{full}' for full in meant)}?" if meant else "see --config.help"
    return f"--config.{name}: no such field; {hint}"


def _meant(tree: Mapping[str, Any], known: Iterable[str], name: str) -> list[str]:
    """Suggested fields: of the same last name, known under this name elsewhere, or of similar spelling."""
    last = name.rpartition(".")[2].lower()
    names = list(known)
    same = [full for full in names if full.rpartition(".")[2].lower() == last]
    fields = {full: _field(tree, full) for full in names}
    by_synonym = [full for full, field in fields.items() if field and last in field.setting.synonyms]
    if found := [*same, *by_synonym]:
        return found
    if near := difflib.get_close_matches(name, names, n=1, cutoff=_NEAR):
        return near
    last_names = {full.rpartition(".")[2]: full for full in names}
    return [last_names[found] for found in difflib.get_close_matches(last, last_names, n=2, cutoff=_NEAR)]


def _values(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _values(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _field(tree: Mapping[str, Any], name: str) -> Field | None:
    """The schema's field of a dotted name; None for names in tables and for fields of no schema."""
    kind: Any = PretrainingConfig if "objective" in tree else FinetuningConfig
    field, here = None, tree
    for part in name.split("."):
        if kind is None:
            return None
        if schema.is_table(kind):
            here = here.get(part, {})
            kind = _task_section(here)
            continue
        field = {field.name: field for field in schema.fields_of(kind)}.get(part)
        if field is None:
            return None
        here = here.get(part, {}) if isinstance(here, Mapping) else {}
        kind = field.type if schema.is_table(field.type) else schema.section_class(field.type)
    return field


def _task_section(task: Any) -> Any:
    kind = task.get("kind") if isinstance(task, Mapping) else None
    return next((section for section in _TASKS if kind in _field_named(section, "kind").setting.range.choices), None)


def _field_named(section: type, name: str) -> Field:
    return next(field for field in schema.fields_of(section) if field.name == name)


def _bounds(field: Field) -> list[str]:
    """Unit and range, if any."""
    if schema.is_table(field.type) or schema.section_class(field.type):
        return []
    return [text for text in (field.setting.unit, schema.expected_values(field)) if text]


def page() -> str:
    """docs/config.md: every field of both kinds of config."""
    parts = [
        "# Config fields",
        "",
        "Every field of a config, as `--config.FIELD=VALUE` sets it. Made from the schema in `electra_jax/config/` by",
        "`python -m electra_jax.config.reference > docs/config.md`; `--config.help` prints the same for a config file.",
        "A resumed run may change the fields marked *free*, because no trained number follows from them.",
        "",
        "## Pre-training",
        *_table(PretrainingConfig),
        "",
        "`probe` holds the fields of a fine-tuning config, and optionally `probe.reference`:",
        *_table(ReferenceConfig, prefix="probe.reference."),
        "",
        "## Fine-tuning",
        *_table(FinetuningConfig),
    ]
    for section in _TASKS:
        kinds = ", ".join(_field_named(section, "kind").setting.range.choices)
        parts += ["", f"### `tasks.NAME` of kind {kinds}", *_table(section, prefix="tasks.NAME.")]
    return "\n".join(parts) + "\n"


def _table(kind: type, prefix: str = "") -> list[str]:
    free = _free_names(kind)
    lines = ["", "| field | default | values | what it does |", "|---|---|---|---|"]
    for name, field in schema.leaves(kind, prefix):
        default = "" if schema.is_table(field.type) or field.default is None else f"`{field.default!r}`"
        values = "; ".join(_bounds(field))
        mark = " *free*" if name.removeprefix(prefix) in free else ""
        cells = (f"`{name}`{mark}", default, values, field.setting.reason)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _free_names(kind: type, prefix: str = "", inherited: bool = False) -> set[str]:
    names = set()
    for field in schema.fields_of(kind):
        free = inherited or field.setting.free
        inner = schema.section_class(field.type)
        if inner and field.default is not None:
            names |= _free_names(inner, f"{prefix}{field.name}.", free)
        elif free:
            names.add(prefix + field.name)
    return names


if __name__ == "__main__":
    print(page(), end="")
