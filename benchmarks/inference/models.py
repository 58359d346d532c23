"""Models with random weights for the benchmarks: the time does not depend on the weights."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np

from electra_jax.interop.model import Model, TaskHead
from electra_jax.models.electra import Electra
from electra_jax.models.encoder import EncoderConfig
from electra_jax.text.tokenizers.tokenizer import Tokenizer

VOCABULARY = 30_522
SIZES = {
    "small": EncoderConfig(VOCABULARY, 128, 256, 12, 4, 1024, 512),
    "base": EncoderConfig(VOCABULARY, 768, 768, 12, 12, 3072, 512),
}
_SCALE = 0.02  # The initial standard deviation of the paper's weights.


def discriminator(size: str, tokenizer: Tokenizer | None = None) -> Model:
    """A discriminator with its head, of one of `SIZES`; with a tokenizer, of its vocabulary."""
    config = SIZES[size]
    if tokenizer:
        config = dataclasses.replace(config, vocabulary_size=tokenizer.vocabulary_size)
    row = jax.ShapeDtypeStruct((1, 8), np.int32)
    narrow = dataclasses.replace(config.scaled(1 / 4), layers=1)
    shapes = nn.unbox(jax.eval_shape(Electra(config, narrow).init, jax.random.key(0), row, row, row, row)["params"])
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: _SCALE * draw.standard_normal(leaf.shape, np.float32), shapes)
    parts = {name: params[name] for name in ("embeddings", "discriminator", "discriminator_head")}
    return Model(config, None, parts, tokenizer=tokenizer, step=None, origin="random weights")


def classifier(size: str, tokenizer: Tokenizer) -> Model:
    """The same encoder with a head for two classes."""
    encoder = discriminator(size, tokenizer)
    width = SIZES[size].hidden_size
    draw = np.random.default_rng(1)
    shapes = {
        "dense.weight": (width, width),
        "dense.bias": (width,),
        "out_proj.weight": (2, width),
        "out_proj.bias": (2,),
    }
    tensors = {f"classifier.{name}": _SCALE * draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    labels = {"id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1}}
    head = TaskHead("ElectraForSequenceClassification", tensors, labels)
    params = {name: encoder.params[name] for name in ("embeddings", "discriminator")}
    return dataclasses.replace(encoder, params=params, task_head=head)
