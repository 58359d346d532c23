"""Which rows of the global batch are being worked on, so that a row's draws do not depend on how the batch is cut; and
the hash behind draws that must cost little.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Part(NamedTuple):
    """Of a batch in `count` equal parts, the one with the rows `number`, `number` + `count`, `number` + 2 · `count`, …

    Attributes:
      number: int32, from 0; may be traced.
      count: 1 for the whole batch.
    """

    number: jax.Array | int
    count: int


_PART: contextvars.ContextVar[Part | None] = contextvars.ContextVar("part", default=None)


@contextlib.contextmanager
def part_of_batch(number: jax.Array | int, count: int) -> Iterator[None]:
    """While this is in force, what is traced draws for the rows of one `Part`."""
    token = _PART.set(Part(number, count))
    try:
        yield
    finally:
        _PART.reset(token)


def part() -> Part:
    """The one that is in force, or the whole batch."""
    return _PART.get() or Part(0, 1)


def row_numbers(shape: tuple[int, ...]) -> jax.Array:
    """The place in the whole batch of each element's row, uint32 of `shape`, whose first axis is the part's rows."""
    number, count = part()
    rows = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    return rows if count == 1 else rows * jnp.uint32(count) + jnp.asarray(number, jnp.uint32)


def drawn(draw: Callable[[tuple[int, ...]], jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """What `draw` says of the part's rows when it draws for the whole batch; `shape` is the part's, rows first.

    Draws are cheap beside a model, and element by element, so that compilers make but what is picked out.
    """
    number, count = part()
    if count == 1:
        return draw(shape)
    whole = draw((shape[0] * count, *shape[1:])).reshape(shape[0], count, *shape[1:])
    return jax.lax.dynamic_index_in_dim(whole, number, axis=1, keepdims=False)


def scrambled(bits: jax.Array) -> jax.Array:
    """A hash of uint32, each bit of which depends on all bits: MurmurHash3's finaliser (Appleby 2011)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
