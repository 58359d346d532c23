"""Building blocks of config sections: dataclass fields with range, unit and reason, made from nested mappings.

A section is a frozen dataclass whose fields are made by `setting`, `section`, `optional` and `table`. `read` turns a
nested mapping, such as an ml_collections file, into a section and reports every problem at once. Nothing here knows any
particular field.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

Section = TypeVar("Section")

# A field of this type may leave its value to what a command finds in the data.
AUTO: Literal["auto"] = "auto"
BoolOrAuto = bool | Literal["auto"]

_KEY = "setting"
_INFINITY = math.inf


@dataclasses.dataclass(frozen=True)
class Range:
    """Values that a field accepts.

    Attributes:
      expected: completes "expected …" in messages and in the reference.
      low, high: bounds of a number.
      includes_low, includes_high: whether the bounds themselves are accepted.
      excluded: numbers within the bounds that are not accepted.
      choices: the accepted values, of a field that is not a range of numbers.
    """

    expected: str
    low: float = -_INFINITY
    high: float = _INFINITY
    includes_low: bool = True
    includes_high: bool = True
    excluded: tuple[float, ...] = ()
    choices: tuple[Any, ...] = ()

    def accepts(self, value: Any) -> bool:
        """Returns whether a value of the field's type lies in the range."""
        if self.choices:
            return value in self.choices
        above = value >= self.low if self.includes_low else value > self.low
        below = value <= self.high if self.includes_high else value < self.high
        return above and below and value not in self.excluded


ANY = Range("")
ABOVE_ZERO = Range("a number above 0", low=0, includes_low=False)
NOT_NEGATIVE = Range("0 or more", low=0)
FRACTION = Range("a fraction, at least 0 and below 1", low=0, high=1, includes_high=False)
SHARE = Range("a number from 0 to 1", low=0, high=1)
INNER_SHARE = Range("a number between 0 and 1", low=0, high=1, includes_low=False, includes_high=False)
FACTOR = Range("a factor above 0 and up to 1", low=0, high=1, includes_low=False)


def at_least(low: int) -> Range:
    """Whole numbers from `low` upwards."""
    return Range(f"{low} or more", low=low)


def one_of(*choices: Any) -> Range:
    """One of the listed values."""
    return Range(f"one of {', '.join(map(str, choices))}", choices=choices)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Properties of a field apart from its type and default.

    Attributes:
      reason: one line for people: what the field does, and why it has this default.
      range: accepted values.
      unit: unit of a number, such as "tokens".
      free: whether a resumed run may change it, because no trained number follows from it.
      synonyms: other names by which people look for it.
    """

    reason: str
    range: Range = ANY
    unit: str = ""
    free: bool = False
    synonyms: tuple[str, ...] = ()


def setting(
    default: Any, reason: str, range: Range = ANY, *, unit: str = "", free: bool = False, synonyms: tuple[str, ...] = ()
) -> Any:
    """A field with a value of its own; see `Setting`."""
    return dataclasses.field(default=default, metadata={_KEY: Setting(reason, range, unit, free, synonyms)})


def section(kind: type[Section], reason: str, *, free: bool = False) -> Section:
    """A field that holds a section with its defaults; in a `free` one every field may change."""
    return dataclasses.field(default_factory=kind, metadata={_KEY: Setting(reason, free=free)})


def optional(reason: str, *, free: bool = False) -> Any:
    """A section that is absent unless it is filled in; its annotation is `SECTION | None`."""
    return dataclasses.field(default=None, metadata={_KEY: Setting(reason, free=free)})


def table(reason: str, *, free: bool = False) -> Any:
    """A field that holds values or sections under names of the user's; its annotation is `Mapping[str, …]`."""
    return dataclasses.field(default_factory=dict, metadata={_KEY: Setting(reason, free=free)})


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a section, with everything that is known about it.

    Attributes:
      name: its own name.
      type: bool, `BoolOrAuto`, int, float, str, or a generic alias or dataclass for anything else.
      default: its default, of a section a section of defaults.
      setting: its range, unit and reason.
    """

    name: str
    type: Any
    default: Any
    setting: Setting


def fields_of(kind: type) -> tuple[Field, ...]:
    """The fields of a section's class, in their order."""
    hints = typing.get_type_hints(kind)
    return tuple(
        Field(
            field.name,
            hints[field.name],
            field.default if field.default is not dataclasses.MISSING else _made(field.default_factory),
            field.metadata[_KEY],
        )
        for field in dataclasses.fields(kind)
    )


def _made(factory: Any) -> Any:
    return factory()


def section_class(kind: Any) -> Any:
    """The section's class that an annotation names, `SECTION` or `SECTION | None`; None for any other annotation."""
    if _may_be_absent(kind):
        (kind,) = (part for part in typing.get_args(kind) if part is not types.NoneType)
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def _may_be_absent(kind: Any) -> bool:
    """Whether an annotation is `SECTION | None`."""
    return types.NoneType in typing.get_args(kind)


def is_table(kind: Any) -> bool:
    """Whether an annotation is `Mapping[str, …]`."""
    return typing.get_origin(kind) is Mapping


def as_tree(value: Any) -> Any:
    """A section as nested dicts of plain values; sections that are absent are empty dicts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tree = {}
        for field in fields_of(type(value)):
            own = getattr(value, field.name)
            tree[field.name] = {} if own is None else as_tree(own)
        return tree
    return {name: as_tree(item) for name, item in value.items()} if isinstance(value, Mapping) else value


@dataclasses.dataclass
class Problems:
    """Problems found so far, each under the full name of a field."""

    lines: list[str] = dataclasses.field(default_factory=list)
    broken: set[str] = dataclasses.field(default_factory=set)

    def add(self, place: str, found: str, expected: str) -> None:
        """Records one problem in the wording of all of them."""
        self.lines.append(f"{place}: found {found}, expected {expected}")
        self.broken.add(place)


def read(
    kind: type[Section],
    tree: Any,
    place: str,
    problems: Problems,
    item_class: Callable[[str, Mapping[str, Any], Problems], Any] | None = None,
) -> Section:
    """Makes a section of a nested mapping.

    Args:
      kind: the section's class.
      tree: mapping from field names; all fields must be there but sections that may be absent.
      place: full name of the section, for messages.
      problems: receives what is wrong; the field that is wrong has its default in the result.
      item_class: chooses the class of a section in a table by (full name, mapping, problems); None where it is none.
    """
    if not isinstance(tree, Mapping):
        problems.add(place, repr(tree), f"a section with the fields {', '.join(f.name for f in fields_of(kind))}")
        return kind()
    known = {field.name: field for field in fields_of(kind)}
    for name in tree:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            problems.lines.append(
                f"{place}.{name}: no such field{f'; did you mean {place}.{near[0]}?' if near else ''}"
            )
    values: dict[str, Any] = {}
    for name, field in known.items():
        own = f"{place}.{name}"
        if name not in tree and _may_be_absent(field.type):
            continue
        if name not in tree:
            problems.lines.append(f"{own}: is missing; its default is {field.default!r}")
            problems.broken.add(own)
            continue
        value = tree[name]
        if inner := section_class(field.type):
            if _may_be_absent(field.type) and (value is None or value == {}):
                values[name] = None
            else:
                values[name] = read(inner, value, own, problems, item_class)
        elif is_table(field.type):
            values[name] = _read_table(field, value, own, problems, item_class)
        else:
            values[name] = _checked(field, value, own, problems)
    return kind(**values)


def _read_table(field: Field, value: Any, place: str, problems: Problems, item_class: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        problems.add(place, repr(value), "fields by name")
        return {}
    item = typing.get_args(field.type)[1]
    if not section_class(item):
        own = Field(field.name, item, "", field.setting)
        return {name: _checked(own, text, f"{place}.{name}", problems) for name, text in value.items()}
    read_items = {}
    for name, tree in value.items():
        kind = item_class(f"{place}.{name}", tree, problems) if item_class else section_class(item)
        if kind is not None:
            read_items[name] = read(kind, tree, f"{place}.{name}", problems, item_class)
    return read_items


_TYPE_NAMES: dict[Any, str] = {
    bool: "True or False",
    BoolOrAuto: "True, False or auto",
    int: "a whole number",
    float: "a number",
    str: "a text",
}


def _checked(field: Field, value: Any, place: str, problems: Problems) -> Any:
    """Returns the value in the field's type; its default, with a recorded problem, where it does not fit."""
    converted = _converted(field.type, value)
    bounds = field.setting.range
    if converted is None:
        problems.add(place, repr(value), expected_values(field))
    elif isinstance(converted, float) and not math.isfinite(converted):
        problems.add(place, repr(value), f"{bounds.expected or 'a number'}, and finite")
    elif bounds is not ANY and not bounds.accepts(converted):
        problems.add(place, repr(value), bounds.expected)
    else:
        return converted
    return field.default


def _converted(kind: Any, value: Any) -> Any:
    """A value in a field's type; None where it has another one. Whole numbers pass as floats, lists as tuples."""
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return math.inf  # Refused as not finite.
    if kind == BoolOrAuto:
        # Flags of a field of several types are read as Python literals, and --config.NAME=1 means True for a boolean.
        if value == AUTO:
            return value
        return bool(value) if type(value) in (bool, int) and value in (0, 1) else None
    if kind in _TYPE_NAMES:
        return value if type(value) is kind else None
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        item = typing.get_args(kind)[0]
        return tuple(value) if all(type(part) is item for part in value) else None
    return None


def expected_values(field: Field) -> str:
    """The values that a field accepts, for messages and for the reference."""
    kind = _TYPE_NAMES.get(field.type, "a tuple of texts")
    bounds = field.setting.range
    if bounds is ANY or bounds.choices:
        return bounds.expected or kind
    return bounds.expected if field.type is float else f"a whole number, {bounds.expected.removeprefix('a number ')}"


def leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Every field that holds a value, with its dotted name; tables and optional sections appear as they are."""
    for field in fields_of(kind):
        inner = None if _may_be_absent(field.type) else section_class(field.type)
        if inner:
            yield from leaves(inner, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field
