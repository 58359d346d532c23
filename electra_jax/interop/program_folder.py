"""What exports of programs (ONNX, StableHLO) have in common: their folders, the names of outputs, the comparison.

Folders are those of `huggingface_folder`: one for each network, a fine-tuned one alone in the export itself, each with
config.json, the tokenizer's files and a model card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from electra_jax import storage
from electra_jax.errors import MismatchError
from electra_jax.interop import finetuned, huggingface, huggingface_folder
from electra_jax.interop.model import (
    Model,
    corrector,
    network_function,
    weights,
    without_corrective_head,
)
from electra_jax.interop.tensor_map import unflatten
from electra_jax.models.answer_heads import JointAnswerHead

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ALLOWED = "allowed"  # A further input of the joint answer head: 1 where an answer may start and end.
BEAMS = 20  # Starts that the joint answer head searches, and ends for each; ELECTRA's.

_PER_ROW = "ElectraForSequenceClassification"
_LEAST_SCORE = -500.0  # Of a position that is allowed; others have about -1000.
_SHORT, _LONG = (3, 7), (2, 32)  # Rows and tokens of the batches that are compared.


class Program(NamedTuple):
    """One network of an export.

    Attributes:
      model: the model, whose task's head reads token type 0.
      network: "generator" or "discriminator".
      folder: its folder.
    """

    model: Model
    network: str
    folder: str

    @property
    def name(self) -> str:
        """A name for messages: the network's, or that of the masked language model that the corrective head makes."""
        is_corrector = storage.name(self.folder) == huggingface_folder.CORRECTOR
        return huggingface_folder.CORRECTOR if is_corrector else self.network

    @property
    def architecture(self) -> str:
        """See `huggingface_folder.architecture_of`."""
        return huggingface_folder.architecture_of(self.model, self.network)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return (*INPUTS, ALLOWED) if self.architecture == finetuned.JOINT_ANSWERS else INPUTS


def programs(model: Model, directory: str) -> list[Program]:
    """The networks of a model, with a word head's second network, as `huggingface_folder.write` arranges them."""
    found = []
    if (alone := corrector(model)) is not None:
        found.append(Program(alone, "generator", storage.join(directory, huggingface_folder.CORRECTOR)))
        model = without_corrective_head(model)
    model = finetuned.in_first_token_type(model)
    folders = huggingface_folder.folders_of(model, directory)
    return [*found, *(Program(model, network, folder) for network, folder in folders.items())]


def describe(program: Program, form: str) -> list[str]:
    """Writes config.json, tokenizer and the model card for a format; returns notes for the user.

    Raises:
      OSError: a file cannot be written.
    """
    sizes = huggingface.size_fields(program.model.networks[program.network])
    return huggingface_folder.write_description(program.model, program.network, program.folder, sizes, form)


def function_of(program: Program) -> Callable[..., dict[str, jax.Array]]:
    """A function of (the result of `model.weights`, int32 arrays [B, L] in the order of `Program.inputs`).

    Its outputs are those of `onnx_graph.build`, by name; ids are int32.
    """
    compute, architecture = network_function(program.model, program.network), program.architecture

    def named(params: Mapping[str, Any], *rows: jax.Array) -> dict[str, jax.Array]:
        tokens_BxL, mask_BxL, segments_BxL = rows[:3]
        output = compute(params, tokens_BxL, segments_BxL, mask_BxL)
        match architecture:
            case "ElectraForQuestionAnswering":
                return {"start_logits": output[..., 0], "end_logits": output[..., 1]}
            case "ElectraModel":
                return {"last_hidden_state": output}
            case finetuned.JOINT_ANSWERS:
                return _joint_answers(params["task_head"], output, rows[3])
        return {"logits": output}

    return named


def _joint_answers(
    tensors: Mapping[str, jax.Array], hidden_BxLxD: jax.Array, allowed_BxL: jax.Array
) -> dict[str, jax.Array]:
    batch = {"allowed": allowed_BxL, "start": jnp.zeros(hidden_BxLxD.shape[0], jnp.int32)}
    head = JointAnswerHead(beams=BEAMS)
    found: Any = head.apply({"params": unflatten(tensors)}, hidden_BxLxD, batch, deterministic=True)
    del found["end_logits"]  # Given the gold start, which there is only in training.
    return found


def differences(
    program: Program, computed: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]], shortest: int = 1
) -> Iterator[float]:
    """Yields the largest difference between outputs of an export and our own, for each of several batches.

    Batches have different sizes and padding; tokens are random.

    Args:
      program: the network.
      computed: outputs of the export, for int32 rows by the names of its inputs.
      shortest: tokens of the shortest rows that it can read.

    Raises:
      MismatchError: an output is missing, has another shape, or is not finite.
    """
    ours = jax.jit(function_of(program))
    params = weights(program.model, program.network)
    for rows in _batches(program, shortest):
        expected = {name: np.asarray(array) for name, array in ours(params, *rows.values()).items()}
        found = computed(rows)
        if missing := expected.keys() ^ found.keys():
            raise MismatchError(f"{program.folder}: outputs {', '.join(sorted(missing))} are not those of the network")
        theirs = {name: _checked(program, name, found[name], expected[name].shape, rows) for name in expected}
        compared = _compared(program, expected, rows)
        yield max(
            float(np.abs(expected[name][where] - theirs[name][where]).max(initial=0))
            for name, where in compared.items()
        )


def _checked(
    program: Program, name: str, theirs: np.ndarray, shape: tuple[int, ...], rows: Mapping[str, np.ndarray]
) -> np.ndarray:
    """An output of the export, filled up to our number of beams."""
    if program.architecture == finetuned.JOINT_ANSWERS and name.endswith(("_scores", "_ids")):
        length = rows["input_ids"].shape[1]
        fill = BEAMS - min(BEAMS, length)
        theirs = np.pad(theirs, [(0, 0), *[(0, fill)] * (theirs.ndim - 1)])
    if theirs.shape != shape:
        raise MismatchError(f"{program.folder}: {name} has shape {list(theirs.shape)}, expected {list(shape)}")
    if not np.isfinite(theirs).all():
        raise MismatchError(f"{program.folder}: {name} has values that are not finite")
    return theirs


def _compared(
    program: Program, ours: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Where outputs are not arbitrary, by their names."""
    real_BxL = rows["attention_mask"] == 1
    if program.architecture == _PER_ROW:
        return {name: np.ones(len(array), bool) for name, array in ours.items()}
    if program.architecture != finetuned.JOINT_ANSWERS:
        return dict.fromkeys(ours, real_BxL)
    # Beams that are allowed. Equal scores may come in any order, so that ids are not compared.
    starts_BxK, ends_BxKxK = (ours[f"{place}_scores"] > _LEAST_SCORE for place in ("start", "end"))
    return {
        "start_logits": real_BxL & (rows[ALLOWED] == 1),
        "impossible_logits": np.ones(len(real_BxL), bool),
        "start_scores": starts_BxK,
        "end_scores": ends_BxKxK & starts_BxK[..., None],
    }


def _batches(program: Program, shortest: int) -> Iterator[dict[str, np.ndarray]]:
    config, draw = program.model.networks[program.network], np.random.default_rng(0)
    for count, length in (_SHORT, _LONG):
        length = min(max(length, shortest), config.positions)
        tokens_BxL = draw.integers(0, config.vocabulary_size, (count, length), dtype=np.int32)
        places_L = np.arange(length)
        mask_BxL = (places_L < np.linspace(length, length // 2, count).astype(int)[:, None]).astype(np.int32)
        segments_BxL = mask_BxL * (places_L >= length // 3).astype(np.int32)
        rows = {"input_ids": tokens_BxL, "attention_mask": mask_BxL, "token_type_ids": segments_BxL}
        yield rows | ({ALLOWED: segments_BxL} if ALLOWED in program.inputs else {})
