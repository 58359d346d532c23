"""Compressed files are unpacked in small blocks, and refused when they grow as no text does."""

import bz2
import dataclasses
import gzip
import io
import lzma
import zipfile

import pytest
import zstandard

from electra_jax.errors import InputError
from electra_jax.text.sources import decompression, formats, line_reader, pypi
from electra_jax.text.sources.text_sources import documents, pieces

PACK = {".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
WHOLE = 1 << 30


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(decompression, "FREE_BYTES", 1 << 16)
    monkeypatch.setattr(decompression, "MOST_EXPANSION", 10)


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_is_refused_before_it_is_unpacked(suffix, small_limits):
    packed = PACK[suffix](bytes(1 << 24))
    produced = []
    blocks = decompression.blocks(io.BytesIO(packed), f"a.txt{suffix}", lambda count: None)
    with pytest.raises(
        InputError, match=rf"a\.txt\{suffix}: \d+ stored bytes gave more than \d+ MiB, expected at most"
    ):
        produced.extend(map(len, blocks))
    assert max(produced, default=0) <= 1 << 20
    assert sum(produced) <= (1 << 16) + 10 * len(packed) + (1 << 20)


@pytest.mark.parametrize("suffix", PACK)
def test_text_that_shrinks_well_is_read(suffix):
    text = b"the same line again and again\n" * 100_000
    assert b"".join(decompression.blocks(io.BytesIO(PACK[suffix](text)), f"a{suffix}", lambda count: None)) == text


def test_a_member_of_a_wheel_that_grows_without_bounds_is_refused(tmp_path, small_limits):
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(1 << 22))
        archive.writestr("b.txt", b"text")
    with pytest.raises(InputError, match=r"whl!a\.txt: \d+ stored bytes gave more than"):
        pypi.member_sizes(wheel, "*.txt")
    # Its size is only what the archive says, so what comes out is counted too.
    with pypi.open_member(wheel, "a.txt") as stream, pytest.raises(InputError, match="stored bytes gave more than"):
        stream.read()
    assert pypi.member_sizes(wheel, "b.txt") == {"b.txt": 4}


def test_a_line_and_a_document_have_a_largest_size(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("short\n\n" + "long " * 100_000)
    (piece,) = pieces(str(path), "", WHOLE)
    monkeypatch.setattr(line_reader, "_BLOCK_BYTES", 1 << 10)
    with monkeypatch.context() as limits:
        limits.setattr(line_reader, "_LONGEST_LINE_BYTES", 1 << 12)
        with pytest.raises(InputError, match=r"a\.txt, line 3: is longer than 0 MiB"):
            list(documents(piece, ""))
    path.write_text("line\n" * 1000)
    (piece,) = pieces(str(path), "", WHOLE)
    monkeypatch.setattr(formats, "_LARGEST_DOCUMENT_BYTES", 1 << 12)
    with pytest.raises(InputError, match=r"a\.txt: a document takes more than .* end documents sooner"):
        list(documents(piece, ""))
    (piece,) = pieces(f"{path}#documents=line", "", WHOLE)
    assert len(list(documents(piece, ""))) == 1000


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("appended", [b"\n", b"rest of another file", b"\0\0\0 and more" * 20_000])
def test_what_follows_the_data_is_passed_over_and_said(suffix, appended, tmp_path):
    packed = PACK[suffix](b"first\n") + PACK[suffix](b"second\n")
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(packed + appended)
    (piece,) = pieces(str(path), "", WHOLE)
    read, notes = [], []
    assert [document.lines for document in documents(piece, "", read.append, notes.append)] == [("first", "second")]
    assert sum(read) == piece.size
    (note,) = notes
    end = len(packed) + (3 if appended.startswith(b"\0") else 0)
    assert (
        f"a.txt{suffix}: the {decompression.COMPRESSIONS[suffix]} data ends at byte {end:,} of {piece.size:,}" in note
    )
    with pytest.raises(InputError, match="is damaged after line 2"):
        list(documents(piece, ""))
    path.write_bytes(packed[:-3])
    with pytest.raises(InputError, match="is damaged after line"):
        list(documents(dataclasses.replace(piece, size=len(packed)), "", read.append, notes.append))
