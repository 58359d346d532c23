"""The runtime in JAX: one compiled program for each output and padded shape."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from electra_jax.inference.runtime import Output, PaddedRows
from electra_jax.interop.finetuned import JOINT_ANSWERS
from electra_jax.interop.model import CORRECTIVE_HEAD, Model, TaskHead, in_float32, task_logits
from electra_jax.interop.tensor_map import unflatten
from electra_jax.models.answer_heads import JointAnswerHead
from electra_jax.models.electra import gather_positions
from electra_jax.models.encoder import Embeddings, Encoder, EncoderConfig
from electra_jax.models.heads import MaskedLanguageModelHead, ReplacedTokenHead

Params = Mapping[str, Any]
# Of heads of transformers, which do not say how many starts and ends are searched.
_BEAMS = 20


class JaxRuntime:
    """Implements `runtime.Runtime` for a model of any format, in float32."""

    def __init__(self, model: Model) -> None:
        """Puts the weights on the device; compiles nothing."""
        main = "discriminator" if model.discriminator else "generator"
        self._head = model.task_head
        # The network and the head of each output; the parts of `Model.params`.
        places: dict[Output, tuple[str, str]] = {
            "replaced": ("discriminator", "discriminator_head"),
            "generator_words": ("generator", "generator_head"),
            "corrective_words": ("discriminator", CORRECTIVE_HEAD),
            "hidden": (main, ""),
        }
        if model.task_head:
            places["task"] = ("discriminator", "")
        params = jax.tree.map(jnp.asarray, dict(model.params))
        tensors = {name: jnp.asarray(array) for name, array in (self._head.tensors if self._head else {}).items()}
        self._params: dict[Output, Params] = {}
        self._programs: dict[Output, Any] = {}
        for output, (network, head) in places.items():
            if network not in params or (head and head not in params):
                continue
            self._params[output] = {
                "embeddings": params["embeddings"],
                "encoder": params[network],
                "head": params[head] if head else tensors if output == "task" else {},
            }
            program = functools.partial(_outputs, output, in_float32(model.networks[network]), self._head_kind())
            self._programs[output] = jax.jit(program)
        self.outputs: frozenset[Output] = frozenset(self._programs)

    def _head_kind(self) -> tuple[str, int]:
        """Architecture of the task's head, and its beams."""
        head: TaskHead | None = self._head
        if head is None:
            return "", 0
        return head.architecture, head.settings.beams if head.settings else _BEAMS

    def compute(self, output: Output, rows: PaddedRows) -> Mapping[str, np.ndarray]:
        """See `runtime.Runtime`."""
        arrays = {
            "tokens": rows.tokens_BxL,
            "segments": rows.segments_BxL,
            "lengths": rows.lengths_B,
            "positions": rows.positions_BxM,
            "allowed": rows.allowed_BxL,
        }
        return jax.device_get(self._programs[output](self._params[output], arrays))


def _outputs(
    output: Output, config: EncoderConfig, head: tuple[str, int], params: Params, rows: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """See `runtime.Output`; traced."""
    tokens_BxL = rows["tokens"]
    documents_BxL = (jnp.arange(tokens_BxL.shape[1]) < rows["lengths"][:, None]).astype(jnp.int32)
    embedded_BxLxE = Embeddings(config).apply(
        {"params": params["embeddings"]}, tokens_BxL, rows["segments"], deterministic=True
    )
    hidden_BxLxD = jnp.asarray(
        Encoder(config).apply({"params": params["encoder"]}, embedded_BxLxE, documents_BxL, deterministic=True)
    )
    match output:
        case "hidden":
            return {"hidden": hidden_BxLxD}
        case "replaced":
            return {"logits": jnp.asarray(ReplacedTokenHead(config).apply({"params": params["head"]}, hidden_BxLxD))}
        case "task":
            return _task_outputs(*head, params["head"], hidden_BxLxD, rows["allowed"])
    words = MaskedLanguageModelHead(config)
    hidden_BxMxD = gather_positions(hidden_BxLxD, rows["positions"])
    table_VxE = params["embeddings"]["word_embeddings"]
    return {"logits": jnp.asarray(words.apply({"params": params["head"]}, hidden_BxMxD, table_VxE))}


def _task_outputs(
    architecture: str, beams: int, tensors: Params, hidden_BxLxD: jax.Array, allowed_BxL: jax.Array
) -> dict[str, jax.Array]:
    if architecture == JOINT_ANSWERS:
        start_B = jnp.zeros(len(hidden_BxLxD), jnp.int32)
        batch = {"allowed": allowed_BxL, "start": start_B}
        found: Any = JointAnswerHead(beams).apply(
            {"params": unflatten(tensors)}, hidden_BxLxD, batch, deterministic=True
        )
        names = ("start_ids", "start_scores", "end_ids", "end_scores", "impossible_logits")
        return {name: found[name] for name in names}
    logits = task_logits(architecture, tensors, hidden_BxLxD)
    if architecture == "ElectraForQuestionAnswering":
        return {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
    return {"logits": logits}
