"""A small config of data, for the tests that prepare."""

import pathlib

import ml_collections
import pytest

SHAKESPEARE = pathlib.Path(__file__).parents[1] / "data" / "shakespeare.txt"


@pytest.fixture
def data(tmp_path):
    """`config.data` for the text of the house: rows of 32, a vocabulary of 600."""
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
            "tokenizer": {"source": "train", "vocabulary_size": 600, "lowercase": True, "strip_accents": True},
        }
    )
