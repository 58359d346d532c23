"""A job small enough to compile in a second: predicts a token's parity from its embedding, with noise from the key."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.models.draws import WHOLE_BATCH, drawn
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

    def loss_weights(self, batch, key):
        return {"parity": jnp.float32(batch.size)}

    def loss(self, params, batch, key, weights=None, microbatch=WHOLE_BATCH):
        hidden = params["kernel"][batch] + params["bias"]
        hidden = nn.with_logical_constraint(hidden, ("batch", "length", "embed_act"))
        noise = 0.01 * drawn(lambda shape: jax.random.normal(key, shape), batch.shape, microbatch)
        losses = (hidden.sum(-1) + noise - batch % 2) ** 2
        total, weight = losses.sum(), jnp.float32(batch.size)
        return total / (weights["parity"] if weights else weight), {"parity_loss": jnp.stack([total, weight])}

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

    def texts(self, batch):
        return [" ".join(map(str, row)) for row in batch]

    def evaluation_batches(self):
        yield np.arange(32, dtype=np.int32).reshape(8, 4) % 16

    def sample_batch(self):
        return np.zeros((2, 4), np.int32)

    def inspect(self, params, batch, key):
        return {}

    def describe(self, inspected):
        return []


POISON = 99  # A token with which the loss is not finite.


@dataclasses.dataclass(frozen=True)
class PoisonedJob(ParityJob):
    """Row 5 of some global batches has a token that makes the loss NaN; so does the held-out batch, if asked.

    Attributes:
      poisoned: numbers of these batches.
      poisoned_heldout: whether the held-out loss is NaN.
      read: receives the number of every batch that is read.
      fails_at: reading this batch ends the run, as a kill would.
    """

    poisoned: range = range(0)
    poisoned_heldout: bool = False
    read: list = dataclasses.field(default_factory=list)
    fails_at: int = -1

    def loss(self, params, batch, key, weights=None, microbatch=WHOLE_BATCH):
        loss, metrics = super().loss(params, batch % 16, key, weights, microbatch)
        broken = jnp.where(jnp.any(batch == POISON), jnp.nan, 0.0)
        return loss + broken, jax.tree.map(lambda pair: pair + broken, metrics)

    def training_batches(self, start):
        for number, batch in enumerate(super().training_batches(start), start):
            if number == self.fails_at:
                raise KeyboardInterrupt
            self.read.append(number)
            if number in self.poisoned:
                batch[5, 0] = POISON
            yield batch

    def evaluation_batches(self):
        for batch in super().evaluation_batches():
            yield np.full_like(batch, POISON) if self.poisoned_heldout else batch
