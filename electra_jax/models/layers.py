"""The small parts that every network here is made of, and the two legends of the house.

Axis letters, used as suffixes of array names and as letters in einsum equations:

    B rows · L positions · M masked slots · D model width · E embedding width · H heads · K width of one head
    F feed-forward width · V vocabulary · N layers · T token types

Logical axis names of parameters and activations, mapped to mesh axes by one table in `training/partitioning.py`:

    embed, mlp, heads, kv, vocab, layers, table   axes of weights (`table`: rows of a position or token-type table)
    batch, length, embed_act                      axes of activations
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]

# Encoder kernels and tables are truncated normals (Google's `create_initializer`); three kernels keep TensorFlow's
# default, which is this.
glorot_uniform = nn.initializers.glorot_uniform()


def constrain_hidden(hidden_BxLxD: jax.Array) -> jax.Array:
    """Tells the partitioner how hidden states lie on the mesh; without a mesh it does nothing."""
    return nn.with_logical_constraint(hidden_BxLxD, ("batch", "length", "embed_act"))


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

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Returns the projected inputs, in `dtype`."""
        kernel = self.param(
            "kernel", nn.with_logical_partitioning(self.kernel_init, self.kernel_axes), self.kernel_shape
        )
        bias = self.param(
            "bias",
            nn.with_logical_partitioning(nn.initializers.zeros, self.kernel_axes[-self.bias_axes :]),
            self.kernel_shape[-self.bias_axes :],
        )
        outputs = jnp.einsum(self.equation, inputs.astype(self.dtype), kernel.astype(self.dtype))
        return outputs + bias.astype(self.dtype)


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


def layer_norm(epsilon: float, dtype: jnp.dtype, name: str | None = None) -> nn.LayerNorm:
    """LayerNorm over the last axis, statistics in float32.

    Two-pass variance: with ELECTRA's epsilon of 1e-12, E[x²] - E[x]² would lose the small variances to rounding.
    """
    return nn.LayerNorm(
        epsilon=epsilon,
        dtype=dtype,
        use_fast_variance=False,
        scale_init=nn.with_logical_partitioning(nn.initializers.ones, (None,)),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
        name=name,
    )


def gelu(inputs: jax.Array) -> jax.Array:
    """The exact erf form, as in BERT; not the tanh approximation that JAX has as default."""
    return nn.gelu(inputs, approximate=False)


def dropout_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Random bits for dropout, uint32: the element's index, scrambled with the key.

    MurmurHash3's finaliser (Appleby 2011), the key entering twice. A tenth of the work of JAX's threefry, which takes
    three quarters of a step's compile time on CPU; good enough to choose what to drop, and nothing
    else. Element by element, so that any sharding gives the same bits.
    """
    key_words = jax.random.key_data(key)
    index = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):
        index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    # The row enters once more, since the index of a large batch's attention weights goes past 2^32.
    row = jax.lax.broadcasted_iota(jnp.uint32, shape, 0) * jnp.uint32(0x9E3779B9)
    bits = index * jnp.uint32(0x9E3779B9) + key_words[0]
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13) ^ (key_words[1] + row)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


class Dropout(nn.Module):
    """Zeroes a share of its input and scales the rest, so that the expectation stays."""

    rate: float

    @nn.compact
    def __call__(self, inputs: jax.Array, *, deterministic: bool) -> jax.Array:
        """Returns `inputs` with dropout, or as they are if `deterministic` or the rate is 0."""
        if deterministic or self.rate == 0.0:
            return inputs
        dropped = dropout_bits(self.make_rng("dropout"), inputs.shape) < jnp.uint32(round(self.rate * 2**32))
        return jnp.where(dropped, jnp.zeros_like(inputs), inputs / jnp.asarray(1.0 - self.rate, inputs.dtype))
