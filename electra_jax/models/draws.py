"""Draws of a microbatch, which are those of its rows in the whole batch; and a hash for draws that must cost little."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Microbatch(NamedTuple):
    """Which rows of a batch are worked on: `number`, `number` + `total`, `number` + 2 · `total`, …

    Attributes:
      number: int32, from 0; may be traced.
      total: microbatches in the batch; 1 for the whole batch.
    """

    number: jax.Array | int
    total: int


WHOLE_BATCH = Microbatch(0, 1)


def row_numbers(shape: tuple[int, ...], microbatch: Microbatch) -> jax.Array:
    """The place in the whole batch of each element's row, uint32 of `shape`, the microbatch's rows first."""
    number, total = microbatch
    rows = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    return rows if total == 1 else rows * jnp.uint32(total) + jnp.asarray(number, jnp.uint32)


def drawn(
    draw: Callable[[tuple[int, ...]], jax.Array], shape: tuple[int, ...], microbatch: Microbatch = WHOLE_BATCH
) -> jax.Array:
    """What `draw` returns for the microbatch's rows when it draws for the whole batch.

    Draws are cheap beside a model, and element by element, so that compilers make only those that are picked out.

    Args:
      draw: takes the shape of the whole batch's draws, rows first.
      shape: of the microbatch's draws, rows first.
      microbatch: the rows.
    """
    number, total = microbatch
    if total == 1:
        return draw(shape)
    whole = draw((shape[0] * total, *shape[1:])).reshape(shape[0], total, *shape[1:])
    return jax.lax.dynamic_index_in_dim(whole, number, axis=1, keepdims=False)


def scrambled(bits: jax.Array) -> jax.Array:
    """A hash of uint32, each bit of which depends on all bits: MurmurHash3's finaliser (Appleby 2011)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
