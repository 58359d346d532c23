"""Attention for TPUs as one Pallas kernel: scores, softmax and dropout never leave the chip's fast memory (VMEM).

Rows of up to some hundred positions fit completely, so the softmax is the plain one, not an online one; the backward
pass computes the scores again from the queries and keys. Heads that share a vector register's 128 lanes are separated
by zeroing the lanes of the others: the matrix unit is 128 wide, so the zeros cost nothing, while shifting lanes would.

Dropout draws the same bits as `layers.dropout_bits`, so that every implementation of attention drops the same weights.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from electra_jax.models.layers import dropout_bits_at, dropout_threshold

LANES = 128
MASKED = -1e9  # Score of a position that is not attended to.
_FAST_MEMORY = 100 * 2**20  # Bytes that a kernel may use of a core's fast memory.
_LONGEST = 1024  # Positions; float32 scores of one head then take 4 MiB, of which the backward pass needs several.
_ROW_POSITIONS = 512  # Positions in one step of the grid, at least: it takes several shorter rows at once.


@dataclasses.dataclass(frozen=True)
class KernelSettings:
    """Static settings of the kernel.

    Attributes:
      heads: heads of the complete model, as dropout's draws count them.
      interpret: runs in JAX's interpreter, on any device, for tests.
    """

    heads: int
    head_size: int
    dropout_rate: float
    interpret: bool = False


def heads_in_group(heads: int, head_size: int) -> int:
    """Heads that share a register: as many as fill its lanes, or all if they do not fill them."""
    return min(heads, max(1, LANES // head_size))


def fits(heads: int, head_size: int, length: int) -> bool:
    """Whether heads fill registers evenly, and a row's scores fit into fast memory."""
    even = LANES % head_size == 0 and heads % heads_in_group(heads, head_size) == 0
    return even and length % LANES == 0 and length <= _LONGEST


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def fused_attention(
    settings: KernelSettings,
    projected_BxLxP: jax.Array,
    bias_P: jax.Array,
    document_ids_BxL: jax.Array,
    draws: jax.Array,
) -> jax.Array:
    """Attention within documents, with dropout, from queries, keys and values in one array.

    Args:
      settings: static settings.
      projected_BxLxP: queries, keys and values of each group of `heads_in_group` heads, group by group.
      bias_P: float32, added to them here: its gradient then is a by-product.
      document_ids_BxL: int32, 0 on padding.
      draws: int32 [5]: the two words of dropout's key; the numbers of the first row and the first head in the full
        batch, which differ between the devices of a mesh; and the distance between rows in the full batch.

    Returns:
      The attended values, [B, L, H·K], in the input's dtype.
    """
    return _forward(settings, projected_BxLxP, bias_P, document_ids_BxL, draws)[0]


def _forward(
    settings: KernelSettings,
    projected_BxLxP: jax.Array,
    bias_P: jax.Array,
    document_ids_BxL: jax.Array,
    draws: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    call = _Call.of(settings, projected_BxLxP)
    output = jax.ShapeDtypeStruct((call.rows, call.length, call.width), projected_BxLxP.dtype)
    attended = call.run(_attention_forward, 4, [output], draws, bias_P, document_ids_BxL, projected_BxLxP)[0]
    return attended, (projected_BxLxP, bias_P, document_ids_BxL, draws)


def _backward(settings: KernelSettings, saved: tuple[jax.Array, ...], gradient_BxLxHK: jax.Array) -> tuple:
    projected_BxLxP, bias_P, document_ids_BxL, draws = saved
    call = _Call.of(settings, projected_BxLxP)
    outputs = [
        jax.ShapeDtypeStruct(projected_BxLxP.shape, projected_BxLxP.dtype),
        jax.ShapeDtypeStruct((call.turns, 1, 3 * call.width), jnp.float32),
    ]
    to_projected, to_bias = call.run(
        _attention_backward, 10, outputs, draws, bias_P, document_ids_BxL, projected_BxLxP, gradient_BxLxHK
    )
    nothing = [np.zeros(array.shape, jax.dtypes.float0) for array in (document_ids_BxL, draws)]
    return to_projected, jnp.sum(to_bias, axis=(0, 1)), *nothing


fused_attention.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True)
class _Call:
    """Sizes of one call; rows and width are this device's."""

    settings: KernelSettings
    rows: int
    length: int
    width: int

    @classmethod
    def of(cls, settings: KernelSettings, projected_BxLxP: jax.Array) -> Self:
        """The sizes of a call on this array; see `fused_attention`."""
        rows, length, columns = projected_BxLxP.shape
        return cls(settings, rows, length, columns // 3)

    @property
    def rows_at_once(self) -> int:
        """Rows in one step of the grid."""
        return math.gcd(self.rows, max(1, _ROW_POSITIONS // self.length))

    @property
    def heads_in_group(self) -> int:
        """Heads that share a register."""
        return heads_in_group(self.settings.heads, self.settings.head_size)

    @property
    def lanes(self) -> int:
        """Lanes of one group of heads."""
        return self.heads_in_group * self.settings.head_size

    @property
    def turns(self) -> int:
        """Steps of the grid."""
        return self.rows // self.rows_at_once

    def run(
        self,
        kernel: Callable,
        products: int,
        outputs: list[jax.ShapeDtypeStruct],
        draws: jax.Array,
        bias_P: jax.Array,
        document_ids_BxL: jax.Array,
        *arrays: jax.Array,
    ) -> list[jax.Array]:
        """Runs a kernel over all rows.

        Args:
          kernel: `_attention_forward` or `_attention_backward`.
          products: operations of the kernel for each score and lane.
          outputs: shapes of its results.
          draws: see `fused_attention`.
          bias_P: see `fused_attention`.
          document_ids_BxL: see `fused_attention`.
          *arrays: its other inputs, rows first.
        """
        scores = self.rows * self.width // self.settings.head_size * self.length**2
        bias_1xP, ids_Bx1xL = bias_P[None, :], document_ids_BxL[:, None, :]

        moved: tuple[jax.Array | jax.ShapeDtypeStruct, ...] = (bias_1xP, ids_Bx1xL, *arrays, *outputs)

        def block(array: jax.Array | jax.ShapeDtypeStruct) -> pl.BlockSpec:
            return pl.BlockSpec((array.shape[0] // self.turns, *array.shape[1:]), lambda turn, draws: (turn, 0, 0))

        return pl.pallas_call(
            functools.partial(kernel, self),
            out_shape=outputs,
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=1,
                grid=(self.turns,),
                in_specs=[
                    pl.BlockSpec(bias_1xP.shape, lambda turn, draws: (0, 0)),
                    *(block(array) for array in (ids_Bx1xL, *arrays)),
                ],
                out_specs=[block(output) for output in outputs],
            ),
            compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), vmem_limit_bytes=_FAST_MEMORY),
            # Work of the matrix unit, zeroed lanes included: plans take the kernel's time from here.
            cost_estimate=pl.CostEstimate(
                flops=products * scores * self.lanes,
                bytes_accessed=sum(a.size * a.dtype.itemsize for a in moved),
                transcendentals=scores,
            ),
            interpret=self.settings.interpret,
            name=kernel.__name__.strip("_"),
        )(draws, bias_1xP, ids_Bx1xL, *arrays)

    def places(self, first: int) -> list:
        """Columns of the queries, keys and values of the group of heads whose output starts at lane `first`."""
        return [pl.ds(3 * first + part * self.lanes, self.lanes) for part in range(3)]

    def same_document(self, ids_1xL: jax.Array) -> jax.Array:
        """[L, L]: whether a query's position attends to a key's."""
        keys_LxL = jnp.broadcast_to(ids_1xL, (self.length, self.length))
        return (keys_LxL == keys_LxL.T) & (keys_LxL > 0)

    def own_lanes(self, array: jax.Array, head: int) -> jax.Array:
        """The array with the lanes of other heads zeroed; `head` counts within the lanes."""
        first, size = head * self.settings.head_size, self.settings.head_size
        lane = jax.lax.broadcasted_iota(jnp.int32, array.shape, 1)
        return jnp.where((lane >= first) & (lane < first + size), array, jnp.zeros_like(array))

    def weights(self, query: jax.Array, key: jax.Array, same_LxL: jax.Array) -> jax.Array:
        """Softmax of one head's scores, float32 [L, L]."""
        scores_LxL = _product(query, key, 1, 1) * self.settings.head_size**-0.5
        scores_LxL = jnp.where(same_LxL, scores_LxL, MASKED)
        weights_LxL = jnp.exp(scores_LxL - jnp.max(scores_LxL, axis=1, keepdims=True))
        return weights_LxL / jnp.sum(weights_LxL, axis=1, keepdims=True)

    def kept(self, draws: Any, row: jax.Array, head: int) -> jax.Array:
        """[L, L]: 1 / (1 - rate) where dropout keeps a weight, otherwise 0."""
        rate = self.settings.dropout_rate
        plane = (row * draws[4] + draws[2]) * self.settings.heads + draws[3] + head
        queries_Lx1 = plane * self.length + jax.lax.broadcasted_iota(jnp.int32, (self.length, 1), 0)
        keys_1xL = jax.lax.broadcasted_iota(jnp.int32, (1, self.length), 1)
        bits = dropout_bits_at(*(number.astype(jnp.uint32) for number in (queries_Lx1, keys_1xL, draws[0], draws[1])))
        # The vector unit has only signed comparisons, so both numbers are moved by half the range.
        moved = jax.lax.bitcast_convert_type(bits ^ jnp.uint32(2**31), jnp.int32)
        dropped = moved < jnp.int32(dropout_threshold(rate) - 2**31)
        return jnp.where(dropped, 0.0, 1.0 / (1.0 - rate))


def _product(left: jax.Array, right: jax.Array, left_axis: int, right_axis: int) -> jax.Array:
    return jax.lax.dot_general(
        left, right, (((left_axis,), (right_axis,)), ((), ())), preferred_element_type=jnp.float32
    )


def _attention_forward(call: _Call, draws: Any, bias: Any, ids: Any, projected: Any, attended: Any) -> None:
    first_row = pl.program_id(0) * call.rows_at_once

    def one_row(index: jax.Array, _: int) -> int:
        same_LxL = call.same_document(ids[index])
        for first in range(0, call.width, call.lanes):
            query, key, value = (
                projected[index, :, place] + bias[:, place].astype(projected.dtype) for place in call.places(first)
            )
            total = jnp.zeros((call.length, call.lanes), jnp.float32)
            for head in range(call.heads_in_group):
                weights_LxL = call.weights(call.own_lanes(query, head), key, same_LxL)
                if call.settings.dropout_rate:
                    weights_LxL *= call.kept(draws, first_row + index, first // call.settings.head_size + head)
                total += _product(weights_LxL.astype(value.dtype), call.own_lanes(value, head), 1, 0)
            attended[index, :, pl.ds(first, call.lanes)] = total.astype(attended.dtype)
        return 0

    jax.lax.fori_loop(0, call.rows_at_once, one_row, 0)


def _attention_backward(
    call: _Call, draws: Any, bias: Any, ids: Any, projected: Any, gradient: Any, to_projected: Any, to_bias: Any
) -> None:
    scale = call.settings.head_size**-0.5
    first_row = pl.program_id(0) * call.rows_at_once
    to_bias[...] = jnp.zeros(to_bias.shape, jnp.float32)

    def one_row(index: jax.Array, _: int) -> int:
        same_LxL = call.same_document(ids[index])
        for first in range(0, call.width, call.lanes):
            query, key, value = (
                projected[index, :, place] + bias[:, place].astype(projected.dtype) for place in call.places(first)
            )
            upper = gradient[index, :, pl.ds(first, call.lanes)]
            d_query, d_key, d_value = (jnp.zeros((call.length, call.lanes), jnp.float32) for _ in range(3))
            for head in range(call.heads_in_group):
                own_query, own_key, own_upper = (call.own_lanes(array, head) for array in (query, key, upper))
                weights_LxL = call.weights(own_query, key, same_LxL)
                d_weights_LxL = _product(own_upper, value, 1, 1)
                kept_LxL = weights_LxL
                if call.settings.dropout_rate:
                    kept = call.kept(draws, first_row + index, first // call.settings.head_size + head)
                    kept_LxL, d_weights_LxL = kept_LxL * kept, d_weights_LxL * kept
                d_value += _product(kept_LxL.astype(value.dtype), own_upper, 0, 0)
                mean = jnp.sum(weights_LxL * d_weights_LxL, axis=1, keepdims=True)
                d_scores_LxL = jnp.where(same_LxL, weights_LxL * (d_weights_LxL - mean) * scale, 0.0).astype(
                    query.dtype
                )
                d_query += _product(d_scores_LxL, own_key, 1, 0)
                d_key += _product(d_scores_LxL, own_query, 0, 0)
            for place, total in zip(call.places(first), (d_query, d_key, d_value), strict=True):
                to_projected[index, :, place] = total.astype(to_projected.dtype)
                to_bias[0, :, place] += jnp.sum(total, axis=0, keepdims=True)
        return 0

    jax.lax.fori_loop(0, call.rows_at_once, one_row, 0)
