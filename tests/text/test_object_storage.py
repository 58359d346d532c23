"""A dataset in an object store: the emulator speaks Google's protocol, and gcsfs reads and writes it."""

import http.server
import itertools
import socket

import fsspec
import gcsfs
import numpy as np
import pytest
from gcp_storage_emulator import server

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.dataset.dataset import is_prepared, open_dataset, verify
from electra_jax.text.dataset.row_batches import training_batches


@pytest.fixture(scope="module")
def object_store():
    """The address of an empty bucket; the store lives in this process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        # It answers one request after another, and turns away whom it has no room to let wait.
        patch.setattr(http.server.HTTPServer, "request_queue_size", 1024)
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
        patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        # Plainly over HTTP: the default class first asks the real Google, over gRPC, of what kind the bucket is.
        fsspec.register_implementation("gs", gcsfs.core.GCSFileSystem, clobber=True)
        emulator = server.create_server("localhost", port, in_memory=True, default_bucket="bucket")
        emulator.start()
        yield "gs://bucket"
    gcsfs.core.GCSFileSystem.clear_instance_cache()
    fsspec.register_implementation("gs", gcsfs.GCSFileSystem, clobber=True)
    emulator.stop()


def test_a_dataset_is_written_read_and_verified(object_store, write_dataset):
    directory = f"{object_store}/runs/dataset"
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


def test_batches_are_those_of_local_files(object_store, write_dataset, tmp_path):
    def rows(directory):
        split = write_dataset(directory).train
        options = dict(batch_size=100, seed=1, start=7, process_index=1, process_count=2, weights=[1, 2])
        return list(itertools.islice(training_batches(split, **options), 12))

    assert (np.array(rows(f"{object_store}/batches")) == rows(tmp_path)).all()


def test_damage_is_found_and_named(object_store, write_dataset):
    directory = f"{object_store}/damaged"
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
