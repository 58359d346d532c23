"""Converts models between formats: `python -m electra_jax.convert --source=PATH --target=DIR --to=huggingface`.

The format of the source is detected from its files. The target appears only after it was read back and found equal; an
exported program (ONNX) after its outputs were found equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from electra_jax import entry_point
from electra_jax.errors import InputError
from electra_jax.interop.export_formats import FORMATS, Format

if TYPE_CHECKING:
    from electra_jax.interop.export import Copy
    from electra_jax.interop.model import Model

_SOURCE = flags.DEFINE_string(
    "source",
    None,
    "A workdir or checkpoint of ours, fine-tuned too, a Hugging Face folder, or a TensorFlow 1 checkpoint of Google's. "
    "A checkpoint of a width that Google did not publish needs its number of attention heads: PATH#heads=4.",
)
_TARGET = flags.DEFINE_string("target", None, "The folder to write, a path or an address.")
_HEAD = flags.DEFINE_string("head", "", "For a fine-tuning run with several tasks: the task whose head to export.")
_TO = flags.DEFINE_enum(
    "to",
    None,
    list(FORMATS),
    f"The format to write: {'; '.join(f'{name}, {form.about}' for name, form in FORMATS.items())}.",
)
_PRECISION = flags.DEFINE_list(
    "precision",
    ["fp32"],
    "For --to=onnx, the number formats to write, separated by commas: fp32; fp16, for GPUs, half the size; int8, for "
    "processors and browsers, a quarter of the size.",
)

# More rows would hide the others.
_SHOWN_SKIPPED = 12


def main() -> None:
    """Reads a model, writes it in another format and reports on each part; see `entry_point` for exit codes."""
    if not (_SOURCE.value and _TARGET.value and _TO.value):
        raise InputError(
            "Three flags are needed, for example --source=runs/small --target=exported/small --to=huggingface"
        )
    # Imported here so that a mistyped flag answers at once.
    from electra_jax.interop import checkpoints, export, finetuned

    export.check_form(_TO.value, _PRECISION.value)
    export.check_target(_TARGET.value)
    model = finetuned.choose_head(checkpoints.open_model(_SOURCE.value), _HEAD.value)
    written = export.write(model, _TARGET.value, _TO.value, _PRECISION.value)
    print("\n".join(_lines(model, written, FORMATS[_TO.value])))
    print(f"\n{_TO.value}: {_TARGET.value}")


def _lines(model: Model, written: Copy, form: Format) -> list[str]:
    """A table of what was exported, skipped and missing."""
    from electra_jax.interop.tensor_map import NETWORKS, flatten
    from electra_jax.wording import quantity

    rows = [("read", model.origin + (f", step {model.step}" if model.step is not None else ""))]
    for part, tree in model.params.items():
        size = quantity(sum(array.size for array in flatten(tree).values()))
        sizes = model.networks.get(part)
        shape = f", {sizes.layers} layers of {sizes.hidden_size}, {sizes.heads} heads" if sizes else ""
        rows.append(("exported", f"{part}: {size} parameters{shape}"))
    if model.task_head and not written.skipped:
        labels = len(model.task_head.fields.get("id2label", ()))
        rows.append(("exported", f"head of {model.task_head.architecture}" + (f": {labels} labels" if labels else "")))
    if model.tokenizer:
        rows.append(("exported", f"tokenizer: {model.tokenizer.kind}, {model.tokenizer.vocabulary_size} pieces"))
    else:
        rows.append(("missing", "tokenizer: the export has none either, and the model cannot be used without it"))
    # A fine-tuned model needs none of the other parts of pre-training, and no training starts from a program.
    networks = () if model.task_head or form.is_program else NETWORKS
    for part in (part for network in networks for part in (network, f"{network}_head") if part not in model.params):
        rows.append(("missing", f"{part}: training that needs it starts from initial values"))
    skipped = [*model.skipped, *written.skipped]
    rows += [("skipped", f"{name}: {reason}") for name, reason in skipped[:_SHOWN_SKIPPED]]
    if len(skipped) > _SHOWN_SKIPPED:
        rows.append(("skipped", f"and {len(skipped) - _SHOWN_SKIPPED} more"))
    rows += [("note", note) for note in (*model.notes, *written.notes)]
    differences = ", ".join(f"{network} {largest:.0e}" for network, largest in written.difference.items())
    weights = "" if form.is_program else "weights equal bit for bit; "
    rows.append(("checked", f"{weights}largest difference of outputs: {differences}"))
    if written.tokenizer_files:
        files = "tokenizer.json" if written.tokenizer_files == 1 else f"{written.tokenizer_files} tokenizer.json"
        rows.append(("checked", f"{files}: ids of {written.sentences} sentences in 26 scripts equal the model's"))
    return [f"  {kind:<10} {what}" for kind, what in rows]


def run() -> None:
    """Runs the command `electra-convert`: parses the flags, calls `main` and exits with its exit code."""
    entry_point.enter(main)


if __name__ == "__main__":
    run()
