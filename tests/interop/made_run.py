"""Workdirs as training leaves them, for the tests that read them."""

import json

import jax
import jax.numpy as jnp
import optax

from electra_jax.configs import small
from electra_jax.interop.model import in_float32
from electra_jax.pretraining.jobs import encoder_config
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.recent_updates import nothing_yet
from electra_jax.training.state import TrainState
from tests.configs import typed
from tests.interop import made


def quicktest():
    config = small.get_config("quicktest")
    config.data.tokenizer.vocabulary_size = 64
    return config


def pair_of(config):
    encoder = in_float32(encoder_config(typed(config), "cpu"))
    return encoder, encoder.scaled(config.model.generator_width, config.model.generator_depth)


def write_run(workdir, config, params, steps=(10, 20)):
    """A workdir as training leaves it: the parameters times the step, so that checkpoints differ."""
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps(json.loads(config.to_json_best_effort()) | {"fingerprint": "0"}))
    made.tokenizer().save(workdir / "tokenizer")
    checkpoints = Checkpoints(str(workdir / "checkpoints"), keep_last=3, keep_every_steps=0, cluster=Cluster())
    for step in steps:
        scaled = jax.tree.map(lambda leaf, step=step: jnp.asarray(leaf) * step, params)
        state = TrainState(
            jnp.int32(step), scaled, optax.adamw(1e-3).init(scaled), {"loss": jnp.zeros(2)}, nothing_yet(2)
        )
        checkpoints.save(state, Progress(step, 0.0))
    checkpoints.wait()
    checkpoints.close()
