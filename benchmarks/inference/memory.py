"""Peak memory of a process that loads one side and computes one row; `benchmarks.inference` starts it for each."""

import argparse
import pathlib
import subprocess
import sys

import numpy as np

from benchmarks.inference import sides


def peak_mebibytes(side: str, folder: pathlib.Path, length: int, threads: int) -> float:
    """Starts such a process.

    Args:
      side: one of `sides.SIDES`.
      folder: what `sides.write` made.
      length: tokens of the row.
      threads: see `sides.SIDES`.
    """
    command = [sys.executable, "-m", "benchmarks.inference.memory", side, str(folder), str(length), str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Prints the figure in MiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=list(sides.SIDES))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("length", type=int)
    parser.add_argument("threads", type=int)
    given = parser.parse_args()
    sides.SIDES[given.side](given.folder, given.threads)(np.full((1, given.length), 1000, np.int32))
    # Not getrusage, which counts the process that started this one as well.
    status = pathlib.Path("/proc/self/status").read_text()
    (kibibytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    print(int(kibibytes) / 1024)


if __name__ == "__main__":
    main()
