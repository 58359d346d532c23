"""Text of TensorFlow Datasets (TFDS), always in the same order.

The datasets are in that library's own directory: ~/tensorflow_datasets, or the variable TFDS_DATA_DIR.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from electra_jax.errors import InputError
from electra_jax.text.dataset.row_batches import tensorflow_without_devices

if TYPE_CHECKING:
    import tensorflow_datasets

# NAME, NAME/CONFIG, NAME:VERSION or NAME/CONFIG:VERSION.
NAME_PATTERN = r"[a-z]\w*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?"

# The config field that names sources of text.
FIELD = "config.data.sources"

# Examples in a batch from TensorFlow, which takes hardly longer than one.
_EXAMPLES = 64


def download(name: str, field: str = FIELD) -> None:
    """Downloads a dataset unless it is on disk: prepared, from Google's bucket, or else from its origin.

    Args:
      name: the dataset.
      field: the config field, for messages.

    Raises:
      InputError: there is no dataset of that name, or it cannot be fetched or prepared.
    """
    builder = builder_of(name, field)
    if builder.is_prepared():
        return
    try:
        builder.download_and_prepare()
    except failures() as error:
        raise InputError(
            f"{field}: tfds:{name} cannot be fetched into {builder.data_dir} ({reason(error)}). Check the "
            "network and the free space; if a Python module is missing, install it with pip; or prepare the dataset "
            f"elsewhere with `tfds build {name}` and set TFDS_DATA_DIR."
        ) from error


def stretches(name: str, split: str, field: str, piece_bytes: int) -> tuple[str, list[tuple[int, int, int]]]:
    """Splits a split of a dataset that is on disk into ranges of examples.

    Returns:
      The dataset's name with its version, and (first example, one after the last, approximate bytes) of each range.

    Raises:
      InputError: the dataset is not on disk, or has no such split or no such field of text.
    """
    builder = builder_of(name)
    info = _checked(builder, split, field).splits[split]
    size = max(info.num_bytes, info.num_examples)
    count = max(1, min(info.num_examples, -(-size // piece_bytes)))
    ends = [info.num_examples * number // count for number in range(count + 1)]
    bytes_at = [size * end // max(1, info.num_examples) for end in ends]
    found = [
        (ends[number], ends[number + 1], bytes_at[number + 1] - bytes_at[number])
        for number in range(count if info.num_examples else 0)
    ]
    config = f"/{builder.builder_config.name}" if builder.builder_config else ""
    return f"{builder.name}{config}:{builder.version}", found


def texts(name: str, split: str, field: str, start: int, stop: int, read: Callable[[int], None]) -> Iterator[str]:
    """Yields the texts of examples `start` to `stop` - 1 of a split.

    Args:
      name: the dataset.
      split: the split.
      field: its feature that holds the text.
      start: first example.
      stop: one after the last.
      read: called now and then with the bytes of text read since the last call.

    Raises:
      InputError: the dataset is not on disk or damaged, or a text is not UTF-8.
    """
    import tensorflow_datasets as tfds

    tensorflow = tensorflow_without_devices()
    builder = builder_of(name)
    options = tensorflow.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = 1  # Workers are processes.
    number = start
    try:
        examples = builder.as_dataset(
            split=tfds.core.ReadInstruction(split, from_=start, to=stop, unit="abs"),
            shuffle_files=False,
            # One file after the other: examples of several files would else come in turns.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, options=options, try_autocache=False),
            decoders=tfds.decode.PartialDecoding({field: True}),
        )
        for batch in examples.map(lambda example: example[field]).batch(_EXAMPLES).as_numpy_iterator():
            for raw in batch:
                yield _decoded(raw, f"tfds:{name}, split {split}, example {number}")
                number += 1
            read(sum(map(len, batch)))
    except failures() as error:
        raise InputError(
            f"tfds:{name}, split {split}: cannot be read after example {number} ({reason(error)}). If files in "
            f"{builder.data_dir} are damaged, delete that folder and run again."
        ) from error


def builder_of(name: str, field: str = FIELD) -> "tensorflow_datasets.core.DatasetBuilder":
    """Returns the builder of a dataset of the catalogue, which need not be on disk.

    Args:
      name: the dataset.
      field: the config field, for messages.

    Raises:
      InputError: there is none, or the name stands for several.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except failures() as error:
        raise InputError(
            f"{field}: tfds:{name} is not known to TensorFlow Datasets {tfds.__version__} "
            f"({reason(error)}). Its catalogue is at https://www.tensorflow.org/datasets/catalog/overview."
        ) from error
    configs = [config.name for config in builder.BUILDER_CONFIGS]
    if len(configs) > 1 and not builder.DEFAULT_BUILDER_CONFIG_NAME and "/" not in name:
        # The library would silently take the first of them, English where another language was meant.
        raise InputError(
            f"{field}: tfds:{name} is several datasets; name one of its {len(configs)} configs, such as "
            f"{', '.join(f'tfds:{builder.name}/{config}' for config in configs[:3])}."
        )
    return builder


def _checked(
    builder: "tensorflow_datasets.core.DatasetBuilder", split: str, field: str
) -> "tensorflow_datasets.core.DatasetInfo":
    import tensorflow_datasets as tfds

    name, info = builder.info.full_name, builder.info
    if not builder.is_prepared():
        raise InputError(
            f"config.data.sources: tfds:{name} is not in {builder.data_dir}; prepare the data on a machine that may "
            "download it."
        )
    if split not in info.splits:
        raise InputError(
            f"config.data.sources: tfds:{name} has no split {split!r} (found {', '.join(sorted(info.splits))}); append "
            "#split=NAME to the source."
        )
    features = info.features
    if field not in features:
        raise InputError(
            f"config.data.sources: tfds:{name} has no field {field!r} (found {', '.join(sorted(features))}); append "
            "#field=NAME to the source."
        )
    spec = features[field].get_tensor_info()
    if not isinstance(features[field], tfds.features.Tensor) or spec.shape != () or spec.np_dtype not in (str, object):
        raise InputError(
            f"config.data.sources: tfds:{name}: field {field!r} holds {features[field]!r}, expected a text; append "
            "#field=NAME to the source."
        )
    return info


def _decoded(raw: bytes, place: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place}: byte {error.start} of the text (0x{raw[error.start]:02x}) is not UTF-8. Name a field that holds "
            "text with #field=NAME, or remove the source."
        ) from error


def failures() -> tuple[type[Exception], ...]:
    """Exceptions that the library and its catalogue's builders raise when a dataset is not available."""
    import tensorflow
    import tensorflow_datasets as tfds

    named = (
        tfds.core.download.download_manager.NonMatchingChecksumError,
        tfds.core.download.util.DownloadError,
        tfds.core.download.extractor.ExtractError,
        tensorflow.errors.OpError,
    )
    # Missing modules, paths and names; files to be downloaded by hand are an AssertionError there.
    return (*named, OSError, ImportError, ValueError, KeyError, TypeError, RuntimeError, AssertionError)


def reason(error: Exception) -> str:
    """First line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
