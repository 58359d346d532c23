"""Hugging Face folders: config.json, model.safetensors and a tokenizer, for one network or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np
import pydantic

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Count, Record, Size
from electra_jax.interop import finetuned, huggingface, model_card, tensor_files, tensor_map, tokenizer_files
from electra_jax.interop.model import (
    CORRECTIVE_HEAD,
    Model,
    Rate,
    TaskHead,
    TaskSettings,
    corrector,
    sizes_of_fields,
    without_corrective_head,
)
from electra_jax.models.encoder import EncoderConfig

if TYPE_CHECKING:
    from electra_jax.text.tokenizers.tokenizer import Tokenizer

CONFIG = "config.json"

_ARCHITECTURES = {"generator": "ElectraForMaskedLM", "discriminator": "ElectraForPreTraining"}
_BARE = "ElectraModel"
# Folder of the discriminator with the word head of the hybrid objective, as a masked language model.
CORRECTOR = "discriminator_mlm"
_TASKS = (
    "ElectraForSequenceClassification", "ElectraForTokenClassification", "ElectraForQuestionAnswering",
)  # fmt: skip
_BERT = (
    "BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForNextSentencePrediction",
    "BertForSequenceClassification", "BertForTokenClassification", "BertForQuestionAnswering",
    "BertForMultipleChoice",
)  # fmt: skip
# A field of config.json that transformers keeps and ignores.
_PROVENANCE = "electra_jax"
_TASK_TENSORS = ("classifier.", "qa_outputs.")
# Prefixes of the encoder's tensors; a file of the bare encoder omits the model's prefix.
_ENCODER_PARTS = ("embeddings.", "encoder.", "embeddings_project.")
# Buffers that old files store next to the weights.
_BUFFERS = ("position_ids", "token_type_ids")
_OLD_SUFFIXES = {".gamma": ".weight", ".beta": ".bias"}
_PROGRAM = "model.stablehlo"
_NOT_READ = {
    "onnx": "is a program for onnxruntime, which holds no weights to read; use the model that it was exported from",
    "pytorch_model.bin": "is a pickle, which can run arbitrary code",
    "tf_model.h5": "is for transformers' TensorFlow models, which were removed",
    "flax_model.msgpack": "is for transformers' Flax models, which were removed",
}


_FIX = "copy the folder again"
# Fields of config.json and our names for them.
_SIZES = {
    "vocab_size": "vocabulary_size",
    "embedding_size": "embedding_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "feed_forward_size",
    "max_position_embeddings": "positions",
    "hidden_dropout_prob": "dropout_rate",
    "attention_probs_dropout_prob": "attention_dropout_rate",
    "layer_norm_eps": "layer_norm_epsilon",
    "initializer_range": "initializer_range",
}
_RATES = ("dropout_rate", "attention_dropout_rate", "layer_norm_epsilon", "initializer_range")


class _Header(Record):
    """Fields of config.json that say what the folder holds."""

    model_type: str | None = None
    architectures: list[str] | None = None


class TaskFields(Record):
    """Fields of config.json about the head of a task."""

    id2label: dict[str, str] | None = None
    label2id: dict[str, int] | None = None
    problem_type: str | None = None
    classifier_dropout: Rate | None = None


class _Provenance(Record):
    """What `write` records about the model's origin."""

    origin: str | None = None
    step: Count | None = None
    sources: list[str] = pydantic.Field(default_factory=list)
    max_length: Size | None = None
    task: TaskSettings | None = None


class Description(NamedTuple):
    """What a folder says of its network next to the weights, or the program, that it holds.

    Attributes:
      architecture: transformers' class of the network, or `finetuned.JOINT_ANSWERS`.
      sizes: sizes of the network.
      head: the task's head without its tensors; None if it has none.
      tokenizer: None if there is none.
      origin: readable description of the source.
      notes: assumptions of the reader.
    """

    architecture: str
    sizes: EncoderConfig
    head: TaskHead | None
    tokenizer: Tokenizer | None
    origin: str
    notes: tuple[str, ...]


def description(path: str) -> Description:
    """What config.json and the tokenizer of a folder say of its network.

    Raises:
      InputError: they are damaged, or describe a network that ours cannot compute.
    """
    fields = _fields(path)
    architecture = _architecture(path, fields)
    provenance, head = _provenance(path, fields), None
    if architecture in (*_TASKS, finetuned.JOINT_ANSWERS):
        head = _task_head(path, fields, architecture, {}, provenance)
    tokenizer, notes = tokenizer_files.load_beside(path)
    return Description(
        architecture,
        _sizes(path, fields, architecture in _BERT),
        head,
        tokenizer,
        provenance.origin or _origin(path, architecture),
        notes,
    )


def _origin(path: str, architecture: str) -> str:
    return f"{architecture} {path.rstrip('/').rpartition('/')[2]}"


def _provenance(path: str, fields: Mapping[str, Any]) -> _Provenance:
    return foreign_json.checked(_Provenance, fields.get(_PROVENANCE, {}), f"{path}/{CONFIG}: {_PROVENANCE}", _FIX)


def _task_head(
    path: str,
    fields: Mapping[str, Any],
    architecture: str,
    tensors: Mapping[str, np.ndarray],
    provenance: _Provenance,
) -> TaskHead:
    about = foreign_json.checked(TaskFields, fields, f"{path}/{CONFIG}", _FIX).model_dump(exclude_unset=True)
    return TaskHead(architecture, tensors, about, max_length=provenance.max_length, settings=provenance.task)


def is_folder(path: str) -> bool:
    """Whether a path is a folder of one network, or has subfolders `generator` or `discriminator`."""
    return _is_network(path) or any(_is_network(storage.join(path, network)) for network in tensor_map.NETWORKS)


def read(path: str) -> Model:
    """Reads the network of a folder, or the networks of its subfolders.

    Raises:
      InputError: it is damaged, has another architecture, or the two networks do not belong together.
    """
    if _is_network(path):
        return _read_network(path, None)
    present = [network for network in tensor_map.NETWORKS if _is_network(storage.join(path, network))]
    models = {network: _read_network(storage.join(path, network), network) for network in present}
    flat: dict[str, np.ndarray] = {}
    for model in models.values():
        for name, array in tensor_map.flatten(model.params).items():
            tensor_map.put(flat, name, array)
    if "discriminator" in models and _is_network(folder := storage.join(path, CORRECTOR)):
        for name, array in tensor_map.flatten(_read_network(folder, "generator").params).items():
            part, _, rest = name.partition("/")
            part = {"generator": "discriminator", "generator_head": CORRECTIVE_HEAD}.get(part, part)
            tensor_map.put(flat, f"{part}/{rest}", array)
    main = models[present[-1]]  # The discriminator, where there is one.
    hashes = {model.tokenizer.sha256 for model in models.values() if model.tokenizer}
    if len(hashes) > 1:
        raise InputError(f"{path}: generator and discriminator have different tokenizers; convert each by itself")
    return Model(
        discriminator=models["discriminator"].discriminator if "discriminator" in models else None,
        generator=models["generator"].generator if "generator" in models else None,
        params=tensor_map.unflatten(flat),
        tokenizer=main.tokenizer or models[present[0]].tokenizer,
        step=main.step,
        origin=main.origin,
        sources=main.sources,
        skipped=tuple(entry for model in models.values() for entry in model.skipped),
        notes=tuple(dict.fromkeys(note for model in models.values() for note in model.notes)),
        task_head=main.task_head,
    )


def write(model: Model, directory: str) -> tuple[str, ...]:
    """Writes a folder for each network; a single fine-tuned network is written to the directory itself.

    A discriminator with a word head is written a second time with that head, as transformers has one head per model.

    Returns:
      Notes for the user.

    Raises:
      InputError: transformers' ELECTRA cannot compute this model.
      OSError: a file cannot be written.
    """
    _check_task(model.task_head)
    notes = notes_on_task(model.task_head)
    if (alone := corrector(model)) is not None:
        notes += _write_networks(alone, {"generator": storage.join(directory, CORRECTOR)})
        model = without_corrective_head(model)
    model = finetuned.in_first_token_type(model)
    return tuple(dict.fromkeys([*notes, *_write_networks(model, folders_of(model, directory))]))


def folders_of(model: Model, directory: str) -> dict[str, str]:
    """The folder of each network in an export: a fine-tuned network without a generator is in the directory itself."""
    is_alone = model.task_head is not None and list(model.networks) == ["discriminator"]
    return {network: directory if is_alone else storage.join(directory, network) for network in model.networks}


def _write_networks(model: Model, folders: Mapping[str, str]) -> list[str]:
    """Writes each network to its folder; returns notes for the user."""
    notes: list[str] = []
    for network, folder in folders.items():
        config = model.networks[network]
        head = model.task_head if network == "discriminator" else None
        states = {"generator": huggingface.generator_state, "discriminator": huggingface.discriminator_state}
        # Raises if there is no equivalent, before anything is written.
        fields = huggingface.huggingface_config(config)
        state = states[network](model.params)
        state.pop(huggingface.TIED_WEIGHT, None)
        architecture = architecture_of(model, network)
        if head:
            state = {name: array for name, array in state.items() if name.startswith("electra.")} | dict(head.tensors)
            if "discriminator_head" in model.params:
                notes.append("discriminator_head: not written, as the task's head replaces it")
        if architecture == _BARE:
            state = {name.removeprefix("electra."): array for name, array in state.items()}
        tensor_files.write(storage.join(folder, tensor_files.FILE), state)
        notes += write_description(model, network, folder, fields)
    return notes


def _task_provenance(head: TaskHead) -> dict[str, Any]:
    """What our programs need of a task, and transformers has no field for."""
    settings = {"task": head.settings.model_dump()} if head.settings else {}
    return settings | ({"max_length": head.max_length} if head.max_length else {})


def architecture_of(model: Model, network: str) -> str:
    """transformers' class of a network with its head, or the name of a head that transformers does not have."""
    if model.task_head and network == "discriminator":
        return model.task_head.architecture
    return _ARCHITECTURES[network] if f"{network}_head" in model.params else _BARE


def write_description(
    model: Model, network: str, folder: str, sizes: Mapping[str, Any], form: str = "huggingface"
) -> list[str]:
    """Writes what a folder of one network has in addition to weights: config.json, the tokenizer, the model card.

    Args:
      model: the model.
      network: "generator" or "discriminator".
      folder: folder to write.
      sizes: the fields of config.json that describe the network.
      form: the export format.

    Returns:
      Notes for the user.

    Raises:
      OSError: a file cannot be written.
    """
    config, tokenizer, architecture = model.networks[network], model.tokenizer, architecture_of(model, network)
    head = model.task_head if network == "discriminator" else None
    fields = {
        "architectures": [architecture],
        **sizes,
        **(head.fields if head else {}),
        "initializer_range": config.initializer_range,
        "pad_token_id": tokenizer.pad_id if tokenizer else 0,
        "dtype": "float32",
        _PROVENANCE: {
            "origin": model.origin,
            "step": model.step,
            "sources": list(model.sources),
            **(_task_provenance(head) if head else {}),
        },
    }
    storage.write_json(storage.join(folder, CONFIG), fields)
    notes: list[str] = []
    if tokenizer:
        longest = (head and head.max_length) or config.positions
        notes += tokenizer_files.write_huggingface(tokenizer, folder, longest)
    storage.write(storage.join(folder, "README.md"), model_card.text(model, network, architecture, form).encode())
    return notes


def _check_task(head: TaskHead | None) -> None:
    """Raises InputError if transformers has no such head."""
    if head and head.architecture not in _TASKS:
        raise InputError(
            f"The task's head is {head.architecture}, the paper's for question answering, which transformers does not "
            "have; to export to transformers, train with --config.tasks.NAME.head=huggingface"
        )


def notes_on_task(head: TaskHead | None) -> list[str]:
    """Notes for the user of a task's head."""
    if head is None:
        return []
    notes = []
    if head.token_type:
        notes.append(
            "embeddings: the two token types are swapped, since the run tagged in type 1 and transformers gives a "
            "single text type 0"
        )
    if head.max_length:
        notes.append(
            f"tokenizer: call it with truncation=True to truncate texts at {head.max_length} tokens, as the run did"
        )
        # Without [CLS] and two [SEP] an odd number is left, which the library splits the other way round.
        if head.architecture == _TASKS[0] and head.max_length % 2 == 0:
            notes.append("tokenizer: where both texts of a pair are truncated, the longer one may be the other")
    return notes


def _is_network(path: str) -> bool:
    return "model_type" in _fields(path) or "architectures" in _fields(path)


def _fields(path: str) -> dict[str, Any]:
    """The content of config.json; empty when there is none."""
    file = storage.join(path, CONFIG)
    fields = foreign_json.read(file, _FIX) if storage.exists(file) else {}
    return fields if isinstance(fields, dict) else {}


def _read_network(path: str, expected: str | None) -> Model:
    fields = _fields(path)
    architecture = _architecture(path, fields)
    tensors = {name: array for name, array in _tensors(path).items() if not name.endswith(_BUFFERS)}
    named = {_current_name(name): name for name in tensors}
    state = {name: _float32(tensors[theirs]) for name, theirs in named.items()}
    is_bert = architecture in _BERT
    network = "generator" if architecture == _ARCHITECTURES["generator"] else "discriminator"
    if expected and network != expected:
        raise InputError(f"{path}/{CONFIG}: found architecture {architecture}, expected a {expected}")
    skipped: list[tuple[str, str]] = []
    task_head = None
    provenance = _provenance(path, fields)
    if is_bert:
        for name in sorted(state):
            if name.startswith("electra.pooler."):
                skipped.append((named[name], "ELECTRA has no pooler"))
                del state[name]
            elif not name.startswith("electra."):
                skipped.append((named[name], "a head of BERT; only the encoder is read"))
                del state[name]
    elif architecture in _TASKS:
        head = {name: state.pop(name) for name in list(state) if name.startswith(_TASK_TENSORS)}
        task_head = _task_head(path, fields, architecture, head, provenance)
    config = _sizes(path, fields, is_bert)
    with_head = any(name.startswith(f"{network}_predictions.") for name in state)
    flat = huggingface.network_params(state, network, config.heads, f"{path}/{tensor_files.FILE}", with_head=with_head)
    tokenizer, notes = tokenizer_files.load_beside(path)
    return Model(
        discriminator=config if network == "discriminator" else None,
        generator=config if network == "generator" else None,
        params=tensor_map.unflatten(flat),
        tokenizer=tokenizer,
        step=provenance.step,
        origin=provenance.origin or _origin(path, architecture),
        sources=tuple(provenance.sources),
        skipped=tuple(skipped),
        notes=notes,
        task_head=task_head,
    )


def _architecture(path: str, fields: Mapping[str, Any]) -> str:
    """The architecture in config.json."""
    known = (*_ARCHITECTURES.values(), _BARE, *_TASKS, *_BERT, finetuned.JOINT_ANSWERS)
    header = foreign_json.checked(_Header, fields, f"{path}/{CONFIG}", _FIX)
    kind = header.model_type
    stated = header.architectures or [{"electra": _BARE, "bert": "BertModel"}.get(str(kind), f"model_type {kind!r}")]
    if stated[0] not in known or kind not in ("electra", "bert", None):
        raise InputError(f"{path}/{CONFIG}: found architecture {stated[0]}, expected one of {', '.join(known)}")
    return stated[0]


def _sizes(path: str, fields: Mapping[str, Any], is_bert: bool) -> EncoderConfig:
    """Sizes of a network that ours can compute.

    Raises:
      InputError: a size is missing, or the network has another activation or kind of positions.
    """
    fixed = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False, "type_vocab_size": 2}
    for name, value in fixed.items():
        if fields.get(name, value) != value:
            raise InputError(
                f"{path}/{CONFIG}: {name}: found {fields[name]!r}, expected {value!r}, the only one supported"
            )
    if is_bert:
        fields = {**fields, "embedding_size": fields.get("hidden_size")}
    named = {ours: fields[theirs] for theirs, ours in _SIZES.items() if theirs in fields}
    if missing := [theirs for theirs, ours in _SIZES.items() if ours not in named and ours not in _RATES]:
        raise InputError(f"{path}/{CONFIG}: found no {missing[0]!r}, expected all sizes of the network")
    return sizes_of_fields(named, f"{path}/{CONFIG}")


def _tensors(path: str) -> dict[str, np.ndarray]:
    present = storage.names(path)
    if _PROGRAM in present:
        raise InputError(
            f"{path}: found {_PROGRAM}, a program of jax.export, whose weights have other names; use the model that it "
            "was exported from"
        )
    if tensor_files.FILE not in present and tensor_files.INDEX not in present:
        reasons = [f"; {name} {why}" for name, why in _NOT_READ.items() if name in present]
        shards = [name for name in present if name.startswith("pytorch_model-")]
        reasons += [f"; {shards[0]} {_NOT_READ['pytorch_model.bin']}"] if shards else []
        raise InputError(
            f"{path}: found no {tensor_files.FILE}{''.join(reasons)}. Write one with transformers: "
            f"AutoModel….from_pretrained(…).save_pretrained(…), with the class that {CONFIG} names under architectures."
        )
    return tensor_files.read_folder(path)


def _current_name(name: str) -> str:
    """The name of a tensor in current versions of transformers."""
    for old, new in _OLD_SUFFIXES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    if name.startswith("bert."):
        return "electra." + name.removeprefix("bert.")
    return f"electra.{name}" if name.startswith((*_ENCODER_PARTS, "pooler.")) else name


def _float32(array: np.ndarray) -> np.ndarray:
    floating = np.issubdtype(array.dtype, np.floating) or array.dtype == ml_dtypes.bfloat16
    return array.astype(np.float32) if floating else array
