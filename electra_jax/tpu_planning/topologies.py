"""TPU slices without the hardware: figures of their chips, and devices to compile for."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

from electra_jax.errors import InputError
from electra_jax.training.device_speed import PEAK_FLOPS

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device of a kind of TPU, with published figures (Google Cloud's documentation of TPU versions).

    Attributes:
      peak_flops: bfloat16 operations per second of one device.
      clock: cycles per second, the unit of the compiler's estimates; 0 where it is not published.
      bandwidth: bytes per second between the device and its memory.
      memory: bytes.
      links: bytes per second between the device and its neighbours, all links and both directions together.
      setting: the compiler's `chip_config_name` for chips whose cores work as one device.
    """

    peak_flops: float
    clock: float
    bandwidth: float
    memory: float
    links: float
    setting: str = ""


CHIPS = {
    "v4": Chip(PEAK_FLOPS["TPU v4"], 1.05e9, 1228e9, 32 * _GIB, 300e9, setting="megacore"),
    "v5e": Chip(PEAK_FLOPS["TPU v5 lite"], 1.5e9, 819e9, 16 * _GIB, 200e9),
    "v5p": Chip(PEAK_FLOPS["TPU v5p"], 1.75e9, 2765e9, 95 * _GIB, 600e9, setting="megacore"),
    "v6e": Chip(PEAK_FLOPS["TPU v6 lite"], 1.75e9, 1640e9, 32 * _GIB, 400e9),
    # JAX sees two devices in a chip, with half of its figures each.
    "tpu7x": Chip(2307e12 / 2, 0.0, 7370e9 / 2, 96 * _GIB, 600e9),
}


# Settings of libtpu on a machine without TPUs.
_COMPILER_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",  # Do not ask the cloud for an address.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # Its lock protects a TPU; other processes may be compiling.
    "TPU_WORKER_HOSTNAMES": "localhost",  # It complains where it finds none.
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice, or several equal ones.

    Attributes:
      name: as the user wrote it, "v5e:4x4".
      devices: devices of all slices, as JAX lists them.
    """

    name: str
    chip: Chip
    count: int
    devices: Any

    def __str__(self) -> str:
        """Name for messages."""
        return self.name if self.count == 1 else f"{self.count} slices of {self.name}"


def make_slice(name: str, count: int = 1) -> Slice:
    """Returns the devices of a TPU slice, without the hardware.

    Args:
      name: kind of chip and chips along each axis, "v5e:4x4" or "v5p:2x2x2".
      count: number of such slices.

    Raises:
      InputError: there is no such chip or shape, or the TPU compiler is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+x\d+(x\d+)?", shape):
        raise InputError(
            f"--topology={name}: expected a kind of chip and a shape, such as v5e:4x4 or v5p:2x2x2; "
            f"kinds: {', '.join(CHIPS)}"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "The TPU compiler is not installed. ./launch/plan.sh with the same flags installs it, apart from the "
            "other packages; on a TPU VM: pip install -r requirements-tpu.txt"
        )
    for name_of_setting, value in _COMPILER_ALONE.items():
        os.environ.setdefault(name_of_setting, value)
    import jax
    from jax.experimental import topologies

    chip, sizes = CHIPS[kind], [int(size) for size in shape.split("x")]
    options: dict[str, Any] = {"chip_config_name": chip.setting} if chip.setting else {}
    if count > 1:
        options["num_slices"] = count
    if math.prod(sizes) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        raise InputError(f"--topology={name}: the TPU compiler knows no such slice: {error}") from error
    return Slice(name, chip, count, devices)
