"""Nested mappings: flat names for their leaves, and a hash of a whole value."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def flatten(tree: Mapping[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """The leaves by name, those of the levels joined by the separator; an empty mapping leaves nothing.

    Args:
      tree: mappings within mappings; whatever has `items` counts as one, as ConfigDict is no Mapping.
      separator: between the names of two levels.
      prefix: stands before every name.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if hasattr(value, "items"):
            flat |= flatten(value, separator, f"{prefix}{name}{separator}")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(flat: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """The nested dictionaries of leaves by name."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(separator)
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = value
    return tree


def fingerprint(value: Any) -> str:
    """SHA-256, in hexadecimal, of a value that JSON knows; the order of names does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
