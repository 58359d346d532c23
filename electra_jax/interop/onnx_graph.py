"""ONNX graphs of our networks, built from their arrays. Pure. Axis letters: see the legend in `models/layers.py`.

The operators are the standard ones of opset 17, in the patterns that onnxruntime's optimizer replaces by its own
kernels. Inputs and outputs have the names that Hugging Face's Optimum gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from electra_jax.errors import InputError
from electra_jax.interop import huggingface
from electra_jax.interop.program_folder import ALLOWED, BEAMS, INPUTS
from electra_jax.interop.tensor_map import flatten

if TYPE_CHECKING:
    from electra_jax.interop.model import Model, TaskHead
    from electra_jax.models.encoder import EncoderConfig  # Imports JAX.

PRECISIONS = ("fp32", "fp16", "int8")

# LayerNormalization came with 17; onnxruntime has had it since 1.12, onnxruntime-web too.
_OPSET, _IR_VERSION = 17, 8
_MASKED = -1e4  # Score of padding, as in BERT: float16 has no numbers below -65504.
_DISALLOWED = -1000.0  # As in `models/answer_heads.py`.
# Half of int8's range: where a processor has no instruction for products of bytes (AVX2 without VNNI), onnxruntime adds
# up pairs of them in 16 bits, which larger weights would overflow.
_LARGEST_WEIGHT = 63
_MOST_BYTES = (1 << 31) - 1  # Of a protobuf message.

_FLOATS = {"fp32": np.float32, "fp16": np.float16, "int8": np.float32}


def build(model: Model, network: str, precision: str) -> bytes:
    """The ONNX file of a network with its head.

    Inputs are int64 [batch_size, sequence_length]: "input_ids", "attention_mask" and "token_type_ids". Outputs are
    float32: "logits" of the network's head, "start_logits" and "end_logits" for answers, or without a head
    "last_hidden_state". The joint answer head has the further input "allowed" and the outputs of
    `models/answer_heads.py: JointAnswerHead` in evaluation, which search `BEAMS` starts and ends, or as many as a row
    has tokens.

    Args:
      model: a model whose task's head, if it has one, reads token type 0.
      network: "generator" or "discriminator".
      precision: one of `PRECISIONS`. "fp16" computes in float16. "int8" has the word table and the kernels of the
        encoder in 8 bits with a scale for each word or column, and quantises the inputs of the kernels as it goes.

    Raises:
      InputError: the file would be larger than ONNX allows.
    """
    graph = _Graph(precision)
    config, head = model.networks[network], model.task_head if network == "discriminator" else None
    hidden_BxLxD = _encoder(graph, config, model.params["embeddings"], model.params[network])
    if head:
        outputs = _task_head(graph, head, hidden_BxLxD, config)
    elif f"{network}_head" in model.params:
        params = flatten(model.params[f"{network}_head"])
        if network == "generator":
            words_VxE = model.params["embeddings"]["word_embeddings"]
            outputs = _word_head(graph, params, hidden_BxLxD, words_VxE, config)
        else:
            outputs = _replaced_head(graph, params, hidden_BxLxD)
    else:
        outputs = {"last_hidden_state": (hidden_BxLxD, ("batch_size", "sequence_length", config.hidden_size))}
    return graph.finish(outputs, f"electra_jax, {network}", model.origin)


# Arrays of an output, with its axes: a size, or the name of a size that the inputs determine.
_Outputs = dict[str, tuple[str, tuple[str | int, ...]]]


class _Graph:
    """A graph that grows node by node; values are known by their names."""

    def __init__(self, precision: str) -> None:
        self.quantised = precision == "int8"
        self.float_type = _FLOATS[precision]
        self.inputs = list(INPUTS)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._in_bytes: dict[str, list[str]] = {}
        self._shapes: list[onnx.ValueInfoProto] = []

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or a list of names of several."""
        name = f"{operator}_{len(self._nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{number}" for number in range(outputs)]
        self._nodes.append(onnx.helper.make_node(operator, inputs, names, name, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, name: str, value: Any, dtype: Any = None) -> str:
        """A constant, by default of the type that the graph computes in."""
        if name not in self._constants:
            array = np.ascontiguousarray(np.asarray(value, dtype or self.float_type))
            # ascontiguousarray makes scalars vectors.
            self._constants[name] = onnx.numpy_helper.from_array(array.reshape(np.shape(value)), name)
        return name

    def number(self, value: float) -> str:
        """A scalar constant."""
        return self.constant(f"number {value:g}", value)

    def integers(self, *values: int) -> str:
        """A vector of int64, for shapes and axes."""
        return self.constant("integers " + " ".join(map(str, values)), values, np.int64)

    def to_float(self, value: str) -> str:
        """The value in the type that the graph computes in."""
        return self.node("Cast", value, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.float_type)))

    def linear(self, name: str, inputs: str, kernel_IxO: np.ndarray, bias_O: np.ndarray, *, exact: bool = False) -> str:
        """A dense layer of the last axis; an `exact` one is not quantised."""
        if self.quantised and not exact:
            weights_IxO, scales_O = quantised(kernel_IxO, axis=0)
            self.constant(f"{name}.kernel", weights_IxO, np.int8)
            product = self.product_of_bytes(name, inputs, f"{name}.kernel", scales_O)
        else:
            product = self.node("MatMul", inputs, self.constant(f"{name}.kernel", kernel_IxO))
        return self.node("Add", product, self.constant(f"{name}.bias", bias_O))

    def product_of_bytes(self, name: str, inputs: str, weights: str, scales_O: np.ndarray) -> str:
        """A product with int8 weights, in the nodes of onnxruntime's own `quantize_dynamic`, which it fuses."""
        if inputs not in self._in_bytes:
            self._in_bytes[inputs] = self.node("DynamicQuantizeLinear", inputs, outputs=3)
        values, scale, zero = self._in_bytes[inputs]
        zeros_O = self.constant(f"{name}.zero_points", np.zeros(len(scales_O)), np.int8)
        sums = self.to_float(self.node("MatMulInteger", values, weights, zero, zeros_O))
        return self.node("Mul", sums, self.node("Mul", scale, self.constant(f"{name}.scales", scales_O)))

    def layer_norm(self, name: str, inputs: str, params: Mapping[str, np.ndarray], epsilon: float) -> str:
        """Normalises the last axis."""
        scale, bias = (self.constant(f"{name}.{part}", params[part]) for part in ("scale", "bias"))
        return self.node("LayerNormalization", inputs, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(self, inputs: str) -> str:
        """GELU in its exact form; opset 17 has no operator for it."""
        erf = self.node("Erf", self.node("Div", inputs, self.number(2**0.5)))
        return self.node("Mul", self.node("Mul", inputs, self.node("Add", erf, self.number(1))), self.number(0.5))

    def part(self, inputs: str, index: int, axis: int) -> str:
        """One slice of an axis, which disappears."""
        return self.node("Gather", inputs, self.constant(f"index {index}", index, np.int64), axis=axis)

    def state_shape(self, value: str, axes: tuple[str | int, ...]) -> None:
        """States the shape of a value, of the type that the graph computes in."""
        element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.float_type))
        self._shapes.append(onnx.helper.make_tensor_value_info(value, element, axes))

    def finish(self, outputs: _Outputs, about: str, origin: str) -> bytes:
        """The file with these outputs, in float32 or int64."""
        shown = []
        for name, (value, axes) in outputs.items():
            whole = name.endswith("_ids")
            element = onnx.TensorProto.INT64 if whole else onnx.TensorProto.FLOAT
            if whole or self.float_type == np.float32:
                self._nodes.append(onnx.helper.make_node("Identity", [value], [name], name))
            else:
                self._nodes.append(onnx.helper.make_node("Cast", [value], [name], name, to=element))
            shown.append(onnx.helper.make_tensor_value_info(name, element, axes))
        rows = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ("batch_size", "sequence_length"))
            for name in self.inputs
        ]
        proto = onnx.helper.make_model(
            onnx.helper.make_graph(
                self._nodes, "electra", rows, shown, list(self._constants.values()), value_info=self._shapes
            ),
            opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="electra_jax",
            doc_string=about,
        )
        onnx.helper.set_model_props(proto, {"origin": origin})
        if proto.ByteSize() > _MOST_BYTES:
            raise InputError(
                f"--to=onnx: the network takes {proto.ByteSize():,} bytes in one file, expected at most "
                f"{_MOST_BYTES:,}, ONNX's limit; export it with --precision=fp16 or --precision=int8"
            )
        return proto.SerializeToString()


def quantised(weights: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights in 8 bits, and the scales to multiply them by.

    Args:
      weights: float32 of rank 2.
      axis: the axis whose elements share a scale.

    Returns:
      int8 of the weights' shape, and float32 of the length of the other axis.
    """
    largest = np.abs(weights).max(axis=axis, keepdims=True)
    scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(_LARGEST_WEIGHT)
    return np.round(weights / scales).astype(np.int8), scales.reshape(-1)


def _encoder(graph: _Graph, config: EncoderConfig, embeddings: Mapping[str, Any], network: Mapping[str, Any]) -> str:
    hidden_BxLxD = _embeddings(graph, config, flatten(embeddings))
    if "embeddings_project" in network:
        project = network["embeddings_project"]
        hidden_BxLxD = graph.linear("embeddings_project", hidden_BxLxD, project["kernel"], project["bias"])
    # 0 where a position may be attended to, a large negative number on padding: [B, 1, 1, L].
    mask = graph.to_float(graph.node("Unsqueeze", "attention_mask", graph.integers(1, 2)))
    mask = graph.node("Mul", graph.node("Sub", graph.number(1), mask), graph.number(_MASKED))
    distances_LxL = _distances(graph) if config.attention_bias == "distance_decay" else ""
    layers = flatten(network["layers"])
    for layer in range(config.layers):
        params = {path: array[layer] for path, array in layers.items()}
        hidden_BxLxD = _layer(graph, f"layer.{layer}", config, params, hidden_BxLxD, mask, distances_LxL)
    return hidden_BxLxD


def _embeddings(graph: _Graph, config: EncoderConfig, params: Mapping[str, np.ndarray]) -> str:
    table_VxE = params["word_embeddings"]
    if graph.quantised:
        words_VxE, scales_V = quantised(table_VxE, axis=1)
        words = graph.node("Gather", graph.constant("word_embeddings", words_VxE, np.int8), "input_ids")
        scales_Vx1 = graph.constant("word_embeddings.scales", scales_V[:, None])
        words = graph.node("Mul", graph.to_float(words), graph.node("Gather", scales_Vx1, "input_ids"))
    else:
        words = graph.node("Gather", graph.constant("word_embeddings", table_VxE), "input_ids")
    length = graph.node("Slice", graph.node("Shape", "input_ids"), graph.integers(1), graph.integers(2))
    positions = graph.constant("position_embeddings", params["position_embeddings"])
    positions = graph.node("Slice", positions, graph.integers(0), length, graph.integers(0))
    types = graph.constant("token_type_embeddings", params["token_type_embeddings"])
    summed = graph.node("Add", words, graph.node("Gather", types, "token_type_ids"))
    norm = {part: params[f"layer_norm/{part}"] for part in ("scale", "bias")}
    summed = graph.node("Add", summed, positions)
    # Not to be inferred from a slice of dynamic length, and needed for fused layer norms.
    graph.state_shape(summed, ("batch_size", "sequence_length", config.embedding_size))
    return graph.layer_norm("embeddings.layer_norm", summed, norm, config.layer_norm_epsilon)


def _distances(graph: _Graph) -> str:
    """Distances of positions, [L, L]."""
    length = graph.part(graph.node("Shape", "input_ids"), 1, 0)
    zero, one = (graph.constant(f"index {number}", number, np.int64) for number in (0, 1))
    places_L = graph.to_float(graph.node("Range", zero, length, one))
    column, row = (graph.node("Unsqueeze", places_L, graph.integers(axis)) for axis in (1, 0))
    return graph.node("Abs", graph.node("Sub", column, row))


def _layer(
    graph: _Graph,
    name: str,
    config: EncoderConfig,
    params: Mapping[str, np.ndarray],
    hidden_BxLxD: str,
    mask: str,
    distances_LxL: str,
) -> str:
    width = config.hidden_size
    to_heads = graph.integers(0, 0, config.heads, config.head_size)

    def heads(part: str, order: tuple[int, ...]) -> str:
        kernel_DxD, bias_D = params[f"attention/{part}/kernel"].reshape(width, -1), params[f"attention/{part}/bias"]
        projected_BxLxD = graph.linear(f"{name}.attention.{part}", hidden_BxLxD, kernel_DxD, bias_D.reshape(-1))
        return graph.node("Transpose", graph.node("Reshape", projected_BxLxD, to_heads), perm=order)

    def normed(part: str, inputs: str, outputs: str) -> str:
        norm = {each: params[f"{part}_layer_norm/{each}"] for each in ("scale", "bias")}
        summed = graph.node("Add", outputs, inputs)
        return graph.layer_norm(f"{name}.{part}_layer_norm", summed, norm, config.layer_norm_epsilon)

    query, key, value = heads("query", (0, 2, 1, 3)), heads("key", (0, 2, 3, 1)), heads("value", (0, 2, 1, 3))
    scores_BxHxLxL = graph.node("Div", graph.node("MatMul", query, key), graph.number(config.head_size**0.5))
    if distances_LxL:
        slopes = graph.constant(f"{name}.attention.slopes", -params["attention/slopes"][:, None, None])
        scores_BxHxLxL = graph.node("Add", scores_BxHxLxL, graph.node("Mul", slopes, distances_LxL))
    weights_BxHxLxL = graph.node("Softmax", graph.node("Add", scores_BxHxLxL, mask), axis=-1)
    attended = graph.node("Transpose", graph.node("MatMul", weights_BxHxLxL, value), perm=(0, 2, 1, 3))
    attended_BxLxD = graph.node("Reshape", attended, graph.integers(0, 0, width))
    kernel_DxD, bias_D = params["attention/output/kernel"].reshape(width, width), params["attention/output/bias"]
    attended_BxLxD = graph.linear(f"{name}.attention.output", attended_BxLxD, kernel_DxD, bias_D)
    hidden_BxLxD = normed("attention", hidden_BxLxD, attended_BxLxD)
    inner_BxLxF = graph.gelu(_dense(graph, f"{name}.", "intermediate", params, hidden_BxLxD))
    return normed("output", hidden_BxLxD, _dense(graph, f"{name}.", "output", params, inner_BxLxF))


def _dense(
    graph: _Graph, scope: str, name: str, params: Mapping[str, np.ndarray], inputs: str, *, exact: bool = False
) -> str:
    """A dense layer that `params` has under its name."""
    return graph.linear(f"{scope}{name}", inputs, params[f"{name}/kernel"], params[f"{name}/bias"], exact=exact)


def _word_head(
    graph: _Graph,
    params: Mapping[str, np.ndarray],
    hidden_BxLxD: str,
    words_VxE: np.ndarray,
    config: EncoderConfig,
) -> _Outputs:
    norm = {part: params[f"layer_norm/{part}"] for part in ("scale", "bias")}
    predicted_BxLxE = graph.gelu(_dense(graph, "head.", "dense", params, hidden_BxLxD))
    predicted_BxLxE = graph.layer_norm("head.layer_norm", predicted_BxLxE, norm, config.layer_norm_epsilon)
    # The table is in the file once; onnxruntime transposes it when it loads the file.
    table_ExV = graph.node("Transpose", "word_embeddings", perm=(1, 0))
    if graph.quantised:
        _, scales_V = quantised(words_VxE, axis=1)
        logits_BxLxV = graph.product_of_bytes("head.words", predicted_BxLxE, table_ExV, scales_V)
    else:
        logits_BxLxV = graph.node("MatMul", predicted_BxLxE, table_ExV)
    logits_BxLxV = graph.node("Add", logits_BxLxV, graph.constant("head.bias", params["bias"]))
    return {"logits": (logits_BxLxV, ("batch_size", "sequence_length", config.vocabulary_size))}


def _replaced_head(graph: _Graph, params: Mapping[str, np.ndarray], hidden_BxLxD: str) -> _Outputs:
    inner_BxLxD = graph.gelu(_dense(graph, "head.", "dense", params, hidden_BxLxD))
    logits_BxLx1 = _dense(graph, "head.", "prediction", params, inner_BxLxD, exact=True)
    return {"logits": (graph.node("Squeeze", logits_BxLx1, graph.integers(2)), ("batch_size", "sequence_length"))}


def _task_head(graph: _Graph, head: TaskHead, hidden_BxLxD: str, config: EncoderConfig) -> _Outputs:
    tensors = head.tensors

    def linear(name: str, inputs: str, *, exact: bool = True) -> str:
        return graph.linear(f"head.{name}", inputs, tensors[f"{name}.weight"].T, tensors[f"{name}.bias"], exact=exact)

    row = ("batch_size", "sequence_length")
    match head.architecture:
        case "ElectraForSequenceClassification":
            first_BxD = graph.part(hidden_BxLxD, 0, 1)
            classes = len(tensors["classifier.out_proj.bias"])
            if (one_layer := huggingface.one_layer_of_head(tensors)) is not None:
                logits_BxC = graph.linear("head.classifier", first_BxD, *one_layer, exact=True)
            else:
                inner_BxD = graph.gelu(linear("classifier.dense", first_BxD, exact=False))
                logits_BxC = linear("classifier.out_proj", inner_BxD)
            return {"logits": (logits_BxC, ("batch_size", classes))}
        case "ElectraForTokenClassification":
            return {"logits": (linear("classifier", hidden_BxLxD), (*row, len(tensors["classifier.bias"])))}
        case "ElectraForQuestionAnswering":
            logits_BxLx2 = linear("qa_outputs", hidden_BxLxD)
            return {
                f"{place}_logits": (graph.part(logits_BxLx2, number, 2), row)
                for number, place in enumerate(("start", "end"))
            }
    return _joint_answer_head(graph, tensors, hidden_BxLxD, config)


def _joint_answer_head(
    graph: _Graph, params: Mapping[str, np.ndarray], hidden_BxLxD: str, config: EncoderConfig
) -> _Outputs:
    """Writes out `models/answer_heads.py: JointAnswerHead` without dropout and gold starts; K is beams."""
    graph.inputs.append(ALLOWED)
    allowed_BxL = graph.to_float(ALLOWED)
    penalty_BxL = graph.node("Mul", graph.node("Sub", graph.number(1), allowed_BxL), graph.number(_DISALLOWED))

    def half(name: str, which: int, inputs: str) -> str:
        kernel_DxF = graph.constant(f"head.{name}.kernel.{which}", params[f"{name}/kernel"][which])
        return graph.node("MatMul", inputs, kernel_DxF)

    def score(name: str, halves: str) -> str:
        inner = graph.gelu(graph.node("Add", halves, graph.constant(f"head.{name}.bias", params[f"{name}/bias"])))
        kernel, bias = params[f"{name}/score_kernel"], params[f"{name}/score_bias"]
        return graph.node(
            "Squeeze", graph.linear(f"head.{name}.score", inner, kernel, bias, exact=True), graph.integers(-1)
        )

    start_BxL = graph.node(
        "Squeeze", _dense(graph, "head.", "start", params, hidden_BxLxD, exact=True), graph.integers(2)
    )
    start_BxL = graph.node("Add", start_BxL, penalty_BxL)
    chances_Bx1xL = graph.node("Unsqueeze", graph.node("Softmax", start_BxL, axis=-1), graph.integers(1))
    summary_BxD = graph.node("Squeeze", graph.node("MatMul", chances_Bx1xL, hidden_BxLxD), graph.integers(1))
    first_BxD = graph.part(hidden_BxLxD, 0, 1)
    impossible_B = score(
        "impossible", graph.node("Add", half("impossible", 0, first_BxD), half("impossible", 1, summary_BxD))
    )

    length = graph.node("Slice", graph.node("Shape", "input_ids"), graph.integers(1), graph.integers(2))
    beams = graph.node("Min", length, graph.integers(BEAMS))
    start_scores_BxK, start_ids_BxK = graph.node(
        "TopK", graph.node("LogSoftmax", start_BxL, axis=-1), beams, outputs=2, axis=-1
    )
    starts_BxKx1 = graph.node("Unsqueeze", start_ids_BxK, graph.integers(2))
    width = graph.integers(config.hidden_size)
    wide = graph.node("Expand", starts_BxKx1, graph.node("Concat", graph.node("Shape", start_ids_BxK), width, axis=0))
    starts_BxKxD = graph.node("GatherElements", hidden_BxLxD, wide, axis=1)
    pairs_BxKxLxF = graph.node(
        "Add",
        graph.node("Unsqueeze", half("end", 0, starts_BxKxD), graph.integers(2)),
        graph.node("Unsqueeze", half("end", 1, hidden_BxLxD), graph.integers(1)),
    )
    end_BxKxL = graph.node("Add", score("end", pairs_BxKxLxF), graph.node("Unsqueeze", penalty_BxL, graph.integers(1)))
    end_scores_BxKxK, end_ids_BxKxK = graph.node(
        "TopK", graph.node("LogSoftmax", end_BxKxL, axis=-1), beams, outputs=2, axis=-1
    )
    return {
        "start_logits": (start_BxL, ("batch_size", "sequence_length")),
        "impossible_logits": (impossible_B, ("batch_size",)),
        "start_scores": (start_scores_BxK, ("batch_size", "beams")),
        "start_ids": (start_ids_BxK, ("batch_size", "beams")),
        "end_scores": (end_scores_BxKxK, ("batch_size", "beams", "beams")),
        "end_ids": (end_ids_BxKxK, ("batch_size", "beams", "beams")),
    }
