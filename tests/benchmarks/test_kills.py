"""The campaign of kills finds that a disturbed run equals an undisturbed one, and what differs if it does not."""

import json

import jax.numpy as jnp
import optax
import pytest

from benchmarks.reliability import kills
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.recent_updates import nothing_yet
from electra_jax.training.state import TrainState
from tests.running import main


def write(workdir, value, loss):
    checkpoints = Checkpoints(str(workdir / "checkpoints"), keep_last=1, keep_every_steps=0, cluster=Cluster())
    params = {"table": jnp.full(3, value)}
    optimizer = optax.adam(1e-3).init(params)
    state = TrainState(jnp.int32(5), params, optimizer, {"loss": jnp.zeros(2)}, nothing_yet(2))
    checkpoints.save(state, Progress(5, 0.0))
    checkpoints.close()
    line = {"step": 5, "train/loss": loss, "time/step_seconds": value}
    (workdir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return str(workdir)


def test_what_differs_between_two_runs_is_named(tmp_path):
    one = write(tmp_path / "one", 1.0, 0.5)
    assert kills.differences(one, write(tmp_path / "same", 1.0, 0.5)) == []
    found = kills.differences(one, write(tmp_path / "other", 2.0, 0.25))
    assert any("table" in name for name in found)
    assert found[-1] == "metrics: 2 and 2 values, 2 differ"


@pytest.mark.release
@pytest.mark.slow
def test_a_killed_run_in_a_bucket_equals_one_that_was_not():
    output = main("--place=store", "--count=1", "--steps=40", program=("-m", "benchmarks.reliability.kills"))
    figures = json.loads(output[output.rindex("\n{\n") :])
    assert figures["kills"] == 1
    assert figures["differences"] == []
