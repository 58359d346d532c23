"""onnxruntime-web is taken from a registry, the cache or a file, and never without its hash."""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from electra_jax.browser import onnxruntime_web
from electra_jax.errors import InputError

WANTED = {"package/dist/run.mjs": "run.js", "package/dist/run.wasm": "run.wasm"}
CONTENT = {"package/dist/run.mjs": b"export {}", "package/dist/run.wasm": b"\0asm", "package/other.js": b"other"}


def archive_of(members):
    """The bytes of an archive of these files; a text stands for a link to it."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def package_of(content, **changes):
    integrity = base64.b64encode(hashlib.sha512(content).digest()).decode()
    return onnxruntime_web.Package("run", "1.0.0", integrity, WANTED, **changes)


@contextlib.contextmanager
def registry(monkeypatch, content):
    """A registry that has the package; yields the paths that it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if content is not None else 404)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *arguments):
            del arguments

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/npm/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield asked
        server.shutdown()


def test_the_package_is_downloaded_once_from_the_registry(tmp_path, monkeypatch):
    content = archive_of(CONTENT)
    with registry(monkeypatch, content) as asked:
        for _ in range(2):
            found = onnxruntime_web.fetch(str(tmp_path), package=package_of(content))
            assert found.files == {"run.js": b"export {}", "run.wasm": b"\0asm"}
    assert asked == ["/npm/run/-/run-1.0.0.tgz"]
    assert [path.name for path in (tmp_path / "npm").iterdir()] == ["run-1.0.0.tgz"]


def test_another_archive_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    content = archive_of(CONTENT)
    package = package_of(content)
    with registry(monkeypatch, content + b"x"), pytest.raises(InputError, match="found an archive with the hash"):
        onnxruntime_web.fetch(str(tmp_path), package=package)
    assert list((tmp_path / "npm").iterdir()) == []
    (tmp_path / "npm" / package.archive).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"expected that of run 1.0.0, sha512-.*; delete it and run again"):
        onnxruntime_web.fetch(str(tmp_path), package=package)
    with pytest.raises(InputError, match=r"--onnxruntime_web=.*; make it with: npm pack run@1.0.0"):
        onnxruntime_web.fetch(str(tmp_path), str(tmp_path / "npm" / package.archive), package)


def test_a_registry_that_does_not_answer_is_named(tmp_path, monkeypatch):
    package = package_of(b"")
    with (
        registry(monkeypatch, None),
        pytest.raises(InputError, match=r"run-1.0.0.tgz: cannot be fetched \(Not Found\)"),
    ):
        onnxruntime_web.fetch(str(tmp_path), package=package)
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    with pytest.raises(InputError, match=r"cannot be fetched \(.*refused.*\).*with --onnxruntime_web=FILE"):
        onnxruntime_web.fetch(str(tmp_path), package=package)
    monkeypatch.setenv("npm_config_registry", "file:///etc/")
    with pytest.raises(
        InputError, match="npm_config_registry=file:///etc/: expected an address that begins with https"
    ):
        onnxruntime_web.fetch(str(tmp_path), package=package)


def test_a_file_takes_the_place_of_a_download(tmp_path):
    content = archive_of(CONTENT)
    (tmp_path / "mine.tgz").write_bytes(content)
    found = onnxruntime_web.fetch(str(tmp_path / "cache"), str(tmp_path / "mine.tgz"), package_of(content))
    assert found.files["run.wasm"] == b"\0asm"
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match=r"none.tgz cannot be read"):
        onnxruntime_web.fetch(str(tmp_path), str(tmp_path / "none.tgz"), package_of(content))


@pytest.mark.parametrize(
    "members",
    [
        CONTENT | {"package/dist/run.wasm": "/etc/passwd"},
        {"package/dist/run.mjs": b"", "package/dist/../dist/run.wasm": b"", "../run.wasm": b""},
    ],
    ids=["a link", "other names"],
)
def test_nothing_but_the_named_files_is_taken(tmp_path, members):
    content = archive_of(members)
    (tmp_path / "mine.tgz").write_bytes(content)
    with pytest.raises(InputError, match=r"found no run.wasm in run 1.0.0"):
        onnxruntime_web.fetch(str(tmp_path), str(tmp_path / "mine.tgz"), package_of(content))


def test_an_archive_that_does_not_unpack_is_reported(tmp_path):
    content = archive_of(CONTENT)[:-40]
    (tmp_path / "mine.tgz").write_bytes(content)
    with pytest.raises(InputError, match=r"mine.tgz: cannot be unpacked"):
        onnxruntime_web.fetch(str(tmp_path), str(tmp_path / "mine.tgz"), package_of(content))


def test_the_pinned_package_has_a_whole_hash():
    package = onnxruntime_web.PACKAGE
    assert len(base64.b64decode(package.integrity, validate=True)) == 64
    assert dataclasses.replace(package, version="2").archive == "onnxruntime-web-2.tgz"
