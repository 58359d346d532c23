"""The tasks: their files, the config that reads them, and the examples held out to choose a learning rate.

The split that a task's scores are reported on is called its test split here. Where the official test split has no
labels (GLUE), it is the official dev split; the dev split that chooses a learning rate is then held out of the training
examples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from electra_jax import storage
from electra_jax.errors import InputError

RANDOM = "random"  # Name of random weights in reports.
_HELD_OUT_SEED = 0


@dataclasses.dataclass(frozen=True)
class TaskKind:
    """Facts about a task that do not depend on its files.

    Attributes:
      config: the fine-tuning config that reads it.
      field: its name under `config.tasks`.
      train, dev, test: patterns of file names; empty if there is no such file. Without `train`, models are scored
        without fine-tuning.
      layout: how examples are separated: "lines", "table" (lines after a header) or "sentences" (blocks of lines).
      metrics: metrics that are reported; the first one chooses the learning rate.
    """

    config: str
    field: str
    train: str
    dev: str
    test: str
    layout: str
    metrics: tuple[str, ...]

    @property
    def is_finetuned(self) -> bool:
        """Whether models are fine-tuned on it."""
        return bool(self.train)


TASKS = {
    "conll2000": TaskKind(
        "configs/finetune/tagging.py:conll2000+small", "chunk", "train.txt", "", "test.txt", "sentences",
        ("span_f1", "accuracy"),
    ),
    "ud": TaskKind(
        "configs/finetune/tagging.py:ud+small", "pos", "*train.conllu", "*dev.conllu", "*test.conllu", "sentences",
        ("accuracy",),
    ),
    "sst2": TaskKind("configs/finetune/glue.py:sst+small", "sst", "train.tsv", "", "dev.tsv", "table", ("accuracy",)),
    "trec": TaskKind("configs/finetune/text.py:trec+small", "trec", "train.txt", "", "test.txt", "lines",
                     ("accuracy",)),
    "cola": TaskKind("configs/finetune/glue.py:cola+small", "cola", "train.tsv", "", "dev.tsv", "lines",
                     ("matthews",)),
    "stsb": TaskKind("configs/finetune/glue.py:sts+small", "sts", "", "", "dev.tsv", "table", ("spearman",)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TaskFiles:
    """A task's splits as files.

    Attributes:
      train, dev, test: paths; the first two are empty for a task that is not fine-tuned.
      sha256: hash of all of them.
    """

    train: str
    dev: str
    test: str
    sha256: str


def problems(name: str, directory: pathlib.Path) -> list[str]:
    """One line per missing file of a task, or one for a missing folder."""
    kind = TASKS[name]
    if not directory.is_dir():
        return [f"tasks.{name}.directory: {directory} is not a folder; give --data=DIR, or leave it out with --tasks"]
    found = []
    for pattern in filter(None, (kind.train, kind.dev, kind.test)):
        count = len(list(directory.glob(pattern)))
        if count != 1:
            found.append(f"tasks.{name}.directory: {directory} has {count} files {pattern}, expected one")
    return found


def prepare(name: str, directory: pathlib.Path, dev_examples: int, workdir: pathlib.Path) -> TaskFiles:
    """The files of a task; if it has no dev split, one is held out of the training examples.

    Args:
      name: name of the task.
      directory: its folder, for which `problems` returned nothing.
      dev_examples: number of examples to hold out.
      workdir: held-out splits are written below it, once.

    Raises:
      InputError: there are too few training examples.
    """
    kind = TASKS[name]
    train, dev, test = (
        next(directory.glob(pattern)).absolute() if pattern else None for pattern in (kind.train, kind.dev, kind.test)
    )
    if train is not None and dev is None:
        train, dev = _held_out(name, train, dev_examples, workdir)
    digest = hashlib.sha256()
    for path in filter(None, (train, dev, test)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return TaskFiles(str(train or ""), str(dev or ""), str(test or ""), digest.hexdigest())


def _held_out(name: str, source: pathlib.Path, count: int, workdir: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Splits a training file in two and returns the paths of both parts."""
    raw = source.read_bytes()
    identity = hashlib.sha256(f"{count} {TASKS[name].layout} {_HELD_OUT_SEED}".encode() + raw).hexdigest()
    folder = workdir.absolute() / "data" / f"{name}.{identity[:12]}"
    if not folder.exists():
        try:
            parts = split(raw, TASKS[name].layout, count)
        except ValueError as error:
            raise InputError(f"tasks.{name}.dev_examples: {source}: {error}") from error
        with storage.new_directory(folder) as temporary:
            for part, content in zip(("train", "dev"), parts, strict=True):
                (pathlib.Path(temporary) / f"{part}{source.suffix}").write_bytes(content)
    return folder / f"train{source.suffix}", folder / f"dev{source.suffix}"


def split(raw: bytes, layout: str, count: int) -> tuple[bytes, bytes]:
    """Holds out some examples of a file; returns the bytes of both parts, each in the order of the file.

    Args:
      raw: bytes of the file.
      layout: see `TaskKind`.
      count: number of examples in the second part; every call holds out the same ones.

    Raises:
      ValueError: the file does not have more examples than that.
    """
    header, records = _records(raw, layout)
    if len(records) <= count:
        raise ValueError(f"{count} examples cannot be held out of {len(records)}")
    order = np.random.Generator(np.random.Philox(_HELD_OUT_SEED)).permutation(len(records))
    held_out = set(order[:count].tolist())

    def joined(numbers: Sequence[int]) -> bytes:
        return header + b"".join(records[number] for number in numbers)

    return joined([n for n in range(len(records)) if n not in held_out]), joined(sorted(held_out))


def _records(raw: bytes, layout: str) -> tuple[bytes, list[bytes]]:
    """The bytes before the first example, and those of each example, line ends included."""
    text = raw.replace(b"\r\n", b"\n")
    if layout == "sentences":
        return b"", [block.strip(b"\n") + b"\n\n" for block in text.split(b"\n\n") if block.strip()]
    lines = [line + b"\n" for line in text.split(b"\n") if line]
    return (lines[0], lines[1:]) if layout == "table" else (b"", lines)
