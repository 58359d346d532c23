"""Latency of one row, memory, and sizes on disk: ours in JAX and ONNX, transformers with PyTorch, torch.onnx.

    python -m benchmarks.inference --size=small --threads=1

Needs requirements-interop.txt. Weights are random, as the time does not depend on them. The sides take turns, so that a
busy machine slows all of them alike. Memory is the peak of a process of its own, which loads one side and computes a
row of the longest length. For whole files see `benchmarks.inference.throughput`.
"""

import pathlib
import tempfile
import time

import numpy as np
from absl import app, flags

from benchmarks.inference import memory, models, sides

_SIZE = flags.DEFINE_enum("size", "small", list(models.SIZES), "Sizes of the paper.")
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of onnxruntime and PyTorch; JAX takes all that it may use.")
_REPEATS = flags.DEFINE_integer("repeats", 15, "Measurements of each, of which the median is shown.")

_LENGTHS = (16, 32, 128, 512)
_WARM_UP = 2  # Calls that compile, and fill caches.
_MEBIBYTE = 1 << 20


def _row(length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(5, models.VOCABULARY, (1, length), dtype=np.int32)


def _latencies(folder: pathlib.Path) -> dict[str, list[float]]:
    """Median milliseconds of each side, by length."""
    computes = {name: load(folder, _THREADS.value) for name, load in sides.SIDES.items()}
    medians: dict[str, list[float]] = {name: [] for name in computes}
    for length in _LENGTHS:
        tokens_1xL = _row(length)
        seconds: dict[str, list[float]] = {name: [] for name in computes}
        for repeat in range(_WARM_UP + _REPEATS.value):
            for name, compute in computes.items():
                started = time.perf_counter()
                compute(tokens_1xL)
                if repeat >= _WARM_UP:
                    seconds[name].append(time.perf_counter() - started)
        for name in computes:
            medians[name].append(1e3 * float(np.median(seconds[name])))
    return medians


def main(_: list[str]) -> None:
    """Prints a table: median milliseconds by length, peak memory; and the sizes of the files."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        sides.write(models.discriminator(_SIZE.value), folder)
        print(f"{_SIZE.value}, 1 row, {_THREADS.value} threads; median of {_REPEATS.value}, milliseconds")
        print(f"{'tokens':<28}" + "".join(f"{length:>10}" for length in _LENGTHS) + f"{'peak MiB':>12}")
        # Before the sides are loaded here.
        peaks = {name: memory.peak_mebibytes(name, folder, _LENGTHS[-1], _THREADS.value) for name in sides.SIDES}
        for name, medians in _latencies(folder).items():
            cells = "".join(f"{milliseconds:>10.1f}" for milliseconds in medians)
            print(f"{name:<28}{cells}{peaks[name]:>12.0f}")
        print("On disk, MiB: " + ", ".join(
            f"{name} {path.stat().st_size / _MEBIBYTE:.1f}" for name, path in sides.files(folder).items()
        ))  # fmt: skip


if __name__ == "__main__":
    app.run(main)
