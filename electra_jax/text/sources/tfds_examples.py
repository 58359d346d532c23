"""Labelled examples of TensorFlow Datasets (TFDS), always in the same order.

A split is named `tfds:NAME[/CONFIG][:VERSION]#split=SPLIT`; for a dataset of sentences, options may also name the
fields that hold words and tags: `tfds:conll2003#split=train&words=tokens&tags=ner`.
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
    """A split of a TFDS dataset.

    Attributes:
      name: the dataset, with its config and version if given.
      split: the split.
      words: the field that holds the words of a sentence.
      tags: the field that holds their tags.
    """

    name: str
    split: str
    words: str = "tokens"
    tags: str = "tags"


def parse(path: str) -> Source:
    """Parses a path that begins with "tfds:".

    Raises:
      ValueError: the path has another form, or options that are unknown.
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
    """Downloads a dataset unless it is on disk, and opens a split of it.

    Args:
      source: the split.
      field: the config field, for messages.

    Returns:
      The class names of each field that holds classes; and the examples, as dicts from field to text, number, list of
      these or dict of lists. Classes are numbers, -1 where they are unknown.

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
    # A sequence of classes has the names of its classes.
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
            f"{field}: tfds:{source.name}, split {source.split}, cannot be read ({tfds.reason(error)}); if files in "
            f"{builder.data_dir} are damaged, delete that folder and run again"
        ) from error


def _plain(value: Any) -> Any:
    """Converts arrays to lists and bytes to text, at any depth.

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
