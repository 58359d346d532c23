"""JSON that others wrote: parsed within limits, checked against a schema, refused with one clear error.

Every JSON file that a run reads goes through here: models of other programs, tokenizers, manifests of datasets, and
files of a workdir, which may have been edited or damaged. A schema is a subclass of `Record`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NoReturn, TypeVar

import pydantic

from electra_jax import storage
from electra_jax.errors import InputError, RunError

# A manifest of a million shards has 200 MB, a tokenizer.json of 250,000 pieces 20 MB, any other file less than 1 MB.
MOST_BYTES = 1 << 28
# Far below Python's limit, so that whatever walks the value later does not reach it either.
MOST_LEVELS = 64

_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEMS = 3
_SHOWN_ENTRIES = 3
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_EXPECTED = {
    "missing": "this field",
    "extra_forbidden": "no such field",
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "finite_number": "a finite number",
}

# A number of something that a network or a dataset has; arrays of more are none that anybody trains.
Size = Annotated[int, pydantic.Field(ge=1, le=1 << 30)]
Count = Annotated[int, pydantic.Field(ge=0, le=1 << 53)]
Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


class Record(pydantic.BaseModel):
    """Base of schemas: an object whose fields have exactly these types; others are ignored."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


Checked = TypeVar("Checked")


def read(path: storage.Path, fix: str, error: type[RunError] = InputError, *, finite: bool = True) -> Any:
    """The value of a JSON file.

    Args:
      path: a local path or an address.
      fix: what the user can do about a damaged file; ends the message.
      error: kind of error for a file that cannot be read.
      finite: whether NaN and Infinity, which are not JSON, are refused.

    Raises:
      RunError: of kind `error`: there is no such file, it is too large, or it is not JSON.
    """
    try:
        with storage.open_to_read(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as failure:
        raise error(f"{path}: cannot be read ({failure.strerror or failure}); {fix}") from failure
    try:
        return parse(content, finite=finite)
    except ValueError as failure:
        raise error(f"{path}: cannot be read (it is not JSON: {failure}); {fix}") from failure


def read_as(
    kind: type[Checked], path: storage.Path, fix: str, error: type[RunError] = InputError, *, finite: bool = True
) -> Checked:
    """The value of a JSON file of one kind; see `read` and `checked`."""
    return checked(kind, read(path, fix, error, finite=finite), path, fix, error)


def parse(content: bytes | str, *, finite: bool = True) -> Any:
    """The value of a JSON text; half a character in a string becomes U+FFFD.

    Raises:
      ValueError: it is too long, not UTF-8, not JSON, too deeply nested, or names a field twice.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant if finite else None)
    except RecursionError:
        raise ValueError(f"nested more than {MOST_LEVELS} levels deep") from None
    _check_depth(value)
    if _HALF_CHARACTER.search(text):
        # "\ud83d" alone is half a character, which UTF-8 has no bytes for, so that it could not be printed.
        halves = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
        value = json.loads(halves.decode("utf-16-le", "replace"), object_pairs_hook=_object)
    return value


def checked(
    kind: type[Checked], value: Any, place: storage.Path, fix: str, error: type[RunError] = InputError
) -> Checked:
    """A parsed value as a `Record` or any other type.

    Args:
      kind: the type, such as a subclass of `Record` or `dict[str, Size]`.
      value: the parsed JSON.
      place: the file, and the place in it, for messages.
      fix: what the user can do about it; ends the message.
      error: kind of error.

    Raises:
      RunError: of kind `error`: the value has another type; the message names the field, what was found and what was
        expected.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(value, strict=True)
    except pydantic.ValidationError as failure:
        problems = [_problem(entry) for entry in failure.errors(include_url=False)[:_SHOWN_PROBLEMS]]
        more = failure.error_count() - len(problems)
        listed = "; ".join(problems) + (f"; and {more} more" if more else "")
        raise error(f"{place}: {listed}; {fix}") from failure


def field_path(parts: Sequence[int | str]) -> str:
    """A place in a value as text: trials[2].scores.dev."""
    joined = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return joined.removeprefix(".")


def shown(value: Any) -> str:
    """A value, shortened, for messages."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        if len(value) > _SHOWN_ENTRIES or _containers(inner):
            return f"an object of {len(value)} fields" if isinstance(value, dict) else f"a list of {len(value)}"
    text = json.dumps(value[:_SHOWN_CHARACTERS] if isinstance(value, str) else value, ensure_ascii=False)
    return text[:_SHOWN_CHARACTERS]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        # Of two values one program takes the first and another the last.
        twice = next(_repeated(name for name, _ in pairs))
        raise ValueError(f"the field {shown(twice)} occurs twice in one object")
    return fields


def _repeated(names: Iterator[str]) -> Iterator[str]:
    seen = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_depth(value: Any) -> None:
    """Raises ValueError for a value with too many levels; does not recurse itself."""
    level = _containers([value])
    for _ in range(MOST_LEVELS):
        level = [
            inner for outer in level for inner in _containers(outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {MOST_LEVELS} levels deep")


def _containers(values: Iterable[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, dict | list)]


def _problem(entry: Any) -> str:
    """One of pydantic's errors as text."""
    place = field_path(entry["loc"])
    kind, context = entry["type"], entry.get("ctx", {})
    expected = _EXPECTED.get(kind) or {
        "greater_than_equal": f"{context.get('ge')} or more",
        "less_than_equal": f"at most {context.get('le')}",
        "literal_error": str(context.get("expected")),
        "value_error": str(context.get("error")),
        "string_pattern_mismatch": f"a text of the form {context.get('pattern')}",
        "string_too_long": f"at most {context.get('max_length')} characters",
    }.get(kind, entry["msg"].removeprefix("Input should be "))
    found = "nothing" if kind == "missing" else shown(entry["input"])
    return f"{place + ': ' if place else ''}found {found}, expected {expected}"
