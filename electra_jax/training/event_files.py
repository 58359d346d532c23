"""TensorBoard events of a run, on disk or in an object store."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from electra_jax import storage

# Between two files at an address: the first is there soon, and a run of ten days has some 1,500.
_FIRST_SECONDS, _MOST_SECONDS = 30.0, 600.0


class EventFiles:
    """Events on disk are flushed with every write; at an address, each flush is a file of its own.

    An object cannot be appended to, and one that is written again with every flush costs the square of its size. So
    events are collected on the local disk, and uploaded after 30 seconds, 1, 2, 4 and 8 minutes, then every 10 minutes,
    and at the end. TensorBoard reads all of a folder's files. A kill loses what was not uploaded; metrics.jsonl has it.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._spool = tempfile.TemporaryDirectory() if storage.is_remote(directory) else None
        self._writer = _summary_writer(self._spool.name if self._spool else directory)
        self._began, self._pause = time.monotonic(), _FIRST_SECONDS

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records the values of a step."""
        if self._writer is None:
            assert self._spool is not None
            self._writer = _summary_writer(self._spool.name)
        # As NumPy values: TensorFlow keeps every number of Python's that it was ever given, 700 bytes each.
        self._writer.write_scalars(np.int64(step), {name: np.float32(value) for name, value in values.items()})
        if self._spool is None:
            self._writer.flush()
        elif time.monotonic() - self._began >= self._pause:
            self._publish()
            self._pause = min(2 * self._pause, _MOST_SECONDS)

    def close(self) -> None:
        """Makes all events durable, and closes the file."""
        if self._spool is not None:
            self._publish()
            self._spool.cleanup()
        elif self._writer is not None:
            self._writer.close()

    def _publish(self) -> None:
        assert self._spool is not None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for name in sorted(os.listdir(self._spool.name)):
            path = os.path.join(self._spool.name, name)
            storage.upload(path, storage.join(self._directory, name))
            os.unlink(path)
        self._began = time.monotonic()


def _summary_writer(directory: str) -> Any:
    # Imported here: it imports TensorFlow, which compiling and prediction do not need.
    from clu import metric_writers

    return metric_writers.SummaryWriter(directory)
