"""Datasets on disk: rows are read from anywhere, damage is found and named."""

import hashlib
import io
import json
import pathlib
import types

import numpy as np
import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.dataset import dataset as datasets
from electra_jax.text.dataset.dataset import is_prepared, open_dataset, verify
from electra_jax.text.dataset.shards import ShardWriter
from tests.running import run_program


@pytest.fixture(params=["local", "memory"])
def dataset(request, tmp_path, write_dataset):
    return write_dataset(str(tmp_path) if request.param == "local" else f"memory://data{tmp_path}")


def change(dataset, name, new):
    """Replaces a file of a dataset by `new` of its content, and returns the content."""
    path = storage.join(dataset.directory, name)
    content = storage.read(path)
    storage.write(path, bytes(new(bytearray(content))))
    return content


def flip(position):
    def flipped(content):
        content[position] ^= 1
        return content

    return flipped


def test_rows_are_read_in_any_order_across_shards(dataset):
    assert [rows for _, rows in dataset.train.shards] == [100, 100, 50]
    every = dataset.train.rows(np.arange(250))
    assert every.dtype == np.int32
    assert (every == np.arange(5, 255)[:, None]).all()
    indices = np.array([249, 99, 100, 0, 101, 99, 200, 199])
    assert (dataset.train.rows(indices) == every[indices]).all()
    assert every.shape == (250, 8)
    assert dataset.train.rows(np.array([], int)).shape == (0, 8)


def test_a_dataset_has_the_figures_of_its_manifest(dataset):
    assert is_prepared(dataset.directory)
    assert not is_prepared(dataset.directory + "x")
    assert isinstance(dataset.directory, str)
    assert dataset.train.sources == (range(200), range(200, 250))
    assert dataset.heldout.sources == (range(20), range(20, 20))
    assert (dataset.train.num_rows, dataset.train.num_tokens, dataset.heldout.num_rows) == (250, 2000, 20)
    assert dataset.train.is_remote == dataset.heldout.is_remote == ("://" in dataset.directory)


def test_source_ranges_leave_room_for_sources_without_rows(tmp_path, write_dataset):
    split = write_dataset(tmp_path, shards=((1, 10), (1, 5), (3, 7))).train
    assert split.sources == (range(0), range(15), range(15, 15), range(15, 22))


@pytest.mark.parametrize("index", [-1, 10**9])
def test_rows_that_are_not_there_are_an_error(dataset, index):
    with pytest.raises(IndexError, match="of a split with"):
        dataset.train.rows(np.array([0, index]))


@pytest.mark.parametrize("name", ["train-00001.bin", "heldout-00000.bin"])
def test_a_truncated_or_missing_shard_is_found_on_opening(dataset, name):
    content = change(dataset, name, lambda content: content[:-1])
    with pytest.raises(InputError, match=rf"{name}: .*{len(content) - 1} bytes, expected {len(content)}"):
        open_dataset(dataset.directory)
    storage.remove(storage.join(dataset.directory, name))
    with pytest.raises(InputError, match=f"{name}: .*missing"):
        open_dataset(dataset.directory)


@pytest.mark.parametrize("byte", [0, 15, 16, 19])
def test_a_flipped_bit_is_found_when_the_row_is_read_and_named(dataset, byte):
    change(dataset, "train-00001.bin", flip(33 * 20 + byte))
    split = open_dataset(dataset.directory).train
    others = np.delete(np.arange(250), 133)
    assert (split.rows(others)[:, 0] == others + 5).all()
    with pytest.raises(InputError, match=r"train-00001.bin: .*row 33 .*Restore this file, or delete its directory"):
        split.rows(np.array([200, 133, 0]))


def test_a_hole_of_zeros_is_found(dataset):
    change(dataset, "train-00000.bin", lambda content: bytes(len(content)))
    with pytest.raises(InputError, match=r"train-00000.bin: .*row 7 "):
        open_dataset(dataset.directory).train.rows(np.array([7]))


def test_a_shard_that_shrank_or_went_after_opening_is_named(dataset):
    change(dataset, "train-00000.bin", lambda content: content[:-10])
    with pytest.raises(InputError, match=r"train-00000.bin"):
        dataset.train.rows(np.array([99]))
    storage.remove(storage.join(dataset.directory, "heldout-00000.bin"))
    with pytest.raises(InputError, match=r"heldout-00000.bin|memory://"):
        dataset.heldout.rows(np.array([0]))


def test_verify_names_all_damaged_shards_at_once(dataset):
    message = []
    verify(dataset, message.append)
    assert len(message) == 4
    change(dataset, "train-00001.bin", flip(1234))
    storage.remove(storage.join(dataset.directory, "heldout-00000.bin"))
    with pytest.raises(InputError, match=r"2 of 4 shards") as raised:
        verify(dataset)
    assert "train-00001.bin: SHA-256" in str(raised.value)
    assert "heldout-00000.bin: " in str(raised.value)
    assert "train-00000.bin" not in str(raised.value)


def test_remote_rows_are_asked_for_all_at_once(tmp_path, write_dataset, monkeypatch):
    split = write_dataset(f"memory://at_once{tmp_path}").train
    asked = []
    read_ranges = storage.read_ranges
    monkeypatch.setattr(
        storage, "read_ranges", lambda paths, *ends: asked.append(len(paths)) or read_ranges(paths, *ends)
    )
    assert (split.rows(np.array([240, 3, 150]))[:, 0] == [245, 8, 155]).all()
    assert asked == [3]


def test_more_shards_than_files_may_be_open_are_read(tmp_path, write_dataset, tiny_tokenizer):
    write_dataset(tmp_path, shards=((0, 1),) * 900)
    run_program("tests.text.programs.read_many_shards", tmp_path)


def test_opening_lists_the_directory_once_however_many_shards(tmp_path, write_dataset, monkeypatch):
    directory = f"memory://many{tmp_path}"
    write_dataset(directory, shards=((0, 1),) * 200)
    calls = []
    monkeypatch.setattr(storage, "size", lambda path: calls.append(path))
    monkeypatch.setattr(storage, "exists", lambda path: calls.append(path))
    sizes = storage.sizes
    monkeypatch.setattr(storage, "sizes", lambda path: calls.append(path) or sizes(path))
    open_dataset(directory)
    assert calls.count(directory) == 1
    assert not [path for path in calls if path.endswith(".bin")]


def test_another_tokenizer_is_found_on_opening(dataset):
    manifest = storage.join(dataset.directory, "manifest.json")
    storage.write(manifest, storage.read(manifest).replace(dataset.tokenizer.sha256.encode(), b"0" * 64))
    with pytest.raises(InputError, match=r"tokenizer: .*not hold the tokenizer that made the rows"):
        open_dataset(dataset.directory)


def test_bad_counts_are_found_on_opening(dataset):
    with storage.open_to_write(storage.join(dataset.directory, "unigram_counts.npy")) as file:
        np.save(file, np.zeros(3, np.int64))
    with pytest.raises(InputError, match=r"unigram_counts.npy: .*\(3,\)"):
        open_dataset(dataset.directory)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_dataset_is_unpickled(tmp_path, write_dataset):
    directory = tmp_path / "dataset"
    write_dataset(directory)
    trap = tmp_path / "was_run"
    np.save(directory / "unigram_counts.npy", np.array([Trap(str(trap))], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"unigram_counts.npy: "):
        open_dataset(directory)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (lambda manifest: manifest[:-20], "manifest.json: cannot be read .it is not JSON"),
        (lambda manifest: manifest.replace(b'_version": 2', b'_version": 1'), "found format_version 1, expected 2"),
        (
            lambda manifest: b'{"format_version": 2}',
            "manifest.json: the dataset is damaged: data_fingerprint: found noth",
        ),
        (lambda manifest: b"[]", "found format_version null"),
        (lambda manifest: manifest.replace(b'"source": 1', b'"source": 2'), "train-00002.bin is out of order"),
        (lambda manifest: manifest.replace(b'"source": 0', b'"source": 1', 1), "train-00001.bin is out of order"),
        (lambda manifest: manifest.replace(b'"rows": 250', b'"rows": 249'), "train has 250 rows, expected 249"),
        (lambda manifest: manifest.replace(b"<u2", b"<u4"), "train-00000.bin: .*2000 bytes, expected 3600"),
    ],
)
def test_a_bad_manifest_is_named(dataset, new, message):
    change(dataset, "manifest.json", new)
    with pytest.raises(InputError, match=message):
        open_dataset(dataset.directory)


def test_a_directory_without_a_dataset_is_named(tmp_path):
    for place in (f"{tmp_path}/nothing", "memory://nothing"):
        with pytest.raises(InputError, match=r"nothing is not a prepared dataset: cannot read .*manifest.json"):
            open_dataset(place)


def test_tokens_of_large_vocabularies_keep_all_their_bits(tmp_path):
    tokenizer = types.SimpleNamespace(vocabulary_size=70_005, pad_id=0, cls_id=2, sep_id=3, mask_id=4)
    with ShardWriter(f"{tmp_path}/shard.bin", length=3, tokenizer=tokenizer) as writer:
        writer.add(np.array([[1, 65_536, 70_004]]))
    assert (tmp_path / "shard.bin").stat().st_size == 3 * 4 + 4
    split = datasets.Split(1, 3, 1, 3, ((writer.path, 1),), (range(1),), np.dtype("<u4"))
    assert split.rows(np.array([0])).tolist() == [[1, 65_536, 70_004]]


def test_a_home_directory_is_found(tmp_path, write_dataset, monkeypatch):
    write_dataset(tmp_path / "dataset")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_dataset("~/dataset").train.rows(np.array([3]))[0, 0] == 8
    assert pathlib.Path(tmp_path, "dataset", "manifest.json").exists()
    assert json.loads(storage.read("~/dataset/manifest.json"))["format_version"] == 2


def test_changed_counts_are_found_by_their_hash(dataset):
    path, manifest = (storage.join(dataset.directory, name) for name in ("unigram_counts.npy", "manifest.json"))
    fields = json.loads(storage.read(manifest))
    assert open_dataset(dataset.directory).unigram_counts.sum()  # A manifest without the hash is still read.
    fields["unigram_counts_sha256"] = hashlib.sha256(storage.read(path)).hexdigest()
    storage.write_json(manifest, fields)
    assert open_dataset(dataset.directory).unigram_counts.sum()
    changed = io.BytesIO()
    np.save(changed, dataset.unigram_counts + 1)
    storage.write(path, changed.getvalue())
    with pytest.raises(InputError, match=r"unigram_counts\.npy: the dataset is damaged \(SHA-256"):
        open_dataset(dataset.directory)
