"""A plan: the training step of a run, compiled for a TPU slice without the hardware.

The compiler itself decides whether it fits. Times are modelled: the sum of the compiler's estimates over the chip's
clock, without waiting for other chips; nothing was measured.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax

from electra_jax import config_rules
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.pretraining.jobs import pretraining_job
from electra_jax.tpu_planning.program import Collective, read_costs
from electra_jax.tpu_planning.topologies import Slice
from electra_jax.training import partitioning
from electra_jax.training.trainer import Trainer, make_trainer

# "… exceeds available HBM (15.75G)", and "Used 18.1G of 15.75G hbm" where all of it was laid out.
_AVAILABLE = re.compile(r"(?:available HBM \(|of )([\d.]+)([KMG]?)")
_NEEDED = re.compile(r"(?:temporaries \(|Used )([\d.]+)([KMG]?)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_TRIALS = 6  # Compilations of one search.


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
      parameters, optimizer: bytes of the state, which is updated in place.
      activations: bytes that the step needs in addition: activations, gradients and all temporaries.
      available: memory of the device; the compiler reserves a little of it.
    """

    parameters: int
    optimizer: int
    activations: int
    available: int

    @property
    def needed(self) -> int:
        """Sum of state and activations."""
        return self.parameters + self.optimizer + self.activations


@dataclasses.dataclass(frozen=True)
class Plan:
    """One step of a config on a slice; times in seconds, None where the chip's clock is not published.

    Attributes:
      topology: the slice as the user wrote it.
      rows: rows of one device.
      flops: FLOPs of one device's share of the step, forward and backward, matrix products only, nothing twice.
      bytes_accessed: bytes accessed in one device's memory, by the compiler's count.
      cycles: the compiler's estimate for one device; 0 where no clock converts them to seconds.
      step_seconds: modelled time, without waiting for other devices.
      collective_seconds: modelled time of the collectives at the links' published rate, without overlap.
      mfu: `flops` in `step_seconds`, as a share of the chip's peak.
      kernel_share: share of the cycles that kernels declare.
      scopes: share of the cycles by place in the model.
    """

    topology: str
    devices: int
    rows: int
    row_length: int
    steps: int
    memory: Memory
    flops: float
    bytes_accessed: float
    cycles: float
    step_seconds: float | None
    collective_seconds: float
    mfu: float | None
    kernel_share: float
    scopes: dict[str, float]
    collectives: dict[str, Collective]

    @property
    def tokens_per_second(self) -> float | None:
        """Modelled throughput of all devices, with the time of collectives."""
        if self.step_seconds is None:
            return None
        return self.devices * self.rows * self.row_length / (self.step_seconds + self.collective_seconds)

    @property
    def days(self) -> float | None:
        """Modelled duration of the config's steps, with the time of collectives."""
        if self.step_seconds is None:
            return None
        return self.steps * (self.step_seconds + self.collective_seconds) / 86400

    def as_fields(self) -> dict[str, Any]:
        """Returns the plan for a JSON file, with estimates in a group of their own."""
        fields = dataclasses.asdict(self)
        names = ("cycles", "step_seconds", "collective_seconds", "mfu", "kernel_share", "scopes")
        modelled = {name: fields.pop(name) for name in names}
        modelled |= {"tokens_per_second": self.tokens_per_second, "days": self.days}
        fields["memory"]["needed"] = self.memory.needed
        return fields | {"fits": True, "modelled_by_the_tpu_compiler": modelled}


class DoesNotFit(Exception):
    """The program does not fit into the device's memory.

    Attributes:
      needed: bytes on one device, None if the compiler did not report them.
      available: bytes.
    """

    def __init__(self, needed: int | None, available: int) -> None:
        """See the class."""
        super().__init__(f"{needed} bytes of {available}")
        self.needed, self.available = needed, available


def make_plan(config: PretrainingConfig, slice_: Slice, note: Callable[[str], None]) -> Plan:
    """Compiles the config's training step for a slice, and reads its costs from the compiler's output.

    Args:
      config: config of a pre-training run.
      slice_: the devices.
      note: receives a message on anything that differs from the config.

    Raises:
      DoesNotFit: the step does not fit into the device's memory.
      InputError: the config is wrong, for these devices or any.
    """
    trainer = _trainer(config, slice_, note)
    with trainer.placed():
        lowered = trainer.lower()
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if shortage := _shortage(str(error), slice_):
                raise shortage from error
            raise
    text = compiled.as_text()
    if text is None:
        raise RuntimeError("the TPU compiler returned no text of the program")
    costs = read_costs(text, slice_.chip)
    devices, chip, job = len(slice_.devices), slice_.chip, trainer.job
    (batch,) = job.batch_shapes()
    flops = job.work(batch).flops / devices
    seconds = costs.cycles / chip.clock if chip.clock else None
    return Plan(
        topology=str(slice_),
        devices=devices,
        rows=config.batch_size // devices,
        row_length=config.data.sequence_length,
        steps=config.steps,
        memory=_memory(trainer, compiled, slice_),
        flops=flops,
        bytes_accessed=float(_analysis(compiled).get("bytes accessed", 0.0)),
        cycles=costs.cycles,
        step_seconds=seconds,
        collective_seconds=_collective_seconds(costs.collectives, devices, chip.links),
        mfu=flops / seconds / chip.peak_flops if seconds else None,
        kernel_share=costs.kernel_cycles / costs.cycles if costs.cycles else 0.0,
        scopes={name: cycles / costs.cycles for name, cycles in costs.scopes.items()},
        collectives=costs.collectives,
    )


def largest_batch(
    config: PretrainingConfig, slice_: Slice, failed: DoesNotFit, note: Callable[[str], None]
) -> Plan | None:
    """Returns the plan of a large batch that fits, found by compiling; None if not even one row per device does.

    The compiler reports how much memory a failed step needs, from which the search starts.

    Args:
      config: a config whose batch does not fit.
      slice_: the devices.
      failed: the error of its compilation.
      note: receives a message on each attempt.
    """
    devices = len(slice_.devices)
    state = _state_bytes(_trainer(config, slice_, lambda text: None))
    rows = config.batch_size // devices
    for _ in range(_TRIALS):
        needed = failed.needed or 2 * failed.available
        # In proportion to what is not state, and a twentieth less: nothing is quite in proportion.
        room = max(0.0, failed.available - state)
        rows = min(rows - 1, _round(int(0.95 * rows * room / max(needed - state, 1))))
        if rows < 1:
            return None
        note(f"Compiling with {rows * devices:,} rows …")
        smaller = dataclasses.replace(config, batch_size=rows * devices)
        try:
            return make_plan(smaller, slice_, lambda text: None)
        except DoesNotFit as error:
            failed = error
    return None


def _round(rows: int) -> int:
    """Rounds down to a multiple of 8, the rows of a register, from 8 rows on."""
    return rows - rows % 8 if rows >= 8 else rows


def _trainer(config: PretrainingConfig, slice_: Slice, note: Callable[[str], None]) -> Trainer:
    config_rules.check(config, len(slice_.devices), reads_text=False)
    job = pretraining_job(config, None, "tpu")
    sizes = (config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    return make_trainer(config, job, partitioning.make_mesh(sizes, slice_.devices), note)


def _bytes(tree: Any, shardings: Any) -> int:
    """Bytes of one device's part of a tree."""
    parts = jax.tree.map(
        lambda leaf, sharding: leaf.dtype.itemsize * math.prod(sharding.shard_shape(leaf.shape)), tree, shardings
    )
    return sum(jax.tree.leaves(parts))


def _state_bytes(trainer: Trainer) -> int:
    return _bytes(trainer.abstract, trainer.shardings)


def _memory(trainer: Trainer, compiled: jax.stages.Compiled, slice_: Slice) -> Memory:
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise RuntimeError("the TPU compiler returned no memory analysis of the program")
    # The state is donated and updated in place; other inputs and outputs count as temporaries.
    arguments = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    parameters = _bytes(trainer.abstract.params, trainer.shardings.params)
    optimizer = _bytes(trainer.abstract.optimizer, trainer.shardings.optimizer)
    others = arguments + analysis.temp_size_in_bytes + analysis.generated_code_size_in_bytes - parameters - optimizer
    return Memory(parameters, optimizer, others, int(slice_.chip.memory))


def _analysis(compiled: jax.stages.Compiled) -> dict[str, float]:
    found = compiled.cost_analysis()
    return (found[0] if isinstance(found, list) else found) or {}


def _collective_seconds(collectives: dict[str, Collective], devices: int, links: float) -> float:
    """Seconds in a ring, where each device sends and receives (n - 1)/n of the bytes, twice for an all-reduce."""
    share = (devices - 1) / devices
    rounds = {"all-reduce": 2.0}
    return sum(rounds.get(kind, 1.0) * share * found.bytes / links for kind, found in collectives.items())


def _shortage(text: str, slice_: Slice) -> DoesNotFit | None:
    """The shortage of memory that a compiler's error reports; None for any other error."""
    if "RESOURCE_EXHAUSTED" not in text or "HBM" not in text.upper():
        return None

    def found(pattern: re.Pattern) -> int | None:
        match = pattern.search(text)
        return int(float(match.group(1)) * _UNITS[match.group(2)]) if match else None

    return DoesNotFit(found(_NEEDED), found(_AVAILABLE) or int(slice_.chip.memory))
