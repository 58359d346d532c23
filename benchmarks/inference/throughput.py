"""Texts a second over a whole file, from text to result: ours in JAX and ONNX, transformers with PyTorch.

    python -m benchmarks.inference.throughput --input=sentences.txt --size=small

Needs requirements-interop.txt. The file has a text on each line; a WordPiece vocabulary is trained on it, and the
weights are random. Sides take turns, after a round that compiles and fills caches; the median round counts. PyTorch
gets each batch padded to its longest text, in the order of the file, as pipelines do, and once more sorted by length,
which a user has to write. Results are compared: embeddings of all sides are the same.
"""

import dataclasses
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import app, flags

import electra_jax
from benchmarks.inference import models
from electra_jax.interop import export, onnx_network
from electra_jax.text.tokenizers import tokenizer

_INPUT = flags.DEFINE_string("input", None, "A text on each line.", required=True)
_SIZE = flags.DEFINE_enum("size", "small", list(models.SIZES), "Sizes of the paper.")
_PIECES = flags.DEFINE_integer("pieces", 4096, "Size of the vocabulary, which the file must yield.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Rows that are computed at once, on all sides.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Measured rounds.")

_PRECISIONS = ("fp32", "int8")

Texts = Sequence[str]


def _write(texts: Texts, folder: pathlib.Path) -> None:
    pieces = tokenizer.train(
        texts,
        kind="wordpiece",
        vocabulary_size=_PIECES.value,
        lowercase=True,
        strip_accents=True,
        character_coverage=1.0,
    )
    model = models.classifier(_SIZE.value, pieces)
    export.write(model, str(folder / "hf"), "huggingface")
    # Such a file has one output: the head's, or hidden states where there is no head.
    for task, exported in (("classify", model), ("embed", dataclasses.replace(model, task_head=None))):
        export.write(exported, str(folder / task), "onnx", _PRECISIONS)


def _ours(path: pathlib.Path, task: str) -> Callable[[Texts], Any]:
    model = electra_jax.load(path, batch_size=_BATCH_SIZE.value)
    if task == "embed":
        return model.embed
    return lambda texts: [getattr(one, "label", None) for one in model.classify(texts)]


def _transformers(path: pathlib.Path, task: str, *, is_sorted: bool) -> Callable[[Texts], Any]:
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    pieces = transformers.AutoTokenizer.from_pretrained(str(path))
    network: Any = transformers.ElectraForSequenceClassification.from_pretrained(str(path))
    network.eval()

    def results(texts: Texts) -> list[Any]:
        encoded = pieces(list(texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
        if task == "classify":
            return [network.config.id2label[int(number)] for number in network(**encoded).logits.argmax(-1)]
        hidden_BxLxD = network.electra(**encoded).last_hidden_state
        mask_BxLx1 = encoded["attention_mask"][:, :, None]
        mean_BxD = (hidden_BxLxD * mask_BxLx1).sum(1) / mask_BxLx1.sum(1)
        return list(torch.nn.functional.normalize(mean_BxD).numpy())

    def all_results(texts: Texts) -> list[Any]:
        order = sorted(range(len(texts)), key=lambda number: len(texts[number])) if is_sorted else range(len(texts))
        found: list[Any] = [None] * len(texts)
        with torch.inference_mode():
            for first in range(0, len(texts), _BATCH_SIZE.value):
                chosen = list(order)[first : first + _BATCH_SIZE.value]
                for number, result in zip(chosen, results([texts[number] for number in chosen]), strict=True):
                    found[number] = result
        return found

    return all_results


def _measure(task: str, texts: Texts, folder: pathlib.Path) -> None:
    hf = folder / "hf"
    sides = {
        "transformers, in order": _transformers(hf, task, is_sorted=False),
        "transformers, sorted": _transformers(hf, task, is_sorted=True),
        "ours, JAX fp32": _ours(hf, task),
    }
    for precision in _PRECISIONS:
        (file,) = (folder / task).rglob(onnx_network.FILES[precision])
        sides[f"ours, ONNX {precision}"] = _ours(file, task)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    first: dict[str, Any] = {}
    for number in range(1 + _ROUNDS.value):
        for name, run in sides.items():
            started = time.perf_counter()
            found = run(texts)
            if number == 0:
                first[name] = found
            else:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: float(np.median(each)) for name, each in seconds.items()}
    reference = "transformers, in order"
    for name, median in medians.items():
        agreement = _agreement(task, first[name], first[reference])
        rate, ratio = len(texts) / median, medians[reference] / median
        print(f"{task:<10}{name:<24}{rate:>10.0f}{ratio:>8.2f}  {agreement}", flush=True)


def _agreement(task: str, found: Any, expected: Any) -> str:
    if task == "embed":
        return f"largest difference {np.abs(np.stack(found) - np.stack(expected)).max():.1e}"
    return f"{np.mean(np.array(found) == np.array(expected)):.2%} equal"


def main(_: list[str]) -> None:
    """Prints texts a second of each side, and the ratio to transformers in the order of the file."""
    texts = [line for line in pathlib.Path(_INPUT.value).read_text("utf-8").split("\n") if line.strip()]
    lengths = np.percentile([len(text) for text in texts], [10, 50, 90, 100]).astype(int)
    print(f"{len(texts):,} texts; characters at 10, 50, 90, 100 %: {', '.join(map(str, lengths))}; {_SIZE.value}")
    print(f"{'task':<10}{'side':<24}{'texts/s':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        _write(texts, folder)
        for task in ("embed", "classify"):
            _measure(task, texts, folder)


if __name__ == "__main__":
    app.run(main)
