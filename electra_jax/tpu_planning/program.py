"""Costs of a program compiled for a TPU, read from the compiler's own text.

Its optimized HLO carries an estimate of cycles for each fusion; a loop's body counts as often as the constant in its
condition says. Our kernels carry none: they take the time of their declared operations or of their declared bytes at
the chip's peak rates, whichever is longer. None of it was measured.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable

from electra_jax.tpu_planning.topologies import Chip

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_DECLARED = re.compile(r'"cost_estimate":\{"flops":"(\d+)","transcendentals":"\d+","bytes_accessed":"(\d+)"')
_OPERATION = re.compile(r'op_name="([^"]*)"')
_LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_CALL = re.compile(r" (?:call|conditional|async-start)\(.*(?:to_apply|calls)=%?([\w.\-]+)")
_BOUND = re.compile(r"s32\[\][^ ]* constant\((\d+)\)")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(_COLLECTIVES)})(-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind in a step.

    Attributes:
      count: calls.
      bytes: bytes of their results on one device.
    """

    count: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class ProgramCosts:
    """Costs of one step on one device.

    Attributes:
      cycles: the compiler's estimate, kernels included.
      kernel_cycles: cycles of kernels, from what they declare.
      scopes: cycles by place in the model, the largest first.
      collectives: collectives by kind.
    """

    cycles: float
    kernel_cycles: float
    scopes: dict[str, float]
    collectives: dict[str, Collective]


def read_costs(text: str, chip: Chip) -> ProgramCosts:
    """Returns the costs of a compiled program.

    Args:
      text: optimized HLO, `compiled.as_text()`.
      chip: the chip that it was compiled for.
    """
    bodies, entry = _computations(text)
    scopes: dict[str, float] = collections.defaultdict(float)
    counts: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    kernels = 0.0

    def walk(name: str, times: int) -> None:
        nonlocal kernels
        for line in bodies.get(name, ()):
            cycles = times * _line_cycles(line, chip)
            if cycles:
                operation = _OPERATION.search(line)
                scopes[scope_of(operation.group(1) if operation else "")] += cycles
                if _DECLARED.search(line):
                    kernels += cycles
            if collective := _COLLECTIVE.search(line):
                counts[collective.group(2)] += times
                sizes[collective.group(2)] += times * _size(collective.group(1), is_start=bool(collective.group(3)))
            if loop := _LOOP.search(line):
                walk(loop.group(2), times * _trips(bodies[loop.group(1)]))
            elif call := _CALL.search(line):
                walk(call.group(1), times)

    walk(entry, 1)
    return ProgramCosts(
        cycles=float(sum(scopes.values())),
        kernel_cycles=kernels,
        scopes=dict(sorted(scopes.items(), key=lambda scope: scope[1], reverse=True)),
        collectives={kind: Collective(count, sizes[kind]) for kind, count in sorted(counts.items())},
    )


def scope_of(operation: str) -> str:
    """Returns the place of an operation in the model: phase, direction and module.

    "jit(train_step)/transpose(jvp(discriminator))/Electra.discriminate/discriminator/…/layers/output/bli,io->blo/…"
    is "discriminator, backward: layers/output".
    """
    passing = ("jit(", "closed_call", "while", "body")
    parts = [part for part in operation.split("/") if part and not part.startswith(passing)]
    if not parts:
        return "other"
    phase = re.sub(r"^(?:transpose\()?(?:jvp\()?([\w ]*)\)*$", r"\1", parts[0]) or "losses"
    direction = "backward" if parts[0].startswith("transpose(") else "forward"
    # The last part is the primitive; einsums and Flax's own scopes say nothing to a reader.
    kept = [part for part in parts[1:-1] if re.fullmatch(r"\w+", part) and part not in (phase, "shard_map")]
    if phase not in ("generator", "discriminator", "losses"):
        return phase
    return f"{phase}, {direction}: {'/'.join(kept[:3]) or 'rest'}"


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    bodies: dict[str, list[str]] = {}
    current = entry = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            head = _HEAD.match(line)
            if head:
                current = head.group(2)
                bodies[current] = []
                entry = current if head.group(1) else entry
        elif current:
            bodies[current].append(line)
    return bodies, entry


def _line_cycles(line: str, chip: Chip) -> float:
    if estimated := _CYCLES.search(line):
        return float(estimated.group(1))
    if declared := _DECLARED.search(line):
        flops, moved = map(float, declared.groups())
        return max(flops / chip.peak_flops, moved / chip.bandwidth) * chip.clock
    return 0.0


def _trips(condition: Iterable[str]) -> int:
    return max((int(bound) for line in condition for bound in _BOUND.findall(line)), default=1)


def _size(shapes: str, *, is_start: bool) -> int:
    """Bytes of a result; the result of a -start holds its operand as well, of the same size or smaller."""
    arrays = [
        _BYTES.get(kind, 4) * math.prod(int(size) for size in sizes.split(",") if size)
        for kind, sizes in _ARRAY.findall(re.sub(r"\{[^}]*\}", "", shapes))
    ]
    return max(arrays, default=0) if is_start else sum(arrays)
