"""Self-attention over a batch of rows, in several implementations. Axis letters: see the legend in `layers.py`.

    plain    einsums and a softmax, compiled by XLA; any device, any sizes
    fused    our own kernel for TPUs (`attention_kernel.py`); with dropout
    splash   JAX's kernel for TPUs, for rows whose scores do not fit into fast memory; no dropout
    cudnn    NVIDIA's kernel; no dropout

All return the same values at every position that is not padding.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from electra_jax.errors import InputError
from electra_jax.models import attention_kernel
from electra_jax.models.draws import WHOLE_BATCH, Microbatch
from electra_jax.models.layers import Dropout, Initializer, Projection, mesh_axes, parameter

# Each with the platforms that it runs on.
IMPLEMENTATIONS = {"plain": ("cpu", "gpu", "tpu"), "fused": ("tpu",), "splash": ("tpu",), "cudnn": ("gpu",)}
_SPLASH_BLOCK = 128  # Positions; row lengths must be a multiple of it.


def choose_implementation(
    name: str,
    platform: str,
    heads: int,
    head_size: int,
    *,
    length: int | None,
    dropout_rate: float,
    bias: str,
) -> str:
    """The implementation that "auto" stands for, or `name` itself if it supports what the config asks for.

    "auto" never drops a feature of the config: dropout on attention rules out the kernels that have none.

    Args:
      name: `config.model.attention`.
      platform: "cpu", "gpu" or "tpu".
      heads: attention heads of the encoder.
      head_size: width of one head.
      length: tokens in each row; None if lengths vary. Rows that "fused" does not support then fall back to "plain".
      dropout_rate: dropout on attention weights.
      bias: `config.model.attention_bias`.

    Raises:
      InputError: `name` does not support it; the message says why.
    """

    def objections(candidate: str) -> list[str]:
        found = []
        if platform not in IMPLEMENTATIONS[candidate]:
            found.append(f"runs only on {' and '.join(IMPLEMENTATIONS[candidate])}, found {platform}")
        if candidate != "plain" and bias != "none":
            found.append(f"has no bias; set --config.model.attention_bias=none (is {bias})")
        if candidate in ("splash", "cudnn") and dropout_rate:
            found.append(
                f"has no dropout on attention; set --config.model.attention_dropout_rate=0 (is {dropout_rate}), "
                f"or another implementation"
            )
        if candidate == "fused" and not attention_kernel.fits(heads, head_size, length or attention_kernel.LANES):
            found.append(f"does not support {heads} heads of {head_size} or rows of {length} tokens")
        if candidate == "splash" and (length is None or length % _SPLASH_BLOCK):
            found.append(f"needs rows of one length, a multiple of {_SPLASH_BLOCK} tokens; found {length}")
        return found

    if name == "auto":
        return next(candidate for candidate in ("fused", "splash", "cudnn", "plain") if not objections(candidate))
    if problems := objections(name):
        raise InputError("\n".join(f"config.model.attention: {name} {problem}" for problem in problems))
    return name


def distance_decay(slopes_H: jax.Array, length: int) -> jax.Array:
    """Bias [H, L, L] that falls linearly with the distance between two positions, in both directions alike.

    Press et al. 2022 (ALiBi) without the sign of the distance, since an encoder is bidirectional.
    """
    positions_L = jnp.arange(length)
    distances_LxL = jnp.abs(positions_L[:, None] - positions_L[None, :]).astype(jnp.float32)
    return -slopes_H[:, None, None] * distances_LxL


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017), each position attending within its own document.

    Attributes:
      bias: "none" as in ELECTRA, or "distance_decay": a slope for each head, learned, starting at 1, 1/2, 1/4 …
        It lets a tiny model leave the word-frequency plateau within minutes; published checkpoints have none.
      implementation: a key of `IMPLEMENTATIONS`.
      interpret: runs kernels in JAX's interpreter, on any device, for tests.
    """

    heads: int
    head_size: int
    dropout_rate: float
    kernel_init: Initializer
    bias: str = "none"
    dtype: jnp.dtype = jnp.float32
    implementation: str = "plain"
    interpret: bool = False

    @nn.compact
    def __call__(
        self,
        hidden_BxLxD: jax.Array,
        document_ids_BxL: jax.Array,
        *,
        deterministic: bool,
        microbatch: Microbatch = WHOLE_BATCH,
    ) -> jax.Array:
        """Returns the attended values, float `dtype` of shape [B, L, D].

        Args:
          hidden_BxLxD: the layer's input.
          document_ids_BxL: int32, 0 on padding; positions attend only to positions with the same id.
          deterministic: no dropout if true; otherwise the "dropout" random stream is used.
          microbatch: which rows of the batch these are, for dropout.
        """
        width = hidden_BxLxD.shape[-1]
        to_heads = [
            Projection(
                equation="bld,dhk->blhk",
                kernel_shape=(width, self.heads, self.head_size),
                kernel_axes=("embed", "heads", "kv"),
                kernel_init=self.kernel_init,
                bias_axes=2,
                dtype=self.dtype,
                name=name,
            )
            for name in ("query", "key", "value")
        ]
        rate = 0.0 if deterministic else self.dropout_rate
        if self.implementation == "fused" and attention_kernel.fits(self.heads, self.head_size, hidden_BxLxD.shape[1]):
            attended_BxLxHxK = self._fused(hidden_BxLxD, to_heads, document_ids_BxL, rate, microbatch)
        else:
            query_BxLxHxK, key_BxLxHxK, value_BxLxHxK = (
                checkpoint_name(projection(hidden_BxLxD), "product") for projection in to_heads
            )
            if self.implementation == "splash":
                attended_BxLxHxK = _splash(query_BxLxHxK, key_BxLxHxK, value_BxLxHxK, document_ids_BxL, self.interpret)
            elif self.implementation == "cudnn":
                same_document_Bx1xLxL = _same_document(document_ids_BxL)
                attended_BxLxHxK = jax.nn.dot_product_attention(
                    query_BxLxHxK, key_BxLxHxK, value_BxLxHxK, mask=same_document_Bx1xLxL, implementation="cudnn"
                )
            else:
                attended_BxLxHxK = self._plain(
                    query_BxLxHxK, key_BxLxHxK, value_BxLxHxK, document_ids_BxL, rate, microbatch
                )
        return Projection(
            equation="blhk,hkd->bld",
            kernel_shape=(self.heads, self.head_size, width),
            kernel_axes=("heads", "kv", "embed"),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="output",
        )(checkpoint_name(attended_BxLxHxK, "product"))

    def _plain(
        self,
        query_BxLxHxK: jax.Array,
        key_BxLxHxK: jax.Array,
        value_BxLxHxK: jax.Array,
        document_ids_BxL: jax.Array,
        rate: float,
        microbatch: Microbatch,
    ) -> jax.Array:
        query_BxLxHxK = query_BxLxHxK * self.head_size**-0.5
        # Scores and softmax in float32: bfloat16 keeps only eight bits of a probability.
        scores_BxHxLxL = jnp.einsum("bqhk,bshk->bhqs", query_BxLxHxK, key_BxLxHxK, preferred_element_type=jnp.float32)
        if self.bias == "distance_decay":
            slopes_H = parameter(self, "slopes", _halving, (self.heads,), ("heads",))
            scores_BxHxLxL += distance_decay(slopes_H, document_ids_BxL.shape[1])
        scores_BxHxLxL = jnp.where(_same_document(document_ids_BxL), scores_BxHxLxL, attention_kernel.MASKED)
        weights_BxHxLxL = nn.softmax(scores_BxHxLxL).astype(self.dtype)
        weights_BxHxLxL = Dropout(rate)(weights_BxHxLxL, deterministic=False, microbatch=microbatch)
        return jnp.einsum("bhqs,bshk->bqhk", weights_BxHxLxL, value_BxLxHxK)

    def _fused(
        self,
        hidden_BxLxD: jax.Array,
        to_heads: list[Projection],
        document_ids_BxL: jax.Array,
        rate: float,
        microbatch: Microbatch,
    ) -> jax.Array:
        # One product for queries, keys and values: a TPU reads the input once, and sums up its gradient inside the
        # product; on CPU, three are faster. Groups of heads are contiguous, each with its queries, keys and values, so
        # that a mesh can shard them.
        width, heads_in_group = hidden_BxLxD.shape[-1], attention_kernel.heads_in_group(self.heads, self.head_size)
        group = heads_in_group * self.head_size
        kernels, biases = zip(*(projection.weights() for projection in to_heads), strict=True)
        kernel_DxP = jnp.stack([kernel.reshape(width, -1, group) for kernel in kernels], axis=2).reshape(width, -1)
        bias_P = jnp.stack([bias.reshape(-1, group) for bias in biases], axis=1).reshape(-1)
        projected_BxLxP = jnp.einsum("bld,dp->blp", hidden_BxLxD.astype(self.dtype), kernel_DxP)
        projected_BxLxP = checkpoint_name(projected_BxLxP, "product")

        settings = attention_kernel.KernelSettings(self.heads, self.head_size, rate, self.interpret)
        key_words = jax.random.key_data(Dropout(rate).key()) if rate else jnp.zeros(2, jnp.uint32)

        def attend(first_row: jax.Array | int, first_group: jax.Array | int, *arrays: jax.Array) -> jax.Array:
            projected_BxLxP, bias_P, document_ids_BxL, key_words, number = arrays
            words = jax.lax.bitcast_convert_type(key_words, jnp.int32)
            first_row = first_row * microbatch.total + number
            numbers = jnp.stack(
                [*words, jnp.int32(first_row), jnp.int32(first_group * heads_in_group), jnp.int32(microbatch.total)]
            )
            return attention_kernel.fused_attention(settings, projected_BxLxP, bias_P, document_ids_BxL, numbers)

        attended_BxLxHK = _on_each_device(
            attend,
            (projected_BxLxP, ("batch", None, "heads")),
            (bias_P, ("heads",)),
            (document_ids_BxL, ("batch",)),
            (key_words, ()),
            (jnp.int32(microbatch.number), ()),
            result=("batch", None, "heads"),
            groups=self.heads // heads_in_group,
        )
        return attended_BxLxHK.reshape(*document_ids_BxL.shape, self.heads, self.head_size)


def _same_document(document_ids_BxL: jax.Array) -> jax.Array:
    """[B, 1, L, L]: whether a position (third axis) attends to another (fourth axis)."""
    keys_Bx1x1xL = document_ids_BxL[:, None, None, :]
    return (document_ids_BxL[:, None, :, None] == keys_Bx1x1xL) & (keys_Bx1x1xL > 0)


def _splash(
    query_BxLxHxK: jax.Array,
    key_BxLxHxK: jax.Array,
    value_BxLxHxK: jax.Array,
    document_ids_BxL: jax.Array,
    interpret: bool,
) -> jax.Array:
    # Imported here: it is experimental, and most runs do not need it.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    _, length, heads, head_size = query_BxLxHxK.shape

    def attend(first_row: jax.Array | int, first_head: jax.Array | int, *arrays: jax.Array) -> jax.Array:
        del first_row, first_head
        query_BxLxHxK, key_BxLxHxK, value_BxLxHxK, document_ids_BxL = arrays
        everywhere = splash_attention_mask.FullMask((length, length))
        masks = splash_attention_mask.MultiHeadMask([everywhere] * arrays[0].shape[2])
        kernel = splash_attention_kernel.make_splash_mha_single_device(masks, interpret=interpret)

        def one_row(
            query_HxLxK: jax.Array, key_HxLxK: jax.Array, value_HxLxK: jax.Array, ids_L: jax.Array
        ) -> jax.Array:
            segments = splash_attention_kernel.SegmentIds(q=ids_L, kv=ids_L)
            return kernel(query_HxLxK * head_size**-0.5, key_HxLxK, value_HxLxK, segments)

        query_BxHxLxK, key_BxHxLxK, value_BxHxLxK = (
            jnp.swapaxes(array, 1, 2) for array in (query_BxLxHxK, key_BxLxHxK, value_BxLxHxK)
        )
        attended_BxHxLxK = jax.vmap(one_row)(query_BxHxLxK, key_BxHxLxK, value_BxHxLxK, document_ids_BxL)
        return jnp.swapaxes(attended_BxHxLxK, 1, 2)

    layout = ("batch", None, "heads")
    return _on_each_device(
        attend,
        (query_BxLxHxK, layout),
        (key_BxLxHxK, layout),
        (value_BxLxHxK, layout),
        (document_ids_BxL, ("batch",)),
        result=layout,
        groups=heads,
    )


def _on_each_device(
    attend: Callable, *placed: tuple[jax.Array, tuple[str | None, ...]], result: tuple[str | None, ...], groups: int
) -> jax.Array:
    """Calls a kernel, which XLA cannot partition, on each device's rows and groups of heads.

    Args:
      attend: takes the numbers of the first row and of the first group on a device, then its arrays.
      placed: arrays with the logical names of their axes; the first axis of the first array is the rows.
      result: logical names of the result's axes.
      groups: groups of heads; heads of one group must stay on one device.
    """
    axes: dict[str | None, tuple[str, ...]] = {
        "batch": mesh_axes("batch", placed[0][0].shape[0]),
        "heads": mesh_axes("heads", groups),
    }
    if not any(axes.values()):
        return attend(0, 0, *(array for array, _ in placed))
    rows, mesh = placed[0][0].shape[0], jax.sharding.get_abstract_mesh()

    def first(name: str, size: int) -> jax.Array | int:
        parts = math.prod(mesh.shape[axis] for axis in axes[name])
        return jax.lax.axis_index(axes[name]) * (size // parts) if axes[name] else 0

    def specification(names: tuple[str | None, ...]) -> PartitionSpec:
        return PartitionSpec(*(axes.get(name) or None for name in names))

    return jax.shard_map(
        lambda *arrays: attend(first("batch", rows), first("heads", groups), *arrays),
        in_specs=tuple(specification(names) for _, names in placed),
        out_specs=specification(result),
        check_vma=False,  # Kernels do not say over which axes their results differ.
    )(*(array for array, _ in placed))


def _halving(_: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    return 0.5 ** jnp.arange(shape[0], dtype=dtype)
