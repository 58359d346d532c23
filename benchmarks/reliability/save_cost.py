"""What a save costs: `python -m benchmarks.reliability.save_cost [--preset=quickstart] [--rounds=10]`.

Turns of updates without a save alternate with equal ones that begin with an asynchronous save and end when it is
complete, on the preset's model and random rows. The median difference, divided by the time that updates take at the
preset's interval, is the share that saving costs. Prints it as JSON.
"""

import argparse
import importlib
import json
import statistics
import tempfile
import time

import jax
import numpy as np

from electra_jax.config.files import read_config
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.training import loop, partitioning
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.run_context import RunContext
from electra_jax.training.trainer import make_trainer

_FIRST_ID = 10  # Smaller ones are special tokens.


def main() -> None:
    """Measures and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--updates", type=int, default=20, help="in a turn")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    config, _ = read_config(importlib.import_module(f"electra_jax.configs.{given.preset}").get_config())
    assert isinstance(config, PretrainingConfig)
    print(json.dumps(measured(config, given.updates, given.rounds), indent=2))


def measured(config: PretrainingConfig, updates: int, rounds: int) -> dict[str, float]:
    """Seconds of an update, of a save as the loop sees it, and the share of the preset's interval."""
    mesh = partitioning.make_mesh((-1, 1, 1))
    trainer = make_trainer(config, pretraining_job(config, None, jax.default_backend()), mesh, print)
    shape = config.batch_size, config.data.sequence_length
    rows = np.random.default_rng(0).integers(_FIRST_ID, config.data.tokenizer.vocabulary_size, shape, dtype=np.int32)
    rows[:, 0], rows[:, -1] = 2, 3
    plain: list[float] = []
    saving: list[float] = []
    blocked: list[float] = []
    with tempfile.TemporaryDirectory() as place, trainer.placed():
        context = RunContext(place)
        with loop.opened_checkpoints(trainer, context) as checkpoints:
            state, train_step = trainer.initial_state(), trainer.compile()
            batch = trainer.put(rows)
            for turn in range(2 * rounds + 2):  # The first of each kind warms up.
                began = time.perf_counter()
                if turn % 2:
                    checkpoints.save(state, Progress(next_batch=int(state.step), started_at=0.0))
                    blocked.append(time.perf_counter() - began)
                for _ in range(updates):
                    state, metrics = train_step(state, batch, trainer.root_key)
                jax.block_until_ready(metrics)
                if turn % 2:
                    checkpoints.wait()
                (saving if turn % 2 else plain).append(time.perf_counter() - began)
    update = statistics.median(plain[1:]) / updates
    differences = [more - less for more, less in zip(saving[1:], plain[1:], strict=True)]
    interval = config.checkpoint.every_steps * update
    cost = statistics.median(differences)
    return {
        "update_seconds": round(update, 4),
        "blocked_seconds": round(statistics.median(blocked[1:]), 4),
        "save_seconds": round(cost, 4),
        "interval_updates": config.checkpoint.every_steps,
        "interval_seconds": round(interval, 1),
        "share": round(cost / interval, 5),
    }


if __name__ == "__main__":
    main()
