"""A plan in lines for a terminal."""

from collections.abc import Iterable

from electra_jax.tpu_planning.step_plan import Plan
from electra_jax.wording import duration, quantity

_SHOWN_SCOPES = 15
MODELLED = "modelled by the TPU compiler"


def memory_size(size: float) -> str:
    """Bytes as text."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.1f} MiB"


def plan_lines(plan: Plan) -> Iterable[str]:
    """Lines that `plan` prints."""
    memory = plan.memory
    yield f"Fits on {plan.topology}: {plan.devices} devices, {plan.rows} rows of {plan.row_length} tokens on each."
    yield ""
    yield "Memory per device, laid out by the TPU compiler"
    yield f"  parameters   {memory_size(memory.parameters):>10}"
    yield f"  optimizer    {memory_size(memory.optimizer):>10}"
    yield f"  activations  {memory_size(memory.activations):>10}   with gradients and all temporaries"
    yield f"  total        {memory_size(memory.needed):>10} of {memory_size(memory.available)}"
    yield ""
    yield "A step"
    yield f"  FLOPs per device      {quantity(plan.flops)}, the model's own: matrix products, forward and backward"
    yield f"  bytes per device      {quantity(plan.bytes_accessed)} ({MODELLED})"
    if plan.step_seconds is None or plan.mfu is None:
        yield "  time                  not known: the clock of this chip is not published"
    else:
        yield f"  time                  {plan.step_seconds * 1e3:.1f} ms ({MODELLED})"
        yield f"  MFU                   {plan.mfu:.1%} ({MODELLED}; without waiting for other devices)"
    for kind, found in plan.collectives.items():
        yield f"  {kind:<21} {found.count} calls, {quantity(found.bytes)}B per device"
    milliseconds = plan.collective_seconds * 1e3
    yield f"  collectives           {milliseconds:.1f} ms at the links' published rate, without overlap"
    if plan.tokens_per_second is not None and plan.days is not None:
        daily = quantity(plan.tokens_per_second * 86400)
        yield f"  throughput            {daily} tokens a day, collectives waited for ({MODELLED})"
        yield f"  {f'{plan.steps:,} steps':<21} {duration(plan.days * 86400)} ({MODELLED})"
    yield ""
    yield f"Where the time goes ({MODELLED}; {plan.kernel_share:.0%} of it is what kernels of ours declare)"
    shown = list(plan.scopes.items())[:_SHOWN_SCOPES]
    yield from (f"  {share:6.1%}  {name}" for name, share in shown)
    rest = 1 - sum(share for _, share in shown)
    if rest > 0.0005:
        yield f"  {rest:6.1%}  the rest"
