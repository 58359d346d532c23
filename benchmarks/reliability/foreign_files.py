"""One small valid file of each format that others write, and the call that reads it in a run."""

import dataclasses
import gzip
import io
import json
import pathlib
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import zstandard

from electra_jax import foreign_json
from electra_jax.config import files, schema
from electra_jax.config.finetuning import AnsweringConfig, ClassificationConfig, TaggingConfig, TaskConfig
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.errors import InputError
from electra_jax.finetuning.data import reading
from electra_jax.interop import (
    checkpoints,
    finetuned,
    google_checkpoint,
    huggingface_folder,
    native_format,
    tensor_files,
)
from electra_jax.interop.model import Model
from electra_jax.models.electra import Electra
from electra_jax.models.encoder import EncoderConfig
from electra_jax.reporting import dataset_card, pretraining_page, results, run_files
from electra_jax.text.dataset import dataset as datasets
from electra_jax.text.dataset.shards import ShardWriter, token_dtype
from electra_jax.text.sources import formats, pypi, text_sources
from electra_jax.text.tokenizers import sentencepiece_tokenizer, tokenizer, wordpiece
from electra_jax.text.tokenizers.special_tokens import SPECIAL_PIECES

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TEXT = "The quick brown fox jumps over the lazy dog.\nIt runs.\n\nÇa va? 東京 1234\n" * 20
_SENTENCES = [f"{word} number {number} of the é row" for number, word in enumerate(_TEXT.split())]


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
      name: name of the format, with the file's name.
      file: path of the file that is damaged, in a folder that `make` fills.
      kind: how `mutations.mutate` changes it.
      make: fills an empty folder with valid files.
      read: reads the folder as a run does; raises `RunError` for a damaged file.
      weight: share of the inputs, where one takes longer than usual.
    """

    name: str
    file: str
    kind: str
    make: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], Any]
    weight: float = 1.0


def _tokenizer() -> tokenizer.Tokenizer:
    pieces = [*SPECIAL_PIECES, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *".,!?", "the"]
    options: dict[str, bool] = {"lowercase": True, "strip_accents": True, "add_special_pieces": False}
    return wordpiece.from_vocabulary("\n".join(pieces), "made", **options)


def _model() -> Model:
    vocabulary = _tokenizer()
    config = EncoderConfig(vocabulary.vocabulary_size, 8, 16, 2, 4, 24, 16)
    pair = config, config.scaled(1 / 2)
    row = jax.ShapeDtypeStruct((1, 8), np.int32)
    shapes = nn.unbox(jax.eval_shape(Electra(*pair).init, jax.random.key(0), row, row, row, row)["params"])
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)
    return Model(pair[0], pair[1], params, vocabulary, 1000, "made for a test", ("corpus/*.txt",))


def _write_huggingface(folder: pathlib.Path) -> None:
    huggingface_folder.write(_model(), str(folder / "both"))
    shutil.move(folder / "both" / "discriminator", folder / "model")


def _write_vocabulary_beside(folder: pathlib.Path) -> None:
    _write_huggingface(folder)
    (folder / "model" / "tokenizer.json").unlink()  # It would be preferred.


def _write_index(folder: pathlib.Path) -> None:
    _write_huggingface(folder)
    tensors = tensor_files.read(str(folder / "model" / tensor_files.FILE))
    (folder / "model" / tensor_files.FILE).unlink()
    names = sorted(tensors)
    places: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        tensor_files.write(str(folder / "model" / file), {name: tensors[name] for name in part})
        places |= dict.fromkeys(part, file)
    (folder / "model" / tensor_files.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def _open(name: str) -> Callable[[pathlib.Path], Any]:
    return lambda folder: checkpoints.open_model(str(folder / name))


def _write_tensors(folder: pathlib.Path) -> None:
    draw = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {f"t{n}": draw.standard_normal((n + 1, 3), np.float32) for n in range(4)}
    tensor_files.write(
        str(folder / "a.safetensors"), tensors | {"step": np.asarray(3), "empty": np.zeros((0, 2), np.float32)}
    )


def _write_google(folder: pathlib.Path) -> None:
    google_checkpoint.write(_model(), str(folder / "google"))


def _write_sentencepiece(folder: pathlib.Path) -> None:
    trained = sentencepiece_tokenizer.train(
        _SENTENCES, kind="bpe", vocabulary_size=80, lowercase=True, character_coverage=1
    )
    trained.save(folder)


def _used(found: tokenizer.Tokenizer) -> None:
    """Uses a tokenizer that was accepted."""
    found.encode(_SENTENCES[:8])
    found.encode_with_offsets(_SENTENCES[0])
    found.pieces(range(found.vocabulary_size))


def _write_dataset(folder: pathlib.Path) -> None:
    made = _tokenizer()
    splits = {}
    for split, rows in (("train", 20), ("heldout", 5)):
        with ShardWriter(f"{folder}/{split}-00000.bin", length=8, tokenizer=made) as writer:
            writer.add(np.repeat(np.arange(5, 5 + rows)[:, None], 8, axis=1))
        counted = {"documents": 1, "rows": rows, "tokens": rows * 8, "pieces": rows * 8}
        shown = {"lengths": [1, 2, 3], "examples": ["[CLS] a b [SEP]"]}
        splits[split] = counted | shown | {"shards": [writer.summary() | {"source": 0}]}
    made.save(folder / "tokenizer")
    np.save(folder / "unigram_counts.npy", np.ones(made.vocabulary_size, np.int64))
    source = {"source": "a.txt", "documents": 2, "lines": 9, "characters": 99, "words": 9, "tokens": 20}
    manifest = {
        "format_version": datasets.FORMAT_VERSION,
        "data_fingerprint": "0" * 64,
        "config": {"sources": ["a.txt"], "tokenizer": {"source": "train", "lowercase": True, "strip_accents": True}},
        "length": 8,
        "rows": "packed",
        "dtype": token_dtype(made.vocabulary_size).str,
        "tokenizer_sha256": made.sha256,
        "tokenizer_kind": "wordpiece",
        "vocabulary_size": made.vocabulary_size,
        "sources": [source | {"dropped": {"copies": 1}}],
        "splits": splits,
        "unknown_tokens": 3,
        "heldout_unigram_entropy": 1.5,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _read_dataset(folder: pathlib.Path) -> None:
    found = datasets.open_dataset(folder)
    for split in (found.train, found.heldout):
        split.rows(np.arange(min(split.num_rows, 3)))


def _write_wheel(folder: pathlib.Path) -> None:
    with zipfile.ZipFile(folder / "a-1-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/text.txt", _TEXT)
        archive.writestr("a/more.md", _TEXT)
        archive.writestr("a/code.py", f"text = {_TEXT!r}\n")


def _read_wheel(folder: pathlib.Path) -> None:
    wheel = folder / "a-1-py3-none-any.whl"
    for name, size in pypi.member_sizes(wheel, "a/*").items():
        options = formats.Options()
        with pypi.open_member(wheel, name) as stream:
            for _ in formats.read(stream, f"{wheel.name}!{name}", options, 0, size, lambda count: None):
                pass


def _of_text(label: str, name: str, kind: str, content: bytes, weight: float = 1.0) -> Format:
    """A file of text to pre-train on."""

    def read(folder: pathlib.Path) -> None:
        for piece in text_sources.pieces(str(folder / name), "", 1 << 30):
            for _ in text_sources.documents(piece, ""):
                pass

    return Format(label, name, kind, lambda folder: _write_file(folder / name, content), read, weight)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _write_file(path: pathlib.Path, content: bytes) -> None:
    path.write_bytes(content)


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    table = pyarrow.table({"text": [*_SENTENCES, None, "x" * 3000], "id": range(len(_SENTENCES) + 2)})
    pyarrow.parquet.write_table(table, sink, row_group_size=100)
    return sink.getvalue()


def _arrow() -> bytes:
    import pyarrow

    sink = io.BytesIO()
    table = pyarrow.table({"text": [*_SENTENCES, None, "x" * 3000], "id": range(len(_SENTENCES) + 2)})
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return sink.getvalue()


def _of_task(label: str, name: str, kind: str, content: str, task: TaskConfig, weight: float = 1.0) -> Format:
    """A file of labelled examples."""

    def write(folder: pathlib.Path) -> None:
        packed = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
        for split in ("train", "dev"):
            (folder / split).mkdir()
            (folder / split / name).write_bytes(packed)

    settings = dataclasses.replace(task, train=f"train/{name}", dev=f"dev/{name}")

    def read(folder: pathlib.Path) -> None:
        reading.read_splits("task", settings, str(folder), str(folder))

    return Format(label, f"train/{name}", kind, write, read, weight)


_LABELLED = "sentence\tlabel\n" + "".join(f"{text}\t{('no', 'yes')[n % 2]}\n" for n, text in enumerate(_SENTENCES[:60]))
_QUESTION = {"id": "q", "question": "who", "answers": [{"text": "fox", "answer_start": 16}]}
_PARAGRAPH = {"context": _TEXT[:60], "qas": [_QUESTION, _QUESTION | {"id": "r"}]}
_SECOND = {"context": _TEXT[:60], "qas": [_QUESTION | {"id": "s"}]}
_SQUAD = {"data": [{"paragraphs": [_PARAGRAPH]}, {"paragraphs": [_SECOND]}]}
_MRQA_QUESTION = {"qid": "q", "question": "who", "detected_answers": [{"text": "fox", "char_spans": [[16, 18]]}]}
_MRQA = [{"header": {}}, *({"context": _TEXT[:60], "qas": [_MRQA_QUESTION | {"qid": f"q{n}"}]} for n in range(4))]
_TAGGED = "The DT B-NP\nfox NN I-NP\nruns VB O\n\nIt PR B-NP\nsleeps VB O\n\n" * 4
_EXAMPLES = "".join(
    _line({"sentence": text, "label": ("no", "yes")[n % 2]}).decode() for n, text in enumerate(_SENTENCES[:40])
)
_CLASSES = ClassificationConfig(text_columns=("sentence",), label_column="label")


def _write_workdir(folder: pathlib.Path) -> None:
    scores = {"dev": {"accuracy": 0.5}, "train": {"accuracy": 0.75}}
    confusion = {"dev": {"labels": ["no", "yes"], "counts": [[1, 2], [3, 4]]}}
    trial = {"seed": 1, "step": 10, "chosen": "last", "metric": "accuracy", "scores": scores, "collapsed": "",
             "truncated": {"dev": 0}, "seconds": 1.5, "confusion": confusion, "directory": "seed_1"}  # fmt: skip
    spread = {"n": 1, "mean": 0.5, "median": 0.5, "sd": None, "best": 0.5, "values": [0.5]}
    summary = {"dev": {"accuracy": spread}}
    (folder / "results.json").write_text(
        json.dumps(
            {"metric": "accuracy", "higher_is_better": True, "trials": [trial], "failed": [], "summary": summary}
        )
    )
    (folder / "config.json").write_text(json.dumps(schema.as_tree(PretrainingConfig())))
    lines = [{"step": step, "train/loss": 1.0 / (step + 1), "eval/auc": 0.5} for step in range(5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_reported(folder: pathlib.Path) -> None:
    _write_workdir(folder)
    (folder / "results.json").unlink()
    row = {
        "tokens": ["a", "b"],
        "original": ["a", "c"],
        "masked": [0, 1],
        "replaced": [0, 1],
        "probability": [0.1, 0.9],
    }
    (folder / "samples.jsonl").write_text("".join(json.dumps({"step": 4, "row": n, **row}) + "\n" for n in range(3)))
    skipped = {"step": 3, "batch": 3, "reason": "loss not finite", "values": {"loss": None}}
    norms = {"gradient_norms": {"generator/layers": [None, 0.5]}, "parameter_norms": {"generator/layers": [3.0, 4.0]}}
    largest = [{"row": 2, "share_of_loss": None, "text": "[CLS] a"}]
    update = {"step": 3, "batch": 3, "rows": 4, "rows_not_finite": 1, "largest": largest, **norms}
    evidence = {"step": 4, "cause": "11 of 100 updates were skipped", "ends_the_run": False, "rollbacks_before": 0,
                "advice": "Lower the rate.", "skipped": [skipped], "diagnosed": [update],
                "recent": {"loss": {"mean": 1.0, "standard_deviation": 0.25, "limit": None}}}  # fmt: skip
    (folder / "divergence").mkdir(exist_ok=True)
    (folder / "divergence" / "1.json").write_text(json.dumps(evidence))
    (folder / "environment.json").write_text(json.dumps({"python": "3.12", "versions": {"jax": "1"}, "config": "a.py"}))


def _write_tried(folder: pathlib.Path) -> None:
    _write_workdir(folder)
    (folder / "config.json").write_text(json.dumps({"task": "finetuning", "tasks": {"t": {"metrics": ["accuracy"]}}}))
    (folder / "seed_1" / "predictions").mkdir(parents=True)
    shutil.copy(folder / "metrics.jsonl", folder / "seed_1")
    records = [{"texts": ["a b"], "label": "no", "prediction": "yes", "right": False, "loss": 1.5} for _ in range(4)]
    (folder / "seed_1" / "predictions" / "t.dev.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))


def _read_config(folder: pathlib.Path) -> None:
    path = folder / "config.json"
    run_files.read_json(str(path))
    files.recorded(foreign_json.read_as(dict[str, Any], path, "restore it", finite=False), str(path))


def _read_metrics(folder: pathlib.Path) -> None:
    run_files.read_histories(str(folder / "metrics.jsonl"), [])


def _read_results(folder: pathlib.Path) -> None:
    value = run_files.read_json(str(folder / "results.json"))
    results.read_results(value, "results.json")
    try:
        finetuned.best_trial(value, {"task": "accuracy"})
    except (KeyError, ValueError) as error:  # The caller's.
        raise InputError(f"results.json: {error}") from error


def _write_native(folder: pathlib.Path) -> None:
    native_format.write(_model(), str(folder / "native"))


def _write_vocabulary(folder: pathlib.Path) -> None:
    _tokenizer().save(folder)


FORMATS = (
    Format(
        "safetensors",
        "a.safetensors",
        "safetensors",
        _write_tensors,
        lambda folder: tensor_files.read(f"{folder}/a.safetensors"),
    ),
    Format("Hugging Face config.json", "model/config.json", "json", _write_huggingface, _open("model"), 0.5),
    Format(
        "Hugging Face model.safetensors",
        "model/model.safetensors",
        "safetensors",
        _write_huggingface,
        _open("model"),
        0.5,
    ),
    Format(
        "model.safetensors.index.json", "model/model.safetensors.index.json", "json", _write_index, _open("model"), 0.5
    ),
    Format(
        "tokenizer_config.json", "model/tokenizer_config.json", "json", _write_vocabulary_beside, _open("model"), 0.2
    ),
    Format("electra_jax.json", "native/electra_jax.json", "json", _write_native, _open("native"), 0.5),
    Format(
        "special_pieces.json",
        "special_pieces.json",
        "json",
        _write_sentencepiece,
        lambda folder: _used(tokenizer.load(folder)),
    ),
    Format(
        "SentencePiece model",
        "spiece.model",
        "bytes",
        _write_sentencepiece,
        lambda folder: _used(tokenizer.load(folder / "spiece.model")),
    ),
    Format(
        "tokenizer.json",
        "tokenizer.json",
        "json",
        _write_vocabulary,
        lambda folder: _used(tokenizer.load(folder / "tokenizer.json")),
    ),
    Format(
        "vocab.txt", "vocab.txt", "text", _write_vocabulary, lambda folder: _used(tokenizer.load(folder / "vocab.txt"))
    ),
    Format(
        "TF1 checkpoint",
        "google/checkpoint",
        "text",
        _write_google,
        lambda folder: google_checkpoint.find(str(folder / "google")),
    ),
    Format("TF1 index", "google/model.ckpt-1000.index", "bytes", _write_google, _open("google"), 0.5),
    Format("TF1 data", "google/model.ckpt-1000.data-00000-of-00001", "bytes", _write_google, _open("google"), 0.3),
    Format("manifest.json, dataset", "manifest.json", "json", _write_dataset, _read_dataset),
    Format("manifest.json, card", "manifest.json", "json", _write_dataset, dataset_card.write_card, 0.1),
    Format("unigram_counts.npy", "unigram_counts.npy", "bytes", _write_dataset, _read_dataset),
    Format("shard of rows", "train-00000.bin", "bytes", _write_dataset, _read_dataset, 0.5),
    Format("wheel", "a-1-py3-none-any.whl", "bytes", _write_wheel, _read_wheel, 2.0),
    _of_text("text", "a.txt", "text", _TEXT.encode(), 0.3),
    _of_text("Markdown", "a.md", "text", f"# A\n{_TEXT}## B\n{_TEXT}".encode(), 0.3),
    _of_text("Python module", "a.py", "text", f"text = {_TEXT!r}\n".encode(), 0.3),
    _of_text("JSON lines of text", "a.jsonl", "json_lines", b"".join(_line({"text": text}) for text in _SENTENCES)),
    _of_text("text, gzip", "a.txt.gz", "gz", gzip.compress(_TEXT.encode()), 0.3),
    _of_text("text, zstd", "a.txt.zst", "zst", zstandard.compress(_TEXT.encode()), 0.3),
    _of_text("JSON lines, zstd", "a.jsonl.zst", "zst", zstandard.compress(_line({"text": _TEXT}) * 9), 0.3),
    _of_text("Parquet", "a.parquet", "bytes", _parquet(), 1.0),
    _of_text("Arrow", "a.arrow", "bytes", _arrow(), 1.0),
    _of_task("TSV", "a.tsv", "text", _LABELLED, _CLASSES, 0.5),
    _of_task("TSV, gzip", "a.tsv.gz", "gz", _LABELLED, _CLASSES, 0.2),
    _of_task("CSV", "a.csv", "text", _LABELLED.replace("\t", ","), _CLASSES, 0.5),
    _of_task("JSON lines of examples", "a.jsonl", "json_lines", _EXAMPLES, _CLASSES),
    _of_task("CoNLL columns", "a.conll", "text", _TAGGED, TaggingConfig(), 0.5),
    _of_task("SQuAD", "a.json", "json", json.dumps(_SQUAD), AnsweringConfig()),
    _of_task("MRQA", "a.jsonl", "json_lines", "".join(_line(value).decode() for value in _MRQA), AnsweringConfig()),
    Format("config.json of a run", "config.json", "json", _write_workdir, _read_config),
    Format("results.json", "results.json", "json", _write_workdir, _read_results),
    Format("metrics.jsonl", "metrics.jsonl", "json_lines", _write_workdir, _read_metrics),
    *(
        Format(f"{name}, report", name, kind, make, pretraining_page.write_report, 0.03)
        for name, kind, make in (
            ("samples.jsonl", "json_lines", _write_reported),
            ("environment.json", "json", _write_reported),
            ("config.json", "json", _write_reported),
            ("metrics.jsonl", "json_lines", _write_reported),
            ("divergence/1.json", "json", _write_reported),
            ("results.json", "json", _write_tried),
            ("seed_1/predictions/t.dev.jsonl", "json_lines", _write_tried),
        )
    ),
)
