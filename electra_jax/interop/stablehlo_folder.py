"""Exports for programs that have JAX but not this package: the networks as StableHLO, written by `jax.export`.

A folder for each network:

    model.stablehlo     what `jax.export.deserialize` reads: a function of (weights, rows …), for CPU, CUDA and TPU
    model.safetensors   its weights, arguments of the function, so that they are neither compiled in nor stored twice
    program.json        names, types and axes of inputs and outputs
    config.json, the tokenizer's files and README.md, as in `huggingface_folder`

Numbers of rows and tokens are symbolic. The function takes the weights as a dict by name, then the rows in order, and
returns a dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from electra_jax import storage
from electra_jax.errors import MismatchError
from electra_jax.interop import finetuned, huggingface_folder, program_folder, tensor_files
from electra_jax.interop.model import Model, weights
from electra_jax.interop.program_folder import BEAMS, Program
from electra_jax.interop.tensor_map import flatten, unflatten

FILE, DESCRIPTION = "model.stablehlo", "program.json"
PLATFORMS = ("cpu", "cuda", "tpu")

# The same operations as ours, but compiled as another program, for rows of symbolic sizes.
_TOLERANCE = 1e-5


def write(model: Model, directory: str) -> tuple[str, ...]:
    """Writes the folders; returns notes for the user.

    Raises:
      OSError: a file cannot be written.
    """
    notes = huggingface_folder.notes_on_task(model.task_head)
    for program in program_folder.programs(model, directory):
        tensors = _tensors(program)
        exported = _export(program, tensors)
        storage.write(storage.join(program.folder, FILE), bytes(exported.serialize()))
        tensor_files.write(storage.join(program.folder, tensor_files.FILE), tensors)
        storage.write_json(storage.join(program.folder, DESCRIPTION), _description(program, exported))
        notes += program_folder.describe(program, "stablehlo")
    return tuple(dict.fromkeys(notes))


def compare(model: Model, directory: str) -> dict[str, float]:
    """The largest difference between the exported programs' outputs and ours, by network.

    Raises:
      MismatchError: it is above 1e-5, or an output is not finite.
    """
    largest = {}
    for program in program_folder.programs(model, directory):
        path = storage.join(program.folder, FILE)
        exported = jax.export.deserialize(bytearray(storage.read(path)))
        tensors = tensor_files.read(storage.join(program.folder, tensor_files.FILE))

        def computed(
            rows: dict[str, np.ndarray],
            exported: jax.export.Exported = exported,
            tensors: Mapping[str, np.ndarray] = tensors,
        ) -> dict[str, np.ndarray]:
            found: dict[str, jax.Array] = exported.call(tensors, *rows.values())
            return {name: np.asarray(array) for name, array in found.items()}

        found = largest[program.name] = max(program_folder.differences(program, computed, _shortest(program)))
        # Negated, so that NaN fails.
        if not found <= _TOLERANCE:
            raise MismatchError(
                f"{path}: found a difference of {found:.1e} between its outputs and ours, expected at most {_TOLERANCE}"
            )
    return largest


def _tensors(program: Program) -> dict[str, np.ndarray]:
    """The weights by name, which are paths in our tree."""
    parts = weights(program.model, program.network)
    head = {f"task_head/{name}": np.asarray(array) for name, array in parts.pop("task_head", {}).items()}
    return flatten(parts) | head


def _export(program: Program, tensors: Mapping[str, np.ndarray]) -> jax.export.Exported:
    function = program_folder.function_of(program)

    def of_flat(flat: Mapping[str, jax.Array], *rows: jax.Array) -> dict[str, jax.Array]:
        # The head's tensors have no tree.
        head = {name: array for name, array in flat.items() if name.startswith("task_head/")}
        params: dict[str, Any] = unflatten({name: array for name, array in flat.items() if name not in head})
        if head:
            params["task_head"] = {name.removeprefix("task_head/"): array for name, array in head.items()}
        return function(params, *rows)

    positions = program.model.networks[program.network].positions
    limits = [f"sequence_length <= {positions}", f"sequence_length >= {_shortest(program)}"]
    axes = jax.export.symbolic_shape("batch_size, sequence_length", constraints=limits)
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in tensors.items()}
    rows = [jax.ShapeDtypeStruct(axes, jnp.int32) for _ in program.inputs]
    return jax.export.export(jax.jit(of_flat), platforms=PLATFORMS)(shapes, *rows)


def _shortest(program: Program) -> int:
    """Tokens of the shortest row: the joint answer head searches a number of beams that the program fixes."""
    return BEAMS if program.architecture == finetuned.JOINT_ANSWERS else 1


def _description(program: Program, exported: jax.export.Exported) -> dict[str, Any]:
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    row = {"dtype": "int32", "axes": ["batch_size", "sequence_length"]}
    return {
        "format": "jax.export",
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "architecture": program.architecture,
        "weights": tensor_files.FILE,
        "shortest_row": _shortest(program),
        "longest_row": program.model.networks[program.network].positions,
        "inputs": [{"name": name, **row} for name in program.inputs],
        "outputs": [
            {
                "name": name,
                "dtype": str(array.dtype),
                "axes": [size if isinstance(size, int) else str(size) for size in array.shape],
            }
            for name, array in outputs.items()
        ],
    }
