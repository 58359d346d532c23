"""The quickstart's quicktest as a masked language model, with a small probe; `config.probe.data.directory` is given."""

import ml_collections

from electra_jax.configs import quickstart
from electra_jax.configs.finetune import base


def get_config(variant=""):
    config = quickstart.get_config("quicktest")
    # Compiles in half the time.
    config.objective.name, config.objective.corrective_weight = "mlm", 0.0
    config.model.layers, config.steps, config.optimizer.warmup_steps = 1, 4, 1
    probe = config.probe = base.get_config()
    probe.update(dict(size="small", epochs=4.0, batch_size=32, reseeds=0))
    probe.data.update(dict(lengths=1))
    probe.log.every_steps = 1
    probe.optimizer.learning_rate = 3e-3
    probe.model.unrolled_layers = 1
    probe.evaluation.per_epoch = 0.25
    probe.tasks.parts = base.tagging_task(
        train="train.txt", dev="dev.txt", format="tokens", spans=False, metrics=("accuracy",), max_length=32
    )
    probe.reference = ml_collections.ConfigDict(
        dict(name="masked language model", mean=0.75, sd=0.01, seeds=3, steps=10_000, recorded="docs/results.md")
    )
    return config
