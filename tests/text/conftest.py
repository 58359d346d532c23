"""A small config of data, for the tests that prepare, and small datasets, for those that read."""

import json
import pathlib

import ml_collections
import numpy as np
import pytest

from electra_jax import storage
from electra_jax.text.dataset.dataset import open_dataset
from electra_jax.text.dataset.shards import ShardWriter, token_dtype
from electra_jax.text.tokenizers.tokenizer import SPECIAL_PIECES, load

SHAKESPEARE = pathlib.Path(__file__).parents[1] / "data" / "shakespeare.txt"


@pytest.fixture
def data(tmp_path):
    """`config.data` for the shipped text: rows of 32, a vocabulary of 600."""
    return ml_collections.ConfigDict(
        {
            "directory": str(tmp_path / "dataset"),
            "sources": (str(SHAKESPEARE),),
            "download_cache": str(tmp_path / "cache"),
            "sequence_length": 32,
            "heldout_fraction": 0.2,
            "rows": "segment_pairs",
            "single_segment_probability": 0.1,
            "short_row_probability": 0.05,
            "seed": 0,
            "mixture_temperature": 1.0,
            "filters": {
                "drop_copies": True,
                "shortest_document": 0,
                "longest_document": 0,
                "largest_unknown_share": 1.0,
            },
            "tokenizer": {
                "source": "train",
                "kind": "wordpiece",
                "vocabulary_size": 600,
                "character_coverage": 0.9995,
                "add_special_pieces": False,
                "lowercase": True,
                "strip_accents": True,
            },
        }
    )


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory):
    """A vocabulary of five special tokens and 995 others."""
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("\n".join([*SPECIAL_PIECES, *(f"w{n}" for n in range(995))]))
    return load(path)


@pytest.fixture
def write_dataset(tiny_tokenizer):
    """Writes datasets whose row i holds i + 5 everywhere, in rows of 8, and opens them.

    `shards` are (source, number of rows) of each file of `train`; `heldout` has one file of 20 rows.
    """

    def write(directory, shards=((0, 100), (0, 100), (1, 50)), tokenizer=tiny_tokenizer):
        splits = {}
        for split, of_split in (("train", shards), ("heldout", ((0, 20),))):
            first, entries = 5, []
            for number, (source, rows) in enumerate(of_split):
                path = f"{directory}/{split}-{number:05d}.bin"
                with ShardWriter(path, length=8, tokenizer=tokenizer) as writer:
                    writer.add(np.repeat(np.arange(first, first + rows)[:, None], 8, axis=1))
                first += rows
                entries.append(writer.summary() | {"source": source})
                if split == "train" and not number:
                    counts = writer.unigram_counts
            rows = sum(entry["rows"] for entry in entries)
            splits[split] = {"documents": 1, "rows": rows, "tokens": rows * 8, "shards": entries}
        tokenizer.save(f"{directory}/tokenizer")
        with storage.open_to_write(f"{directory}/unigram_counts.npy") as file:
            np.save(file, counts)
        manifest = {
            "format_version": 2,
            "data_fingerprint": "0",
            "config": {},
            "length": 8,
            "rows": "segment_pairs",
            "dtype": token_dtype(tokenizer.vocabulary_size).str,
            "tokenizer_sha256": tokenizer.sha256,
            "sources": [{"source": f"text{n}"} for n in range(max(source for source, _ in shards) + 1)],
            "splits": splits,
            "heldout_unigram_entropy": 1.0,
        }
        storage.write(f"{directory}/manifest.json", json.dumps(manifest).encode())
        return open_dataset(directory)

    return write


@pytest.fixture
def file(tmp_path):
    """Makes a file of a name and content in this test's folder."""

    def make(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make
