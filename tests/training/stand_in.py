"""A job small enough to compile in a second: predicts a token's parity from its embedding, with noise from the key."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.training.job import Work


@dataclasses.dataclass(frozen=True)
class ParityJob:
    name: str = "parity"
    batch_size: int = 8
    row_length: int = 4
    shown_scores: tuple = ("loss",)

    def batch_shapes(self):
        return [jax.ShapeDtypeStruct((self.batch_size, self.row_length), jnp.int32)]

    def work(self, batch):
        return Work(batch.size, 1.0)

    def facts(self, steps):
        return {}

    def init(self, key):
        kernel = nn.with_logical_partitioning(nn.initializers.normal(0.1), ("vocab", "embed"))
        return {
            "kernel": kernel(key, (16, 8)),
            "bias": nn.with_logical_partitioning(nn.initializers.zeros, (None,))(key, (8,)),
        }

    def at(self, step):
        return self

    def warning(self, scores):
        return ""

    def loss(self, params, batch, key):
        hidden = params["kernel"][batch] + params["bias"]
        hidden = nn.with_logical_constraint(hidden, ("batch", "length", "embed_act"))
        noise = 0.01 * jax.random.normal(key, batch.shape)
        losses = (hidden.sum(-1) + noise - batch % 2) ** 2
        total, weight = losses.sum(), jnp.float32(batch.size)
        return total / weight, {"parity_loss": jnp.stack([total, weight])}

    def evaluate(self, params, batch, key):
        return self.loss(params, batch, key)[1]

    def summarise(self, results):
        total, weight = sum(result["parity_loss"] for result in results)
        return {"loss": float(total / weight)}

    def training_batches(self, start):
        number = start
        while True:
            yield np.random.default_rng(number).integers(0, 16, (self.batch_size, self.row_length), dtype=np.int32)
            number += 1

    def evaluation_batches(self):
        yield np.arange(32, dtype=np.int32).reshape(8, 4) % 16

    def sample_batch(self):
        return np.zeros((2, 4), np.int32)

    def inspect(self, params, batch, key):
        return {}

    def describe(self, inspected):
        return []
