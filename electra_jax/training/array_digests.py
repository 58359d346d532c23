"""Digests of arrays: 32 bits that follow from the elements and their positions, and from nothing else.

A digest is a sum over the elements, computed where they are: neither the sharding nor the number of devices and
processes changes it. An array that was saved on one mesh is verified on another, all the way to its devices.
A single wrong element always changes the digest, any other damage with a probability of 1 - 2^-32.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

# The finalizer of MurmurHash3 (Appleby, public domain): each bit of the input affects each bit of the output.
_FIRST_FACTOR, _SECOND_FACTOR = 0x85EBCA6B, 0xC2B2AE35
_POSITION_FACTOR = 0x9E3779B9  # 2^32 / golden ratio: neighbouring positions lie far apart.


def names_of(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by name, such as "params/encoder/kernel", in the tree's order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def digests(tree: Any) -> dict[str, int]:
    """The digest of each leaf, by name; every process of a run must call it, and all get the same.

    Args:
      tree: arrays of JAX or NumPy, of 1, 2 or 4 bytes an element.
    """
    # One program at a time, and none next to the training step: the threads of CPU devices are few, and programs whose
    # collectives wait for each other's threads never end.
    named = names_of(jax.block_until_ready(tree))
    return {name: int(jax.device_get(_digest_of(leaf))) for name, leaf in named.items()}


def _digest_of(leaf: Any) -> jax.typing.ArrayLike:
    if isinstance(leaf, np.ndarray) and leaf.dtype.itemsize <= 4:
        return _host_digest(leaf)
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding):
        return _replicated_digest(NamedSharding(sharding.mesh, PartitionSpec()))(leaf)
    return _local_digest(leaf)


@functools.cache
def _replicated_digest(sharding: NamedSharding) -> Any:
    """The digest of an array on a mesh, the same in each of its processes."""
    return jax.jit(_digest, out_shardings=sharding)


def _digest(leaf: jax.Array) -> jax.Array:
    mixed = _bits(leaf) + _positions(leaf.shape) * jnp.uint32(_POSITION_FACTOR)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(_FIRST_FACTOR)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(_SECOND_FACTOR)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)


_local_digest = jax.jit(_digest)


def _host_digest(leaf: np.ndarray) -> np.uint32:
    """The digest of an array in memory; compiles nothing, so that a model is read at once."""
    contiguous = np.ascontiguousarray(leaf).reshape(-1)
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32}[leaf.dtype.itemsize]
    positions = np.arange(leaf.size, dtype=np.uint64).astype(np.uint32)
    mixed = contiguous.view(unsigned).astype(np.uint32) + positions * np.uint32(_POSITION_FACTOR)
    mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(_FIRST_FACTOR)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(_SECOND_FACTOR)
    return np.sum(mixed ^ (mixed >> np.uint32(16)), dtype=np.uint32)


def _bits(leaf: jax.Array) -> jax.Array:
    """The elements' bits as uint32: NaNs and signs of zero count, too."""
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _positions(shape: tuple[int, ...]) -> jax.Array:
    """Each element's number in row-major order, modulo 2^32; no reshape, which would move sharded elements."""
    numbers = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):
        numbers = numbers * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return numbers
