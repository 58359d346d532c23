"""Rules on several fields of a config: sizes that must divide each other, devices, text that must exist.

Single fields are checked by the schema, in `config/`; the rules here read several of them, or files and devices.
"""

import math
from collections.abc import Iterable, Iterator

from electra_jax import storage
from electra_jax.config import schema
from electra_jax.config.files import RunConfig, problems_error
from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.config.probe import of_probe, probe_of
from electra_jax.config.schema import Problems
from electra_jax.errors import InputError
from electra_jax.finetuning import validation
from electra_jax.pretraining import schedules
from electra_jax.text.dataset import dataset, units
from electra_jax.training import sharding_rules


def check(
    config: RunConfig,
    device_count: int,
    process_count: int = 1,
    *,
    problems: Problems | None = None,
    reads_text: bool = True,
) -> None:
    """Checks a config, of either task, before any slow work.

    Args:
      config: the config, as `files.read_config` returns it.
      device_count: number of devices of the run.
      process_count: number of processes of the run.
      problems: what `files.read_config` found wrong with single fields; rules that read these are skipped.
      reads_text: whether the text must exist.

    Raises:
      InputError: lists every problem, each with its field, what was found, and what was expected.
    """
    problems = problems or Problems()
    lines = [*problems.lines, *_rule_problems(config, device_count, process_count, problems.broken)]
    if isinstance(config, PretrainingConfig):
        if config.probe:
            broken = {name.replace("config.probe.", "config.", 1) for name in problems.broken}
            lines += map(of_probe, _probe_problems(config, device_count, process_count, broken))
        if reads_text and (not storage.is_remote(config.data.directory) or not lines):
            lines += _text(config)
    if lines:
        raise problems_error(lines)


def check_data(config: PretrainingConfig, problems: Problems) -> None:
    """Checks what the preparation of text needs: every field by itself, and the rules of `config.data`.

    Missing text is reported together with other problems; by itself it is left to the preparation, which checks it in
    any case.

    Args:
      config: the config, as `files.read_config` returns it.
      problems: what `files.read_config` found wrong with single fields.

    Raises:
      InputError: lists every problem, each with its field, what was found, and what was expected.
    """
    lines = [*problems.lines, *_rule_problems(config, 1, 1, problems.broken, "data.")]
    if lines:
        is_remote = storage.is_remote(config.data.directory)  # Which may be unreachable: that is one of the problems.
        raise problems_error([*lines, *(units.text_problems(config.data) if is_remote else _text(config))])


def _rule_problems(
    config: RunConfig, device_count: int, process_count: int, broken: Iterable[str], section: str = ""
) -> Iterator[str]:
    """The problems found by rules that read fields of the section alone, none of which is broken by itself."""
    unsound = {name.removeprefix("config.") for name in broken}
    for names, found in _rules(config, device_count, process_count):
        if unsound.isdisjoint(names) and all(name.startswith(section) for name in names):
            for problem in found:
                # A field that broke one rule must not be reported by others.
                unsound.add(problem.split(":")[0].removeprefix("config."))
                yield problem


def _probe_problems(
    config: PretrainingConfig, device_count: int, process_count: int, broken: set[str]
) -> Iterator[str]:
    """Problems of a probe: those of any fine-tuning, and its own."""
    probe = probe_of(config, model="the run itself")
    if probe is None:
        return
    yield from _rule_problems(probe, device_count, process_count, broken)
    kinds = [task.kind for task in probe.tasks.values()]
    if kinds != ["tagging"]:
        if not any(name.startswith("config.tasks.") for name in broken):
            yield f"config.tasks: found {', '.join(kinds) or 'none'}, expected a single task of kind tagging"
        return
    ((name, task),) = probe.tasks.items()
    if getattr(task, "spans", False) or "accuracy" not in task.metrics:
        yield (
            f"config.tasks.{name}: a probe counts words with the right tag; set "
            f"--config.tasks.{name}.spans=False --config.tasks.{name}.metrics=\"('accuracy',)\""
        )
    yield from validation.check_positions(probe, config.model.positions)


def _text(config: PretrainingConfig) -> list[str]:
    """Problems of the text, which need not exist once it is prepared."""
    return [] if dataset.is_prepared(config.data.directory) else units.text_problems(config.data)


def _rules(config: RunConfig, device_count: int, process_count: int) -> Iterator[tuple[tuple[str, ...], Iterable[str]]]:
    """Yields the fields that each rule reads, and the problems that it finds, computed only when iterated."""
    mesh = ("mesh.data", "mesh.fsdp", "mesh.tensor")
    yield ("batch_size", "accumulation", "mesh.slices", *mesh), _mesh(config, device_count)
    yield mesh, _processes(config, device_count, process_count)
    yield (
        ("mesh.sharding", "mesh.rules"),
        (f"config.mesh.rules: {text}" for text in sharding_rules.problems(config.mesh.sharding, config.mesh.rules)),
    )
    yield ("optimizer.gradient_scope", "mesh.sharding"), _gradient_scope(config)
    if isinstance(config, FinetuningConfig):
        for problem in validation.problems(config):
            yield (problem.split(":")[0].removeprefix("config."),), [problem]
        return
    for name, text in schema.as_tree(config.objective.schedules).items():
        yield ("steps", f"objective.schedules.{name}"), _schedule(name, text, config.steps)
    yield ("model.hidden_size", "model.heads"), _heads(config)
    yield ("model.hidden_size", "model.heads", "model.generator_width", "objective.name"), _generator(config)
    yield ("data.sequence_length", "model.positions"), _lengths(config)
    yield ("data.sequence_length", "objective.mask_fraction", "objective.schedules.mask_fraction"), _slots(config)
    yield (
        ("objective.name", "objective.corrective_weight", "objective.schedules.corrective_weight"),
        _corrective(config),
    )
    yield ("steps", "optimizer.warmup_steps"), _warmup(config)
    yield ("data.directory",), _directory(config)
    yield ("data.filters.shortest_document", "data.filters.longest_document"), _filters(config)
    yield ("data.tokenizer.kind", "data.tokenizer.strip_accents"), _tokenizer(config)


def _schedule(name: str, text: str, steps: int) -> Iterator[str]:
    place = f"config.objective.schedules.{name}"
    try:
        schedule = schedules.parse(text, steps) if text else None
    except ValueError as error:
        yield f"{place}: {error}"
        return
    if schedule and name == "temperature" and min(schedule.values) <= 0:
        yield f"{place}: {text!r}, expected values above 0"
    if schedule and name == "mask_fraction" and schedule.largest >= 1:
        yield f"{place}: {text!r}, expected fractions below 1"


def _directory(config: PretrainingConfig) -> Iterator[str]:
    if reason := storage.problem(config.data.directory):
        yield f"config.data.directory: {reason}"


def _filters(config: PretrainingConfig) -> Iterator[str]:
    filters = config.data.filters
    if 0 < filters.longest_document < filters.shortest_document:
        yield (
            f"config.data.filters: shortest_document={filters.shortest_document} is above "
            f"longest_document={filters.longest_document}; every document would be dropped"
        )


def _tokenizer(config: PretrainingConfig) -> Iterator[str]:
    tokenizer = config.data.tokenizer
    if tokenizer.source == "train" and tokenizer.kind != "wordpiece" and tokenizer.strip_accents is True:
        yield (
            f"config.data.tokenizer.strip_accents: SentencePiece ({tokenizer.kind}) keeps accents; set "
            "--config.data.tokenizer.strip_accents=False, or leave it at auto"
        )


def _corrective(config: PretrainingConfig) -> Iterator[str]:
    objective = config.objective
    given = objective.corrective_weight or objective.schedules.corrective_weight
    if given and objective.name != "hybrid":
        yield (
            f"config.objective.corrective_weight: {given} with objective.name={objective.name}, which has no word head "
            "on the discriminator; add --config.objective.name=hybrid, or set it to 0"
        )
    unused = [name for name, text in schema.as_tree(objective.schedules).items() if text and name != "mask_fraction"]
    if objective.name == "mlm" and unused:
        yield f"config.objective.schedules.{unused[0]}: has no effect with objective.name=mlm; leave it empty"


def _heads(config: PretrainingConfig) -> Iterator[str]:
    model = config.model
    if model.hidden_size % model.heads:
        yield f"config.model.heads: {model.heads} heads do not divide config.model.hidden_size={model.hidden_size}"


def _generator(config: PretrainingConfig) -> Iterator[str]:
    model = config.model
    size, heads = round(model.hidden_size * model.generator_width), max(1, round(model.heads * model.generator_width))
    if config.objective.name != "mlm" and (not size or size % heads):
        yield (
            f"config.model.generator_width: {model.generator_width} makes a generator of width {size} "
            f"with {heads} heads, which do not divide it"
        )


def _lengths(config: PretrainingConfig) -> Iterator[str]:
    length, positions = config.data.sequence_length, config.model.positions
    if length > positions:
        yield (
            f"config.data.sequence_length: {length} is above the position table, config.model.positions={positions}; "
            f"raise --config.model.positions={length} or shorten the rows"
        )


def _slots(config: PretrainingConfig) -> Iterator[str]:
    fraction, length = config.objective.mask_fraction, config.data.sequence_length
    if text := config.objective.schedules.mask_fraction:
        fraction = max(fraction, schedules.parse(text, config.steps).largest)
    slots = int((fraction + 0.005) * length)  # As `corruption.num_slots`, which would bring in JAX.
    if not 1 <= slots <= length - 2:
        yield (
            f"config.objective.mask_fraction: {fraction} of {length} tokens makes {slots} slots, expected from 1 to "
            f"{length - 2}, as [CLS] and [SEP] are never masked"
        )


def _warmup(config: PretrainingConfig) -> Iterator[str]:
    if config.optimizer.warmup_steps >= config.steps:
        yield (
            f"config.optimizer.warmup_steps: {config.optimizer.warmup_steps} is not below config.steps={config.steps}; "
            f"the learning rate would never reach its peak"
        )


def _gradient_scope(config: RunConfig) -> Iterator[str]:
    mesh = config.mesh
    if config.optimizer.gradient_scope == "per_device" and (mesh.sharding != "dp" or mesh.tensor != 1 or mesh.rules):
        yield (
            "config.optimizer.gradient_scope: per_device needs replicated weights; set "
            "--config.mesh.sharding=dp --config.mesh.tensor=1 --config.mesh.rules=, or gradient_scope=global"
        )


def _mesh(config: RunConfig, device_count: int) -> Iterator[str]:
    axes = {"data": config.mesh.data, "fsdp": config.mesh.fsdp, "tensor": config.mesh.tensor}
    sizes = list(axes.values())
    if sizes.count(-1) > 1:
        yield "config.mesh: more than one axis is -1; only one can take what is left of the devices"
        return
    fixed = math.prod(size for size in sizes if size != -1)
    if device_count % fixed or (-1 not in sizes and fixed != device_count):
        product = " × ".join(f"{axis}={size}" for axis, size in axes.items())
        yield (
            f"config.mesh: {product} does not use exactly the {device_count} devices here; "
            f"set one axis to -1 to let it take what is left"
        )
        return
    axes = {axis: device_count // fixed if size == -1 else size for axis, size in axes.items()}
    slices = config.mesh.slices
    if axes["data"] % slices:
        yield (
            f"config.mesh.slices: {slices} slices do not split data={axes['data']}, and fsdp={axes['fsdp']} × "
            f"tensor={axes['tensor']} devices must lie within one slice; make --config.mesh.data a multiple of {slices}"
        )
        return
    shards, parts = axes["data"] * axes["fsdp"], config.accumulation
    if config.batch_size % shards == 0 and config.batch_size % (parts * shards):
        yield (
            f"config.accumulation: {config.batch_size} rows on {shards} devices cannot be split into {parts} equal "
            f"microbatches; use a divisor of {config.batch_size // shards}, or a batch_size that is a multiple of "
            f"{parts * shards}"
        )
    elif config.batch_size % shards:
        yield (
            f"config.batch_size: {config.batch_size} rows cannot be sharded evenly over {shards} devices "
            f"(config.mesh: data × fsdp); use a multiple of {shards}"
        )


def _processes(config: RunConfig, device_count: int, process_count: int) -> Iterator[str]:
    """Each process reads rows of its own: none may be shared."""
    if process_count == 1:
        return
    devices, tensor = device_count // process_count, config.mesh.tensor
    if tensor == -1:
        tensor = device_count // max(1, config.mesh.data * config.mesh.fsdp)
    if tensor > 0 and devices % tensor:
        yield (
            f"config.mesh.tensor: {tensor} devices would share rows across the {process_count} processes, "
            f"which have {devices} each; use a divisor of {devices}, and config.mesh.fsdp to split more weights"
        )


def check_vocabulary(config: PretrainingConfig, vocabulary_size: int) -> None:
    """Raises InputError if the tokenizer has another size than the model's word table."""
    expected = config.data.tokenizer.vocabulary_size
    if vocabulary_size != expected:
        raise InputError(
            f"config.data.tokenizer.vocabulary_size: {expected}, but the tokenizer has {vocabulary_size} pieces; "
            f"set --config.data.tokenizer.vocabulary_size={vocabulary_size}"
        )
