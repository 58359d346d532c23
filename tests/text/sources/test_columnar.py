"""Parquet and Arrow are read by a child process, whose end is an error of the file and not of the run."""

import io
import os
import queue
import subprocess
import sys
import zipfile

import pyarrow
import pyarrow.parquet
import pytest

from electra_jax.errors import InputError
from electra_jax.text.sources import columnar, pypi

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
