"""Plans a training step on TPUs: `python -m electra_jax.plan --config=configs/large.py --topology=v5e:4x4`.

Compiles the real training step for a TPU slice without the hardware, and prints whether it fits and how fast it is:

  step time = cycles that the TPU compiler estimates for its fusions (a kernel of ours: the longer of its declared
              operations at the chip's peak and its declared bytes at the memory's rate) / the chip's clock
  MFU       = the model's FLOPs a device (matrix products, forward and backward, nothing twice) / step time / peak
"""

import os
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from electra_jax import entry_point, presets, storage
from electra_jax.config.files import read_config
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.errors import InputError

if TYPE_CHECKING:
    from electra_jax.tpu_planning.step_plan import DoesNotFit, Plan
    from electra_jax.tpu_planning.topologies import Slice

_CONFIG = presets.define_flag("What to do: a preset's name or a config file.")
_TOPOLOGY = flags.DEFINE_string("topology", None, "A TPU slice: v5e:4x4, v5p:2x2x2, v6e:4x4, v4:2x2x4, tpu7x:2x2x1.")
_JSON = flags.DEFINE_string("json", None, "A file to which the plan is also written.")


def main() -> None:
    """Prints the plan; exits with 64 where the batch does not fit, naming one that does."""
    if _CONFIG.value is None or not _TOPOLOGY.value:
        raise InputError("Two flags are needed, for example --config=configs/large.py --topology=v5e:4x4")
    target = pathlib.Path(_JSON.value).expanduser() if _JSON.value else None
    if target and not target.absolute().parent.is_dir():
        raise InputError(f"--json={target}: there is no directory {target.absolute().parent}")
    os.environ["JAX_PLATFORMS"] = "cpu"  # The TPU is only compiled for.
    # Imported here so that a mistyped flag answers at once.
    from electra_jax import config_rules
    from electra_jax.tpu_planning import plan_text, topologies
    from electra_jax.tpu_planning import step_plan as planning

    config, problems = read_config(_CONFIG.value)
    if not isinstance(config, PretrainingConfig):
        raise InputError(
            f"config.task: {config.task}; only pre-training is planned. A fine-tuning run fits where pre-training of "
            "its model did, at a batch of 32 rows"
        )
    slice_ = topologies.make_slice(_TOPOLOGY.value, config.mesh.slices)
    config_rules.check(config, len(slice_.devices), problems=problems, reads_text=False)
    print(f"Compiling {presets.given()} for {slice_}; minutes for a large model …", flush=True)
    try:
        plan = planning.make_plan(config, slice_, print)
    except planning.DoesNotFit as error:
        fitting = planning.largest_batch(config, slice_, error, lambda text: print(text, flush=True))
        raise InputError(_refusal(config, slice_, error, fitting)) from error
    print("\n".join(plan_text.plan_lines(plan)))
    if target:
        storage.write_json(target, plan.as_fields())


def _refusal(config: PretrainingConfig, slice_: "Slice", error: "DoesNotFit", fitting: "Plan | None") -> str:
    from electra_jax.tpu_planning.plan_text import memory_size

    rows = config.batch_size // len(slice_.devices)
    needed = f"need {memory_size(error.needed)} or more" if error.needed else "do not fit"
    lines = [
        f"config.batch_size: {config.batch_size:,} rows, {rows:,} on each device of {slice_}, {needed}; there are "
        f"{memory_size(error.available)}.",
    ]
    if fitting:
        lines.append(
            f"Compiled and found to fit: --config.batch_size={fitting.rows * fitting.devices}, {fitting.rows} on each, "
            f"{memory_size(fitting.memory.needed)}."
        )
    else:
        lines.append(
            "Not even one row a device fits: shard the weights, with --config.mesh.sharding=fsdp "
            "--config.mesh.data=1 --config.mesh.fsdp=-1."
        )
    saved = config.model.saved_activations
    if saved != "layer_inputs":
        less = "products" if saved == "all" else "layer_inputs"
        lines.append(f"To fit more: --config.model.saved_activations={less}, or a larger slice.")
    return "\n".join(lines)


def run() -> None:
    """Runs the command `electra-plan`: parses the flags, calls `main` and exits with its exit code."""
    entry_point.enter(main)


if __name__ == "__main__":
    run()
