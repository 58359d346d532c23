import jax
import numpy as np
import pytest

from electra_jax.errors import MismatchError
from electra_jax.training.checkpoint import Checkpoints, Progress
from electra_jax.training.multihost.cluster import Cluster


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "checkpoints", keep_last=2, keep_every_steps=4, cluster=Cluster())
    yield opened
    opened.close()


def stepped(trainer, state, steps, after_each=lambda state, step: None):
    with trainer.placed():
        step = trainer.compile()
        batches = trainer.job.training_batches(0)
        for number in range(steps):
            state, _ = step(state, trainer.put(next(batches)), trainer.root_key)
            after_each(state, number + 1)
    return state


def test_checkpoint_keeps_its_step_while_training_continues(make_trainer, checkpoints):
    trainer = make_trainer()
    expected = {}

    def save(state, step):
        expected[step] = jax.tree.map(np.array, jax.device_get(state))
        checkpoints.save(state, Progress(next_batch=step, started_at=1.0, productive_seconds=2.0))

    stepped(trainer, trainer.initial_state(), 7, save)
    checkpoints.wait()
    for step in (4, 6, 7):
        state, progress = checkpoints.restore(step, trainer.abstract, trainer.shardings)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), expected[step])
        assert progress == Progress(next_batch=step, started_at=1.0, productive_seconds=2.0)


def test_newest_checkpoints_and_chosen_multiples_are_kept(make_trainer, checkpoints, tmp_path):
    trainer = make_trainer()
    stepped(trainer, trainer.initial_state(), 7, lambda state, step: checkpoints.save(state, Progress(step, 1.0)))
    checkpoints.wait()
    assert checkpoints.latest_step() == 7
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert {"4", "6", "7"} <= kept
    assert not {"1", "2", "3", "5"} & kept


def test_saving_a_step_twice_changes_nothing(make_trainer, checkpoints):
    trainer = make_trainer()
    state = stepped(trainer, trainer.initial_state(), 1)
    checkpoints.save(state, Progress(1, 1.0))
    checkpoints.save(state, Progress(1, 1.0))
    checkpoints.wait()
    assert checkpoints.latest_step() == 1


def test_checkpoint_of_another_model_is_refused_with_its_path(make_trainer, checkpoints):
    import dataclasses

    trainer = make_trainer()
    checkpoints.save(stepped(trainer, trainer.initial_state(), 1), Progress(1, 1.0))
    checkpoints.wait()

    @dataclasses.dataclass(frozen=True)
    class Wider(type(trainer.job)):
        def init(self, key):
            params = super().init(key)
            return params | {"extra": params["bias"]}

        def loss(self, params, batch, key):
            return super().loss({name: params[name] for name in ("kernel", "bias")}, batch, key)

    other = make_trainer(job=Wider())
    with pytest.raises(MismatchError, match=r"checkpoint 1 in .*checkpoints does not fit"):
        checkpoints.restore(1, other.abstract, other.shardings)


def test_checkpoint_without_statistics_of_updates_resumes(make_trainer, checkpoints):
    from typing import NamedTuple

    # As versions before the statistics saved it.
    class Before(NamedTuple):
        step: object
        params: object
        optimizer: object
        metrics: object

    trainer = make_trainer()
    state = stepped(trainer, trainer.initial_state(), 3)
    checkpoints.save(Before(state.step, state.params, state.optimizer, state.metrics), Progress(3, 1.0))
    checkpoints.wait()
    restored, progress = checkpoints.restore(3, trainer.abstract, trainer.shardings)
    expected = state.replace(recent=trainer.initial_state().recent)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(expected))
    assert progress.next_batch == 3
    stepped(trainer, restored, 1)
