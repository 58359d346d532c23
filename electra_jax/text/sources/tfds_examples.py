"""Labelled examples out of the datasets of the TensorFlow Datasets catalogue, in an order that is always the same.

A split is named `tfds:NAME[/CONFIG][:VERSION]#split=SPLIT`, where a dataset of sentences may also say which of its
fields hold words and tags: `tfds:conll2003#split=train&words=tokens&tags=ner`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from electra_jax.errors import InputError
from electra_jax.text.dataset.row_batches import tensorflow_without_devices
from electra_jax.text.sources import tfds

if TYPE_CHECKING:
    import tensorflow_datasets

PREFIX = "tfds:"

_OPTIONS = ("split", "words", "tags")


@dataclasses.dataclass(frozen=True)
class Source:
    """A split of a published dataset.

    Attributes:
      name: the dataset, with its config and version if they are said.
      split: of it.
      words: the field that holds the words of a sentence.
      tags: the field that holds their tags.
    """

    name: str
    split: str
    words: str = "tokens"
    tags: str = "tags"


def parse(path: str) -> Source:
    """What a path that begins with "tfds:" names.

    Raises:
      ValueError: says what of it is wrong.
    """
    name, _, options = path.removeprefix(PREFIX).partition("#")
    form = "tfds:NAME[/CONFIG][:VERSION]#split=SPLIT"
    if not re.fullmatch(tfds.NAME_PATTERN, name):
        raise ValueError(f"{path!r} is not of the form {form}")
    values = dict(part.partition("=")[::2] for part in options.split("&") if part)
    unknown = [option for option in values if option not in _OPTIONS]
    if unknown or not all(values.values()):
        raise ValueError(f"{path!r} has the options {options!r}, expected {', '.join(_OPTIONS)}, each with a value")
    if "split" not in values:
        raise ValueError(f"{path!r} names no split, expected {form}")
    return Source(name, **values)


def open_split(source: Source, field: str) -> tuple[dict[str, tuple[str, ...]], Iterator[dict[str, Any]]]:
    """Fetches a dataset unless it is on disk, and opens a split of it.

    Args:
      source: which one.
      field: of the config, which messages name.

    Returns:
      Of each field that holds classes their names; and the examples by field: texts, numbers, lists of them, and
      dicts of lists. Classes are numbers, -1 where the dataset does not tell.

    Raises:
      InputError: there is no such dataset or split, or it cannot be fetched.
    """
    tfds.download(source.name, field)
    builder = tfds.builder_of(source.name, field)
    splits = builder.info.splits
    if splits and source.split not in splits:
        raise InputError(
            f"{field}: tfds:{source.name} has no split {source.split!r} (found {', '.join(sorted(splits))}); append "
            "#split=NAME"
        )
    # A sequence of classes passes on what is asked of it.
    features = builder.info.features.items()
    names = {name: tuple(feature.names) for name, feature in features if getattr(feature, "names", None)}
    return names, _records(builder, source, field)


def _records(builder: tensorflow_datasets.core.DatasetBuilder, source: Source, field: str) -> Iterator[dict[str, Any]]:
    from tensorflow_datasets import ReadConfig

    tensorflow = tensorflow_without_devices()
    options = tensorflow.data.Options()
    options.deterministic = True
    try:
        examples = builder.as_dataset(
            split=source.split,
            shuffle_files=False,
            # One file after the other: examples of several files would else come in turns.
            read_config=ReadConfig(interleave_cycle_length=1, options=options, try_autocache=False),
        )
        for example in examples.as_numpy_iterator():
            yield _plain(example)
    except tfds.failures() as error:
        raise InputError(
            f"{field}: tfds:{source.name}, split {source.split}, cannot be read ({tfds.said(error)}); if files in "
            f"{builder.data_dir} are damaged, delete that folder and run again"
        ) from error


def _plain(value: Any) -> Any:
    """Arrays as lists and bytes as text, however deep.

    Raises:
      UnicodeDecodeError: a text is not UTF-8. It is a ValueError.
    """
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.decode() if isinstance(value, bytes) else value
