"""An object store in this process that speaks Google Cloud Storage's JSON API over HTTP, for tests and campaigns.

gcsfs, tensorstore and Google's own client read and write it like a bucket, and every request can be made to fail.
gcp-storage-emulator does not do: it omits X-Goog-Generation on downloads, without which tensorstore gives up, ignores
conditions on writes, and answers one request after another.
"""

import base64
import contextlib
import hashlib
import http.server
import itertools
import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Answer = tuple[int, bytes, dict[str, str]]

_OBJECT = re.compile(r"^(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)$")
_REWRITE = re.compile(r"^/storage/v1/b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)$")
_LISTING = re.compile(r"^/storage/v1/b/([^/]+)/o/?$")
_BUCKET = re.compile(r"^/storage/v1/b/([^/]+)$")
_UPLOAD = re.compile(r"^/(?:resumable/)?upload/storage/v1/b/([^/]+)/o/?$")
_MOST_LISTED = 1000
RESET = -1  # In place of a status: the connection is closed without an answer.


class ObjectStore:
    """Buckets in memory behind a server on a free port of localhost.

    Attributes:
      objects: content and generation by (bucket, name).
      requests: (method, path) of every request so far.
      trouble: called with the method and the path of every request, without the host; returns the status with which
        it fails, `RESET`, or 0 if it is answered as usual.
    """

    def __init__(self, *buckets: str) -> None:
        self.objects: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.requests: list[tuple[str, str]] = []
        self.trouble: Callable[[str, str], int] = lambda method, path: 0
        self._buckets = set(buckets)
        self._generations = itertools.count(int(time.time() * 1e6))
        self._sessions: dict[str, tuple[str, str, dict[str, str], bytes]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("localhost", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://localhost:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that direct gcsfs, tensorstore and Google's client to this store, without credentials."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "FSSPEC_GS": json.dumps({"token": "anon"}),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # For tensorstore.
            # Google's libraries look for a machine's credentials there, for seconds.
            "NO_GCE_CHECK": "true",
            "GOOGLE_CLOUD_PROJECT": "test",
        }

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Sorted names of a bucket's objects that begin with `prefix`."""
        with self._lock:
            return sorted(name for place, name in self.objects if place == bucket and name.startswith(prefix))

    def content(self, bucket: str, name: str) -> bytes:
        """The bytes of an object."""
        return self.objects[bucket, name][0]

    def clear(self) -> None:
        """Deletes all objects, and forgets all requests and the trouble."""
        self.objects.clear()
        self.requests.clear()
        self.trouble = lambda method, path: 0

    def close(self) -> None:
        """Stops the server."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The status, body and headers that answer a request."""
        path, _, encoded = url.partition("?")
        query = {name: values[-1] for name, values in urllib.parse.parse_qs(encoded, keep_blank_values=True).items()}
        if path == "/batch/storage/v1":
            return self._batch(headers, body)
        if found := _UPLOAD.match(path):
            return self._upload(found[1], query, headers, body)
        if found := _REWRITE.match(path):
            source, target = (found[1], _unquoted(found[2])), (found[3], _unquoted(found[4]))
            if source not in self.objects:
                return _error(404, f"No such object: {'/'.join(source)}")
            stored = self._put(target, self.objects[source][0], query)
            return stored if stored[0] != 200 else _json({"done": True, "resource": json.loads(stored[1])})
        if found := _OBJECT.match(path):
            return self._object(method, (found[1], _unquoted(found[2])), query, headers)
        if (found := _LISTING.match(path)) and method == "GET":
            return self._list(found[1], query)
        if (found := _BUCKET.match(path)) and method == "GET":
            return _json({"kind": "storage#bucket", "name": found[1]}) if found[1] in self._buckets else _no_bucket()
        return _error(400, f"{method} {path}: not known to this store")

    def _object(
        self, method: str, place: tuple[str, str], query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Answer:
        with self._lock:
            stored = self.objects.get(place)
            if stored is None:
                return _error(404, f"No such object: {'/'.join(place)}")
            content, generation = stored
            if _refused(query, generation):
                return _error(304 if "ifGenerationNotMatch" in query else 412, "conditionNotMet")
            if method == "DELETE":
                del self.objects[place]
                return 204, b"", {}
        if query.get("alt") != "media":
            return _json(_resource(place, content, generation))
        described = {"X-Goog-Generation": str(generation), "Content-Type": "application/octet-stream"}
        asked = re.match(r"bytes=(\d+)-(\d*)$", headers.get("Range", ""))
        if asked is None:
            return 200, content, described
        start = int(asked[1])
        if start >= len(content):
            return 416, b"", described
        end = min(int(asked[2]) + 1 if asked[2] else len(content), len(content))
        return 206, content[start:end], described | {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}

    def _put(self, place: tuple[str, str], content: bytes, query: Mapping[str, str]) -> Answer:
        if place[0] not in self._buckets:
            return _no_bucket()
        with self._lock:
            generation = self.objects[place][1] if place in self.objects else 0
            if _refused(query, generation):
                return _error(412, "conditionNotMet")
            generation = next(self._generations)
            self.objects[place] = content, generation
        return _json(_resource(place, content, generation))

    def _upload(self, bucket: str, query: dict[str, str], headers: Mapping[str, str], body: bytes) -> Answer:
        kind = query.get("uploadType")
        if "upload_id" in query:  # PUT in Google's documents, POST in gcsfs.
            return self._continued(query["upload_id"], headers, body)
        if kind == "media":
            return self._put((bucket, query["name"]), body, query)
        if kind == "multipart":
            mark = re.search(r'boundary="?([^";]+)"?', headers["Content-Type"])
            assert mark
            _, described, content = re.split(rb"(?:^|\r?\n)?--" + re.escape(mark[1].encode()) + rb"\r?\n", body)
            fields = json.loads(re.split(rb"\r?\n\r?\n", described, maxsplit=1)[1])
            content = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[1]
            end = content.rindex(b"--" + mark[1].encode() + b"--")
            content = content[:end]
            content = content[:-2] if content.endswith(b"\r\n") else content.removesuffix(b"\n")
            return self._put((bucket, fields["name"]), content, query)
        name = query.get("name") or json.loads(body)["name"]
        session = hashlib.sha256(os.urandom(16)).hexdigest()
        self._sessions[session] = bucket, name, query, b""
        place = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
        return 200, b"", {"Location": place}

    def _continued(self, session: str, headers: Mapping[str, str], body: bytes) -> Answer:
        bucket, name, query, content = self._sessions[session]
        content += body
        asked = re.match(r"bytes (?:\*|\d+-\d+)/(\*|\d+)$", headers.get("Content-Range", ""))
        if asked and asked[1] != "*" and len(content) == int(asked[1]):
            del self._sessions[session]
            return self._put((bucket, name), content, query)
        self._sessions[session] = bucket, name, query, content
        return 308, b"", {"Range": f"bytes=0-{len(content) - 1}"} if content else {}

    def _list(self, bucket: str, query: Mapping[str, str]) -> Answer:
        if bucket not in self._buckets:
            return _no_bucket()
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start, end = query.get("startOffset", ""), query.get("endOffset", "")
        most = min(int(query.get("maxResults", _MOST_LISTED)), _MOST_LISTED)
        after = query.get("pageToken", "")
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        for name in self.names(bucket, prefix):
            if name < start or (end and name >= end) or (after and name <= after):
                continue
            folder, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            shown = prefix + folder + delimiter if found else name
            if prefixes and shown == prefixes[-1]:
                continue
            if after and after.startswith(shown) and found:
                continue
            if len(items) + len(prefixes) >= most:
                last = max([item["name"] for item in items[-1:]] + [f"{place}\U0010ffff" for place in prefixes[-1:]])
                return _json({"items": items, "prefixes": prefixes, "nextPageToken": last})
            if found:
                prefixes.append(shown)
            elif stored := self.objects.get((bucket, name)):
                items.append(_resource((bucket, name), *stored))
        return _json({"kind": "storage#objects", "items": items, "prefixes": prefixes})

    def _batch(self, headers: Mapping[str, str], body: bytes) -> Answer:
        mark = re.search(r'boundary="?([^";]+)"?', headers["Content-Type"])
        assert mark
        answers = []
        for part in body.split(b"--" + mark[1].encode())[1:-1]:
            asked = re.search(rb"(DELETE|GET|PATCH) (\S+) HTTP", part)
            assert asked
            status, content, _ = self.answer(asked[1].decode(), asked[2].decode(), {}, b"")
            answers.append(
                b"--batch_answer\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 %d X\r\n"
                b"Content-Type: application/json\r\n\r\n%s\r\n" % (status, content)
            )
        content = b"".join(answers) + b"--batch_answer--"
        return 200, content, {"Content-Type": "multipart/mixed; boundary=batch_answer"}


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024  # A reader of rows opens hundreds of connections at once.
    daemon_threads = True


@contextlib.contextmanager
def object_store(*buckets: str) -> Iterator[ObjectStore]:
    """A store with these buckets, which is closed when the block ends."""
    store = ObjectStore(*buckets)
    try:
        yield store
    finally:
        store.close()


def _handler(store: ObjectStore) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # Headers and body leave in one packet.
        disable_nagle_algorithm = True

        def respond(self) -> None:
            """Answers one request of any method."""
            body = self._chunked() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._counted()
            headers = {name.title(): value for name, value in self.headers.items()}
            store.requests.append((self.command, self.path))
            status = store.trouble(self.command, self.path)
            if status == RESET:
                self.close_connection = True
                self.connection.close()
                return
            answer = _error(status, "trouble") if status else store.answer(self.command, self.path, headers, body)
            status, content, described = answer
            self.send_response(status)
            for name, value in described.items():
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(b"" if status in (204, 304) else content)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = respond

        def _counted(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _chunked(self) -> bytes:
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

        def handle(self) -> None:
            """Serves a connection; a client that is killed is no error."""
            with contextlib.suppress(ConnectionError):
                super().handle()

    return Handler


def _unquoted(name: str) -> str:
    return urllib.parse.unquote(name)


def _refused(query: Mapping[str, str], generation: int) -> bool:
    if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != generation:
        return True
    return "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == generation


def _resource(place: tuple[str, str], content: bytes, generation: int) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(generation / 1e6))
    return {
        "kind": "storage#object",
        "bucket": place[0],
        "name": place[1],
        "size": str(len(content)),
        "generation": str(generation),
        "metageneration": "1",
        "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
        "contentType": "application/octet-stream",
        "timeCreated": now,
        "updated": now,
    }


def _json(value: Any) -> Answer:
    return 200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8"}


def _no_bucket() -> Answer:
    return _error(404, "The specified bucket does not exist.")


def _error(status: int, message: str) -> Answer:
    content = json.dumps({"error": {"code": status, "message": message, "errors": [{"message": message}]}}).encode()
    return status, content, {"Content-Type": "application/json; charset=UTF-8"}
