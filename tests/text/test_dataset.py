"""Datasets on disk: damage is found and named."""

import json

import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.text import shards, writer
from electra_jax.text.dataset import open_dataset, token_dtype, verify


@pytest.fixture
def dataset(data, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_BYTES", 32 * 2 * 1000)
    return writer.prepare(data, lambda line: None)


def test_rows_are_read_in_any_order_across_shards(dataset):
    assert len(dataset.train.shards) > 1
    every = dataset.train.rows(np.arange(dataset.train.num_rows))
    assert every.dtype == np.int32
    stored = b"".join(path.read_bytes() for path, _ in dataset.train.shards)
    assert every.astype("<u2").tobytes() == stored
    indices = np.array([999, 1000, 0, 1001, 999, dataset.train.num_rows - 1])
    assert (dataset.train.rows(indices) == every[indices]).all()
    assert dataset.train.rows(np.array([], int)).shape == (0, 32)


@pytest.mark.parametrize("index", [-1, 10**9])
def test_rows_that_are_not_there_are_an_error(dataset, index):
    with pytest.raises(IndexError, match="of a split with"):
        dataset.train.rows(np.array([0, index]))


@pytest.mark.parametrize("name", ["train-00001.bin", "heldout-00000.bin"])
def test_a_truncated_or_missing_shard_is_found_on_opening(dataset, name):
    path = dataset.directory / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"{name}: .*{len(content) - 1} bytes, expected {len(content)}"):
        open_dataset(dataset.directory)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: .*missing"):
        open_dataset(dataset.directory)


def test_a_flipped_bit_is_found_by_verify_and_named(dataset):
    verify(dataset)
    path = dataset.directory / "train-00001.bin"
    content = bytearray(path.read_bytes())
    content[1234] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train-00001.bin: .*SHA-256 [0-9a-f]{64}, expected"):
        verify(open_dataset(dataset.directory))


def test_another_tokenizer_is_found_on_opening(dataset):
    path = dataset.directory / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase":true', '"lowercase":false'))
    with pytest.raises(InputError, match=r"tokenizer.json: .*not the tokenizer that made the rows"):
        open_dataset(dataset.directory)


def test_bad_counts_are_found_on_opening(dataset):
    path = dataset.directory / "unigram_counts.npy"
    np.save(path, np.zeros(3, np.int64))
    with pytest.raises(InputError, match=r"unigram_counts.npy: .*\(3,\)"):
        open_dataset(dataset.directory)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_dataset_is_unpickled(dataset, tmp_path):
    trap = tmp_path / "was_run"
    np.save(dataset.directory / "unigram_counts.npy", np.array([Trap(str(trap))], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"unigram_counts.npy: "):
        open_dataset(dataset.directory)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-20], "manifest.json: the dataset is damaged"),
        (lambda text: json.dumps(json.loads(text) | {"format_version": 0}), "found format_version 0, expected 1"),
        (lambda text: json.dumps({"format_version": 1}), "no valid entry"),
        (lambda text: "[]", "found format_version None"),
    ],
)
def test_a_bad_manifest_is_named(dataset, change, said):
    path = dataset.directory / "manifest.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=said):
        open_dataset(dataset.directory)


def test_tokens_take_two_bytes_until_the_vocabulary_needs_four():
    assert token_dtype(65_536) == np.dtype("<u2")
    assert token_dtype(65_537) == np.dtype("<u4")


def test_large_vocabularies_are_stored_and_read_whole(data, tmp_path):
    from electra_jax.text.tokenizer import SPECIAL_PIECES

    words = ["the", "and", "of", "to", "i", "you", "my", "a", "that", "in", "is", "not", "it"]
    pieces = [*SPECIAL_PIECES, *(f"filler{n}" for n in range(70_000)), *words]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    data.tokenizer.source = str(tmp_path / "vocab.txt")
    dataset = writer.prepare(data, lambda line: None)
    rows = dataset.train.rows(np.arange(dataset.train.num_rows))
    assert rows.max() == len(pieces) - 1
    assert dataset.train.shards[0][0].stat().st_size == rows.size * 4
