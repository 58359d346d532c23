"""Drives Chromium through the pipe of its DevTools protocol, which needs no package."""

import contextlib
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import threading
import time

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "needs Chromium (Debian's package chromium), found none"
_SECONDS = 120


class Page:
    """A page in a browser without a window.

    Attributes:
      requests: addresses of everything that the page asked for.
      messages: what it wrote to the console, errors of scripts and refusals of its policy among them.
    """

    def __init__(self, to_browser, from_browser):
        self._to, self._from, self._buffer, self._number = to_browser, from_browser, b"", 0
        self.requests, self.messages = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    _session = None

    def call(self, method, **parameters):
        """The result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def _next(self):
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            block = os.read(self._from, 1 << 20)
            assert block, "Chromium has ended"
            self._buffer += block
        content, _, self._buffer = self._buffer.partition(b"\0")
        answer = json.loads(content)
        match answer.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.messages.append(json.dumps(answer["params"]))
        return answer

    def value(self, script):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script):
        """Returns when the expression is true in the page."""
        deadline = time.monotonic() + _SECONDS
        while not self.value(script):
            assert time.monotonic() < deadline, (script, self.value("document.body.innerText"), self.messages)
            time.sleep(0.05)

    def open(self, address):
        """Returns when the page at an address has computed its first result, or shows why it cannot."""
        self.call("Page.navigate", url=address)
        self.wait("['ready', 'failed'].includes(document.body?.dataset.state)")

    def type(self, text, field=0):
        """Replaces a field's text as a keyboard would, and returns when the result is there."""
        self.value(f"document.querySelectorAll('textarea')[{field}].focus()")
        self.value("document.activeElement.select()")
        self.call("Input.insertText", text=text)
        self.wait("document.body.dataset.state === 'ready'")

    def press(self, key):
        """Presses a key such as "Tab"."""
        codes = {"Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])


@contextlib.contextmanager
def browser(folder):
    """A browser with its profile in a folder; yields a `Page`."""
    to_browser, from_browser = os.pipe(), os.pipe()

    flags = ("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-background-networking", "--disable-component-update")  # fmt: skip
    # The browser reads commands from 3 and writes answers to 4.
    shell = f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
    with subprocess.Popen(
        ["bash", "-c", shell, "bash", PROGRAM, *flags, f"--user-data-dir={folder}"],
        pass_fds=(to_browser[0], from_browser[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            page = Page(to_browser[1], from_browser[0])
            yield page
        finally:
            os.close(to_browser[1])
            os.close(from_browser[0])
            process.terminate()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        del arguments


@contextlib.contextmanager
def served(folder):
    """Serves a folder as `python -m http.server` does; yields its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
