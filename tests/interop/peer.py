"""What the comparisons with transformers share: shapes, weights, rows, and the logits of both sides.

PyTorch and transformers are imported inside the functions that need them, so that the golden test runs without.
"""

from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from electra_jax.interop import huggingface
from electra_jax.models.electra import Electra
from electra_jax.models.encoder import EncoderConfig

GOLDEN = Path(__file__).parent.parent / "golden" / "huggingface.npz"

# Small, but every size is another one, the embeddings are projected, and the heads have more than one unit.
TINY = EncoderConfig(
    vocabulary_size=64,
    embedding_size=16,
    hidden_size=32,
    layers=2,
    heads=4,
    feed_forward_size=48,
    positions=24,
)
TINY_PAIR = TINY, TINY.scaled(1 / 2)  # Discriminator and generator, as everywhere here.


def heads(pair):
    """What `params_from_huggingface` has to be told."""
    config, generator_config = pair
    return dict(generator_heads=generator_config.heads, discriminator_heads=config.heads)


def rows(config, length, seed=0):
    """Tokens, segments and document ids, int32 [3, length]: a full row, a padded one, one of a single segment."""
    tokens = np.random.default_rng(seed).integers(5, config.vocabulary_size, (3, length), dtype=np.int32)
    positions = np.arange(length)
    real = positions < np.array([[length], [length - 3], [length // 2]])
    second = real & (positions >= np.array([[length // 3], [length // 2], [length]]))
    return tokens * real, second.astype(np.int32), real.astype(np.int32)


def random_params(pair, seed=0):
    """Weights for a (discriminator, generator) pair of configs, strong enough that no part is without effect.

    Fresh initial weights would not do: their biases are 0, their scales 1 and their attention nearly even.
    """
    config, generator_config = pair
    row = jax.ShapeDtypeStruct((1, 8), np.int32)
    shapes = nn.unbox(jax.eval_shape(Electra(*pair).init, jax.random.key(0), row, row, row, row)["params"])
    draw = np.random.default_rng(seed)

    def weights(path, leaf):
        noise = draw.standard_normal(leaf.shape, np.float32)
        match path[-1].key:
            case "bias":
                return 0.1 * noise
            case "scale":
                return 1 + 0.1 * noise
            case "kernel":
                width = generator_config.hidden_size if "generator" in path[0].key else config.hidden_size
                return noise / np.float32(width) ** 0.5
            case _:
                return 0.02 * noise

    return jax.tree_util.tree_map_with_path(weights, shapes)


def our_logits(pair, params, inputs):
    """The generator's logits at all positions, [B, L, V], and the discriminator's, [B, L]."""
    tokens_BxL = inputs[0]
    positions_BxL = np.broadcast_to(np.arange(tokens_BxL.shape[1]), tokens_BxL.shape)
    return tuple(map(np.asarray, jax.jit(Electra(*pair).apply)({"params": params}, *inputs, positions_BxL)))


def huggingface_models(pair, seed=0):
    """`ElectraForMaskedLM` and `ElectraForPreTraining` without dropout, as initialised plus noise of `random_params`' size."""
    import torch
    from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

    torch.manual_seed(seed)
    config, generator_config = (ElectraConfig(**huggingface.huggingface_config(config)) for config in pair)
    generator = ElectraForMaskedLM(generator_config).eval()
    discriminator = ElectraForPreTraining(config).eval()
    for model in generator, discriminator:
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn(parameter.shape)
            elif "embeddings." not in name:
                parameter.data += torch.randn(parameter.shape) / model.config.hidden_size**0.5
    discriminator.electra.embeddings.load_state_dict(generator.electra.embeddings.state_dict())
    return generator, discriminator


def get_state(model):
    """A model's state dict as arrays of its own."""
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def set_state(model, state):
    """Loads arrays; raises when a name or a shape is not the model's."""
    import torch

    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)


def huggingface_logits(models, inputs):
    """The same as `our_logits`, from a (generator, discriminator) pair of transformers' models."""
    import torch

    tokens, segments, real = (torch.from_numpy(array).long() for array in inputs)
    with torch.inference_mode():
        outputs = [model(input_ids=tokens, token_type_ids=segments, attention_mask=real) for model in models]
    return tuple(output.logits.numpy() for output in outputs)


def largest_difference(ours, theirs, inputs):
    """Over real tokens and both networks; what a network says of padding has no meaning."""
    real = inputs[2] > 0
    return max(float(np.abs(our[real] - their[real]).max()) for our, their in zip(ours, theirs, strict=True))


def load_golden():
    """The golden file: the two states, the inputs, and transformers' two logits."""
    with np.load(GOLDEN) as file:
        arrays = dict(file)

    def under(prefix):
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    inputs = tuple(arrays[name] for name in ("tokens", "segments", "document_ids"))
    logits = tuple(arrays[name] for name in ("generator_logits", "discriminator_logits"))
    return under("generator/"), under("discriminator/"), inputs, logits
