"""Notices of a stand-in for Google's metadata server."""

import http.server
import threading
import urllib.parse

import pytest

from electra_jax import cloud_notices


class Metadata(http.server.BaseHTTPRequestHandler):
    """Answers as the metadata server does: the value and its tag, at once or when it changes."""

    def do_GET(self):
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        values, changed = self.server.values, self.server.changed
        name = address.path.removeprefix("/computeMetadata/v1/instance/")
        if self.headers["Metadata-Flavor"] != "Google" or name not in values:
            self.send_error(403)
            return
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
            return
        with changed:
            if query.get("wait_for_change") == "true":
                self.server.waiting.release()
                changed.wait_for(lambda: values[name] != query["last_etag"] or self.server.over, 20)
            value = values[name]
        self.send_response(200)
        self.send_header("ETag", value)
        self.end_headers()
        self.wfile.write(f"{value}\n".encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as made:
        made.values = {"preempted": "FALSE", "maintenance-event": "NONE"}
        made.changed, made.waiting = threading.Condition(), threading.Semaphore(0)
        made.failures, made.over = 0, False
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        with made.changed:
            made.over = True
            made.changed.notify_all()
        made.shutdown()


class Notices:
    def __init__(self, server):
        self.texts, self.came = [], threading.Event()
        cloud_notices.watch(f"127.0.0.1:{server.server_port}", self.note, retry_seconds=0.01)
        for _ in range(2):
            assert server.waiting.acquire(timeout=10)

    def note(self, text):
        self.texts.append(text)
        self.came.set()


def change(server, name, value):
    with server.changed:
        server.values[name] = value
        server.changed.notify_all()


@pytest.mark.parametrize(
    ("name", "value"), [("preempted", "TRUE"), ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")]
)
def test_announced_end_is_noticed(server, name, value):
    notices = Notices(server)
    change(server, name, value)
    assert notices.came.wait(10)
    assert notices.texts == [f"notice of the metadata server, {name} {value}"]


def test_migration_is_no_end_and_errors_of_the_server_are_survived(server):
    server.failures = 2
    notices = Notices(server)
    change(server, "maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE")
    assert server.waiting.acquire(timeout=10)
    assert notices.texts == []


def test_end_that_was_announced_before_does_not_count(server):
    server.values["maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
    notices = Notices(server)
    change(server, "preempted", "TRUE")
    assert notices.came.wait(10)
    assert notices.texts == ["notice of the metadata server, preempted TRUE"]


def test_only_machines_of_google_have_a_metadata_server(tmp_path):
    product = tmp_path / "product_name"
    assert cloud_notices.metadata_host({}, product) == ""
    product.write_text("ThinkPad\n")
    assert cloud_notices.metadata_host({}, product) == ""
    product.write_text("Google Compute Engine\n")
    assert cloud_notices.metadata_host({}, product) == "metadata.google.internal"
    assert cloud_notices.metadata_host({"GCE_METADATA_HOST": "127.0.0.1:80"}, product) == "127.0.0.1:80"
