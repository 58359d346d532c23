import contextlib
import errno
import gc
import json
import os
import resource
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from electra_jax import storage
from electra_jax.errors import InputError, MismatchError, StorageLost
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.recent_updates import nothing_yet
from electra_jax.training.state import TrainState
from tests.training.made_checkpoints import as_before, state_at


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(str(tmp_path / "checkpoints"), keep_last=2, keep_every_steps=4, cluster=Cluster())
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


def test_checkpoint_without_statistics_of_updates_resumes(make_trainer, tmp_path):
    trainer = make_trainer()
    state = stepped(trainer, trainer.initial_state(), 3)
    folder = tmp_path / "checkpoints"
    with quick(folder, notes := []) as checkpoints:
        checkpoints.save(as_before(state), Progress(3, 1.0))
    expected = jax.device_get(state.replace(recent=trainer.initial_state().recent))
    record = folder / "3" / "progress" / "metadata"
    # As versions with digests wrote it, and those before them.
    for without in ((), ("step", "arrays", "checksum", "seconds")):
        fields = json.loads(record.read_text())
        record.write_text(json.dumps({name: value for name, value in fields.items() if name not in without}))
        with quick(folder, notes) as checkpoints:
            restored, progress = checkpoints.restore(3, trainer.abstract, trainer.shardings)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), expected)
        assert progress == Progress(3, 1.0)
    assert notes == ["Checkpoint 3 was written without checksums; it was restored unverified."]
    stepped(trainer, restored, 1)


def test_discarded_steps_are_saved_again(tmp_path):
    with quick(tmp_path / "checkpoints", []) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state_at(step), Progress(step, 1.0))
        checkpoints.wait()
        checkpoints.discard_after(1)
        assert os.listdir(tmp_path / "checkpoints") == ["1"]
        assert restored_step(checkpoints, state_at(0)) == 1
        checkpoints.finish(state_at(2), Progress(5, 1.0, batches_passed_over=3))
        assert checkpoints.steps() == [1, 2]
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state_at(0))
        assert checkpoints.restore(2, state_at(0), shardings)[1] == Progress(5, 1.0, batches_passed_over=3)


def quick(folder, notes, **options):
    """Checkpoints that are opened for training and do not pause."""
    opened = Checkpoints(folder, 3, 0, Cluster(), notes.append, pauses=(0.0, 0.0), **options)
    opened.open()
    return opened


@contextlib.contextmanager
def files_of_at_most(size):
    """As if the disk were full: no file can be longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_steps(checkpoints, steps):
    with checkpoints:
        for step in steps:
            checkpoints.save(state_at(step), Progress(step, 1.0))
            checkpoints.finish(state_at(step), Progress(step, 1.0))


def restored_step(checkpoints, state):
    return checkpoints.restore_newest(state, jax.tree.map(lambda leaf: leaf.sharding, state)).step


def test_save_that_storage_refuses_is_tried_again(tmp_path, monkeypatch):
    save, refusals = ocp.CheckpointManager.save, iter([OSError(errno.ENOSPC, "No space left on device")] * 2)

    def refusing(self, *arguments, **options):
        if error := next(refusals, None):
            raise error
        return save(self, *arguments, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "save", refusing)
    with quick(tmp_path / "checkpoints", notes := []) as checkpoints:
        checkpoints.save(state_at(1), Progress(1, 1.0))
        assert restored_step(checkpoints, state_at(0)) == 1
    assert [note.partition(" (")[0] for note in notes] == ["Failed to write a checkpoint"] * 2
    assert "No space left on device" in notes[0]


def test_storage_that_stays_full_ends_the_run_and_names_the_newest(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = quick(folder, notes := [])
    checkpoints.save(state_at(1), Progress(1, 1.0))
    with (
        files_of_at_most(1000),
        pytest.raises(StorageLost, match="newest complete checkpoint is 1") as error,
        checkpoints,
    ):
        checkpoints.finish(state_at(2), Progress(2, 1.0))
    assert error.value.exit_code == 75
    assert len(notes) == 2
    assert "File too large" in str(error.value)
    with quick(folder, []) as again:
        assert restored_step(again, state_at(0)) == 1


def test_save_lost_in_the_background_is_noticed_and_repeated(tmp_path):
    with quick(tmp_path / "checkpoints", notes := []) as checkpoints:
        checkpoints.save(state_at(1), Progress(1, 1.0))
        assert not checkpoints.lost_a_save()
        with files_of_at_most(1000):
            checkpoints.save(state_at(2), Progress(2, 1.0))
            deadline = time.monotonic() + 20
            while not checkpoints.lost_a_save():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert not checkpoints.lost_a_save()
        assert checkpoints.latest_step() == 1  # And not the failed one, which Orbax had counted.
        checkpoints.save(state_at(3), Progress(3, 1.0))
        checkpoints.finish(state_at(3), Progress(3, 1.0))
        assert checkpoints.steps() == [1, 3]
    assert len(notes) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_disk_that_fills_up_during_a_save_leaves_the_checkpoint_before(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with pytest.raises(StorageLost, match=r"newest complete checkpoint is \d"):
            save_steps(quick(tmp_path / "checkpoints", []), range(1, 9))
        newest = max(int(name) for name in os.listdir(tmp_path / "checkpoints") if name.isdigit())
        subprocess.run(["mount", "-o", "remount,size=1m", tmp_path], check=True)
        with quick(tmp_path / "checkpoints", []) as again:
            assert restored_step(again, state_at(0)) == newest
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_folder_that_cannot_be_written_is_reported_before_training(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(errno.EROFS, "Read-only file system", "there")

    monkeypatch.setattr(storage, "write", refuses)
    with pytest.raises(InputError, match=r"cannot be written \(.*Read-only file system.*nothing was trained"):
        quick(tmp_path / "checkpoints", [])


def test_storage_that_cannot_be_read_is_tried_again_and_nothing_is_set_aside(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    with quick(folder, []) as checkpoints:
        checkpoints.save(state_at(1), Progress(1, 1.0))
    read, errors = storage.read, [OSError(errno.EIO, "Input/output error")]

    def failing(path):
        if errors:
            raise errors.pop() if len(errors) == 1 else errors[0]
        return read(path)

    with quick(folder, notes := []) as checkpoints:
        monkeypatch.setattr(storage, "read", failing)
        assert restored_step(checkpoints, state_at(0)) == 1
        errors[:] = [OSError(errno.EIO, "Input/output error")] * 9
        with pytest.raises(StorageLost, match="Input/output error"):
            restored_step(checkpoints, state_at(0))
    assert all("trying again" in note for note in notes)
    assert os.listdir(folder) == ["1"]


def test_storage_that_does_not_return_what_was_written_is_found_at_once(tmp_path, monkeypatch):
    wait = ocp.CheckpointManager.wait_until_finished

    def lying(self):
        wait(self)
        for path in (tmp_path / "checkpoints").glob("1/state/ocdbt.process_0/d/*"):
            if path.stat().st_size > 10_000:
                content = bytearray(path.read_bytes())
                content[5_000] ^= 16
                path.write_bytes(content)

    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", lying)
    with pytest.raises(InputError, match=r"the first checkpoint, 1, was read back and is not what was written"):
        save_steps(quick(tmp_path / "checkpoints", []), [1])


def test_only_the_first_checkpoint_of_a_run_is_read_back(tmp_path, monkeypatch):
    read_back = []
    monkeypatch.setattr(Checkpoints, "_read", lambda self, step, *_: read_back.append(step) or state_at(step))
    with quick(tmp_path / "checkpoints", []) as checkpoints:
        for step in (1, 2):
            checkpoints.save(state_at(step), Progress(step, 1.0))
    with quick(tmp_path / "checkpoints", []) as checkpoints:
        checkpoints.save(state_at(3), Progress(3, 1.0))
    assert read_back == [1]


def test_saves_leave_no_containers_in_memory(tmp_path):
    with quick(tmp_path / "checkpoints", []) as checkpoints:

        def lists_after(steps):
            for step in steps:
                checkpoints.finish(state_at(step), Progress(step, 1.0))
            gc.collect()
            return sum(type(value) is list for value in gc.get_objects())

        before = lists_after(range(1, 4))
        assert lists_after(range(4, 9)) - before < 25  # Of the counters that Orbax reads, 24 lists stayed after each.


@pytest.mark.parametrize(
    "name", ["lr[1e-4]", "a\\b", "a b", "a*b", "a?b", "ünï日", "a#b", "a%20b", "a{b}", "a'b\"c", "\udcff"]
)
def test_checkpoints_in_a_folder_of_any_name_are_restored(tmp_path, name):
    with quick(tmp_path / name / "checkpoints", []) as checkpoints:
        checkpoints.save(state_at(1), Progress(1, 1.0))
    with quick(tmp_path / name / "checkpoints", notes := []) as checkpoints:
        assert restored_step(checkpoints, state_at(0)) == 1
    assert notes == []


def test_address_with_characters_of_a_pattern_is_refused():
    with pytest.raises(InputError, match=r"gs://bucket/lr\[1e-4\]: found \[ \], which object storage"):
        Checkpoints("gs://bucket/lr[1e-4]", 3, 0, Cluster())


def test_a_kill_during_a_save_in_a_bucket_leaves_the_checkpoint_before_it(object_store):
    def opened():
        return Checkpoints("gs://bucket/checkpoints", keep_last=2, keep_every_steps=0, cluster=Cluster())

    def state(step):
        params = {"table": jnp.full(10, float(step))}
        optimizer = optax.sgd(1e-3).init(params)
        return TrainState(jnp.int32(step), params, optimizer, {"loss": jnp.zeros(2)}, nothing_yet(2))

    made = opened()
    for step in (1, 2):
        made.save(state(step), Progress(step, 0.0))
    made.close()
    whole = dict(object_store.objects)
    # In the order in which they were written.
    of_second = sorted((key for key in whole if key[1].startswith("checkpoints/2/")), key=lambda key: whole[key][1])
    assert of_second[-1][1] == "checkpoints/2/commit_success.txt"
    for count in (1, len(of_second) // 2, len(of_second) - 1):
        object_store.objects.clear()
        object_store.objects |= {key: value for key, value in whole.items() if key not in of_second[count:]}
        again = opened()
        again.open()
        assert restored_step(again, state(0)) == 1
        again.save(state(2), Progress(2, 0.0))
        again.finish(state(2), Progress(2, 0.0))
        assert again.steps() == [1, 2]
        again.close()
