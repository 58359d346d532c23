"""Configs: what is wrong with one, what identifies a run, and how two differ."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from electra_jax import nested, storage
from electra_jax.errors import InputError
from electra_jax.finetuning import validation
from electra_jax.pretraining import schedules
from electra_jax.text.dataset import dataset, units
from electra_jax.training import sharding_rules

# What may change between two starts of one run, because no trained number follows from it.
FREE_FIELDS = (
    "mesh",
    "accumulation",
    "log",
    "evaluation.every_steps",
    "evaluation.rows",
    "evaluation.shown_rows",
    "evaluation.per_epoch",
    "checkpoint",
    "compile_cache",
    "data.download_cache",
    "data.directory",
    "model.attention",
    "model.saved_activations",
    "model.unrolled_layers",
    "trials",
    "reseeds",
    "probe",
)

SHARDINGS = tuple(sharding_rules.RULES)

# Of a figure that a probe is compared with: what it is of, mean and standard deviation over how many seeds, of runs of
# how many steps of this recipe it is worth the compute, and where it is recorded.
_REFERENCE = ("name", "mean", "sd", "seeds", "steps", "recorded")


def validate(config: Any, device_count: int, process_count: int = 1, *, reads_text: bool = True) -> None:
    """Checks a config, of either task, before any slow work.

    Args:
      config: the config with its overrides applied.
      device_count: how many devices the run will have.
      process_count: in how many processes.
      reads_text: whether the text must be there.

    Raises:
      InputError: lists every problem, each with its field, what was found, and what was expected.
    """
    if _TASKS.get(config.task) not in config:
        fitting = [task for task, section in _TASKS.items() if section in config]
        raise _error([f"config.task: {config.task!r}, expected {' or '.join(fitting)} with this config file"])
    pretraining = config.task == "pretraining"
    problems = _field_problems(config, device_count, process_count)
    if pretraining and (probe := probe_of(config, model="the run itself")):
        problems += [of_probe(problem) for problem in _field_problems(probe, device_count, process_count)]
        problems += _probe(config, probe)
    if reads_text and pretraining and (not storage.is_remote(config.data.directory) or not problems):
        problems += _text(config)
    if problems:
        raise _error(problems)


def _field_problems(config: Any, device_count: int, process_count: int) -> list[str]:
    fields = units.field_problems(config.data) if config.task == "pretraining" else validation.problems(config)
    problems = [*_numbers(config), *_choices(config), *_schedules(config), *fields]
    broken = {problem.split(":")[0].removeprefix("config.") for problem in problems}
    # What one number says of another is checked where both are sound.
    for names, relation in _relations(config, device_count, process_count):
        if broken.isdisjoint(names):
            problems += relation
    return problems


def probe_of(config: Any, model: str) -> Any:
    """The fine-tuning config of a pre-training run's probe, None where there is none.

    Args:
      config: of the pre-training run.
      model: what the probe starts from.
    """
    if not config.get("probe"):
        return None
    probe = config.probe.copy_and_resolve_references()
    with probe.unlocked():
        if "reference" in probe:
            del probe["reference"]
        probe.init_from = model
    return probe


def of_probe(text: str) -> str:
    """A message about a fine-tuning config, for one that is the `probe` of a pre-training config."""
    return re.sub(r"\bconfig\.(?!json\b)", "config.probe.", text)


def _probe(config: Any, probe: Any) -> Iterable[str]:
    """What a probe asks of its config beyond what any fine-tuning does."""
    kinds = [task.kind for task in probe.tasks.values()]
    if kinds != ["tagging"]:
        yield f"config.probe.tasks: found {', '.join(kinds) or 'none'}, expected a single task of kind tagging"
        return
    ((name, task),) = probe.tasks.items()
    if task.spans or "accuracy" not in task.metrics:
        yield (
            f"config.probe.tasks.{name}: a probe counts words that are tagged right; set "
            f"--config.probe.tasks.{name}.spans=False --config.probe.tasks.{name}.metrics=\"('accuracy',)\""
        )
    yield from map(of_probe, validation.check_positions(probe, config.model.positions))
    reference = config.probe.get("reference")
    if reference and set(reference) != set(_REFERENCE):
        yield f"config.probe.reference: has {', '.join(reference)}, expected {', '.join(_REFERENCE)}, or nothing"


def _error(problems: list[str]) -> InputError:
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return InputError(f"The config has {count}:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _text(config: Any) -> list[str]:
    """Text that is prepared already need not be there any more."""
    return [] if dataset.is_prepared(config.data.directory) else units.text_problems(config.data)


# The two tasks share most fields; each rule is asked of the fields that a config has.
_TASKS = {"pretraining": "objective", "finetuning": "tasks"}  # With the section that only its configs have.
_POSITIVE = (
    "steps", "batch_size", "accumulation", "mesh.slices", "trials", "epochs",
    "data.lengths", "data.mixture_temperature",
    "model.layers", "model.hidden_size", "model.heads", "model.feed_forward_size", "model.embedding_size",
    "model.positions", "model.initializer_range", "optimizer.learning_rate",
    "optimizer.epsilon", "optimizer.clip_norm",
    "objective.temperature",
    "log.every_steps", "evaluation.every_steps", "evaluation.rows", "evaluation.per_epoch", "checkpoint.every_steps",
    "checkpoint.keep_last",
)  # fmt: skip
_NOT_NEGATIVE = (
    "seed", "reseeds",
    "optimizer.warmup_steps", "optimizer.decay_power", "optimizer.weight_decay", "objective.generator_weight",
    "objective.discriminator_weight", "objective.corrective_weight", "checkpoint.keep_every_steps",
    "evaluation.shown_rows", "model.unrolled_layers",
)  # fmt: skip
_FRACTIONS = (
    "objective.mask_fraction", "objective.kept_fraction", "model.dropout_rate", "model.attention_dropout_rate",
    "model.classifier_dropout_rate", "optimizer.beta1", "optimizer.beta2", "optimizer.warmup_fraction",
)  # fmt: skip
_FACTORS = ("model.generator_width", "model.generator_depth", "optimizer.layer_decay")
CHOICES = {
    "objective.name": ("electra", "hybrid", "mlm"),
    "objective.corrective_positions": ("masked", "all"),
    "model.attention_bias": ("none", "distance_decay"),
    "model.position_start": ("random", "local"),
    "model.compute_dtype": ("auto", "float32", "bfloat16"),
    "objective.masking": ("without_replacement", "with_replacement"),
    "objective.sampling": ("exact", "google_gumbel"),
    "mesh.sharding": SHARDINGS,
    "optimizer.name": ("adam", "muon"),
    "optimizer.schedule": ("linear", "warmup_times_decay"),
    "model.attention": ("auto", "plain", "fused", "splash", "cudnn"),
    "model.saved_activations": ("all", "products", "layer_inputs"),
    "optimizer.gradient_scope": ("global", "per_device"),
    "optimizer.top_layer_exponent": (1, 2),
    "loss_reduction": ("mean", "sum"),
    "evaluation.chosen": ("last", "best"),
}


def _numbers(config: Any) -> Iterable[str]:
    for name in _present(config, _POSITIVE):
        if not field(config, name) > 0:
            yield f"config.{name}: {field(config, name)}, expected a number above 0"
    for name in _present(config, _NOT_NEGATIVE):
        if field(config, name) < 0:
            yield f"config.{name}: {field(config, name)}, expected 0 or more"
    for name in _present(config, _FRACTIONS):
        if not 0 <= field(config, name) < 1:
            yield f"config.{name}: {field(config, name)}, expected a fraction, at least 0 and below 1"
    for name in _present(config, _FACTORS):
        if not 0 < field(config, name) <= 1:
            yield f"config.{name}: {field(config, name)}, expected a factor above 0 and up to 1"


def _present(config: Any, names: Iterable[str]) -> Iterable[str]:
    """The names that the config has; a preset that lost one is found by the snapshots of all presets."""
    for name in names:
        section, _, last = name.rpartition(".")
        if (not section or section in config) and last in (config[section] if section else config):
            yield name


def _choices(config: Any) -> Iterable[str]:
    for name in _present(config, CHOICES):
        values = CHOICES[name]
        if field(config, name) not in values:
            yield f"config.{name}: {field(config, name)!r}, expected one of {', '.join(map(str, values))}"


def _relations(config: Any, device_count: int, process_count: int) -> Iterable[tuple[tuple[str, ...], Iterable[str]]]:
    """The names that a rule reads, and the problems that it finds, worked out only when they are asked for."""
    yield ("batch_size", "accumulation", "mesh.slices"), _mesh(config, device_count)
    yield ("batch_size",), _processes(config, device_count, process_count)
    yield (
        ("mesh.sharding",),
        (f"config.mesh.rules: {text}" for text in sharding_rules.problems(config.mesh.sharding, config.mesh.rules)),
    )
    yield ("optimizer.gradient_scope", "mesh.sharding"), _gradient_scope(config)
    if config.task != "pretraining":
        return
    yield ("model.hidden_size", "model.heads"), _heads(config)
    yield ("model.hidden_size", "model.heads", "model.generator_width", "objective.name"), _generator(config)
    yield ("data.sequence_length", "model.positions"), _lengths(config)
    yield ("data.sequence_length", "objective.mask_fraction", "objective.schedules.mask_fraction"), _slots(config)
    yield (
        ("objective.name", "objective.corrective_weight", "objective.schedules.corrective_weight"),
        _corrective(config),
    )
    yield ("steps", "optimizer.warmup_steps"), _warmup(config)


def _schedules(config: Any) -> Iterable[str]:
    if config.task != "pretraining":
        return
    for name, text in config.objective.schedules.items():
        place = f"config.objective.schedules.{name}"
        try:
            schedule = schedules.parse(text, config.steps) if text else None
        except ValueError as error:
            yield f"{place}: {error}"
            continue
        if schedule and name == "temperature" and min(schedule.values) <= 0:
            yield f"{place}: {text!r}, expected values above 0"
        if schedule and name == "mask_fraction" and schedule.largest >= 1:
            yield f"{place}: {text!r}, expected fractions below 1"


def _corrective(config: Any) -> Iterable[str]:
    objective = config.objective
    given = objective.corrective_weight or objective.schedules.corrective_weight
    if given and objective.name != "hybrid":
        yield (
            f"config.objective.corrective_weight: {given} with objective.name={objective.name}, which has no word head "
            "on the discriminator; add --config.objective.name=hybrid, or set it to 0"
        )
    unused = [name for name, text in objective.schedules.items() if text and name != "mask_fraction"]
    if objective.name == "mlm" and unused:
        yield f"config.objective.schedules.{unused[0]}: has no effect with objective.name=mlm; leave it empty"


def _heads(config: Any) -> Iterable[str]:
    model = config.model
    if model.hidden_size % model.heads:
        yield f"config.model.heads: {model.heads} heads do not divide config.model.hidden_size={model.hidden_size}"


def _generator(config: Any) -> Iterable[str]:
    model = config.model
    size, heads = round(model.hidden_size * model.generator_width), max(1, round(model.heads * model.generator_width))
    if config.objective.name != "mlm" and (not size or size % heads):
        yield (
            f"config.model.generator_width: {model.generator_width} makes a generator of width {size} "
            f"with {heads} heads, which do not divide it"
        )


def _lengths(config: Any) -> Iterable[str]:
    length, positions = config.data.sequence_length, config.model.positions
    if length > positions:
        yield (
            f"config.data.sequence_length: {length} is above the position table, config.model.positions={positions}; "
            f"raise --config.model.positions={length} or shorten the rows"
        )
    if length < 8:
        yield f"config.data.sequence_length: {length}, expected at least 8 tokens"


def _slots(config: Any) -> Iterable[str]:
    fraction, length = config.objective.mask_fraction, config.data.sequence_length
    if text := config.objective.schedules.mask_fraction:
        fraction = max(fraction, schedules.parse(text, config.steps).largest)
    slots = int((fraction + 0.005) * length)  # As `corruption.num_slots`, which would bring in JAX.
    if length >= 8 and not 1 <= slots <= length - 2:
        yield (
            f"config.objective.mask_fraction: {fraction} of {length} tokens makes {slots} slots, expected from 1 to "
            f"{length - 2}, as [CLS] and [SEP] are never masked"
        )


def _warmup(config: Any) -> Iterable[str]:
    if config.optimizer.warmup_steps >= config.steps:
        yield (
            f"config.optimizer.warmup_steps: {config.optimizer.warmup_steps} is not below config.steps={config.steps}; "
            f"the learning rate would never reach its peak"
        )


def _gradient_scope(config: Any) -> Iterable[str]:
    mesh = config.mesh
    if config.optimizer.gradient_scope == "per_device" and (mesh.sharding != "dp" or mesh.tensor != 1 or mesh.rules):
        yield (
            "config.optimizer.gradient_scope: per_device needs whole weights on each device; set "
            "--config.mesh.sharding=dp --config.mesh.tensor=1 --config.mesh.rules=, or gradient_scope=global"
        )


def _mesh(config: Any, device_count: int) -> Iterable[str]:
    axes = {axis: config.mesh[axis] for axis in ("data", "fsdp", "tensor")}
    for axis, size in axes.items():
        if size != -1 and size < 1:
            yield f"config.mesh.{axis}: {size}, expected a number of devices, or -1 for all that are left"
            return
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
            f"config.accumulation: {config.batch_size} rows on {shards} devices cannot be cut into {parts} equal parts "
            f"on each; use a divisor of {config.batch_size // shards}, or a batch_size that is a multiple of "
            f"{parts * shards}"
        )
    elif config.batch_size % shards:
        yield (
            f"config.batch_size: {config.batch_size} rows cannot be dealt out evenly over {shards} devices "
            f"(config.mesh: data × fsdp); use a multiple of {shards}"
        )


def _processes(config: Any, device_count: int, process_count: int) -> Iterable[str]:
    """Each process reads rows of its own, as many as the others."""
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
    elif config.batch_size % process_count:
        yield (
            f"config.batch_size: {config.batch_size} rows cannot be dealt out evenly over {process_count} processes; "
            f"use a multiple of {process_count}"
        )


def field(config: Any, name: str) -> Any:
    """The value of a dotted name."""
    for part in name.split("."):
        config = config[part]
    return config


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names to JSON-ready leaves."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in nested.flatten(tree).items()}


def trained_fields(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The flattened fields that trained numbers follow from; a run keeps them from its first step to its last."""
    free = tuple(FREE_FIELDS)
    return {
        name: value
        for name, value in flatten(tree).items()
        if not any(name == prefix or name.startswith(prefix + ".") for prefix in free)
    }


def fingerprint(tree: Mapping[str, Any]) -> str:
    """SHA-256 of the trained fields, in hexadecimal."""
    return nested.fingerprint(trained_fields(tree))


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One readable line for each trained field that differs."""
    old, new = trained_fields(before), trained_fields(after)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            lines.append(f"config.{name}: was {old[name]!r}, is gone")
        elif name not in old:
            lines.append(f"config.{name}: was not there, is {new[name]!r}")
        elif old[name] != new[name]:
            lines.append(f"config.{name}: was {old[name]!r}, is {new[name]!r}")
    return lines


def check_vocabulary(config: Any, vocabulary_size: int) -> None:
    """Raises InputError when the tokenizer at hand has another size than the model's word table."""
    expected = config.data.tokenizer.vocabulary_size
    if vocabulary_size != expected:
        raise InputError(
            f"config.data.tokenizer.vocabulary_size: {expected}, but the tokenizer has {vocabulary_size} pieces; "
            f"set --config.data.tokenizer.vocabulary_size={vocabulary_size}"
        )
