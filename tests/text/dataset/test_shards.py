"""Shards: rows are written unchanged, counted and hashed; a file is complete or does not exist."""

import hashlib
import zlib

import numpy as np
import pytest

from electra_jax import storage
from electra_jax.text.dataset import shards
from electra_jax.text.dataset.shards import ShardWriter, checksums, record_dtype, token_dtype

PLACES = ["{}/train-00000.bin", "memory://shards{}/train-00000.bin"]


@pytest.fixture
def rows():
    rows = np.random.default_rng(0).integers(0, 1000, (100, 16)).astype(np.int32)
    rows[:, 12:] = 0
    rows[0, :5] = range(5)
    return rows


@pytest.mark.parametrize("place", PLACES)
def test_a_shard_holds_its_rows_and_a_checksum_of_each(tmp_path, tiny_tokenizer, rows, monkeypatch, place):
    monkeypatch.setattr(shards, "_ROWS_WRITTEN_AT_ONCE", 32)
    path = place.format(tmp_path)
    with ShardWriter(path, length=16, tokenizer=tiny_tokenizer) as writer:
        for start in (0, 7, 14):
            writer.add(rows[start : start + 7])
        writer.add(rows[21:])
        assert not storage.exists(path)
    content = storage.read(path)
    records = np.frombuffer(content, record_dtype(np.dtype("<u2"), 16))
    assert len(content) == 100 * (16 * 2 + 4)
    assert (records["tokens"] == rows).all()
    assert records["crc32"].tolist() == [zlib.crc32(row.astype("<u2").tobytes()) for row in rows]
    assert writer.summary() == {
        "file": "train-00000.bin",
        "rows": 100,
        "tokens": np.count_nonzero(rows),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_special_tokens_are_not_counted_and_others_are(tmp_path, tiny_tokenizer, rows):
    with ShardWriter(f"{tmp_path}/shard.bin", length=16, tokenizer=tiny_tokenizer) as writer:
        writer.add(rows)
    counts = np.bincount(rows.ravel(), minlength=1000)
    special = [tiny_tokenizer.pad_id, tiny_tokenizer.cls_id, tiny_tokenizer.sep_id, tiny_tokenizer.mask_id]
    assert counts[special].all()
    counts[special] = 0
    assert counts[tiny_tokenizer.unknown_id]
    assert writer.unigram_counts.dtype == np.int64
    assert writer.unigram_counts.tolist() == counts.tolist()


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupted_shard_leaves_nothing(tmp_path, tiny_tokenizer, rows, monkeypatch, place):
    monkeypatch.setattr(shards, "_ROWS_WRITTEN_AT_ONCE", 32)
    path = place.format(tmp_path)
    with pytest.raises(KeyError), ShardWriter(path, length=16, tokenizer=tiny_tokenizer) as writer:  # noqa: PT012
        writer.add(rows)
        raise KeyError
    assert not storage.names(path.rpartition("/")[0])


def test_a_shard_without_rows_is_no_file(tmp_path, tiny_tokenizer):
    with ShardWriter(f"{tmp_path}/shard.bin", length=16, tokenizer=tiny_tokenizer) as writer:
        writer.add(np.empty((0, 16), np.int32))
    assert not list(tmp_path.iterdir())
    assert writer.summary()["rows"] == writer.summary()["tokens"] == 0


def test_rows_may_be_changed_once_they_were_added(tmp_path, tiny_tokenizer):
    reused = np.full((1, 16), 7, np.int32)
    with ShardWriter(f"{tmp_path}/shard.bin", length=16, tokenizer=tiny_tokenizer) as writer:
        writer.add(reused)
        reused[:] = 8
    assert writer.unigram_counts[7] == 16


def test_a_token_that_the_vocabulary_does_not_have_is_refused(tmp_path, tiny_tokenizer):
    writer = ShardWriter(f"{tmp_path}/shard.bin", length=16, tokenizer=tiny_tokenizer)
    writer.add(np.full((1, 16), 1000))
    with pytest.raises(ValueError, match="shape"):
        writer.__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


def test_tokens_take_two_bytes_until_the_vocabulary_needs_four():
    assert token_dtype(65_536) == np.dtype("<u2")
    assert token_dtype(65_537) == np.dtype("<u4")


def test_checksums_cover_the_tokens_and_not_the_checksum():
    records = np.zeros(2, record_dtype(np.dtype("<u4"), 3))
    records["tokens"][1] = [1, 2, 70_000]
    records["crc32"][1] = 5
    assert checksums(records).tolist() == [zlib.crc32(bytes(12)), zlib.crc32(records["tokens"][1].tobytes())]
