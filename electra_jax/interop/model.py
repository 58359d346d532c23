"""A trained model of any origin as one value, and the outputs of its networks for rows of tokens."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pydantic

from electra_jax import foreign_json
from electra_jax.foreign_json import Record, Size
from electra_jax.interop.tensor_map import flatten
from electra_jax.models.encoder import Embeddings, Encoder, EncoderConfig
from electra_jax.models.heads import MaskedLanguageModelHead, ReplacedTokenHead
from electra_jax.models.layers import gelu

if TYPE_CHECKING:
    from electra_jax.text.tokenizers.tokenizer import Tokenizer

CORRECTIVE_HEAD = "corrective_head"

TaskKind = Literal["answering", "tagging", "classification", "multilabel", "regression"]

# Fields of an encoder that depend on the machine rather than the trained model.
_OF_THE_MACHINE = ("dtype", "attention", "saved_activations", "unrolled_layers")


class TaskSettings(Record):
    """How a task's predictions follow from its head's outputs, as far as transformers has no field for it.

    Attributes:
      name: name of the task in its run.
      kind: kind of the task.
      text_columns: columns of the texts it was trained on, two for pairs; empty if unknown.
      spans: whether tags mark spans.
      unanswerable: whether a question may have no answer.
      null_threshold: odds of having no answer above which there is none.
      stride: tokens from one window of a context to the next.
      longest_question: in tokens; longer ones are truncated.
      longest_answer: in tokens.
      beams: starts, and ends, that are searched.
    """

    name: str
    kind: TaskKind
    text_columns: Annotated[list[str], pydantic.Field(max_length=2)] = pydantic.Field(default_factory=list)
    spans: bool = False
    unanswerable: bool = False
    null_threshold: float = 0.0
    stride: Size = 128
    longest_question: Size = 64
    longest_answer: Size = 30
    beams: Size = 20


@dataclasses.dataclass(frozen=True)
class TaskHead:
    """The head of a fine-tuned model in the layout of transformers.

    Attributes:
      architecture: transformers' class of the model, such as `ElectraForSequenceClassification`; or `JointAnswerHead`,
        which transformers does not have.
      tensors: arrays by their names in transformers; for `JointAnswerHead` by their paths here.
      fields: fields of config.json for the head: "id2label", "label2id", "problem_type", "classifier_dropout".
      token_type: token type of a single text.
      max_length: maximum length of the rows that it was trained on, in tokens; None if unknown.
      settings: further settings of the task, None if unknown.
    """

    architecture: str
    tensors: Mapping[str, np.ndarray]
    fields: Mapping[str, Any]
    token_type: int = 0
    max_length: int | None = None
    settings: TaskSettings | None = None


class Score(NamedTuple):
    """One figure of a run: a metric on a split of a data set."""

    dataset: str
    split: str
    metric: str
    value: float


@dataclasses.dataclass(frozen=True)
class Training:
    """What a run records about itself, for the model card; empty for models of other programs.

    Attributes:
      recipe: fields of its config with their values, those that readers of a model card look for.
      scores: its figures on held-out data.
      base_model: what it was fine-tuned from; "" if it was not.
    """

    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    base_model: str = ""


@dataclasses.dataclass(frozen=True)
class Model:
    """The trained networks of a model: a generator, a discriminator or both.

    Attributes:
      discriminator: sizes of ELECTRA's main network, or of the encoder of a BERT; None if there is none.
      generator: sizes of the network with the word head; a masked language model trained here has only a generator.
      params: float32 arrays in nested dicts: those present of the parts "embeddings", "generator", "generator_head",
        "discriminator", "discriminator_head" and "corrective_head" (the discriminator's word head in the hybrid
        objective).
      tokenizer: None if there is none next to the weights.
      step: number of updates; None if unknown.
      origin: readable description of the source.
      sources: sources of the training text, from its config.
      skipped: names of what was read and left out, each with the reason.
      notes: assumptions of the reader.
      task_head: head of a fine-tuned model; None if there are several to choose from.
      task_heads: heads of a fine-tuning run by task name.
      training: what is known of its run.
    """

    discriminator: EncoderConfig | None
    generator: EncoderConfig | None
    params: Mapping[str, Any]
    tokenizer: Tokenizer | None
    step: int | None
    origin: str
    sources: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    task_head: TaskHead | None = None
    task_heads: Mapping[str, TaskHead] = dataclasses.field(default_factory=dict)
    training: Training = Training()

    @property
    def main(self) -> EncoderConfig:
        """Sizes of the discriminator, or of the generator if there is no discriminator.

        Raises:
          ValueError: there is neither.
        """
        sizes = self.discriminator or self.generator
        if sizes is None:
            raise ValueError(f"{self.origin}: has no network")
        return sizes

    @property
    def networks(self) -> dict[str, EncoderConfig]:
        """Sizes of the networks by name."""
        sizes = {"generator": self.generator, "discriminator": self.discriminator}
        return {name: config for name, config in sizes.items() if config is not None}

    @property
    def vocabulary_size(self) -> int:
        """Number of rows in the word table."""
        return len(self.params["embeddings"]["word_embeddings"])


def corrector(model: Model) -> Model | None:
    """The discriminator and its word head as a masked language model; None without that head."""
    if CORRECTIVE_HEAD not in model.params:
        return None
    params = {
        "embeddings": model.params["embeddings"],
        "generator": model.params["discriminator"],
        "generator_head": model.params[CORRECTIVE_HEAD],
    }
    return dataclasses.replace(model, discriminator=None, generator=model.discriminator, params=params)


def without_corrective_head(model: Model) -> Model:
    """The model without the discriminator's word head, for formats that cannot hold it."""
    return dataclasses.replace(
        model, params={part: tree for part, tree in model.params.items() if part != CORRECTIVE_HEAD}
    )


def in_float32(config: EncoderConfig) -> EncoderConfig:
    """The config with computation in float32."""
    return dataclasses.replace(config, dtype=jnp.dtype(jnp.float32), attention="plain", unrolled_layers=1)


def sizes_as_fields(config: EncoderConfig) -> dict[str, Any]:
    """A network's sizes and rates as JSON."""
    fields = dataclasses.asdict(config)
    return {name: value for name, value in fields.items() if name not in _OF_THE_MACHINE}


Rate = Annotated[float, pydantic.Field(ge=0, le=1)]


class NetworkFields(Record):
    """A network's sizes and rates as JSON, as `sizes_as_fields` writes them; fields of `EncoderConfig`."""

    # A field that this version does not know would be missing from the network.
    model_config = pydantic.ConfigDict(extra="forbid")

    vocabulary_size: Size
    embedding_size: Size
    hidden_size: Size
    layers: Annotated[int, pydantic.Field(ge=1, le=1000)]
    heads: Size
    feed_forward_size: Size
    positions: Size
    token_types: Size = 2
    dropout_rate: Rate = 0.1
    attention_dropout_rate: Rate = 0.1
    attention_bias: Literal["none", "distance_decay"] = "none"
    layer_norm_epsilon: Rate = 1e-12
    initializer_range: Rate = 0.02

    @pydantic.model_validator(mode="after")
    def _check_heads(self) -> NetworkFields:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads that divide hidden_size, {self.hidden_size}; found {self.heads}")
        return self

    @property
    def encoder(self) -> EncoderConfig:
        """The network's config; the computation is in float32."""
        return EncoderConfig(**self.model_dump())


def sizes_of_fields(fields: Mapping[str, Any], place: str = "config.model") -> EncoderConfig:
    """A network's sizes and rates from a config with further fields; the computation is in float32.

    Raises:
      InputError: a field is missing or has another type; the message begins with `place`.
    """
    if isinstance(fields, Mapping):
        fields = {name: fields[name] for name in NetworkFields.model_fields if name in fields}
    return foreign_json.checked(NetworkFields, fields, place, "restore the file").encoder


def shape_problems(model: Model) -> list[str]:
    """One line for each array that is missing, unexpected, or of another shape than the network's sizes imply."""
    found = {path: array.shape for path, array in flatten(model.params).items()}
    expected: dict[str, tuple[int, ...]] = {}
    for name, part in _parts(model).items():
        if name in model.params or not name.endswith("_head"):
            init = functools.partial(part.module.init, **part.options)
            shapes = jax.eval_shape(init, jax.random.key(0), *part.inputs)["params"]
            for keys, leaf in jax.tree_util.tree_leaves_with_path(nn.unbox(shapes)):
                expected["/".join([name, *(key.key for key in keys)])] = leaf.shape
    problems = []
    for path in sorted(found.keys() | expected.keys()):
        if path not in found:
            problems.append(f"{path}: is missing, expected shape {list(expected[path])}")
        elif path not in expected:
            problems.append(f"{path}: is not a parameter of this network")
        elif found[path] != expected[path]:
            problems.append(f"{path}: found shape {list(found[path])}, expected {list(expected[path])}")
    return problems


def outputs(
    model: Model, tokens_BxL: np.ndarray, segments_BxL: np.ndarray, documents_BxL: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Outputs of each network, in float32.

    Args:
      model: the model.
      tokens_BxL: int32 ids.
      segments_BxL: int32, 0 or 1.
      documents_BxL: int32, 1 on tokens and 0 on padding, where outputs are arbitrary; None if there is no padding.

    Returns:
      By network, the logits of its head, [B, L, V] or [B, L], or of a task's head, [B, C] or [B, L, C]; without a head,
      or with one that transformers does not have, the last hidden states, [B, L, D]. Under the name of the corrective
      head, if there is one, its logits, [B, L, V].
    """
    documents_BxL = np.ones_like(tokens_BxL) if documents_BxL is None else documents_BxL
    rows = tokens_BxL, segments_BxL, documents_BxL
    found = {
        network: np.asarray(jax.jit(network_function(model, network))(weights(model, network), *rows))
        for network in model.networks
    }
    if (alone := corrector(model)) is not None:
        found[CORRECTIVE_HEAD] = outputs(alone, *rows)["generator"]
    return found


def weights(model: Model, network: str) -> dict[str, Any]:
    """The parameters of one network: its parts of `Model.params`, and the tensors of its task's head as "task_head"."""
    parts = ("embeddings", network, f"{network}_head")
    found = {part: model.params[part] for part in parts if part in model.params}
    if model.task_head and network == "discriminator":
        found.pop(f"{network}_head", None)  # The task's head replaces it.
        found["task_head"] = dict(model.task_head.tensors)
    return found


def network_function(model: Model, network: str) -> Callable[..., jax.Array]:
    """A function of (the result of `weights`, tokens, segments, documents), which computes a network's output.

    Arguments and result are those of `outputs`. It can be traced, for rows of symbolic sizes too.
    """
    parts = _parts(model)
    architecture = model.task_head.architecture if model.task_head else ""

    def compute(
        params: Mapping[str, Any], tokens_BxL: jax.Array, segments_BxL: jax.Array, documents_BxL: jax.Array
    ) -> jax.Array:
        def apply(name: str, *inputs: jax.typing.ArrayLike) -> jax.Array:
            return jnp.asarray(parts[name].module.apply({"params": params[name]}, *inputs, **parts[name].options))

        embedded_BxLxE = apply("embeddings", tokens_BxL, segments_BxL)
        hidden_BxLxD = apply(network, embedded_BxLxE, documents_BxL)
        if "task_head" in params:
            return task_logits(architecture, params["task_head"], hidden_BxLxD)
        if f"{network}_head" not in params:
            return hidden_BxLxD
        table = (params["embeddings"]["word_embeddings"],) if network == "generator" else ()
        return apply(f"{network}_head", hidden_BxLxD, *table)

    return compute


def task_logits(architecture: str, tensors: Mapping[str, jax.typing.ArrayLike], hidden_BxLxD: jax.Array) -> jax.Array:
    """Logits of transformers' head, [B, C] or [B, L, C]; the hidden states if transformers has no such head.

    Args:
      architecture: `TaskHead.architecture`.
      tensors: `TaskHead.tensors`.
      hidden_BxLxD: the encoder's last hidden states.
    """

    def linear(name: str, inputs: jax.Array) -> jax.Array:
        return inputs @ jnp.asarray(tensors[f"{name}.weight"]).T + jnp.asarray(tensors[f"{name}.bias"])

    match architecture:
        case "ElectraForSequenceClassification":
            return linear("classifier.out_proj", gelu(linear("classifier.dense", hidden_BxLxD[:, 0])))
        case "ElectraForTokenClassification":
            return linear("classifier", hidden_BxLxD)
        case "ElectraForQuestionAnswering":
            return linear("qa_outputs", hidden_BxLxD)
    return hidden_BxLxD


class _Part(NamedTuple):
    """One part of the parameter tree.

    Attributes:
      module: the module of the parameters.
      inputs: shapes of its inputs.
      options: keyword arguments of its call.
    """

    module: nn.Module
    inputs: tuple[jax.ShapeDtypeStruct, ...]
    options: Mapping[str, Any]


def _parts(model: Model) -> dict[str, _Part]:
    """All parts that the networks can have, whether or not their parameters are present."""
    row = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    no_dropout = {"deterministic": True}
    parts: dict[str, _Part] = {}
    for network, sizes in model.networks.items():
        config = in_float32(sizes)
        embedded, hidden = (
            jax.ShapeDtypeStruct((1, 8, width), jnp.float32) for width in (config.embedding_size, config.hidden_size)
        )
        table = jax.ShapeDtypeStruct((config.vocabulary_size, config.embedding_size), jnp.float32)
        parts["embeddings"] = _Part(Embeddings(config), (row, row), no_dropout)
        parts[network] = _Part(Encoder(config), (embedded, row), no_dropout)
        if network == "generator":
            parts["generator_head"] = _Part(MaskedLanguageModelHead(config), (hidden, table), {})
        else:
            parts["discriminator_head"] = _Part(ReplacedTokenHead(config), (hidden,), {})
            parts[CORRECTIVE_HEAD] = _Part(MaskedLanguageModelHead(config), (hidden, table), {})
    return parts
