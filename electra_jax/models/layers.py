"""Building blocks of all networks, and the legends of axis letters and logical axis names.

Axis letters, used as suffixes of array names and as letters in einsum equations:

    B rows · L positions · M masked slots · D model width · E embedding width · H heads · K width of one head
    F feed-forward width · V vocabulary · N layers · T token types

Logical axis names of parameters and activations, mapped to mesh axes by one table in `training/sharding_rules.py`:

    embed, mlp, heads, kv, vocab, layers, table   axes of weights (`table`: rows of a position or token-type table)
    batch, length, embed_act                      axes of activations
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import spmd

from electra_jax.models import draws
from electra_jax.models.draws import WHOLE_BATCH, Microbatch

Initializer = Callable[..., jax.Array]

# Odd numbers with half their bits set, which map neighbours far apart: 2^32 over the golden ratio, and a prime of
# xxHash (Collet 2012).
_GOLDEN, _PRIME = np.uint32(0x9E3779B9), np.uint32(0xC2B2AE3D)

# Encoder kernels and tables are truncated normals (Google's `create_initializer`); three kernels keep TensorFlow's
# default, this one.
glorot_uniform = nn.initializers.glorot_uniform()


def apply(model: nn.Module, params: Any, *inputs: Any, **options: Any) -> Any:
    """The outputs of `model.apply` alone: no collection of variables is mutable, so it returns nothing else."""
    return model.apply({"params": params}, *inputs, **options)


def parameter(
    module: nn.Module, name: str, initializer: Initializer, shape: tuple[int, ...], axes: tuple[str | None, ...]
) -> jax.Array:
    """A parameter of a module, in its initial state boxed with the logical names of its axes."""
    boxed: Callable[..., Any] = nn.with_logical_partitioning(initializer, axes)  # `param` unboxes what it returns.
    return module.param(name, boxed, shape)


def constrain_hidden(hidden_BxLxD: jax.Array) -> jax.Array:
    """Constrains the sharding of hidden states; without a mesh it does nothing."""
    return spmd.with_logical_constraint(hidden_BxLxD, ("batch", "length", "embed_act"))


def mesh_axes(logical_axis: str, size: int) -> tuple[str, ...]:
    """The mesh axes over which a logical axis is sharded, if they divide its size; none without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    specification = spmd.logical_to_mesh_axes((logical_axis,))
    axes = () if specification is None else specification[0] or ()
    axes = (axes,) if isinstance(axes, str) else tuple(axes)
    parts = math.prod(mesh.shape.get(axis, 1) for axis in axes) if not mesh.empty else 1
    return axes if parts > 1 and size % parts == 0 else ()


@jax.custom_vjp
def add_bias(inputs: jax.Array, bias: jax.Array) -> jax.Array:
    """The sum of both, the bias broadcast over the leading axes; an accelerator's matrix unit sums up its gradient."""
    return inputs + bias.astype(inputs.dtype)


def _bias_gradient(bias: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    leading = tuple(range(gradient.ndim - bias.ndim))

    def by_product(gradient: jax.Array) -> jax.Array:
        dimensions = ((leading, leading), ((), ()))
        ones = jnp.ones(gradient.shape[: len(leading)], gradient.dtype)
        return jax.lax.dot_general(ones, gradient, dimensions, preferred_element_type=jnp.float32)

    def by_sum(gradient: jax.Array) -> jax.Array:
        gradient = gradient.astype(jnp.float32)
        if bias.size == 1:
            # A long sum of terms that mostly have one sign loses three bits, so rows are summed up first. The barrier
            # keeps the compiler from joining the two sums.
            gradient = jax.lax.optimization_barrier(gradient.sum(leading[1:], keepdims=True))
        return gradient.sum(leading)

    # On a CPU, such a product takes a quarter of a layer's time.
    return gradient, jax.lax.platform_dependent(gradient, cpu=by_sum, default=by_product)


add_bias.defvjp(lambda inputs, bias: (add_bias(inputs, bias), bias), _bias_gradient)


class Projection(nn.Module):
    """A linear map between named axes, written as one einsum.

    Flax's DenseGeneral flattens its kernel at initialisation, which breaks logical axis names of rank three,
    so the kernel keeps its full rank here.

    Attributes:
      equation: einsum of (input, kernel), for example "bld,dhk->blhk".
      kernel_shape: sizes of the kernel's axes.
      kernel_axes: logical names of the kernel's axes.
      kernel_init: initialiser of the kernel; the bias starts at zero.
      bias_axes: how many trailing kernel axes the bias covers.
    """

    equation: str
    kernel_shape: tuple[int, ...]
    kernel_axes: tuple[str | None, ...]
    kernel_init: Initializer
    bias_axes: int = 1
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        """Makes kernel and bias."""
        self.kernel = parameter(self, "kernel", self.kernel_init, self.kernel_shape, self.kernel_axes)
        bias_shape, bias_axes = self.kernel_shape[-self.bias_axes :], self.kernel_axes[-self.bias_axes :]
        self.bias = parameter(self, "bias", nn.initializers.zeros, bias_shape, bias_axes)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Returns the projected inputs, in `dtype`."""
        kernel, bias = self.weights()
        return add_bias(jnp.einsum(self.equation, inputs.astype(self.dtype), kernel), bias)

    def weights(self) -> tuple[jax.Array, jax.Array]:
        """The kernel in `dtype` and the bias in float32, for callers that join several projections into one."""
        return self.kernel.astype(self.dtype), self.bias


def dense(
    features_in: int,
    features_out: int,
    axes: tuple[str | None, str | None],
    kernel_init: Initializer,
    dtype: jnp.dtype,
    name: str,
) -> Projection:
    """A `Projection` of the last axis of a [B, L, features] array."""
    return Projection("bli,io->blo", (features_in, features_out), axes, kernel_init, dtype=dtype, name=name)


class LayerNorm(nn.Module):
    """Normalisation of the last axis (Ba et al. 2016), statistics in float32; parameters have Flax's names."""

    epsilon: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Returns the normalised inputs, in `dtype`."""
        shape = inputs.shape[-1:]
        scale = parameter(self, "scale", nn.initializers.ones, shape, (None,))
        bias = parameter(self, "bias", nn.initializers.zeros, shape, (None,))
        return normalise(self.epsilon, inputs, scale, bias).astype(self.dtype)


def layer_norm(epsilon: float, dtype: jnp.dtype, name: str | None = None) -> LayerNorm:
    """The `LayerNorm` of an encoder."""
    return LayerNorm(epsilon, dtype, name=name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalise(epsilon: float, inputs: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Layer normalisation, float32 of the inputs' shape.

    The gradient is written out: it needs two sums over a row, where the derived one has three in sequence.
    """
    return _normalise(epsilon, inputs, scale, bias)[0]


def _normalise(epsilon: float, inputs: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, tuple]:
    wide = inputs.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    if inputs.dtype == jnp.bfloat16:
        # Both sums in one pass: E[x²] - E[x]² loses far less to rounding than the inputs did.
        variance = jnp.maximum(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) - jnp.square(mean), 0.0)
    else:
        # In two passes: with ELECTRA's epsilon of 1e-12, the difference of squares would lose small variances.
        variance = jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True)
    rate = jax.lax.rsqrt(variance + epsilon)
    return (wide - mean) * rate * scale + bias, (inputs, mean, rate, scale)


def _normalise_backward(epsilon: float, saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    del epsilon
    inputs, mean, rate, scale = saved
    normal = (inputs.astype(jnp.float32) - mean) * rate
    rows = tuple(range(gradient.ndim - 1))
    scaled = gradient * scale
    along, level = (jnp.mean(x, axis=-1, keepdims=True) for x in (scaled * normal, scaled))
    to_inputs = (rate * (scaled - level - normal * along)).astype(inputs.dtype)
    return to_inputs, jnp.sum(gradient * normal, axis=rows), jnp.sum(gradient, axis=rows)


normalise.defvjp(_normalise, _normalise_backward)


def gelu(inputs: jax.Array) -> jax.Array:
    """GELU in its exact form, as in BERT, not JAX's default tanh approximation.

    Written with erf as in Google's code: `jax.nn.gelu` has erfc, which takes a TPU twice as long as the product that
    precedes it.
    """
    wide = inputs.astype(jnp.float32)
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * np.float32(2**-0.5)))).astype(inputs.dtype)


def dropout_bits(key: jax.Array, shape: tuple[int, ...], microbatch: Microbatch = WHOLE_BATCH) -> jax.Array:
    """Random bits for dropout, uint32, from the element's index in the full batch and the key.

    JAX's threefry takes three quarters of a step's compile time on CPU, and its operations on each element are most of
    what dropout costs. Here rows (all but the last axis) and columns are hashed separately, which leaves little to do
    for each element. Good enough to choose what to drop, and for nothing else. Bits follow from the index, so that any
    sharding gives the same ones.
    """
    key_words = jax.random.key_data(key)
    rows = draws.row_numbers((*shape[:-1], 1), microbatch)
    for axis, size in list(enumerate(shape[:-1]))[1:]:
        rows = rows * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, rows.shape, axis)
    columns = jax.lax.broadcasted_iota(jnp.uint32, (1,) * (len(shape) - 1) + shape[-1:], len(shape) - 1)
    return dropout_bits_at(rows, columns, key_words[0], key_words[1])


def dropout_bits_at(rows: jax.Array, columns: jax.Array, first_word: jax.Array, second_word: jax.Array) -> jax.Array:
    """The bits of `dropout_bits` at given indices, all uint32.

    Args:
      rows: row numbers; broadcast against `columns`.
      columns: indices along the last axis.
      first_word: first word of the key.
      second_word: second word of the key.
    """
    # Two factors, so that rows and columns differ where the words are equal, as those of `key(0)` are.
    bits = draws.scrambled(rows * _GOLDEN + first_word) + draws.scrambled(columns * _PRIME + second_word)
    # Sums of row and column hashes depend on each other in fours; part of the finaliser breaks that up.
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA6B)
    return bits ^ (bits >> 13)


def dropout_threshold(rate: float) -> int:
    """The number below which the bits of dropped elements lie."""
    return round(rate * 2**32)


class Dropout(nn.Module):
    """Zeroes a share of its input and scales the rest, which keeps the expectation."""

    rate: float

    @nn.compact
    def __call__(self, inputs: jax.Array, *, deterministic: bool, microbatch: Microbatch = WHOLE_BATCH) -> jax.Array:
        """Returns `inputs` with dropout, or unchanged if `deterministic` or the rate is 0."""
        if deterministic or self.rate == 0.0:
            return inputs
        dropped = dropout_bits(self.key(), inputs.shape, microbatch) < jnp.uint32(dropout_threshold(self.rate))
        scaled = (inputs.astype(jnp.float32) * np.float32(1.0 / (1.0 - self.rate))).astype(inputs.dtype)
        return jnp.where(dropped, jnp.zeros_like(inputs), scaled)

    def key(self) -> jax.Array:
        """The key of this call's draws, for kernels that apply dropout themselves."""
        return self.make_rng("dropout")
