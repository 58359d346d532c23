"""Parquet and Arrow are read by a child process, whose end is an error of the file and not of the run."""

import io
import os
import queue
import subprocess
import sys
import zipfile

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
from pyarrow import feather

from electra_jax.errors import InputError
from electra_jax.text.sources import columnar, pypi
from electra_jax.text.sources.text_sources import documents, pieces
from tests.text.reading import lines_of

COUNT = 2000


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [f"text {n}" for n in range(COUNT)]}), made, row_group_size=500)
    return made


def texts(path, stop=4):
    with open(path, "rb") as stream:
        yield from columnar.texts(stream, str(path), "parquet", "text", 0, stop, lambda count: None)


def test_a_child_that_dies_gives_an_error_that_names_the_file(path, monkeypatch):
    def dies():
        program = "import os, sys; sys.stdin.readline(); os.abort()"
        return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with monkeypatch.context() as patched:
        patched.setattr(columnar, "_start", dies)
        none = queue.SimpleQueue()
        patched.setattr(columnar, "_idle", lambda pid: none)
        with pytest.raises(InputError, match=r"a\.parquet: reading this file ended the process .*SIGABRT"):
            list(texts(path))
    assert len(list(texts(path))) == COUNT


def test_one_child_reads_many_files_and_is_replaced_when_left_early(path):
    list(texts(path))
    idle = columnar._idle(os.getpid())
    before = idle.qsize()
    assert list(texts(path, 1)) == [f"text {n}" for n in range(500)]
    with pytest.raises(InputError, match="not a Parquet file"):
        list(columnar.texts(io.BytesIO(b"PAR1"), "b.parquet", "parquet", "text", 0, 1, lambda count: None))
    assert idle.qsize() == before
    half_read = texts(path)
    next(half_read)
    half_read.close()
    assert idle.qsize() == before - 1
    assert len(list(texts(path))) == COUNT


def test_rows_that_grow_as_no_text_does_are_refused(tmp_path):
    bomb = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x" * (1 << 20)] * 100}), bomb)
    with pytest.raises(InputError, match=r"bomb\.parquet: \d+ stored bytes gave more than"):
        list(texts(bomb, 1))


def test_parquet_in_a_wheel_is_read(path, tmp_path):
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(path, "a.parquet")
    with pypi.open_member(wheel, "a.parquet") as stream:
        assert columnar.stretches(stream, "w!a.parquet", "parquet", "text", 1 << 30)[0][:2] == (0, 4)


def arrow(path, table, rows=500, stream=True):
    new = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with pyarrow.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


NESTED = pyarrow.table(
    {"id": range(COUNT), "meta": [{"text": f"text {n}", "n": n} if n % 2 else None for n in range(COUNT)]}
)


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string(), pyarrow.dictionary("int32", "string")])
@pytest.mark.parametrize("stream", [True, False])
def test_arrow_is_read_by_record_batches_in_both_formats(tmp_path, kind, stream):
    strings = [f"text {n}" for n in range(COUNT)]
    table = pyarrow.table({"id": range(COUNT), "text": pyarrow.array(strings).cast(kind)})
    path = arrow(tmp_path / "a.arrow", table, stream=stream)
    cut = pieces(str(path), "", path.stat().st_size // 4 + 1)
    assert len(cut) == (1 if stream else 4)
    read = []
    assert [document.lines[0] for piece in cut for document in documents(piece, "", read.append)] == strings
    assert sum(piece.size for piece in cut) == path.stat().st_size
    assert path.stat().st_size - 8 <= sum(read) <= path.stat().st_size


def test_feather_is_arrow(tmp_path):
    feather.write_feather(pyarrow.table({"body": ["one", None, "two"]}), str(tmp_path / "a.feather"), "zstd")
    assert lines_of(f"{tmp_path}/a.feather#field=body") == [("one",), ("two",)]
    (tmp_path / "b.feather").write_bytes(b"FEA1" + bytes(100))
    with pytest.raises(InputError, match=r"b\.feather: is in version 1 of Feather"):
        lines_of(tmp_path / "b.feather")


def test_fields_within_columns_are_named_with_dots(tmp_path):
    pyarrow.parquet.write_table(NESTED, tmp_path / "a.parquet")
    arrow(tmp_path / "a.arrow", NESTED)
    for name in ("a.parquet", "a.arrow"):
        expected = [(f"text {n}",) for n in range(1, COUNT, 2)]
        assert lines_of(f"{tmp_path}/{name}#field=meta.text") == expected
        for field, message in [
            ("text", "no column 'text' (found id, meta.text, meta.n)"),
            ("meta.body", "no column 'meta.body' (found id, meta.text, meta.n)"),
            ("meta", "column 'meta' holds struct<text: string, n: int64>, expected string"),
            ("meta.n", "(columns of strings: meta.text)"),
        ]:
            with pytest.raises(InputError) as error:
                lines_of(f"{tmp_path}/{name}#field={field}")
            assert message in str(error.value)


def test_a_name_with_a_dot_is_that_column(tmp_path):
    arrow(tmp_path / "a.arrow", pyarrow.table({"a.b": ["named"], "a": [{"b": "inner"}]}))
    assert lines_of(f"{tmp_path}/a.arrow#field=a.b") == [("named",)]


def test_damaged_arrow_is_refused(tmp_path):
    path = arrow(tmp_path / "a.arrow", pyarrow.table({"text": ["one", "two"]}))
    whole = path.read_bytes()
    for content in (whole[:-8], whole[:-300], b"", b"ARROW1 no more", b"no Arrow" + bytes(8)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.arrow"):
            lines_of(path)
    path.write_bytes(whole.replace(b"onetwo", b"one\xff\xff\xff"))
    with pytest.raises(InputError, match=r"record batch 0, row 2: byte 0 of the text \(0xff\) is not UTF-8"):
        lines_of(path)


def test_a_dataset_that_was_saved_is_read_in_the_order_of_its_state(tmp_path):
    split = tmp_path / "saved" / "train"
    split.mkdir(parents=True)
    for name, text in (("data-1.arrow", "first"), ("data-0.arrow", "second"), ("cache-9.arrow", "no part of it")):
        arrow(split / name, pyarrow.table({"text": [text]}))
    (split / "dataset_info.json").write_text("{}")
    (split / "state.json").write_text('{"_data_files": [{"filename": "data-1.arrow"}, {"filename": "data-0.arrow"}]}')
    assert lines_of(split) == [("first",), ("second",)]
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(InputError, match=r"holds several splits; name one: .*/saved/train, .*/saved/test\."):
        lines_of(tmp_path / "saved")
    (split / "state.json").write_text('{"_data_files": [{"filename": "../../data-1.arrow"}]}')
    with pytest.raises(InputError, match=r"state\.json: _data_files\[0\]\.filename"):
        lines_of(split)
