"""Prepares a dataset by the JSON of its `config.data`, in small units with a pause after each."""

import json
import sys
import time

import ml_collections

from electra_jax.progress import ProgressLine
from electra_jax.text.dataset import runners, stages, units, writer
from tests.configs import typed_data


def main():
    units._SMALLEST_UNIT_BYTES = 20_000
    attempt = stages.attempt

    def attempt_and_pause(*arguments):
        done = attempt(*arguments)
        time.sleep(0.05)
        return done

    stages.attempt = attempt_and_pause
    data = ml_collections.ConfigDict(json.loads(sys.argv[1]))
    writer.ensure(typed_data(data), ProgressLine(), runners.Runner(workers=1))


if __name__ == "__main__":
    main()
