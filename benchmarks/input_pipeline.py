"""Measures how fast batches are read, and how long the first one takes.

    python benchmarks/input_pipeline.py --seconds=5
    python benchmarks/input_pipeline.py --directory=gs://bucket/dataset --batch_size=256 --seconds=30

With --directory, a prepared dataset is read, local or in object storage. Without, 64 MB of rows of 128 and of 512
tokens are written to a temporary folder and repeated until the split has fifty million rows. They stay in the page
cache; only a --directory larger than the memory shows the speed of a disk.

Each line is the median and the range of five windows that share --seconds. "Per core" divides by the CPU time of the
process, TensorFlow's threads included, so that a second core does not improve it. The checksum of every row is
verified, as in training.
"""

import itertools
import os
import statistics
import tempfile
import time
import types

import numpy as np
from absl import app, flags

from electra_jax.text.dataset.dataset import Split, open_dataset
from electra_jax.text.dataset.row_batches import training_batches
from electra_jax.text.dataset.shards import ShardWriter

_DIRECTORY = flags.DEFINE_string("directory", None, "A prepared dataset; default: synthetic rows.")
_BATCH_SIZE = flags.DEFINE_multi_integer("batch_size", [16, 256], "Rows in a batch; may be given several times.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Seconds of measurement per line.", lower_bound=0.1)

_WINDOWS = 5
_LATE = 1_000_000
_SYNTHETIC_ROWS = 50_000_000
_SHARD_BYTES = 1 << 26


def synthetic_split(directory: str, length: int) -> Split:
    """A split of fifty million rows of random tokens: one file, listed many times."""
    tokenizer = types.SimpleNamespace(vocabulary_size=30_522, pad_id=0, cls_id=2, sep_id=3, mask_id=4)
    rows = _SHARD_BYTES // (2 * length)
    rng = np.random.default_rng(0)
    with ShardWriter(os.path.join(directory, f"{length}.bin"), length=length, tokenizer=tokenizer) as writer:
        for _ in range(rows // 1024):
            writer.add(rng.integers(5, 30_522, (1024, length)))
    copies = _SYNTHETIC_ROWS // writer.num_rows
    total = copies * writer.num_rows
    shards = ((writer.path, writer.num_rows),) * copies
    return Split(total, total * length, total, length, shards, (range(total),), np.dtype("<u2"))


def measure_speed(split: Split, batch_size: int) -> None:
    """Prints tokens per second of wall-clock time and of CPU time."""
    batches = training_batches(split, batch_size=batch_size, seed=0, start=0)
    # Batches prefetched before a window hardly count: each window reads many more.
    next(batches)
    windows = []
    for _ in range(_WINDOWS):
        wall, processor, tokens = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - wall < _SECONDS.value / _WINDOWS:
            tokens += next(batches).size
        windows.append((tokens / (time.perf_counter() - wall), tokens / (time.process_time() - processor)))
    for name, speeds in zip(("wall clock", "per core"), zip(*windows, strict=True), strict=True):
        print(
            f"length {split.length}, batch {batch_size}: {statistics.median(speeds) / 1e6:.2f} M tokens/s {name} "
            f"({min(speeds) / 1e6:.2f} to {max(speeds) / 1e6:.2f})"
        )


def measure_start(split: Split, batch_size: int) -> None:
    """Prints the time from the call to the first batch, early and late in a run."""
    for start in (0, _LATE):
        times = []
        for _ in range(_WINDOWS):
            begun = time.perf_counter()
            next(training_batches(split, batch_size=batch_size, seed=0, start=start))
            times.append(time.perf_counter() - begun)
        print(
            f"length {split.length}, batch {batch_size}: first batch of a run that starts at batch {start} after "
            f"{statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})"
        )


def compare_processes(split: Split, batch_size: int) -> None:
    """Prints whether 1, 2, 4 and 8 processes read the same global batches."""

    def read(index: int = 0, count: int = 1) -> list[np.ndarray]:
        batches = training_batches(
            split, batch_size=batch_size, seed=0, start=_LATE, process_index=index, process_count=count
        )
        return list(itertools.islice(batches, 4))

    expected = np.stack(read())
    for count in (2, 4, 8):
        parts = [read(index, count) for index in range(count)]
        same = np.array_equal(expected, np.concatenate(parts, axis=1))
        print(
            f"length {split.length}, batch {batch_size}: {count} processes read {'equal' if same else 'DIFFERENT'} rows"
        )


def main(arguments: list[str]) -> None:
    """Measures the dataset of --directory, or synthetic rows."""
    del arguments
    with tempfile.TemporaryDirectory() as scratch:
        if _DIRECTORY.value:
            begun = time.perf_counter()
            splits = [open_dataset(_DIRECTORY.value).train]
            print(f"{_DIRECTORY.value} opened in {time.perf_counter() - begun:.3f} s")
        else:
            splits = [synthetic_split(scratch, length) for length in (128, 512)]
        for split in splits:
            print(f"{split.num_rows} rows of {split.length} in {len(split.shards)} shards")
            # The first call imports TensorFlow.
            next(training_batches(split, batch_size=8, seed=0, start=0))
            for batch_size in _BATCH_SIZE.value:
                measure_speed(split, batch_size)
                measure_start(split, batch_size)
                if batch_size % 8 == 0:
                    compare_processes(split, batch_size)


if __name__ == "__main__":
    app.run(main)
