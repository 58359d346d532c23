"""Writes the page: a model for onnxruntime-web, its tokenizer as tables, and the scripts of `files/`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING, Any

from electra_jax import foreign_json, storage
from electra_jax.browser import wordpiece_rules
from electra_jax.errors import InputError
from electra_jax.foreign_json import Record
from electra_jax.interop.export_formats import FORMATS

if TYPE_CHECKING:
    from electra_jax.browser.onnxruntime_web import Runtime
    from electra_jax.interop.model import Model
    from electra_jax.text.tokenizers.tokenizer import Tokenizer

FACTS, TABLES, NETWORK = "page.json", "tokenizer.json", "model.onnx"
_RUNTIME = "onnxruntime"
_PROGRAM = "electra_jax.demo"
_FILES = ("index.html", "style.css", "icon.svg", "page.js", "network.js", "rows.js", "tokenizer.js")
# Shown first; a sentence in which one word is out of place.
_EXAMPLE = "And God said, Let there of light: and there was light."
# Texts that the page divides into tokens when it is opened, to compare with what our tokenizer makes of them: capitals,
# accents before and after composition, scripts, blanks, punctuation, marks that are dropped, long words.
CHECKS = (
    "To be or not to potato, that is the question.",
    "The quick brown fox, 1234! (unaffable) don't  STOP... \t\n x_y e-mail@example.org C++ 50% $5 `~^|<=>",
    "Ça va? ÉTÉ naïve Straße ŒUVRE ﬁ ½ İstanbul Ǆ e\u0301te\u0301 o\u0308\u0323 A\u030a \u0301 x",
    "東京は日本の首都。한국어 텍스트 ภาษาไทย Привет, Ёлка Ελλάς ΣΊΣΥΦΟΣ שָׁלוֹם עולם مُحَمَّد हिन्दी में",
    "a\u00a0b\u2003c\u2028d\u200be\u00adf\ufeffg\u0007h\ufffdi\u0085j «quoted» “curly” – — … ¿qué? 、 ！ \u3000 ﹏",
    "😀👍🏽👩‍👩‍👧 x😀y 𝔘𝔫𝔦 𠀀 豈 \U0001d15e \ue000 [MASK] [CLS] <mask> ##ing",
    "a" * 99 + " " + "a" * 100 + " " + "a" * 101 + " " + "a" * 200 + " " + "a" * 201,
    "",
    " \n ",
)


class _Page(Record):
    """The part of page.json that shows which program wrote it."""

    written_by: str | None = None


@dataclasses.dataclass(frozen=True)
class Shown:
    """A model of a kind that the page can show.

    Attributes:
      model: its discriminator, alone.
      tokenizer: its tokenizer.
      name: its name in the page.
      task: "detect", "classification", "multilabel" or "regression".
      texts: names of the texts that it reads, with whether each may be left out.
      labels: names of the classes in the order of the logits.
      longest: maximum length of a row in tokens.
    """

    model: Model
    tokenizer: Tokenizer
    name: str
    task: str
    texts: tuple[tuple[str, bool], ...]
    labels: tuple[str, ...]
    longest: int


def check_target(target: str, *, overwrite: bool) -> None:
    """Checks a target before any slow work.

    Raises:
      InputError: it is an address, or holds something; with `overwrite`, something other than a page.
    """
    if storage.is_remote(target):
        raise InputError(f"--target={target}: is an address, expected a local folder; copy the folder there afterwards")
    if not os.path.lexists(os.path.expanduser(target)):
        return
    if not storage.is_directory(target):
        raise InputError(f"--target={target}: is not a folder; give another path, or delete it")
    if not storage.names(target):
        return
    if not overwrite:
        raise InputError(f"--target={target}: is not empty; give another path, or replace a page with --overwrite")
    if not _is_page(target):
        raise InputError(
            f"--target={target}: holds something other than a page of this command, which --overwrite would delete; "
            "give another path, or delete it yourself"
        )


def _is_page(target: str) -> bool:
    path = storage.join(target, FACTS)
    try:
        return storage.is_file(path) and foreign_json.read_as(_Page, path, "").written_by == _PROGRAM
    except InputError:
        return False


def check_packages() -> None:
    """Checks that what the export needs is installed.

    Raises:
      InputError: a package is missing.
    """
    form = FORMATS["onnx"]
    if missing := form.missing_packages():
        raise InputError(
            f"The page needs the packages {' and '.join(form.packages)}, found no {' and no '.join(missing)}; install "
            f"what is missing with: pip install 'electra_jax[{form.extra}]'"
        )


def shown(model: Model, path: str) -> Shown:
    """What the page shows of a model.

    Args:
      model: a model from `open_model`, with one head at most.
      path: where it was read.

    Raises:
      InputError: it is of a kind that the page cannot show.
    """
    from electra_jax.inference import predictor
    from electra_jax.interop.model import without_corrective_head

    possible = (
        "the page can show a pre-trained discriminator with its head, or a model fine-tuned for classes or a grade"
    )
    head = model.task_head
    if head and head.architecture != "ElectraForSequenceClassification":
        kind = head.settings.kind if head.settings else head.architecture
        raise InputError(
            f"{path}: found a model fine-tuned for {kind}; {possible} (classes, several classes or grades)"
        )
    if model.discriminator is None:
        raise InputError(f"{path}: found a masked language model alone; {possible}")
    if head is None and "discriminator_head" not in model.params:
        raise InputError(f"{path}: found an encoder without a head; {possible}")
    if model.tokenizer is None:
        raise InputError(
            f"{path}: found no tokenizer next to the weights, expected one; put its tokenizer.json or vocab.txt there"
        )
    wordpiece_rules.check(model.tokenizer, path)
    parts = ("embeddings", "discriminator", "discriminator_head")
    alone = dataclasses.replace(
        without_corrective_head(model),
        generator=None,
        params={part: model.params[part] for part in parts if part in model.params},
    )
    positions, name = model.discriminator.positions, storage.name(storage.absolute(path.partition("#")[0]))
    if head is None:
        return Shown(alone, model.tokenizer, name, "detect", (("Text", False),), (), positions)
    columns = head.settings.text_columns if head.settings else []
    texts = {0: (("Text", False), ("Second text", True)), 1: (("Text", False),)}.get(
        len(columns), tuple((column, False) for column in columns)
    )
    labels = predictor.labels_of(head)
    longest = min(head.max_length or positions, positions)
    return Shown(alone, model.tokenizer, name, predictor.kind_of(head, labels), texts, labels, longest)


def write(page: Shown, runtime: Runtime, target: str, precision: str, *, overwrite: bool = False) -> list[str]:
    """Writes the page, which appears when it is complete; returns lines about it for the user.

    Args:
      page: what it shows.
      runtime: files of onnxruntime-web.
      target: local folder, see `check_target`.
      precision: number format of the network, one of those of the export.
      overwrite: whether to replace a page.

    Raises:
      InputError: the target cannot be used, or the tokenizer has rules that the page does not know.
      MismatchError: the exported network differs from the model.
      OSError: a file cannot be written.
    """
    from electra_jax.interop import export
    from electra_jax.interop.onnx_network import find

    check_target(target, overwrite=overwrite)
    with _new_or_replaced(target) as directory, tempfile.TemporaryDirectory() as temporary:
        exported = storage.join(temporary, "exported")
        copy = export.write(page.model, exported, "onnx", (precision,))
        folder = exported if page.model.task_head else storage.join(exported, "discriminator")
        network = find(folder, precision)
        if network is None:
            raise FileNotFoundError(f"{folder}: the export has no network")
        shutil.copyfile(network, storage.join(directory, NETWORK))
        library_json = storage.read(storage.join(folder, TABLES)).decode()
        tables = wordpiece_rules.tables(library_json, page.tokenizer, page.name)
        compact = json.dumps(tables, ensure_ascii=False, separators=(",", ":"))
        storage.write(storage.join(directory, TABLES), compact.encode())
        for name in _FILES:
            content = resources.files("electra_jax.browser").joinpath("files", name).read_bytes()
            storage.write(storage.join(directory, name), content)
        for name, content in runtime.files.items():
            storage.write(storage.join(directory, _RUNTIME, name), content)
        storage.write(storage.join(directory, _RUNTIME, "LICENSE.txt"), _license(runtime).encode())
        facts = _facts(page, runtime, precision, directory)
        # The last one, by which a page is recognised.
        storage.write_json(storage.join(directory, FACTS), facts)
    difference = max(copy.difference.values())
    sizes = facts["sizes"]
    return [
        f"  model      {page.model.origin}: {page.task}",
        f"  network    {precision}, {sizes[NETWORK] / 1e6:.1f} MB; largest difference of logits: {difference:.0e}",
        f"  tokenizer  {page.tokenizer.kind}, {page.tokenizer.vocabulary_size:,} pieces",
        f"  runtime    {facts['runtime']}, {facts['runtime_bytes'] / 1e6:.1f} MB",
    ]


@contextlib.contextmanager
def _new_or_replaced(target: str) -> Iterator[str]:
    """A directory that takes the place of the target, whatever it holds, when the block succeeds."""
    target = os.path.abspath(os.path.expanduser(target))
    previous = ""
    try:
        with storage.new_directory(target) as directory:
            yield directory
            if storage.is_directory(target) and storage.names(target):
                previous = f"{directory}.previous"
                storage.move(target, previous)
    except BaseException:
        if previous and not os.path.lexists(target):
            storage.move(previous, target)
        raise
    if previous:
        storage.remove(previous)


def _facts(page: Shown, runtime: Runtime, precision: str, directory: str) -> dict[str, Any]:
    """What the page's script needs to know."""
    title, lead = _headings(page)
    files = sorted(path for path in pathlib.Path(directory).rglob("*") if path.suffix in (".onnx", ".wasm", ".js"))
    sizes = {path.relative_to(directory).as_posix(): path.stat().st_size for path in files}
    return {
        "written_by": _PROGRAM,
        "title": title,
        "lead": lead,
        "name": page.name,
        "origin": page.model.origin,
        "task": page.task,
        "precision": precision,
        "texts": [
            {"name": name, "optional": optional, "example": _EXAMPLE if page.task == "detect" else ""}
            for name, optional in page.texts
        ],
        "labels": list(page.labels),
        "longest": page.longest,
        "runtime": f"{runtime.package.name} {runtime.package.version}",
        "runtime_bytes": sum(size for name, size in sizes.items() if name.startswith(f"{_RUNTIME}/")),
        "sizes": {name: size for name, size in sizes.items() if not name.endswith(".js")},
        "checks": [_check(text, page.tokenizer) for text in CHECKS],
    }


def _headings(page: Shown) -> tuple[str, str]:
    pair = len(page.texts) == 2 and not page.texts[1][1]
    these = "two texts" if pair else "a text"
    match page.task:
        case "detect":
            return "Which words are out of place?", (
                "The model says for each word of a text how probable it is that the word stands in place of another."
            )
        case "multilabel":
            return f"Which classes does {'a pair of texts' if pair else 'a text'} have?", (
                f"The model reads {these} and gives each class a probability; any number of them may apply."
            )
        case "regression":
            return f"Which grade does {'a pair of texts' if pair else 'a text'} have?", (
                f"The model reads {these} and gives a grade."
            )
    return f"Which class does {'a pair of texts' if pair else 'a text'} have?", (
        f"The model reads {these} and gives each class a probability; one of them applies."
    )


def _check(text: str, tokenizer: Tokenizer) -> dict[str, Any]:
    ids, starts, ends = tokenizer.encode_with_offsets(text)
    return {"text": text, "ids": ids.tolist(), "starts": starts.tolist(), "ends": ends.tolist()}


def _license(runtime: Runtime) -> str:
    """The license of onnxruntime-web, which its archive names without its text."""
    return f"{runtime.package.name} {runtime.package.version}\n\n{_MIT}"


_MIT = """\
MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
