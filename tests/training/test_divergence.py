"""The loop with a stand-in job, some of whose batches make the loss NaN."""

import dataclasses
import io
import json
import pathlib
import time

import jax
import numpy as np
import pytest

from electra_jax.config.shared import DivergenceConfig
from electra_jax.errors import Diverged
from electra_jax.progress import ProgressLine
from electra_jax.training import loop, partitioning
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.optimizer import OptimizerConfig
from electra_jax.training.run_context import RunContext
from electra_jax.training.trainer import LoopConfig, Trainer
from tests.running import learned
from tests.training.stand_in import PoisonedJob

STEPS = 30


@pytest.fixture(scope="module")
def trainer():
    """The trainer whose compiled steps all runs here share."""
    settings = OptimizerConfig(steps=STEPS, warmup_steps=2, learning_rate=0.01)
    config = LoopConfig(
        seed=3,
        log_every_steps=5,
        evaluate_every_steps=10,
        save_every_steps=10,
        keep_last=3,
        keep_every_steps=0,
        sharding="dp",
        divergence=DivergenceConfig(max_skipped=2, rollbacks=2),
    )
    return Trainer(PoisonedJob(), settings, config, partitioning.make_mesh((-1, 1, 1)), print)


@pytest.fixture
def trained(trainer, tmp_path):
    """Trains a job in a workdir; returns the last state and progress, and what was printed."""

    def train(job, name="run"):
        stream = io.StringIO()
        workdir = tmp_path / name
        workdir.mkdir(exist_ok=True)
        loop.train(trainer.for_seed(job, 3), RunContext(str(workdir), line=ProgressLine(stream)))
        with Checkpoints(workdir / "checkpoints", 3, 0, Cluster()) as checkpoints:
            state, progress = checkpoints.restore(STEPS, trainer.abstract, trainer.shardings)
        return jax.device_get(state), progress, stream.getvalue()

    return train


def evidence(workdir):
    paths = sorted((workdir / "divergence").glob("*.json"))

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    return {path.stem: json.loads(path.read_text(), parse_constant=refuse) for path in paths}


def test_poisoned_update_leaves_parameters_bit_equal_and_is_counted(trainer):
    states, seen = [], []
    with trainer.placed():
        step, batches = trainer.compile(), PoisonedJob(poisoned=range(2, 3)).training_batches(0)
        state = trainer.initial_state()
        for _ in range(4):
            state, metrics = step(state, trainer.put(next(batches)), trainer.root_key)
            states.append(jax.device_get((state.params, state.optimizer)))
            seen.append(jax.device_get(metrics))
    jax.tree.map(np.testing.assert_array_equal, states[2], states[1])
    assert any(jax.tree.leaves(jax.tree.map(lambda one, other: (one != other).any(), states[3], states[2])))
    assert int(state.step) == 4
    assert [metrics["skipped"][0] for metrics in seen] == [0, 0, 1, 1]
    assert [metrics["loss"][1] for metrics in seen] == [1, 2, 2, 3]
    np.testing.assert_array_equal(seen[2]["parity_loss"], seen[1]["parity_loss"])


def test_few_poisoned_batches_are_skipped_named_and_counted(trained, tmp_path):
    job = PoisonedJob(poisoned=range(12, 14))
    _, progress, printed = trained(job)
    assert job.read == list(range(30))
    assert (progress.next_batch, progress.rollbacks) == (30, 0)
    assert "Skipped 2 of the updates to step 15: batch 12, loss, parity_loss not finite; " in printed
    counts = {line["step"]: line["train/skipped"] for line in learned(tmp_path / "run") if "train/skipped" in line}
    assert counts == {5: 0, 10: 0, 15: 2, 20: 0, 25: 0, 30: 0}
    assert not (tmp_path / "run" / "divergence").exists()


def test_poisoned_shard_is_passed_over_after_a_rollback(trained, tmp_path):
    job = PoisonedJob(poisoned=range(12, 15))
    _, progress, printed = trained(job)
    # Found when the line of step 15 is read, after batch 15; 12 to 14 are read once more for the evidence alone.
    assert job.read[10:] == [*range(10, 16), 12, 13, 14, *range(15, 35)]
    assert (progress.next_batch, progress.batches_passed_over, progress.rollbacks) == (35, 5, 1)
    assert "Back to checkpoint 10 (rollback 1 of 2); batches 10 to 14 are passed over." in printed
    lines = learned(tmp_path / "run")
    assert [line["step"] for line in lines if "train/loss" in line] == [5, 10, 15, 20, 25, 30]
    (found,) = evidence(tmp_path / "run").values()
    assert [update["batch"] for update in found["skipped"]] == [12, 13, 14]
    assert not found["ends_the_run"]
    update = found["diagnosed"][0]
    assert (update["batch"], update["rows"], update["rows_not_finite"]) == (12, 8, 1)
    assert update["largest"][0]["row"] == 5
    assert update["largest"][0]["text"].startswith("99 ")
    assert set(update["parameter_norms"]) == {"bias", "kernel"}


def test_endless_poison_ends_the_run_with_its_evidence(trained, tmp_path):
    with pytest.raises(Diverged, match=r"after 2 rollbacks.*newest checkpoint is 10\b.*divergence/3.json") as caught:
        trained(PoisonedJob(poisoned=range(12, 10**6)))
    assert caught.value.exit_code == 76
    assert "learning_rate (0.01 now)" in str(caught.value)
    found = evidence(tmp_path / "run")
    assert [content["ends_the_run"] for content in found.values()] == [False, False, True]


def test_poison_from_the_start_goes_back_to_the_start(trained, tmp_path):
    job = PoisonedJob(poisoned=range(4))
    _, progress, printed = trained(job)
    assert "Back to the start" in printed
    assert (progress.next_batch, progress.rolled_back_to) == (34, 0)


def test_run_killed_after_a_rollback_ends_equal(trained, tmp_path):
    poisoned = range(12, 15)
    state, progress, _ = trained(PoisonedJob(poisoned=poisoned), "straight")
    # After the rollback before anything was saved, and after the next save.
    for fails_at in (18, 28):
        name = f"killed_{fails_at}"
        with pytest.raises(KeyboardInterrupt):
            trained(PoisonedJob(poisoned=poisoned, fails_at=fails_at), name)
        after, resumed, _ = trained(PoisonedJob(poisoned=poisoned), name)
        jax.tree.map(np.testing.assert_array_equal, after, state)
        assert (resumed.next_batch, resumed.rollbacks) == (progress.next_batch, progress.rollbacks)
        assert learned(tmp_path / name) == learned(tmp_path / "straight")


def test_save_after_a_skipped_update_waits_for_one_that_is_applied(trained, tmp_path):
    trained(PoisonedJob(poisoned=range(8, 10)))
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["11", "20", "30"]


@dataclasses.dataclass(frozen=True)
class DamagingJob(PoisonedJob):
    """Empties a file, once it is there, when the first poisoned batch is read."""

    file: pathlib.Path = pathlib.Path()

    def training_batches(self, start):
        for number, batch in enumerate(super().training_batches(start), start):
            if number == self.poisoned.start:
                deadline = time.monotonic() + 20
                while not self.file.exists():
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                self.file.write_bytes(b"")
            yield batch


def test_damaged_checkpoint_is_no_place_to_go_back_to(trained, tmp_path):
    record = tmp_path / "run" / "checkpoints" / "20" / "progress" / "metadata"
    _, progress, printed = trained(DamagingJob(poisoned=range(22, 25), file=record))
    assert "Checkpoint 20 is damaged and set aside as 20.damaged" in printed
    assert "Back to checkpoint 10 (rollback 1 of 2); batches 10 to 24 are passed over" in printed
    assert (progress.next_batch, progress.rolled_back_to) == (45, 10)
    # The step is saved again, although there was such a checkpoint.
    assert {"10", "20", "20.damaged", "30"} <= {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}


def test_time_of_steps_that_were_undone_is_lost(trained, tmp_path):
    # Back to the start, before anything was compiled.
    trained(PoisonedJob(poisoned=range(4)))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "goodput/step_seconds" in line][-1]
    assert last["goodput/lost_seconds"] > 0
    assert "goodput/compile_seconds" in last
    total = sum(seconds for name, seconds in last.items() if name.startswith("goodput/"))
    assert total == pytest.approx(last["time/elapsed_seconds"], abs=0.1)


def test_second_rollback_goes_further_back(trained):
    job = PoisonedJob(poisoned=range(22, 28))
    _, progress, printed = trained(job)
    assert "Back to checkpoint 20 (rollback 1 of 2); batches 20 to 24 are passed over" in printed
    assert "Back to checkpoint 10 (rollback 2 of 2); batches 10 to 27 are passed over" in printed
    assert (progress.next_batch, progress.rolled_back_to) == (48, 10)


def test_heldout_loss_not_finite_is_null_and_counts_as_divergence(trained, tmp_path):
    with pytest.raises(Diverged, match=r"step 0: eval/loss is not finite on held-out rows"):
        trained(PoisonedJob(poisoned_heldout=True))
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert '"eval/loss": null' in text
    assert "NaN" not in text


def test_transfer_that_nobody_asked_for_is_an_error(trained, monkeypatch):
    monkeypatch.setattr(Trainer, "put", lambda self, batch: batch)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        trained(PoisonedJob())
