"""A plan: the very step that a run would take, compiled for a TPU slice that is not there.

Whether it fits is the compiler's own verdict. Times are modelled: the sum of the compiler's estimates over the chip's
clock, no other chip waited for; nothing was measured.
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
      parameters, optimizer: of the state, which is updated in place.
      activations: what the step needs beside it: activations, gradients and all else that comes and goes.
      available: all that the device has; the compiler keeps a little of it.
    """

    parameters: int
    optimizer: int
    activations: int
    available: int

    @property
    def needed(self) -> int:
        """All of it."""
        return self.parameters + self.optimizer + self.activations


@dataclasses.dataclass(frozen=True)
class Plan:
    """One step of a config on a slice; times in seconds, None where the chip's clock is not published.

    Attributes:
      topology: the slice as the user wrote it.
      rows: of one device.
      flops: of one device's share of the step, forward and backward, matrix products only, nothing twice.
      bytes_accessed: by the compiler's count, in one device's memory.
      cycles: that the compiler estimates for one device; 0 where there is no clock to make seconds of them.
      step_seconds: modelled, without the wait for other devices.
      collective_seconds: modelled: what the collectives take at the links' published rate, were nothing done beside.
      mfu: share of the chip's peak that `flops` in `step_seconds` come to.
      kernel_share: of the cycles, those taken from what kernels declare.
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
        """Of all devices, modelled, collectives waited for."""
        if self.step_seconds is None:
            return None
        return self.devices * self.rows * self.row_length / (self.step_seconds + self.collective_seconds)

    @property
    def days(self) -> float | None:
        """That the config's steps take, modelled, collectives waited for."""
        if self.step_seconds is None:
            return None
        return self.steps * (self.step_seconds + self.collective_seconds) / 86400

    def as_fields(self) -> dict[str, Any]:
        """All of it for a JSON file, estimates under names that say so."""
        fields = dataclasses.asdict(self)
        names = ("cycles", "step_seconds", "collective_seconds", "mfu", "kernel_share", "scopes")
        modelled = {name: fields.pop(name) for name in names}
        modelled |= {"tokens_per_second": self.tokens_per_second, "days": self.days}
        fields["memory"]["needed"] = self.memory.needed
        return fields | {"fits": True, "modelled_by_the_tpu_compiler": modelled}


class DoesNotFit(Exception):
    """The compiler found no place for the program.

    Attributes:
      needed: bytes on one device, None where the compiler did not say.
      available: bytes.
    """

    def __init__(self, needed: int | None, available: int) -> None:
        """See the class."""
        super().__init__(f"{needed} bytes of {available}")
        self.needed, self.available = needed, available


def make_plan(config: PretrainingConfig, slice_: Slice, note: Callable[[str], None]) -> Plan:
    """Compiles the config's training step for a slice, and reads what the compiler says of it.

    Args:
      config: of a pre-training run.
      slice_: the devices.
      note: told of anything that is not as the config says.

    Raises:
      DoesNotFit: the compiler's verdict.
      InputError: the config is wrong, for these devices or any.
    """
    trainer = _trainer(config, slice_, note)
    with trainer.placed():
        lowered = trainer.lower()
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if refused := _verdict(str(error), slice_):
                raise refused from error
            raise
    text = compiled.as_text()
    if text is None:
        raise RuntimeError("the TPU compiler returned no text of the program")
    costs = read_costs(text, slice_.chip)
    devices, chip, job = len(slice_.devices), slice_.chip, trainer.job
    flops = job.work(job.batch_shapes()[0]).flops / devices
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
    """The plan of a large batch that fits, found by compiling; None where not even one row a device does.

    What does not fit says how much it needs, and so how many rows would: the search starts from there.

    Args:
      config: whose batch does not fit.
      slice_: the devices.
      failed: the verdict on it.
      note: told of each attempt.
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
    """Down to a multiple of 8, the rows of a register, where there are so many."""
    return rows - rows % 8 if rows >= 8 else rows


def _trainer(config: PretrainingConfig, slice_: Slice, note: Callable[[str], None]) -> Trainer:
    config_rules.check(config, len(slice_.devices), reads_text=False)
    job = pretraining_job(config, None, "tpu")
    sizes = (config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    return make_trainer(config, job, partitioning.make_mesh(sizes, slice_.devices), note)


def _bytes(tree: Any, shardings: Any) -> int:
    """Of one device's part of a tree."""
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
    # The state is given away and updated in place; what else goes in or comes out counts as coming and going.
    whole = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    parameters = _bytes(trainer.abstract.params, trainer.shardings.params)
    optimizer = _bytes(trainer.abstract.optimizer, trainer.shardings.optimizer)
    others = whole + analysis.temp_size_in_bytes + analysis.generated_code_size_in_bytes - parameters - optimizer
    return Memory(parameters, optimizer, others, int(slice_.chip.memory))


def _analysis(compiled: jax.stages.Compiled) -> dict[str, float]:
    found = compiled.cost_analysis()
    return (found[0] if isinstance(found, list) else found) or {}


def _collective_seconds(collectives: dict[str, Collective], devices: int, links: float) -> float:
    """In a ring, each device sends and receives (n - 1)/n of the bytes, twice for an all-reduce."""
    share = (devices - 1) / devices
    rounds = {"all-reduce": 2.0}
    return sum(rounds.get(kind, 1.0) * share * found.bytes / links for kind, found in collectives.items())


def _verdict(text: str, slice_: Slice) -> DoesNotFit | None:
    """What the compiler says of memory, if that is what it complains of."""
    if "RESOURCE_EXHAUSTED" not in text or "HBM" not in text.upper():
        return None

    def found(pattern: re.Pattern) -> int | None:
        match = pattern.search(text)
        return int(float(match.group(1)) * _UNITS[match.group(2)]) if match else None

    return DoesNotFit(found(_NEEDED), found(_AVAILABLE) or int(slice_.chip.memory))
