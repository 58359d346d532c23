"""Nested mappings: flat names for their leaves, and a hash of a value."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def flatten(tree: Mapping[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Returns the leaves by name, the names of all levels joined by the separator; an empty mapping is dropped.

    Args:
      tree: mappings within mappings; whatever has `items` counts as one, because ConfigDict is no Mapping.
      separator: text between the names of two levels.
      prefix: text before every name.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if hasattr(value, "items"):
            flat |= flatten(value, separator, f"{prefix}{name}{separator}")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(flat: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Returns the nested dictionaries of leaves by name.

    Raises:
      ValueError: one name is also the beginning of another.
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(separator)
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise ValueError(f"{path}: {parent} is a value, expected a group of names")
        if name in branch:
            raise ValueError(f"{path}: is a group of names, expected a value")
        branch[name] = value
    return tree


def fingerprint(value: Any) -> str:
    """SHA-256, in hexadecimal, of a value that JSON knows; the order of names does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def json_ready(value: Any) -> Any:
    """Returns a value with None in place of numbers that are not finite, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: json_ready(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(inner) for inner in value]
    return value
