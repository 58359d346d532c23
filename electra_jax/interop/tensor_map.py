"""Tables that map tensors of external formats to our parameter tree, and functions that read and write by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from electra_jax import nested
from electra_jax.errors import InputError

NETWORKS = ("generator", "discriminator")


class Layout(NamedTuple):
    """Conversions of one tensor between the external layout and ours."""

    to_theirs: Callable[[np.ndarray], np.ndarray]
    to_ours: Callable[
        [np.ndarray, int], np.ndarray
    ]  # The second argument is the number of heads, which tensors do not determine.


class Entry(NamedTuple):
    """The place of one external tensor in our tree.

    Attributes:
      theirs: its external name.
      ours: path of our array that holds it.
      layer: its index on the layer axis of that array; None if there is no such axis.
      layout: conversion between the two layouts.
    """

    theirs: str
    ours: str
    layer: int | None
    layout: Layout


SAME = Layout(lambda ours: ours, lambda theirs, heads: theirs)


def write(params: Mapping[str, Any], entries: Iterable[Entry], whose: str) -> dict[str, np.ndarray]:
    """External tensors by name, as new arrays in C order.

    Args:
      params: the parts of our tree to write, nested.
      entries: all external tensors of these parts.
      whose: name of the external format in messages.

    Raises:
      InputError: there are parameters without an entry.
    """
    flat = flatten(params)
    state, written = {}, set()
    for theirs, ours, layer, layout in entries:
        array = flat[ours] if layer is None else flat[ours][layer]
        state[theirs] = np.array(layout.to_theirs(array), order="C")
        written.add(ours)
    if unknown := sorted(flat.keys() - written):
        raise InputError(f"{whose} has no equivalent of these parameters: {', '.join(unknown)}")
    return state


def read(
    state: Mapping[str, np.ndarray], entries: Iterable[Entry], heads: int, whose: str, optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Our arrays by path, with layers stacked, as new arrays in C order.

    Args:
      state: external tensors by name; those without an entry are ignored.
      entries: the tensors to read.
      heads: attention heads of the network.
      whose: name of the external format in messages.
      optional: names that may be missing.

    Raises:
      InputError: a tensor is missing or has the wrong shape, or two copies of one array differ.
    """
    flat: dict[str, np.ndarray] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    for theirs, ours, layer, layout in entries:
        if theirs not in state:
            if theirs in optional:
                continue
            raise InputError(f"{whose} has no tensor {theirs}")
        try:
            array = np.array(layout.to_ours(state[theirs], heads), order="C")
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{whose}: {theirs} has the shape {list(state[theirs].shape)}, which {heads} heads do not divide"
            ) from error
        if layer is None:
            put(flat, ours, array)
        else:
            stacks.setdefault(ours, []).append(array)
    for path, arrays in stacks.items():
        if len({array.shape for array in arrays}) > 1:
            shapes = sorted({str(list(array.shape)) for array in arrays})
            raise InputError(f"{whose}: {path} has layers of different shapes, {' and '.join(shapes)}")
        flat[path] = np.stack(arrays)
    return flat


def put(flat: dict[str, np.ndarray], path: str, array: np.ndarray) -> None:
    """Sets flat[path]; if it is set already, the two are copies of a shared table and must be equal.

    Raises:
      InputError: they differ.
    """
    if path in flat and not np.array_equal(flat[path], array):
        raise InputError(
            f"{path}: found two different copies of a shared table, expected a generator with tied words and the "
            "discriminator that was trained with it. Each of the two can be converted by itself."
        )
    flat[path] = array


def flatten(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by path, with names joined by "/"."""
    return {path: np.asarray(array) for path, array in nested.flatten(tree, "/").items()}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from arrays by path."""
    return nested.unflatten(flat, "/")
