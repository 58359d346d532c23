"""What each optimisation of a layer gains on a TPU, modelled by its compiler: one layer, forward and backward, with one
of them taken out at a time.

  ./launch/test.sh --tpu_compiler --collect-only   # brings the TPU compiler along, once
  PYTHONPATH=.venv/tpu_compiler python -m benchmarks.tpu_layer --rows=64 --length=128

Nothing is measured: cycles are the compiler's estimates, and a kernel's what it declares.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from absl import app, flags

_ROWS = flags.DEFINE_integer("rows", 64, "Rows on the chip.")
_LENGTH = flags.DEFINE_integer("length", 128, "Tokens in a row.")
_WIDTH = flags.DEFINE_integer("width", 768, "Width of the layer: 768 for ELECTRA-Base, 1024 for Large.")
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "The TPU; one of its chips is compiled for.")


def _without() -> dict[str, Callable[[], contextlib.AbstractContextManager]]:
    """The layer as it is, and with a usual way in place of one of ours."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    from electra_jax.models import attention, attention_kernel, encoder, layers

    def flax_layer_norm(epsilon: float, dtype: jnp.dtype, name: str | None = None) -> nn.LayerNorm:
        return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)

    def plain_bias(inputs: jax.Array, bias: jax.Array) -> jax.Array:
        return inputs + bias.astype(inputs.dtype)

    @contextlib.contextmanager
    def all_usual() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for usual in (gelu(), norm(), bias(), plain()):
                stack.enter_context(usual)
            yield

    def gelu() -> contextlib.AbstractContextManager:
        return mock.patch.object(encoder, "gelu", lambda inputs: nn.gelu(inputs, approximate=False))

    def norm() -> contextlib.AbstractContextManager:
        return mock.patch.object(encoder, "layer_norm", flax_layer_norm)

    def bias() -> contextlib.AbstractContextManager:
        patches = (
            mock.patch.object(layers, "add_bias", plain_bias),
            mock.patch.object(attention, "add_bias", plain_bias),
        )
        stack = contextlib.ExitStack()
        for patch in patches:
            stack.enter_context(patch)
        return stack

    def plain() -> contextlib.AbstractContextManager:
        return mock.patch.object(attention_kernel, "fits", return_value=False)

    return {
        "as it is": contextlib.nullcontext,
        "jax.nn.gelu in place of erf": gelu,
        "flax.linen.LayerNorm in place of ours": norm,
        "sums over rows for gradients of biases": bias,
        "plain attention in place of the kernel": plain,
        "all of these": all_usual,
    }


def main(_: list[str]) -> None:
    """Prints a line for each way."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from electra_jax.models import flops
    from electra_jax.models.encoder import EncoderConfig, Layer
    from electra_jax.tpu_planning.program import read_costs
    from electra_jax.tpu_planning.topologies import make_slice

    slice_ = make_slice(_TOPOLOGY.value)
    chip, place = slice_.chip, SingleDeviceSharding(slice_.devices[0])
    rows, length, width = _ROWS.value, _LENGTH.value, _WIDTH.value
    config = EncoderConfig(
        30522, width, width, 1, width // 64, 4 * width, length, attention="fused", dtype=jnp.dtype(jnp.bfloat16)
    )
    plain = Layer(dataclasses.replace(config, attention="plain"))

    def placed(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)

    hidden = jax.ShapeDtypeStruct((rows, length, width), jnp.bfloat16)
    ids = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(lambda key, *inputs: nn.unbox(plain.init(key, *inputs, True)), key, hidden, ids)

    def both_ways(params: dict, hidden: jax.Array, ids: jax.Array, key: jax.Array, gradient: jax.Array) -> tuple:
        def forward(params: dict, hidden: jax.Array) -> jax.Array:
            return jnp.asarray(Layer(config).apply(params, hidden, ids, False, rngs={"dropout": key}))

        outputs, backward = jax.vjp(forward, params, hidden)
        return outputs, backward(gradient)

    useful = 3 * rows * flops.encoder_flops(config, length) / chip.peak_flops * chip.clock
    for name, context in _without().items():
        with context():
            lowered = jax.jit(lambda *inputs: both_ways(*inputs)).lower(*placed((params, hidden, ids, key, hidden)))
            costs = read_costs(lowered.compile().as_text() or "", chip)
        print(f"{costs.cycles / 1e6:6.2f} M cycles  {useful / costs.cycles:6.1%} of peak  {name}", flush=True)


if __name__ == "__main__":
    app.run(main)
