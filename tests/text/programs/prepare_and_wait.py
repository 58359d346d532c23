"""Prepares a dataset by the JSON of its `config.data`, prints "ready", and waits a minute before the end."""

import json
import sys
import time

import ml_collections

from electra_jax.progress import ProgressLine
from electra_jax.text.dataset import writer
from tests.configs import typed_data


def wait(*_):
    print("ready", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    writer._finish = wait
    writer.ensure(typed_data(ml_collections.ConfigDict(json.loads(sys.argv[1]))), ProgressLine(sys.stderr))
