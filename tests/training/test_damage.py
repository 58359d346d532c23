"""The damage matrix: whatever happens to the newest checkpoint, the one before is used, or the arrays are proven equal."""

import concurrent.futures
import errno
import itertools
import json
import os
import pathlib
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax import storage
from electra_jax.errors import MismatchError, RunError, StorageLost
from electra_jax.training import checkpoint_record
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.multihost.cluster import Cluster
from tests.training.made_checkpoints import as_before, state_at

NEWEST = 3


def opened(folder, notes=None):
    note = notes.append if notes is not None else print
    return Checkpoints(folder, keep_last=4, keep_every_steps=0, cluster=Cluster(), note=note, pauses=(0.0, 0.0))


def restored(checkpoints):
    checkpoints.open()
    return checkpoints.restore_newest(state_at(0), jax.tree.map(lambda leaf: leaf.sharding, state_at(0)))


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A folder with the checkpoints 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with opened(folder) as checkpoints:
        checkpoints.open()
        for step in (1, 2, NEWEST):
            checkpoints.save(state_at(step), Progress(step, 1.5, 0.5))
    return folder


@pytest.fixture
def folder(intact, tmp_path):
    shutil.copytree(intact.parent, tmp_path / "run")
    return tmp_path / "run" / "checkpoints"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_survives(folder, expected_step=None):
    """Restores, compares with what was saved, saves another step, and returns what was said."""
    older = {step: contents(folder / str(step)) for step in (1, 2)}
    notes = []
    with opened(folder, notes) as checkpoints:
        found = restored(checkpoints)
        assert found.step == (expected_step or found.step)
        jax.tree.map(np.testing.assert_array_equal, found.state, state_at(found.step))
        assert found.progress == Progress(found.step, 1.5, 0.5)
        fell_back = found.step < NEWEST
        assert fell_back == any(
            f"Checkpoint {NEWEST} is damaged and set aside as 3.damaged: " in note for note in notes
        )
        assert os.path.lexists(folder / "3.damaged") == fell_back
        assert {step: contents(folder / str(step)) for step in (1, 2)} == older
        for step in range(found.step + 1, NEWEST + 2):
            checkpoints.save(state_at(step), Progress(step, 1.5, 0.5))
    with opened(folder) as checkpoints:
        assert restored(checkpoints).step == NEWEST + 1
    assert all(note.count("\n") <= 1 and "Traceback" not in note for note in notes)
    return notes


def emptied(path):
    path.write_bytes(b"")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def deleted(path):
    path.unlink()


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


def made_a_folder(path):
    path.unlink()
    path.mkdir()


def largest(folder):
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


def smallest(folder):
    return min(folder.iterdir(), key=lambda path: path.stat().st_size)


# Files of a checkpoint, and whether it cannot be used without them.
FILES = {
    "arrays": (lambda step: largest(step / "state/ocdbt.process_0/d"), True),
    "index of arrays": (lambda step: largest(step / "state/d"), True),
    "manifest": (lambda step: step / "state/manifest.ocdbt", True),
    "tree": (lambda step: step / "state/_METADATA", True),
    "record": (lambda step: step / "progress/metadata", True),
    "index of a process": (lambda step: smallest(step / "state/ocdbt.process_0/d"), False),
    "manifest of a process": (lambda step: step / "state/ocdbt.process_0/manifest.ocdbt", False),
    "shardings": (lambda step: step / "state/_sharding", False),
    "metadata of arrays": (lambda step: step / "state/array_metadatas/process_0", False),
    "metadata of the step": (lambda step: step / "_CHECKPOINT_METADATA", False),
    "commit": (lambda step: step / "commit_success.txt", False),
    "commit of the record": (lambda step: step / "progress/commit_success.txt", False),
}


@pytest.mark.parametrize("damage", [emptied, halved, deleted, flipped, zeroed, made_a_folder], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", FILES)
def test_damaged_file(folder, name, damage):
    find, is_needed = FILES[name]
    damage(find(folder / str(NEWEST)))
    # Orbax reads a part of some files alone; what it returns is then proven to be what was saved.
    certain = is_needed and (name, damage) != ("tree", flipped)
    assert_survives(folder, NEWEST - 1 if certain else None)


def rewritten(change, checksum=True):
    """A change of the record's fields, with or without a checksum that fits."""

    def damage(folder):
        path = folder / str(NEWEST) / "progress" / "metadata"
        fields = json.loads(path.read_text())
        fields.pop("checksum")
        fields = change(fields)
        if checksum and isinstance(fields, dict):
            fields["checksum"] = checkpoint_record._checksum(fields)
        path.write_text(json.dumps(fields))

    return damage


def unversioned(change):
    """The same in a record from before there were checksums."""

    def damage(folder):
        path = folder / str(NEWEST) / "progress" / "metadata"
        fields = json.loads(path.read_text())
        path.write_text(json.dumps(change({name: fields[name] for name in ("next_batch", "started_at")})))

    return damage


def text(content):
    return lambda folder: (folder / str(NEWEST) / "progress" / "metadata").write_bytes(content)


def without(name):
    return lambda fields: {key: value for key, value in fields.items() if key != name}


RECORDS = {
    "a list": (text(b"[1]"), "is a list"),
    "a number": (text(b"5"), "is a int"),
    "a string": (text(b'"3"'), "is a str"),
    "null": (text(b"null"), "is a NoneType"),
    "an empty object": (text(b"{}"), "has no next_batch"),
    "half of it": (text(b'{"next_batch": 3, "star'), "not JSON"),
    "not UTF-8": (text(b'{"next_batch": "\xff"}'), "not JSON"),
    "deep": (text(b"[" * 100_000), "not JSON"),
    "no checksum": (rewritten(lambda fields: fields, checksum=False), "does not have its checksum"),
    "a changed time": (rewritten(lambda fields: fields | {"started_at": 2.0}, checksum=False), "checksum"),
    "no list of arrays": (unversioned(without("next_batch")), "has no next_batch"),
    "another step": (rewritten(lambda fields: fields | {"step": 2}), "is of step 2"),
    "another step, before checksums": (unversioned(lambda fields: fields | {"next_batch": 2}), "is of step 2"),
    "no start": (rewritten(without("started_at")), "has no started_at"),
    "an unknown field": (rewritten(lambda fields: fields | {"colour": 1}), "unknown fields: colour"),
    "a step as text": (rewritten(lambda fields: fields | {"next_batch": "3"}), "expected a number"),
    "a step as a fraction": (rewritten(lambda fields: fields | {"next_batch": 3.5}), "expected a number"),
    "a truth for a time": (rewritten(lambda fields: fields | {"started_at": True}), "expected a number"),
    "NaN": (rewritten(lambda fields: fields | {"started_at": float("nan")}), "expected a number"),
    "arrays as a list": (rewritten(lambda fields: fields | {"arrays": [1, 2]}), "list of arrays"),
    "an array as text": (rewritten(lambda fields: fields | {"arrays": {"step": "int32"}}), "list of arrays"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_damaged_record(folder, name):
    damage, reason = RECORDS[name]
    damage(folder)
    notes = assert_survives(folder, NEWEST - 1)
    assert any(reason in note for note in notes), notes


def replaced(part, other):
    def damage(folder):
        shutil.rmtree(folder / str(NEWEST) / part)
        if other:
            shutil.copytree(folder / str(other) / part, folder / str(NEWEST) / part)

    return damage


def whole(action):
    def damage(folder):
        shutil.rmtree(folder / str(NEWEST))
        action(folder / str(NEWEST))

    return damage


def swapped_arrays(folder):
    ours, theirs = (largest(folder / step / "state/ocdbt.process_0/d") for step in ("3", "2"))
    ours.write_bytes(theirs.read_bytes())


FOLDERS = {
    "no arrays": replaced("state", None),
    "no record": replaced("progress", None),
    "arrays of another step": replaced("state", 2),
    "record of another step": replaced("progress", 2),
    "a file of arrays of another step": swapped_arrays,
    "an empty folder": whole(pathlib.Path.mkdir),
    "a file": whole(lambda path: path.write_text("3")),
    "a link to nothing": whole(lambda path: path.symlink_to("/nowhere")),
    "another step under this name": whole(lambda path: shutil.copytree(path.parent / "2", path)),
    "something else": whole(lambda path: shutil.copytree(pathlib.Path(__file__).parent / "programs", path)),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_damaged_folder(folder, name):
    FOLDERS[name](folder)
    assert_survives(folder, NEWEST - 1)


FOREIGN = ["999", "notes.txt", "007", "²", "٣", "-5", "1e3", "12.damaged", ".hidden", "x" * 200, "4 5", "[4]"]


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_content_is_passed_over(folder, name):
    (folder / name).mkdir()
    notes = assert_survives(folder, NEWEST)
    if name == "999":
        assert any("Checkpoint 999 is damaged and set aside as 999.damaged" in note for note in notes)
    else:
        assert (folder / name).exists()


def test_unfinished_checkpoint_of_a_killed_process_is_removed(folder):
    shutil.copytree(folder / "3", folder / "4.orbax-checkpoint-tmp")
    notes = assert_survives(folder, NEWEST)
    assert "Removed 4.orbax-checkpoint-tmp, which a process had not finished when it ended." in notes
    assert not (folder / "4.orbax-checkpoint-tmp").exists()


def test_second_damaged_checkpoint_of_a_step_has_a_name_of_its_own(folder):
    shutil.copytree(folder / "3", folder / "3.damaged")
    emptied(folder / "3" / "progress" / "metadata")
    with opened(folder) as checkpoints:
        assert restored(checkpoints).step == 2
    assert {"3.damaged", "3.damaged-2"} <= set(os.listdir(folder))


def test_if_none_is_intact_all_are_named_with_their_reasons(folder):
    for step in "123":
        emptied(folder / step / "progress" / "metadata")
    with opened(folder) as checkpoints, pytest.raises(MismatchError) as error:
        restored(checkpoints)
    assert all(f"  {step}: the record is not JSON" in str(error.value) for step in (1, 2, 3))
    assert "--restart" in str(error.value)
    assert sorted(os.listdir(folder)) == ["1.damaged", "2.damaged", "3.damaged"]


def test_checkpoint_of_another_config_is_not_taken_for_damage(folder):
    before = contents(folder)
    other = state_at(0).replace(params={"kernel": jnp.zeros((64, 101)), "gain": jnp.zeros(3)})
    with opened(folder) as checkpoints, pytest.raises(MismatchError) as error:
        checkpoints.restore_newest(other, jax.tree.map(lambda leaf: leaf.sharding, other))
    assert "params/kernel: float32[64, 100] there, float32[64, 101] here" in str(error.value)
    assert "params/gain: nothing there, float32[3] here" in str(error.value)
    assert contents(folder) == before


def test_evaluation_passes_over_damage_and_renames_nothing(folder):
    emptied(folder / "3" / "progress" / "metadata")
    before, notes = contents(folder), []
    with opened(folder, notes) as checkpoints:
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state_at(0))
        assert checkpoints.restore_newest(state_at(0), shardings, sets_aside=False).step == 2
    assert notes == ["Checkpoint 3 is damaged and left out: the record is not JSON."]
    assert contents(folder) == before


def test_checkpoint_from_before_checksums_is_restored_and_said_so(folder):
    shutil.rmtree(folder / str(NEWEST))
    with opened(folder) as checkpoints:
        checkpoints.open()
        checkpoints.save(as_before(state_at(NEWEST)), Progress(NEWEST, 1.5))
    unversioned(lambda fields: fields | {"productive_seconds": 0.5})(folder)
    with opened(folder, notes := []) as checkpoints:
        found = restored(checkpoints)
    assert (found.step, found.progress.productive_seconds) == (3, 0.5)
    assert notes == ["Checkpoint 3 was written without checksums; it was restored unverified."]


class Threads:
    """Several processes of a run, as threads."""

    def __init__(self, count):
        self.count, self.barrier, self.values = count, threading.Barrier(count, timeout=30), {}

    def cluster(self, index):
        cluster = Cluster()
        cluster.index, cluster.count, cluster.hosts = index, self.count, ("host",) * self.count
        calls = itertools.count()

        def from_each(value, about, seconds=0.0):
            number = next(calls)
            self.values[number, index] = value
            self.barrier.wait()
            return [self.values[number, process] for process in range(self.count)]

        cluster.from_each = from_each
        cluster.from_first = lambda make, seconds=0.0: from_each(make() if index == 0 else None, "")[0]
        return cluster

    def run(self, function):
        """The results of a function of a cluster, or their errors, in the order of the processes."""

        def result(index):
            try:
                return function(self.cluster(index))
            except RunError as error:
                return error

        with concurrent.futures.ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(result, range(self.count)))


def restore_by_two(places):
    """What two processes restore that see these folders, and the notes of each."""
    notes = [[], []]

    def restore(cluster):
        checkpoints = Checkpoints(places[cluster.index], 4, 0, cluster, notes[cluster.index].append, pauses=(0.0,))
        found = checkpoints.restore_newest(state_at(0), jax.tree.map(lambda leaf: leaf.sharding, state_at(0)))
        jax.tree.map(np.testing.assert_array_equal, found.state, state_at(found.step))
        return found.step

    return Threads(2).run(restore), notes


@pytest.mark.parametrize("damage", [emptied, flipped, deleted], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["arrays", "record"])
def test_damage_that_one_process_sees_makes_all_fall_back(folder, tmp_path, name, damage):
    shutil.copytree(folder, tmp_path / "seen by 1")
    damage(FILES[name][0](tmp_path / "seen by 1" / "3"))
    steps, notes = restore_by_two([folder, tmp_path / "seen by 1"])
    assert steps == [2, 2]
    assert len(notes[0]) == 1
    assert "(process 1 on host)" in notes[0][0]
    assert (folder / "3.damaged").exists()  # Process 0 alone renames.
    assert (tmp_path / "seen by 1" / "3").exists()


def test_storage_that_one_process_cannot_read_ends_all(folder, monkeypatch):
    read = storage.read

    def failing(path):
        if "/away/" in path:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    (folder.parent / "away").symlink_to(folder)
    monkeypatch.setattr(storage, "read", failing)
    results, _ = restore_by_two([folder, folder.parent / "away"])
    assert [type(result) for result in results] == [StorageLost, StorageLost]
    assert sorted(os.listdir(folder)) == ["1", "2", "3"]


def test_folder_that_cannot_be_listed_at_first_is_listed_again(folder, monkeypatch):
    names, errors = storage.names, [OSError(errno.EIO, "Input/output error")]

    def failing(path):
        if errors:
            raise errors.pop()
        return names(path)

    monkeypatch.setattr(storage, "names", failing)
    steps, notes = restore_by_two([folder, folder])
    assert steps == [3, 3]
    assert notes == [["Failed to read checkpoints ([Errno 5] Input/output error); trying again in 0 s."], []]
