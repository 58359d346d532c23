"""TFDS datasets: one that is really written to disk and read back, and the catalogue with mocked examples."""

import os

import numpy
import pytest
import tensorflow
import tensorflow_datasets
from tensorflow_datasets.core import dataset_info
from tensorflow_datasets.core.download.util import DownloadError
from tensorflow_datasets.core.utils import file_utils

from electra_jax.errors import InputError
from electra_jax.text.sources import tfds
from electra_jax.text.sources.text_sources import documents, download, pieces

WHOLE = 1 << 40
TEXTS = [f"text {number}\n\n é" if number % 5 else " " for number in range(300)]
EXPECTED = [tuple(line.strip() for line in text.split("\n") if line) for text in TEXTS if text.strip()]


@pytest.fixture(scope="module", autouse=True)
def catalogue(tmp_path_factory):
    """The dataset tiny_text, in shards of 70 examples, where TFDS finds it."""
    root = tmp_path_factory.mktemp("tfds")
    directory = root / "tiny_text" / "1.0.0"
    os.makedirs(directory)
    info = tensorflow_datasets.core.DatasetInfo(
        builder=dataset_info.DatasetIdentity(
            "tiny_text", tensorflow_datasets.core.Version("1.0.0"), str(directory), "nowhere"
        ),
        features=tensorflow_datasets.features.FeaturesDict(
            {
                "text": tensorflow_datasets.features.Text(),
                "raw": tensorflow_datasets.features.Tensor(shape=(), dtype=numpy.bytes_),
                "id": numpy.int64,
            }
        ),
    )
    writer = tensorflow_datasets.core.SequentialWriter(info, max_examples_per_shard=70)
    writer.initialize_splits(["train", "other"])
    writer.add_examples(
        {
            "train": [{"text": text, "raw": b"", "id": number} for number, text in enumerate(TEXTS)],
            "other": [{"text": "a", "raw": raw, "id": 0} for raw in (b"fine", "cafés".encode("latin-1"))],
        }
    )
    writer.close_all()
    tensorflow_datasets.core.add_data_dir(root)
    yield directory
    file_utils.clear_registered_data_dirs()


def lines_of(source, piece_bytes=WHOLE):
    return [found.lines for piece in pieces(source, "", piece_bytes) for found in documents(piece, "")]


def test_any_cutting_gives_the_examples_in_the_order_they_were_written():
    (whole,) = pieces("tfds:tiny_text", "", WHOLE)
    assert (whole.place, whole.start, whole.stop) == ("tiny_text:1.0.0", 0, 300)
    assert lines_of("tfds:tiny_text") == EXPECTED
    cut = pieces("tfds:tiny_text", "", whole.size // 7)
    assert len(cut) == 8
    assert sum(piece.size for piece in cut) == whole.size
    assert [piece.stop for piece in cut[:-1]] == [piece.start for piece in cut[1:]]
    assert lines_of("tfds:tiny_text", whole.size // 7) == EXPECTED


def test_a_piece_is_never_smaller_than_an_example():
    assert [(piece.start, piece.stop) for piece in pieces("tfds:tiny_text#split=other", "", 1)] == [(0, 1), (1, 2)]


def test_progress_is_counted_in_bytes_of_text():
    (whole,) = pieces("tfds:tiny_text", "", WHOLE)
    read = []
    list(documents(whole, "", read.append))
    assert sum(read) == sum(len(text.encode()) for text in TEXTS)
    assert len(read) > 2


def test_what_is_on_disk_is_not_fetched(monkeypatch):
    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", None)
    download(("tfds:tiny_text", "tfds:tiny_text:1.0.0"), "")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tfds:tiny_text#split=test", r"no split 'test' \(found other, train\); append #split=NAME"),
        ("tfds:tiny_text#field=body", r"no field 'body' \(found id, raw, text\); append #field=NAME"),
        ("tfds:tiny_text#field=id", "field 'id' holds .*int64.*, expected a text"),
        ("tfds:tiny_text#split=other&field=raw", r"split other, example 1: byte 3 of the text \(0xe9\) is not UTF-8"),
        ("tfds:no_such_text", r"tfds:no_such_text is not known to TensorFlow Datasets .*catalog"),
        ("tfds:wikipedia", r"several datasets; name one of its \d+ configs, such as tfds:wikipedia/\w+"),
        ("tfds:wikipedia/1.xx", r"tfds:wikipedia/1.xx is not known to TensorFlow Datasets"),
        ("tfds:wikipedia/20230601.en", "is not in .*may download it"),
    ],
)
def test_unreadable_sources_are_reported(source, message):
    with pytest.raises(InputError, match=message):
        lines_of(source)


def test_a_damaged_file_is_reported_with_its_folder(catalogue):
    (shard,) = catalogue.glob("*train*00002*")
    content = shard.read_bytes()
    (whole,) = pieces("tfds:tiny_text", "", WHOLE)
    shard.write_bytes(content[:1000] + bytes(10) + content[1010:])
    try:
        with pytest.raises(InputError, match=f"cannot be read after example .*{catalogue}"):
            list(documents(whole, ""))
    finally:
        shard.write_bytes(content)


def test_a_dataset_of_the_catalogue_is_read_by_its_name():
    with tensorflow_datasets.testing.mock_data(num_examples=5):
        # Its examples are invented, and so is how many a split has; nothing says how many bytes.
        found = list(tfds.texts("wikipedia/20230601.en", "train", "text", 0, 5, lambda number: None))
    assert len(found) == 5
    assert all(isinstance(text, str) and text for text in found)


@pytest.mark.parametrize("failure", [OSError, ImportError, DownloadError, AssertionError])
def test_a_failed_download_is_reported_with_the_fix(monkeypatch, failure):
    def fail(builder, **options):
        raise failure("no route to dumps.wikimedia.org\nand more")

    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(InputError) as error:
        download(("tfds:wikipedia/20230601.en",), "")
    for part in ("wikipedia/20230601.en", "(no route to dumps.wikimedia.org)", "network", "TFDS_DATA_DIR"):
        assert part in str(error.value)


def test_accelerators_are_left_to_others(monkeypatch):
    hidden = []
    monkeypatch.setattr(tensorflow.config, "set_visible_devices", lambda devices, kind: hidden.append((kind, devices)))
    assert lines_of("tfds:tiny_text") == EXPECTED
    assert hidden == [("GPU", []), ("TPU", [])]
