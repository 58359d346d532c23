"""Random draws for a microbatch, equal to those for its rows in the full batch; and a hash for cheap draws."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Microbatch(NamedTuple):
    """Rows of a batch that are processed together: `number`, `number` + `total`, `number` + 2 · `total`, …

    Attributes:
      number: int32, from 0; may be traced.
      total: microbatches in the batch; 1 for the full batch.
    """

    number: jax.Array | int
    total: int


WHOLE_BATCH = Microbatch(0, 1)


def row_numbers(shape: tuple[int, ...], microbatch: Microbatch) -> jax.Array:
    """The index in the full batch of each element's row, uint32 of `shape`; axis 0 is the microbatch's rows."""
    number, total = microbatch
    rows = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    return rows if total == 1 else rows * jnp.uint32(total) + jnp.asarray(number, jnp.uint32)


def drawn(
    draw: Callable[[tuple[int, ...]], jax.Array], shape: tuple[int, ...], microbatch: Microbatch = WHOLE_BATCH
) -> jax.Array:
    """The microbatch's rows of what `draw` returns for the full batch.

    Draws are cheap compared with a model, and elementwise, so that compilers compute only the selected ones.

    Args:
      draw: takes the shape of the full batch's draws, rows first.
      shape: shape of the microbatch's draws, rows first.
      microbatch: the rows.
    """
    number, total = microbatch
    if total == 1:
        return draw(shape)
    full = draw((shape[0] * total, *shape[1:])).reshape(shape[0], total, *shape[1:])
    return jax.lax.dynamic_index_in_dim(full, number, axis=1, keepdims=False)


def scrambled(bits: jax.Array) -> jax.Array:
    """A hash of uint32, each bit of which depends on all bits: MurmurHash3's finaliser (Appleby 2011)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
