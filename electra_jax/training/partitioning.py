"""Sharding of arrays over the mesh, by the table of logical axes in `sharding_rules.py`."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.linen import spmd
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from electra_jax.errors import InputError
from electra_jax.training.sharding_rules import AXES, mesh_axes, table

_LARGE = 2**20  # Bytes; larger moments are reported if they cannot be sharded.


def mesh_shape(sizes: Sequence[int], device_count: int) -> tuple[int, ...]:
    """The mesh's axis sizes, with -1 replaced by the number of devices that remain.

    Raises:
      InputError: the sizes do not multiply to the number of devices.
    """
    known = int(np.prod([size for size in sizes if size != -1]))
    shape = tuple(device_count // known if size == -1 else size for size in sizes)
    if int(np.prod(shape)) != device_count:
        named = " × ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
        raise InputError(
            f"config.mesh: {named} does not use exactly {device_count} devices; "
            f"set one axis to -1 to let it take those that remain, for example --config.mesh.data=-1"
        )
    return shape


def make_mesh(sizes: Sequence[int], devices: Sequence[jax.Device] | None = None, slices: int | None = None) -> Mesh:
    """A (data, fsdp, tensor) mesh over all devices, or over those given, such as a TPU topology to compile for.

    The outer part of the data axis runs over slices, as the network between slices is much slower than that within
    one; neighbours on the mesh are neighbours in their slice where its shape allows it.
    Axis types are Auto: JAX's own default, Explicit, drops the logical constraints of Linen modules.

    Args:
      sizes: sizes of the axes; one may be -1.
      devices: all devices unless given.
      slices: the number of slices to require; None accepts any.

    Raises:
      InputError: the axes do not fit the devices, or fsdp × tensor does not fit into one slice.
    """
    devices = jax.devices() if devices is None else devices
    found = slice_count(devices) if slices is None else check_slices(devices, slices)
    shape = mesh_shape(sizes, len(devices))
    if shape[0] % found:
        raise InputError(
            f"config.mesh: fsdp={shape[1]} × tensor={shape[2]} devices must lie within one slice, and {found} slices "
            f"of {len(devices) // found} devices do not split data={shape[0]}; make config.mesh.data a multiple of "
            f"{found}, with smaller fsdp or tensor"
        )
    within = shape[0] // found, *shape[1:]
    by_slice = [
        _arranged([device for device in devices if _slice_of(device) == number], within)
        for number in sorted({_slice_of(device) for device in devices})
    ]
    return Mesh(np.concatenate(by_slice), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _slice_of(device: jax.Device) -> int:
    # GPUs have such an attribute too, for machines or racks, over which any axis may run.
    return getattr(device, "slice_index", 0) if device.platform == "tpu" else 0


def slice_count(devices: Iterable[jax.Device]) -> int:
    """The number of TPU slices that the devices belong to; 1 for other platforms."""
    return len({_slice_of(device) for device in devices})


def check_slices(devices: Iterable[jax.Device], slices: int) -> int:
    """Returns `slices`; raises InputError if the devices belong to another number of slices."""
    if (found := slice_count(devices)) != slices:
        raise InputError(
            f"config.mesh.slices: {slices}, but the devices belong to {found} slice{'s' if found > 1 else ''}; "
            f"set --config.mesh.slices={found}, or start on as many slices as the config asks for"
        )
    return slices


def _arranged(devices: Sequence[jax.Device], shape: tuple[int, ...]) -> np.ndarray:
    """The devices of one slice in the order of their interconnect."""
    try:
        return mesh_utils.create_device_mesh(shape, devices)
    except NotImplementedError:
        # A mesh axis that would split an axis of the torus.
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)


@contextlib.contextmanager
def placed_on(mesh: Mesh, sharding: str, changes: str = "") -> Iterator[None]:
    """Puts logical constraints into effect: Flax reads `jax.set_mesh`, and `with mesh:` would disable them.

    Args:
      mesh: the mesh.
      sharding: a preset of `sharding_rules.RULES`.
      changes: changes to the preset; see `sharding_rules.table`.
    """
    with jax.set_mesh(mesh), nn.logical_axis_rules(table(sharding, changes)):
        yield


def state_shardings(
    make_state: Callable[[jax.Array], Any],
    mesh: Mesh,
    sharding: str,
    note: Callable[[str], None] = print,
    changes: str = "",
) -> tuple[Any, Any]:
    """The abstract state, unboxed, and the sharding of each of its leaves.

    An axis whose size the mesh does not divide is replicated instead, which is reported to `note`. For `sharding` and
    `changes` see `placed_on`.
    """
    # Traced outside the mesh context: there, unboxing would apply constraints to abstract values.
    boxed = jax.eval_shape(make_state, jax.eval_shape(lambda: jax.random.key(0)))
    wanted = spmd.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, table(sharding, changes))
    abstract = nn.unbox(boxed)

    def fit(path: tuple, leaf: jax.ShapeDtypeStruct, placement: NamedSharding) -> NamedSharding:
        axes = []
        for size, axis in zip(leaf.shape, (*placement.spec, *[None] * leaf.ndim), strict=False):
            parts = int(np.prod([mesh.shape[name] for name in mesh_axes(axis)]))
            if size % parts:
                note(f"{jax.tree_util.keystr(path)}: {size} is not divisible by {parts} ({axis}); replicated instead")
                axis = None
            axes.append(axis)
        return NamedSharding(mesh, PartitionSpec(*axes))

    return abstract, jax.tree_util.tree_map_with_path(fit, abstract, wanted)


def sharded_further(abstract: Any, shardings: Any, note: Callable[[str], None] = lambda text: None) -> Any:
    """Shardings of each array over the data and fsdp devices that would otherwise hold replicas of it.

    An array is sharded along its largest unsharded axis that these devices divide (ZeRO, Rajbhandari et al. 2020).

    Args:
      abstract: a tree of shapes.
      shardings: current shardings of its leaves.
      note: gets a line about large arrays without such an axis, which keep their sharding.
    """
    kept: dict[tuple[int, ...], int] = {}  # Devices by shape: moments come in pairs, which are reported once.

    def sharded(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> NamedSharding:
        spec = [*sharding.spec, *[None] * (leaf.ndim - len(sharding.spec))]
        used = {name for axis in spec for name in mesh_axes(axis)}
        free = tuple(name for name in ("data", "fsdp") if name not in used and sharding.mesh.shape[name] > 1)
        parts = math.prod(sharding.mesh.shape[name] for name in free)
        fitting = [axis for axis in range(leaf.ndim) if spec[axis] is None and leaf.shape[axis] % parts == 0]
        if parts == 1:
            return sharding
        if not fitting:
            if leaf.size * leaf.dtype.itemsize >= _LARGE:
                kept[leaf.shape] = parts
            return sharding
        spec[max(fitting, key=lambda axis: leaf.shape[axis])] = free
        return NamedSharding(sharding.mesh, PartitionSpec(*spec))

    result = jax.tree.map(sharded, abstract, shardings)
    if kept:
        shapes = ", ".join(f"{list(shape)} by {parts}" for shape, parts in kept.items())
        note(f"config.mesh.shard_optimizer: moments without an evenly divisible axis are not sharded further: {shapes}")
    return result


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: rows over the data and fsdp axes."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """The global batch, a tree of arrays, from this process's rows."""
    return jax.make_array_from_process_local_data(batch_sharding(mesh), batch)


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds completely."""
    return NamedSharding(mesh, PartitionSpec())
