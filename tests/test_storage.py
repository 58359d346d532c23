"""Files at local paths and at addresses, through the same functions."""

import os
import stat
import uuid

import pytest

from electra_jax import storage


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    """An empty directory, on disk or in fsspec's memory."""
    return str(tmp_path / "place") if request.param == "local" else f"memory://{uuid.uuid4()}"


def test_what_is_written_is_read_listed_and_removed(place):
    assert storage.names(place) == []
    assert not storage.exists(place)
    storage.write(f"{place}/deep/b.txt", b"hello world")
    storage.write(f"{place}/deep/a.txt", b"hi")
    assert storage.names(place) == ["deep"]
    assert storage.names(f"{place}/deep") == ["a.txt", "b.txt"]
    assert storage.is_directory(f"{place}/deep")
    assert not storage.is_directory(f"{place}/deep/a.txt")
    assert storage.size(f"{place}/deep/b.txt") == 11
    assert storage.read(f"{place}/deep/b.txt") == b"hello world"
    with storage.open_to_read(f"{place}/deep/b.txt") as file:
        file.seek(6)
        assert file.read() == b"world"
    assert [path.rpartition("/")[2] for path in storage.matching(f"{place}/deep/*.txt")] == ["a.txt", "b.txt"]
    assert [storage.read(path) for path in storage.matching(f"{place}/deep/*.txt")] == [b"hi", b"hello world"]
    storage.remove(f"{place}/deep/a.txt")
    assert storage.names(f"{place}/deep") == ["b.txt"]
    storage.remove(place)
    assert not storage.exists(f"{place}/deep/b.txt")
    storage.remove(f"{place}/deep")  # Nothing there: nothing happens.


def test_a_file_appears_complete_or_not_at_all(place):
    storage.write(f"{place}/file", b"old")

    def fail():
        with storage.open_to_write(f"{place}/file") as file:
            file.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert storage.read(f"{place}/file") == b"old"
    assert storage.names(place) == ["file"]


def test_json_is_written_as_people_read_it(place):
    storage.write_json(f"{place}/value.json", {"name": "é", "count": 1})
    assert storage.read(f"{place}/value.json").decode() == '{\n  "name": "é",\n  "count": 1\n}\n'


def test_a_directory_appears_complete_or_not_at_all(tmp_path):
    def make(name, broken):
        with storage.new_directory(tmp_path / "deep" / name) as temporary:
            storage.write(storage.join(temporary, "file"), b"content")
            assert not storage.exists(tmp_path / "deep" / name)
            if broken:
                raise KeyboardInterrupt

    make("whole", broken=False)
    with pytest.raises(KeyboardInterrupt):
        make("broken", broken=True)
    assert storage.names(tmp_path / "deep") == ["whole"]
    assert storage.read(tmp_path / "deep" / "whole" / "file") == b"content"
    (tmp_path / "other").mkdir()
    rights = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep" / "whole", tmp_path / "other")]
    assert rights[0] == rights[1]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "other").write_text("")
    storage.write(str(tmp_path / "ours"), b"")
    assert stat.S_IMODE(os.stat(tmp_path / "ours").st_mode) == stat.S_IMODE(os.stat(tmp_path / "other").st_mode)


def test_ranges_of_remote_files_come_in_the_order_asked_for():
    place = f"memory://{uuid.uuid4()}"
    storage.write(f"{place}/a", b"abcdef")
    storage.write(f"{place}/b", b"ghijkl")
    paths = [f"{place}/b", f"{place}/a", f"{place}/b"]
    assert storage.read_ranges(paths, [2, 0, 0], [4, 1, 6]) == [b"ij", b"a", b"ghijkl"]
    assert storage.read_ranges([], [], []) == []


def test_names_with_glob_characters_are_taken_literally_when_they_exist(tmp_path):
    (tmp_path / "a[1].txt").write_text("x")
    assert storage.matching(str(tmp_path / "a[1].txt")) == [str(tmp_path / "a[1].txt")]


def test_a_missing_file_is_an_os_error_wherever_it_is(place):
    for ask in (storage.read, storage.size, storage.open_to_read):
        with pytest.raises(OSError, match="nothing"):
            ask(f"{place}/nothing")


def test_an_unknown_protocol_is_a_problem_and_not_a_crash():
    assert "nonsense:// cannot be used" in storage.problem("nonsense://x")
    assert storage.problem("gs://bucket/x") == ""
    assert storage.problem("plain/path") == ""
    with pytest.raises(OSError, match="nonsense"):
        storage.exists("nonsense://x")


def test_a_library_s_error_while_reading_is_an_os_error(monkeypatch):
    import aiohttp
    from fsspec.implementations.memory import MemoryFile

    place = f"memory://{uuid.uuid4()}/file"
    storage.write(place, b"x" * 100)

    def broken(*_):
        raise aiohttp.ClientError("connection lost")

    with storage.open_to_read(place) as file:
        monkeypatch.setattr(MemoryFile, "read", broken)
        with pytest.raises(OSError, match="connection lost"):
            file.read(10)
