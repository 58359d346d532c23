"""The text column of a Parquet or Arrow file, read by a child process: a file that crashes pyarrow ends no run.

The child is `columnar_reader.py`. It is started at the first file, kept for the next ones, and ends with its parent.
"""

import contextlib
import functools
import io
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import electra_jax
from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.sources.columnar_reader import END, FAULT, FRAME, READ

# What a file makes pyarrow allocate, beyond which it fails: a page has 2 GiB at most.
_MOST_MEMORY = 1 << 33


def stretches(stream: IO[bytes], name: str, form: str, column: str, piece_bytes: int) -> list[tuple[int, int, int]]:
    """Groups row groups or record batches into stretches; returns (first, one after the last, bytes) of each.

    Of Parquet only the column's bytes count: nothing else is read. Arrow's stream format is one stretch.

    Args:
      stream: the opened file.
      name: its path or address, or the name of a file in a package.
      form: "parquet" or "arrow".
      column: the column of the text; "meta.text" is the field `text` of the column `meta`.
      piece_bytes: how large a stretch should be at most.

    Raises:
      InputError: the file is damaged, or the column is missing or holds no text.
    """
    found = [content for _, content in _answers(stream, name, form=form, column=column, piece_bytes=piece_bytes)]
    return [(start, stop, size) for start, stop, size in json.loads(found[0])]


def texts(
    stream: IO[bytes], name: str, form: str, column: str, start: int, stop: int, read: Callable[[int], None]
) -> Iterator[str]:
    """Yields the texts of a stretch, in order; a null is an empty text.

    Raises:
      InputError: the file is damaged, the column is missing or holds no text, or a text is not UTF-8.
    """
    for kind, content in _answers(stream, name, form=form, column=column, start=start, stop=stop):
        if kind == READ:
            read(int(content))
        else:
            yield content.decode("utf-8", "surrogatepass")


def _answers(stream: IO[bytes], name: str, **request: Any) -> Iterator[tuple[int, bytes]]:
    """Yields what a child answers: stretches, texts and numbers of bytes read."""
    idle = _idle(os.getpid())
    try:
        child = idle.get_nowait()
    except queue.Empty:
        child = _start()
    completed = False
    try:
        with _path(stream, name) as path:
            yield from _exchange(child, name, {"path": path, "name": name, **request})
        completed = True
    except InputError:
        completed = child.poll() is None
        raise
    finally:
        if completed:
            idle.put(child)
        else:  # It died, or its answer was not read to the end.
            child.kill()
            child.communicate()


def _exchange(child: "subprocess.Popen[bytes]", name: str, request: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
    assert child.stdin  # Both are pipes.
    assert child.stdout
    with contextlib.suppress(BrokenPipeError):  # It is gone, which reading reports.
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
    while True:
        head = child.stdout.read(FRAME.size)
        kind, length = FRAME.unpack(head) if len(head) == FRAME.size else (END, 1)
        content = child.stdout.read(length)
        if len(content) < length:
            raise _died(child, name)
        if kind == END:
            return
        if kind == FAULT:
            raise InputError(content.decode())
        yield kind, content


def _died(child: "subprocess.Popen[bytes]", name: str) -> InputError:
    code = child.wait()
    reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return InputError(
        f"{name}: reading this file ended the process that read it ({reason}): the file is damaged, made to do "
        "so, or needs more memory than there is. Fetch the file again, or write it again from its source."
    )


@functools.cache
def _idle(pid: int) -> "queue.SimpleQueue[subprocess.Popen[bytes]]":
    """Children of this process that wait for a file. A forked process has its own."""
    return queue.SimpleQueue()


def _start() -> "subprocess.Popen[bytes]":
    package = os.path.dirname(os.path.dirname(os.path.abspath(electra_jax.__file__)))
    places = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "electra_jax.text.sources.columnar_reader", str(_MOST_MEMORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        # Ctrl-C is for the parent, which then closes the pipe.
        start_new_session=True,
    )


@contextlib.contextmanager
def _path(stream: IO[bytes], name: str) -> Iterator[str]:
    """A path or address of the stream's file that the child can open; a file in an archive is copied out of it."""
    try:
        stream.fileno()
        yield name if name.startswith(storage.PACKAGE_PREFIX) else os.path.abspath(os.path.expanduser(name))
        return
    except io.UnsupportedOperation:
        pass
    if storage.is_remote(name):
        yield name
        return
    with tempfile.NamedTemporaryFile(suffix=".columns") as copy:
        shutil.copyfileobj(stream, copy)
        copy.flush()
        yield copy.name
