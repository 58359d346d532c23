"""Ends while batches of the shard FILE are still read ahead; fails if one is read during the interpreter's shutdown.

A thread that still wants to call Python then hangs the program, about one time in four; here it is seen each time.
"""

import atexit
import os
import sys
import time

import numpy as np

from electra_jax.text.dataset import dataset, row_batches

read = []


class Noted(dataset.Split):
    """Records what is read."""

    def rows(self, indices):
        read.append(len(indices))
        return super().rows(indices)


def check():
    before = len(read)
    time.sleep(0.5)
    os._exit(len(read) > before)


if __name__ == "__main__":
    atexit.register(check)  # First in, last out.
    row_batches._PREFETCHED_GATHERINGS, row_batches._GATHERED_ROWS = 10**6, 8
    split = Noted(1000, 4000, 1, 4, ((sys.argv[1], 1000),), (range(1000),), np.dtype("<u2"))
    kept = row_batches.training_batches(split, batch_size=8, seed=0, start=0)  # A global, so that the exit finds it.
    next(kept)
