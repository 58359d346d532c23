"""The table from logical axis names to mesh axes, and a config's changes to it. Imports no JAX."""

from collections.abc import Iterable

AXES = ("data", "fsdp", "tensor")

MeshAxes = str | tuple[str, ...] | None
Table = tuple[tuple[str, MeshAxes], ...]

_ACTIVATIONS: Table = (("batch", ("data", "fsdp")), ("length", None), ("embed_act", None))
_REPLICATED: Table = tuple((name, None) for name in ("embed", "mlp", "heads", "kv", "vocab", "layers", "table"))

# `dp` replicates the weights, `fsdp` shards their width, `fsdp_tp` their heads, feed-forward units and words too.
RULES: dict[str, Table] = {
    "dp": (*_ACTIVATIONS, *_REPLICATED),
    "fsdp": (*_ACTIVATIONS, ("embed", "fsdp"), *_REPLICATED),
    "fsdp_tp": (
        *_ACTIVATIONS,
        ("embed", "fsdp"),
        ("mlp", "tensor"),
        ("heads", "tensor"),
        ("vocab", "tensor"),
        *_REPLICATED,
    ),
}

# The logical axes of every kind of array, hidden states last; no array may use a mesh axis twice.
ARRAYS = (
    ("layers", "embed", "heads", "kv"),
    ("layers", "heads", "kv", "embed"),
    ("layers", "embed", "mlp"),
    ("layers", "mlp", "embed"),
    ("vocab", "embed"),
    ("table", "embed"),
    ("batch", "length", "embed_act"),
)

# The sharding of rows is fixed in `put_batch`, whatever that of the weights is.
_CHANGEABLE = tuple(name for name, _ in RULES["dp"] if name != "batch")


def table(sharding: str, changes: str = "") -> Table:
    """The table of a preset with some entries changed.

    Args:
      sharding: the preset.
      changes: such as "embed:fsdp,mlp:tensor,vocab:none"; several mesh axes are joined by "+".

    Raises:
      ValueError: an entry is not of the form NAME:AXIS.
    """
    changed = {}
    for entry in filter(None, (part.strip() for part in changes.split(","))):
        name, colon, axes = entry.partition(":")
        if not colon:
            raise ValueError(entry)
        parts = tuple(axes.split("+"))
        changed[name] = None if axes == "none" else parts[0] if len(parts) == 1 else parts
    return (*changed.items(), *(rule for rule in RULES[sharding] if rule[0] not in changed))


def problems(sharding: str, changes: str) -> Iterable[str]:
    """Problems with `changes` to the preset `sharding`, one line for each."""
    names, example = [], "expected entries such as embed:fsdp,mlp:tensor or vocab:none"
    for entry in filter(None, (part.strip() for part in changes.split(","))):
        name, colon, axes = entry.partition(":")
        names.append(name)
        if not colon or not axes:
            yield f"{entry!r}, {example}"
            return
        if name not in _CHANGEABLE:
            yield f"{entry!r} names no axis that can be sharded; expected one of {', '.join(_CHANGEABLE)}"
            return
        if wrong := [
            axis for axis in axes.split("+") if axis not in (*AXES, "none") or (axis == "none" and axis != axes)
        ]:
            yield f"{entry!r} names {wrong[0]!r}, expected one of {', '.join(AXES)} (several joined by +), or none"
            return
    if repeated := [name for name in names if names.count(name) > 1]:
        yield f"{changes!r} has several entries for {repeated[0]!r}, expected one"
        return
    placed: dict[str, MeshAxes] = {}
    for name, mesh_axis in table(sharding, changes):
        placed.setdefault(name, mesh_axis)
    for array in ARRAYS:
        used = [(axis, name) for name in array for axis in mesh_axes(placed[name])]
        for axis in AXES:
            if len(by := [name for other, name in used if other == axis]) > 1:
                yield (
                    f"{changes!r} on top of {sharding} places both {by[0]!r} and {by[1]!r} of arrays "
                    f"[{', '.join(array)}] on the mesh axis {axis!r}; place one of them elsewhere, or set it to none"
                )
                return


def mesh_axes(axes: MeshAxes) -> tuple[str, ...]:
    """One entry's mesh axes as a tuple."""
    if axes is None:
        return ()
    return axes if isinstance(axes, tuple) else (axes,)
