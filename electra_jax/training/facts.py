"""Facts that a run prints before it starts: its job, devices, parameters and work."""

import jax

from electra_jax.training import device_speed
from electra_jax.training.state import parameter_count
from electra_jax.training.trainer import Trainer
from electra_jax.wording import quantity


def screen(trainer: Trainer) -> str:
    """The lines to print."""
    job, steps = trainer.job, trainer.optimizer_config.steps
    params = trainer.abstract.params
    parts = ", ".join(f"{name} {quantity(parameter_count(part))}" for name, part in params.items())
    peak, source = device_speed.peak_flops_per_second()
    devices = jax.devices()
    mesh = " × ".join(f"{axis} {size}" for axis, size in trainer.mesh.shape.items())
    facts = {
        "job": f"{job.name}, {steps:,} steps",
        "devices": f"{len(devices)} × {devices[0].device_kind}; mesh {mesh}; weights {trainer.config.sharding}",
        "parameters": f"{quantity(parameter_count(params))} ({parts})",
        **job.facts(steps),
    }
    if peak:
        facts["at best"] = f"{quantity(peak)}FLOP/s ({source})"
    facts["duration"] = "printed once the first steps are measured"
    return "\n".join(f"  {name:<11} {fact}" for name, fact in facts.items())
