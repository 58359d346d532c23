"""Where arrays live: the mesh, and the one table from logical axis names to mesh axes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from electra_jax.errors import InputError

AXES = ("data", "fsdp", "tensor")

_ACTIVATIONS = (("batch", ("data", "fsdp")), ("length", None), ("embed_act", None))
_REPLICATED = tuple((name, None) for name in ("embed", "mlp", "heads", "kv", "vocab", "layers", "table"))

# Logical axis to mesh axis. `dp` replicates the weights, `fsdp` shards their width, `fsdp_tp` their heads,
# feed-forward units and words too.
RULES: dict[str, tuple[tuple[str, Any], ...]] = {
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


def mesh_shape(sizes: Sequence[int], device_count: int) -> tuple[int, ...]:
    """The mesh's axis sizes, a -1 among them filled up with what is left of the devices.

    Raises:
      InputError: the sizes do not multiply to the number of devices.
    """
    known = int(np.prod([size for size in sizes if size != -1]))
    shape = tuple(device_count // known if size == -1 else size for size in sizes)
    if int(np.prod(shape)) != device_count:
        named = " × ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
        raise InputError(
            f"config.mesh: {named} does not make use of exactly {device_count} devices; "
            f"set one axis to -1 to let it take what is left, for example --config.mesh.data=-1"
        )
    return shape


def make_mesh(sizes: Sequence[int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A (data, fsdp, tensor) mesh over all devices, or over those given (a TPU topology that is not there).

    Axis types are Auto: JAX's own default, Explicit, drops the logical constraints of Linen modules.
    """
    shape = mesh_shape(sizes, len(devices) if devices is not None else jax.device_count())
    types = (AxisType.Auto,) * len(AXES)
    if devices is not None:
        return Mesh(np.array(devices).reshape(shape), AXES, axis_types=types)
    return jax.make_mesh(shape, AXES, axis_types=types)


@contextlib.contextmanager
def placed_on(mesh: Mesh, rules: str) -> Iterator[None]:
    """Makes logical constraints real: Flax looks for `jax.set_mesh`, and `with mesh:` would silence them."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES[rules]):
        yield


def state_shardings(
    make_state: Callable[[jax.Array], Any], mesh: Mesh, rules: str, note: Callable[[str], None] = print
) -> tuple[Any, Any]:
    """The abstract state, unboxed, and the sharding of each of its leaves.

    An axis whose size the mesh does not divide is replicated instead, and `note` told so.
    """
    # Traced outside the mesh context: there, unboxing would apply constraints to abstract values.
    boxed = jax.eval_shape(make_state, jax.eval_shape(lambda: jax.random.key(0)))
    wanted = nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, RULES[rules])
    abstract = nn.unbox(boxed)

    def fit(path: tuple, leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> NamedSharding:
        axes = []
        for size, axis in zip(leaf.shape, (*sharding.spec, *[None] * leaf.ndim), strict=False):
            parts = int(np.prod([mesh.shape[name] for name in _names(axis)]))
            if size % parts:
                note(f"{jax.tree_util.keystr(path)}: {size} is not divisible by {parts} ({axis}); replicated instead")
                axis = None
            axes.append(axis)
        return NamedSharding(mesh, PartitionSpec(*axes))

    return abstract, jax.tree_util.tree_map_with_path(fit, abstract, wanted)


def _names(axis: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if axis is None:
        return ()
    return axis if isinstance(axis, tuple) else (axis,)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows are dealt out over the data and fsdp axes."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """The global batch, a tree of arrays, from this process's rows."""
    return jax.make_array_from_process_local_data(batch_sharding(mesh), batch)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, PartitionSpec())
