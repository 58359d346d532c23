"""The loop on the stand-in job, in WORKDIR, on all devices: asked to stop when it reads global batch STOP.

Prints as JSON the numbers of the batches that it read.
"""

import io
import json
import sys

from electra_jax.errors import Preempted
from electra_jax.progress import ProgressLine
from electra_jax.training import loop, partitioning
from electra_jax.training.optimizer import OptimizerConfig
from electra_jax.training.run_context import RunContext
from electra_jax.training.trainer import LoopConfig, Trainer
from tests.training.stand_in import ParityJob


def main():
    workdir, stop = sys.argv[1], int(sys.argv[2])
    context, read = RunContext(workdir, ProgressLine(io.StringIO())), []

    class Counted(ParityJob):
        def training_batches(self, start):
            for number, batch in enumerate(super().training_batches(start), start):
                read.append(number)
                if number == stop:
                    context.stop.request("SIGTERM")
                yield batch

    optimizer = OptimizerConfig(
        steps=15, learning_rate=0.01, warmup_steps=2, decay_power=1.0, weight_decay=0.01, beta1=0.9, beta2=0.999,
        epsilon=1e-6, clip_norm=1.0,
    )  # fmt: skip
    config = LoopConfig(
        seed=3, log_every_steps=1, evaluate_every_steps=20, save_every_steps=20, keep_last=2, keep_every_steps=0,
        sharding="dp",
    )  # fmt: skip
    trainer = Trainer(Counted(), optimizer, config, partitioning.make_mesh((-1, 1, 1)), note=lambda text: None)
    try:
        loop.train(trainer, context)
    except Preempted as error:
        assert "it is saved" in str(error)  # noqa: PT017
    print(json.dumps(read))


if __name__ == "__main__":
    main()
