"""Schema of a prepared dataset's manifest.json, for those that read one."""

from typing import Annotated, Any, Literal, TypeVar

import pydantic

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Count, Record, Sha256

FORMAT_VERSION = 2
MANIFEST = "manifest.json"


class Shard(Record):
    """A file of rows, directly in the dataset's directory."""

    file: Annotated[str, pydantic.Field(pattern=r"^[^/\\\x00]+$")]
    rows: Count
    sha256: Sha256
    source: Count


class Split(Record):
    """The files and counts of a split."""

    documents: Count
    rows: Count
    tokens: Count
    shards: list[Shard]


class Source(Record):
    """A source of text."""

    source: str


class Splits(Record):
    """Both splits."""

    train: Split
    heldout: Split


class Manifest(Record):
    """What a run reads of manifest.json."""

    format_version: Literal[2]
    data_fingerprint: str
    config: dict[str, Any]
    length: Annotated[int, pydantic.Field(ge=1, le=1 << 20)]
    dtype: Literal["<u2", "<u4"]
    tokenizer_sha256: Sha256
    sources: list[Source]
    splits: Splits
    heldout_unigram_entropy: float
    unigram_counts_sha256: Sha256 | None = None  # Manifests of earlier versions lack it.


Read = TypeVar("Read", bound=pydantic.BaseModel)


def read(directory: storage.Path, kind: type[Read]) -> tuple[dict[str, Any], Read]:
    """Contents of a dataset's manifest, as they are and as a value of a kind such as `Manifest`.

    Raises:
      InputError: there is none, it is damaged, or it has another format version.
    """
    path = storage.join(directory, MANIFEST)
    fix = f"restore this file, or delete {directory} and prepare it again"
    try:
        storage.size(path)
    except OSError as error:
        raise InputError(
            f"{directory} is not a prepared dataset: cannot read {path} ({error.strerror or error}); make one with "
            "`python -m electra_jax.prepare --config=…`"
        ) from error
    value = foreign_json.read(path, fix)
    version = value.get("format_version") if isinstance(value, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise InputError(
            f"{path}: found format_version {foreign_json.shown(version)}, expected {FORMAT_VERSION}; delete "
            f"{directory} and prepare it again"
        )
    return value, foreign_json.checked(kind, value, f"{path}: the dataset is damaged", fix)
