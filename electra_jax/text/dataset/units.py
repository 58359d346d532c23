"""The plan of a preparation: its settings, and the units of text that a worker processes at a time.

A function of the config and the sizes of the sources alone, not of the machine: the number of workers, where they run
and how often they were interrupted do not affect the dataset.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from electra_jax import hub_names, nested, storage
from electra_jax.config import schema
from electra_jax.config.pretraining import CASING, DataConfig
from electra_jax.config.schema import AUTO
from electra_jax.text.sources import text_sources
from electra_jax.text.sources.text_sources import Piece

WORK = "work"  # The folder of intermediate files in an unfinished dataset's directory.

# Text in a unit: enough units to keep many workers busy to the end, few enough that files and start-ups do not count.
_SMALLEST_UNIT_BYTES = 8 << 20
_LARGEST_UNIT_BYTES = 128 << 20
_UNITS = 256

# Fields that do not affect rows.
_FREE_FIELDS = ("directory", "download_cache", "mixture_temperature")
# Fields that a tokenizer's file determines.
_TRAINING_FIELDS = ("kind", "vocabulary_size", "character_coverage")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a preparation, the same for every worker.

    Attributes:
      directory: where the dataset is made.
      download_cache: where packages are.
      data: `config.data`.
      sample_fractions: share of each source's documents that the tokenizer is trained on; empty if it is not trained.
    """

    directory: str
    download_cache: str
    data: DataConfig
    sample_fractions: tuple[float, ...]

    def work(self, kind: str, number: int, suffix: str) -> str:
        """Path of an intermediate file of one unit."""
        return storage.join(self.directory, WORK, f"{kind}-{number:05d}.{suffix}")

    @property
    def tokenizer_mark(self) -> str:
        """The file whose presence means that the dataset's tokenizer is complete; it holds its hash."""
        return storage.join(self.directory, WORK, "tokenizer.sha256")

    @property
    def needs_scan(self) -> bool:
        """Whether all text must be seen once before the first row can be made."""
        return bool(self.sample_fractions) or self.data.filters.drop_copies


@dataclasses.dataclass(frozen=True)
class Unit:
    """Text of one source that one worker processes at a time.

    Attributes:
      number: from 0, in the order of the sources; files of the dataset carry it.
      source: number of its source in `config.data.sources`.
      pieces: what to read, in order.
    """

    number: int
    source: int
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(piece.size for piece in self.pieces)


def row_fields(data: DataConfig) -> dict[str, Any]:
    """The fields of `config.data` that determine the rows, in types that JSON knows."""
    fields = json.loads(json.dumps(schema.as_tree(data)))
    for name in _FREE_FIELDS:
        fields.pop(name, None)
    fields["sources"] = [text_sources.canonical(source) for source in fields["sources"]]
    if fields["tokenizer"]["source"] != "train":
        for name in _TRAINING_FIELDS:
            fields["tokenizer"].pop(name, None)  # The file decides.
    return fields


def with_casing(data: DataConfig, found: Any) -> DataConfig:
    """Returns `config.data` with the casing that was found in place of "auto".

    Args:
      data: `config.data`.
      found: values by field, such as the tokenizer's fields in the manifest of a dataset; others are left alone.
    """
    names = [name for name in CASING if getattr(data.tokenizer, name) == AUTO]
    known = {name: found[name] for name in names if isinstance(found, Mapping) and type(found.get(name)) is bool}
    return dataclasses.replace(data, tokenizer=dataclasses.replace(data.tokenizer, **known))


def fingerprint(data: DataConfig) -> str:
    """SHA-256 of the fields that determine the rows, in hexadecimal."""
    return nested.fingerprint(row_fields(data))


def make_units(data: DataConfig) -> list[Unit]:
    """Splits the sources into units of about 8 to 128 MiB, the same ones on every machine.

    Raises:
      InputError: a source cannot be listed, or holds nothing.
    """
    pieces = [text_sources.pieces(source, data.download_cache, _SMALLEST_UNIT_BYTES) for source in data.sources]
    total = sum(piece.size for of_source in pieces for piece in of_source)
    unit_bytes = min(max(total // _UNITS, _SMALLEST_UNIT_BYTES), _LARGEST_UNIT_BYTES)
    units: list[Unit] = []
    for number, of_source in enumerate(pieces):
        for group in _grouped(of_source, unit_bytes):
            units.append(Unit(len(units), number, tuple(group)))
    return units


def _grouped(pieces: Iterable[Piece], unit_bytes: int) -> Iterable[list[Piece]]:
    gathered: list[Piece] = []
    size = 0
    for piece in pieces:
        if gathered and size + piece.size > unit_bytes:
            yield gathered
            gathered, size = [], 0
        gathered.append(piece)
        size += piece.size
    if gathered:
        yield gathered


def to_json(units: Iterable[Unit], data: DataConfig) -> dict[str, Any]:
    """Content of work/plan.json."""
    return {
        "data_fingerprint": fingerprint(data),
        "config": row_fields(data),
        "units": [dataclasses.asdict(unit) for unit in units],
    }


def text_problems(data: DataConfig) -> list[str]:
    """Problems with the files that `config.data` names, which need not exist once a dataset is made."""
    return text_sources.problems(data.sources) + _tokenizer_source_problems(data.tokenizer.source)


def _tokenizer_source_problems(path: str) -> list[str]:
    if path == "train" or storage.exists(path):
        return []
    return [
        f"config.data.tokenizer.source: {path} does not exist; expected 'train', or the path of a vocab.txt, "
        f"tokenizer.json or SentencePiece .model{hub_names.advice(path)}."
    ]
