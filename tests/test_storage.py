"""Files at local paths and at addresses, through the same functions."""

import importlib
import os
import stat
import types
import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from benchmarks.reliability.object_store import RESET
from electra_jax import storage
from electra_jax.errors import StorageLost

# `fsspec.registry` is the mapping in it.
REGISTRY = importlib.import_module("fsspec.registry")


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


def test_a_library_s_lasting_error_while_reading_is_a_lost_storage(monkeypatch):
    import aiohttp
    from fsspec.implementations.memory import MemoryFile

    place = f"memory://{uuid.uuid4()}/file"
    storage.write(place, b"x" * 100)

    def broken(*_):
        raise aiohttp.ClientError("connection lost")

    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.0)
    with storage.open_to_read(place) as file:
        monkeypatch.setattr(MemoryFile, "read", broken)
        with pytest.raises(StorageLost, match=r"connection lost; tried for 0 seconds"):
            file.read(10)


# --- An object store -------------------------------------------------------------------------------------------------


def failing(store, times, status, method="GET"):
    """Lets the next requests of a method fail."""
    left = [times]

    def trouble(found, _):
        if found != method or not left[0]:
            return 0
        left[0] -= 1
        return status

    store.trouble = trouble
    return left


@pytest.mark.parametrize("status", [503, 429, RESET])
def test_what_may_pass_is_tried_again(object_store, status):
    storage.write("gs://bucket/a/file", b"content")
    left = failing(object_store, 9, status)  # gcsfs alone gives up after six.
    assert storage.read("gs://bucket/a/file") == b"content"
    assert left == [0]
    left = failing(object_store, 9, status, "POST")
    storage.write("gs://bucket/a/other", b"content")
    assert left == [0]
    assert object_store.content("bucket", "a/other") == b"content"


@pytest.mark.parametrize(
    "operation",
    [
        storage.exists,
        storage.is_directory,
        storage.is_file,
        storage.names,
        storage.size,
        storage.read,
        storage.remove,
        storage.matching,
        lambda path: storage.write(path, b""),
        lambda path: storage.move(path, f"{path}.moved"),
        lambda path: storage.read_ranges([path], [0], [1]),
        lambda path: storage.open_to_read(path).read(),
    ],
)
def test_what_does_not_pass_is_a_lost_storage(object_store, monkeypatch, operation):
    storage.write("gs://bucket/file", b"content")
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.0)
    object_store.trouble = lambda method, path: 503
    with pytest.raises(StorageLost, match=r"gs://bucket/file: .*; tried for 0 seconds"):
        operation("gs://bucket/file")


def test_pauses_double_and_end_after_minutes(object_store, monkeypatch):
    now, pauses = [0.0], []

    def sleep(seconds):
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(storage, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    object_store.trouble = lambda method, path: 503
    with pytest.raises(StorageLost):
        storage.read("gs://bucket/file")
    assert all(0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(pauses[:5]))
    assert max(pauses) <= 32
    assert 200 < sum(pauses) < 300


def test_what_is_forbidden_or_not_there_is_not_tried_again(object_store):
    object_store.trouble = lambda method, path: 403
    with pytest.raises(storage.RemoteError, match="Forbidden"):
        storage.write("gs://bucket/file", b"")
    assert len(object_store.requests) == 1
    object_store.trouble = lambda method, path: 0
    with pytest.raises(storage.RemoteError, match=r"gs://nowhere/file: cannot be written; there is no such bucket"):
        storage.write("gs://nowhere/file", b"")


def test_access_is_checked_and_leaves_nothing(object_store):
    storage.check_access("gs://bucket/run")
    assert object_store.names("bucket") == []
    assert {method for method, _ in object_store.requests} == {"GET", "POST", "DELETE"}
    object_store.trouble = lambda method, path: 403 if method == "DELETE" else 0
    with pytest.raises(storage.RemoteError, match="Forbidden"):
        storage.check_access("gs://bucket/run")
    object_store.trouble = lambda method, path: 403 if path.endswith("/b/bucket") else 0
    with pytest.raises(storage.RemoteError, match="Forbidden"):
        storage.check_access("gs://bucket/run")


def test_a_large_file_arrives_whole(object_store):
    content = os.urandom(6 << 20)  # More than gcsfs uploads in one request.
    storage.write("gs://bucket/large", content)
    assert storage.read("gs://bucket/large") == content


def test_what_others_write_is_listed_at_once(object_store):
    storage.write("gs://bucket/run/a", b"")
    assert storage.names("gs://bucket/run") == ["a"]
    object_store.answer("POST", "/upload/storage/v1/b/bucket/o?uploadType=media&name=run/b", {}, b"")
    assert storage.names("gs://bucket/run") == ["a", "b"]
    assert storage.exists("gs://bucket/run/b")


def test_listings_of_several_pages_are_whole(object_store):
    for number in range(1100):
        object_store.objects["bucket", f"many/{number:04}/x"] = b"", number + 1
    assert len(storage.names("gs://bucket/many")) == 1100


@pytest.mark.parametrize("kind", ["local", "bucket"])
def test_a_directory_is_moved_with_all_that_is_in_it(object_store, kind, tmp_path):
    root = str(tmp_path) if kind == "local" else "gs://bucket/root"
    for name in ("a", "deep/b"):
        storage.write(f"{root}/from [1]/{name}", name.encode())
    storage.make_directory(f"{root}/to")
    storage.move(f"{root}/from [1]", f"{root}/to/here")
    assert storage.names(root) == ["to"]
    assert storage.read(f"{root}/to/here/deep/b") == b"deep/b"


def test_an_interrupted_move_is_completed_by_moving_again(object_store):
    for name in ("a", "b"):
        storage.write(f"gs://bucket/from/{name}", name.encode())
    object_store.trouble = lambda method, path: 403 if method == "DELETE" else 0
    with pytest.raises(storage.RemoteError):
        storage.move("gs://bucket/from", "gs://bucket/to")
    object_store.trouble = lambda method, path: 0
    storage.remove("gs://bucket/from/a")
    storage.move("gs://bucket/from", "gs://bucket/to")
    assert object_store.names("bucket") == ["to/a", "to/b"]


@pytest.mark.parametrize("kind", ["local", "bucket"])
def test_only_the_pattern_is_a_pattern(object_store, kind, tmp_path):
    root = f"{tmp_path}/lr[1e-4]" if kind == "local" else "gs://bucket/lr[1e-4]"
    for name in ("seed_1/metrics.jsonl", "seed_2/metrics.jsonl", "other/metrics.jsonl", "seed_3/x"):
        storage.write(f"{root}/{name}", b"")
    assert storage.files_in(root, "seed_*/metrics.jsonl") == [f"{root}/seed_{n}/metrics.jsonl" for n in (1, 2)]
    assert storage.files_in(root, "other/metrics.jsonl") == [f"{root}/other/metrics.jsonl"]
    assert storage.files_in(f"{root}/nowhere", "*") == []
    storage.remove(root)
    assert not storage.exists(root)


def test_a_missing_package_is_named(monkeypatch):
    registered = REGISTRY.known_implementations | {
        "absent": {"class": "absent_package.System", "err": "Install absent_package to access it"}
    }
    monkeypatch.setattr(REGISTRY, "known_implementations", registered)
    assert storage.problem("absent://x") == "absent://x: absent:// cannot be used (Install absent_package to access it)"


def test_any_address_of_fsspec_is_read(monkeypatch):
    class Hub(MemoryFileSystem):
        protocol = "hf"
        store, pseudo_dirs = {}, [""]

    monkeypatch.setitem(REGISTRY._registry, "hf", Hub)
    storage.write("hf://owner/model/config.json", b"{}")
    assert storage.read("hf://owner/model/config.json") == b"{}"
    assert storage.names("hf://owner/model") == ["config.json"]


def test_names_of_paths_and_addresses():
    assert [storage.name(path) for path in ("gs://b/run/", "/a/b", "c")] == ["run", "b", "c"]
    assert storage.parent("gs://b/runs/x/") == "gs://b/runs"
    assert storage.absolute("gs://b/run//") == "gs://b/run"
    assert storage.absolute("a b/ü") == f"{os.getcwd()}/a b/ü"
    assert storage.absolute("~/x") == os.path.expanduser("~/x")


def test_a_directory_in_a_bucket_is_uploaded_when_it_is_whole(object_store):
    def make(broken):
        with storage.new_directory("gs://bucket/model") as temporary:
            storage.write(f"{temporary}/weights", b"x" * 100)
            storage.write(f"{temporary}/tokenizer/config", b"xx")
            storage.write(f"{temporary}/config", b"x")
            if broken:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(broken=True)
    assert object_store.names("bucket") == []
    make(broken=False)
    written = sorted(object_store.objects, key=lambda key: object_store.objects[key][1])
    # What says what the others are comes last.
    assert [name for _, name in written] == ["model/weights", "model/tokenizer/config", "model/config"]
