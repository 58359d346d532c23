"""Notices of Google Compute Engine that this machine is about to go away, from its metadata server.

A preempted machine has about 30 seconds; the notice often comes before the SIGTERM of the shutdown, which not every
container runtime passes on. Maintenance that ends the machine is announced in the same way, earlier.
"""

import http.client
import os
import pathlib
import threading
import time
from collections.abc import Callable, Mapping

_HOST_VARIABLE = "GCE_METADATA_HOST"  # Google's own libraries read it.
_HOST = "metadata.google.internal"
_PRODUCT = pathlib.Path("/sys/class/dmi/id/product_name")
_FOLDER = "/computeMetadata/v1/instance"
# Values that announce the end, by name.
_ENDINGS = {"preempted": "TRUE", "maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE"}
_WAIT_SECONDS = 300  # For one answer; the server answers earlier when the value changes.
_MARGIN_SECONDS = 30.0
_RETRY_SECONDS = 5.0


def metadata_host(environment: Mapping[str, str] = os.environ, product: pathlib.Path = _PRODUCT) -> str:
    """The address of this machine's metadata server; "" on other machines, found without using the network."""
    if given := environment.get(_HOST_VARIABLE, ""):
        return given
    try:
        name = product.read_text().strip()
    except OSError:
        return ""
    return _HOST if name in ("Google", "Google Compute Engine") else ""


def watch(host: str, notice: Callable[[str], None], retry_seconds: float = _RETRY_SECONDS) -> None:
    """Calls `notice` with a description when an end is announced from now on; threads of their own wait for it.

    An end that is announced already does not count: a run that was stopped by maintenance some time ahead, and started
    again on the same machine, goes on there until the machine is shut down.

    Args:
      host: address of the metadata server; "" watches nothing.
      notice: called in another thread.
      retry_seconds: between attempts while the server does not answer.
    """
    for name in _ENDINGS if host else ():
        arguments = host, name, notice, retry_seconds
        threading.Thread(target=_watch, args=arguments, name=f"{name} notice", daemon=True).start()


def _watch(host: str, name: str, notice: Callable[[str], None], retry_seconds: float) -> None:
    before, tag = None, ""
    while True:
        try:
            value, tag = _value(host, name, tag)
        except (OSError, http.client.HTTPException):
            time.sleep(retry_seconds)
            continue
        if value == _ENDINGS[name] and before not in (None, value):
            notice(f"notice of the metadata server, {name} {value}")
            return
        before = value


def _value(host: str, name: str, tag: str) -> tuple[str, str]:
    """The value and its tag; waits until it differs from that of `tag`, if there is one.

    Raises:
      OSError, HTTPException: no usable answer.
    """
    query = f"?wait_for_change=true&timeout_sec={_WAIT_SECONDS}&last_etag={tag}" if tag else ""
    connection = http.client.HTTPConnection(host, timeout=_WAIT_SECONDS + _MARGIN_SECONDS)
    try:
        connection.request("GET", f"{_FOLDER}/{name}{query}", headers={"Metadata-Flavor": "Google"})
        answer = connection.getresponse()
        value = answer.read().decode("utf-8", "replace").strip()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{name}: status {answer.status}")
        return value, answer.headers.get("ETag", "")
    finally:
        connection.close()
