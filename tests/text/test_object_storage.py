"""A dataset in an object store, which gcsfs reads and writes."""

import itertools

import numpy as np
import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.dataset.dataset import is_prepared, open_dataset, verify
from electra_jax.text.dataset.row_batches import training_batches


@pytest.fixture
def bucket(object_store):
    """The address of an empty bucket; the store lives in this process."""
    return "gs://bucket"


def test_a_dataset_is_written_read_and_verified(bucket, write_dataset):
    directory = f"{bucket}/runs/dataset"
    assert not is_prepared(directory)
    dataset = write_dataset(directory)
    assert is_prepared(directory)
    assert dataset.train.is_remote
    assert (dataset.train.rows(np.arange(250))[:, 0] == np.arange(5, 255)).all()
    verify(dataset)
    assert set(storage.sizes(directory)) == {
        "heldout-00000.bin",
        "manifest.json",
        "train-00000.bin",
        "train-00001.bin",
        "train-00002.bin",
        "unigram_counts.npy",
    }


def test_batches_are_those_of_local_files(bucket, write_dataset, tmp_path):
    def rows(directory):
        split = write_dataset(directory).train
        options = dict(batch_size=100, seed=1, start=7, process_index=1, process_count=2, weights=[1, 2])
        return list(itertools.islice(training_batches(split, **options), 12))

    assert (np.array(rows(f"{bucket}/batches")) == rows(tmp_path)).all()


def test_damage_is_found_and_named(bucket, write_dataset):
    directory = f"{bucket}/damaged"
    dataset = write_dataset(directory)
    path = f"{directory}/train-00001.bin"
    content = bytearray(storage.read(path))
    content[20 * 7] ^= 1
    storage.write(path, bytes(content))
    with pytest.raises(InputError, match=r"train-00001.bin: .*row 7 "):
        open_dataset(directory).train.rows(np.arange(250))
    with pytest.raises(InputError, match=r"train-00001.bin: SHA-256"):
        verify(dataset)
    storage.write(path, bytes(content[:-1]))
    with pytest.raises(InputError, match=r"train-00001.bin: .*1999 bytes, expected 2000"):
        open_dataset(directory)
    storage.remove(path)
    with pytest.raises(InputError, match=r"train-00001.bin: .*missing"):
        open_dataset(directory)
