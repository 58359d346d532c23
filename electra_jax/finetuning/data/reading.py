"""Reads the labelled examples of a task from its files, and reports all problems at once."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from electra_jax.config.finetuning import ClassificationConfig, TaggingConfig, TaskConfig
from electra_jax.errors import InputError
from electra_jax.finetuning.data import held_out, tables
from electra_jax.finetuning.data.examples import Example, SentenceExample, TextExample, in_order, of_kind
from electra_jax.finetuning.data.labelled_file import LeftOut, SplitFile
from electra_jax.finetuning.data.spans import ImpossibleTagsError, scheme_of
from electra_jax.finetuning.tasks.kinds import KINDS
from electra_jax.text.sources import pypi, tfds_examples

_SHOWN = 20
_SHOWN_LABELS = 12
_SUBSET_SEED = 0


class Reading(NamedTuple):
    """The examples of a task.

    Attributes:
      splits: examples by split: "train", "dev", "test" if there is one, and the splits of `more`.
      notes: notes for the log about what was left out, and what is odd.
      left_out: the examples that were left out because they cannot be used.
    """

    splits: dict[str, list[Example]]
    notes: list[str]
    left_out: list[LeftOut]


def problems_of_fields(name: str, task: TaskConfig) -> list[str]:
    """Problems with the fields that locate a task's examples; opens no files.

    Args:
      name: name of the task.
      task: its fields, of a known kind.
    """
    place = f"config.tasks.{name}"
    problems = (
        []
        if not task.dev_fraction or not task.dev
        else [
            f"{place}.dev_fraction: found {task.dev_fraction:g}, which is for a task without a file for dev, and "
            f"{place}.dev={task.dev}; set --{place}.dev= or --{place}.dev_fraction=0"
        ]
    )
    problems += [] if task.train else [f"{place}.train: is empty, expected a file or tfds:NAME#split=train"]
    formats = KINDS[task.kind].formats
    if task.format != "auto" and task.format not in formats:
        problems.append(
            f"{place}.format: found {task.format!r}, expected auto or, for kind {task.kind}, {', '.join(formats)}"
        )
    for split in {"train", "dev", "test"} & set(task.more):
        problems.append(f"{place}.more: found {split!r}, the name of a field of its own; choose another name")
    for path in _paths(task).values():
        if path.startswith(tfds_examples.PREFIX):
            try:
                tfds_examples.parse(path)
            except ValueError as error:
                problems.append(f"{place}: {error}")
        elif path.startswith(pypi.PREFIX) and (problem := _package_problem(path)):
            problems.append(f"{place}: {problem}")
        elif task.format == "auto" and not _format(task, path):
            known = ", ".join(KINDS[task.kind].suffixes)
            problems.append(f"{place}: the name {path!r} has none of the suffixes {known}; set --{place}.format=…")
    try:
        codecs.lookup(task.encoding)
    except LookupError:
        problems.append(f"{place}.encoding: found {task.encoding!r}, expected a Python codec such as utf-8 or latin-1")
    formats_of_paths = {path: _format(task, path) for path in _paths(task).values()}
    return [*problems, *KINDS[task.kind].reader.field_problems(place, task, formats_of_paths)]


def _package_problem(path: str) -> str:
    try:
        pypi.parse_member(path)
    except ValueError as error:
        return str(error)
    return ""


def read_splits(name: str, task: TaskConfig, directory: str, download_cache: str) -> Reading:
    """Reads all splits of a task.

    Args:
      name: name of the task.
      task: its fields.
      directory: base of relative paths.
      download_cache: directory of downloaded packages.

    Returns:
      Examples by split, and notes. The training split is the subset that `train_examples` asks for, followed by the
      swapped copies that `double_unordered` asks for.

    Raises:
      InputError: lists the problems with the fields or the files, each with its place and the fix.
    """
    if problems := problems_of_fields(name, task):
        raise InputError("\n".join(problems))
    files = [SplitFile(name, task, split, path) for split, path in _paths(task).items()]
    splits = {file.split: _read(file, directory, download_cache) for file in files}
    if not splits.get("test", True):
        del splits["test"]  # A column of splits may have none.
    notes = []
    if task.dev_fraction:
        splits["train"], splits["dev"] = held_out.divided(splits["train"], task.dev_fraction)
        notes.append(
            f"config.tasks.{name}.dev_fraction={task.dev_fraction:g}: {len(splits['dev']):,} of the examples in "
            f"{task.train} are dev, {len(splits['train']):,} are trained on"
        )
    # Splits can be compared with the training split only if all of it was read.
    if not any(file.problems for file in files if file.split == "train"):
        for split, count in (("train", task.train_examples), ("dev", task.dev_examples)):
            splits[split] = subset(splits.get(split, []), count)
        _compare(files, splits)
        notes += held_out.leaks(splits)
    if any(file.problems for file in files):
        raise InputError(_worded(name, files))
    if isinstance(task, ClassificationConfig) and task.double_unordered:
        pairs = of_kind(splits["train"], TextExample)
        splits["train"] += [dataclasses.replace(pair, texts=pair.texts[::-1]) for pair in pairs]
    return Reading(
        splits,
        [*(note for file in files for note in file.notes), *notes],
        [left_out for file in files for left_out in file.left_out],
    )


def subset(examples: Sequence[Example], count: int) -> list[Example]:
    """A subset of a split, the same in every run, in the order of the file.

    A smaller subset is contained in a larger one.

    Args:
      examples: the split.
      count: size of the subset; 0 takes all.
    """
    if not 0 < count < len(examples):
        return list(examples)
    order = np.random.Generator(np.random.Philox(_SUBSET_SEED)).permutation(len(examples))
    return [examples[number] for number in sorted(order[:count])]


def _paths(task: TaskConfig) -> dict[str, str]:
    """The path of each split, except those with an empty path."""
    if isinstance(task, ClassificationConfig) and task.split_column:
        return {**dict.fromkeys(("train", "dev", "test"), task.train), **task.more}
    named = {"train": task.train, "dev": task.dev, "test": task.test, **task.more}
    return {split: path for split, path in named.items() if path}


def _format(task: TaskConfig, path: str) -> str:
    """The format of a file; empty if it is auto and the suffix is unknown."""
    if path.startswith(tfds_examples.PREFIX):
        return "tfds"
    if task.format != "auto":
        return task.format
    suffixes = KINDS[task.kind].suffixes
    path = path.partition("#")[0] if path.startswith(pypi.PREFIX) else path
    return next((suffixes[end] for end in suffixes if path.removesuffix(".gz").endswith(end)), "")


def _read(file: SplitFile[TaskConfig], directory: str, download_cache: str) -> list[Example]:
    form = _format(file.settings, file.path)
    reader = KINDS[file.settings.kind].reader
    if form == "tfds":
        try:
            examples = reader.examples(file, _tfds_examples(file))
        except InputError as error:
            file.add(str(error))
            return []
    else:
        text = file.text(directory, download_cache)
        if text is None:
            return []
        examples = reader.read(file, text, form)
    file.close(len(examples))
    column = file.settings.split_column if isinstance(file.settings, ClassificationConfig) else ""
    if not examples and not file.problems and not (column and file.split == "test"):
        file.add(f"{file.path}: holds no examples" + (f" of {file.split} in the column {column!r}" if column else ""))
    return examples


def _tfds_examples(file: SplitFile[TaskConfig]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the places and examples of a TFDS dataset, with class numbers replaced by names."""
    settings = file.settings
    source = tfds_examples.parse(file.path)
    names, records = tfds_examples.open_split(source, f"config.tasks.{file.task}")
    if isinstance(settings, TaggingConfig):
        wanted = [source.words, source.tags]
    elif not isinstance(settings, ClassificationConfig):
        wanted = ["id", "question", "context", "answers"]
    else:
        wanted = tables.wanted_columns(settings, answered=True)
    for number, record in enumerate(records):
        if missing := [name for name in wanted if name not in record]:
            raise InputError(
                f"{file.path}: found {', '.join(map(repr, record))}, expected {', '.join(map(repr, missing))}; name "
                "the fields with text_columns, label_column and key_column, or with &words= and &tags= in the path"
            )
        where = f"example {number}"
        if isinstance(settings, TaggingConfig):
            tags = [_class(tag, names.get(source.tags)) for tag in record[source.tags]]
            yield where, {"words": record[source.words], "tags": tags}
        elif not isinstance(settings, ClassificationConfig):
            yield where, record
        else:
            column = settings.label_column
            classes = settings.labels or names.get(column) if column in names else None
            # The grades of GLUE's test splits are -1 too.
            unknown = record[column] == -1 and not file.answered
            yield where, {**record, column: None if unknown else _class(record[column], classes)}


def _class(value: Any, names: Sequence[str] | None) -> Any:
    """The name of the class with a number, None for -1; other values are returned unchanged."""
    if not names or not isinstance(value, int):
        return value
    if value >= len(names):
        return str(value)
    return names[value] if value >= 0 else None


def _labels(task: TaskConfig, example: Example) -> tuple[str, ...]:
    """The distinct labels that training must contain: classes, tags, or types of spans."""
    match example:
        case TextExample(label=str() as label):
            return (label,)
        case TextExample(label=tuple() as names):
            return names
        case SentenceExample(tags=tuple() as tags):
            found = dict.fromkeys(tags)
            spans = isinstance(task, TaggingConfig) and task.spans
            return tuple(dict.fromkeys(tag.partition("-")[2] for tag in found if tag != "O") if spans else found)
    return ()


def _known(task: TaskConfig, examples: Iterable[Example]) -> dict[str, None]:
    """The distinct labels of examples, sorted."""
    return dict.fromkeys(in_order(label for example in examples for label in _labels(task, example)))


def _compare(files: Sequence[SplitFile[TaskConfig]], splits: Mapping[str, Sequence[Example]]) -> None:
    """Notes labels of other splits that the training split does not have, and records what cannot be trained on.

    Args:
      files: one for each split.
      splits: examples by split, as trained on, scored and predicted.
    """
    task = files[0].settings
    if isinstance(task, TaggingConfig) and task.spans:
        _compare_schemes(files, splits)
    named = task.labels if isinstance(task, ClassificationConfig | TaggingConfig) else ()
    known = dict.fromkeys(_types(task, named)) if named else _known(task, splits["train"])
    if problem := _too_few(task, list(known)):
        files[0].add(f"{files[0].path}: {problem}")
    for file in files:
        unknown: dict[str, list[str]] = {}  # Places by label.
        for example in splits.get(file.split, ()):
            for label in _labels(task, example):
                if label not in known:
                    unknown.setdefault(label, []).append(example.place)
        if not unknown:
            continue
        if file.split != "train" and not named:
            file.notes.append(_unknown_labels(task, file, unknown, splits))
            continue
        for label, places in unknown.items():
            others = f" (and {len(places) - 1:,} more such)" if len(places) > 1 else ""
            file.add(
                f"{places[0]}: the label {label!r}{others} is not in the labels ({_listed(known)}); set "
                f"{file.flag('labels', '…')} or fix the label"
            )


def _types(task: TaskConfig, named: Sequence[str]) -> Iterator[str]:
    """What `_labels` calls the labels that a config names: of spans, their types."""
    for name in named:
        if not (isinstance(task, TaggingConfig) and task.spans):
            yield name
        elif name != "O":
            yield name.partition("-")[2]


def _too_few(task: TaskConfig, known: Sequence[str]) -> str:
    """What is wrong if a model would have nothing to tell apart; ""."""
    if task.kind == "classification" and len(known) < 2:
        return f"every example has the class {known[0]!r}, expected two classes or more" if known else ""
    if task.kind == "multilabel" and not known:
        return "no example has a label"
    if isinstance(task, TaggingConfig) and task.spans and not known:
        return "every word is tagged O, expected words in spans, such as B-PER"
    if isinstance(task, TaggingConfig) and not task.spans and len(known) < 2:
        return f"every word has the tag {known[0]!r}, expected two tags or more" if known else ""
    return ""


def _unknown_labels(
    task: TaskConfig,
    file: SplitFile[TaskConfig],
    unknown: Mapping[str, Sequence[str]],
    splits: Mapping[str, Sequence[Example]],
) -> str:
    """The note on labels of a split that is not trained on which training does not have."""
    label, places = next(iter(unknown.items()))
    found = len({place for places in unknown.values() for place in places})
    units, labels, what = ("examples", "labels", "they")
    if task.kind == "tagging":
        units, labels, what = ("sentences", "tags", "those words")
    subset_of = f"subset of {len(splits['train']):,} training examples" if task.train_examples else "training split"
    path = file.path.partition("#sha256=")[0]
    return (
        f"{path}: {found:,} of {len(splits[file.split]):,} {units} have {labels} that are not in the {subset_of}, such "
        f"as {label!r} ({places[0]}); {what} count as wrong"
    )


def _compare_schemes(files: Sequence[SplitFile[TaskConfig]], splits: Mapping[str, Sequence[Example]]) -> None:
    """Records splits whose scheme of tags differs from the training split's, by which they would be read."""
    schemes = {}
    for file in files:
        try:
            schemes[file.split] = scheme_of(
                example.tags for example in splits[file.split] if isinstance(example, SentenceExample) and example.tags
            )
        except ImpossibleTagsError as error:
            for problem in error.problems:
                file.add(f"{file.path}: {problem}")
    for file in files:
        if schemes.get(file.split) == "bilou" != schemes.get("train", "bilou"):
            file.add(f"{file.path}: found the letters L and U of BILOU, expected the scheme of the training split")


def _listed(labels: Iterable[str]) -> str:
    shown = list(labels)
    more = f", … {len(shown)} in all" if len(shown) > _SHOWN_LABELS else ""
    return ", ".join(map(repr, shown[:_SHOWN_LABELS])) + more


def _worded(name: str, files: Sequence[SplitFile[TaskConfig]]) -> str:
    lines = [problem for file in files for problem in file.problems]
    count = len(lines) + sum(file.unshown for file in files)
    shown = lines[:_SHOWN]
    if count > len(shown):
        shown.append(f"and {count - len(shown):,} more")
    if refusing := [file for file in files if file.refused]:
        shown.append(f"A few such examples are left out, and listed, with {refusing[0].flag('invalid_rows', 'skip')}")
    problems = f"{count:,} problem{'s' if count > 1 else ''}"
    return "\n  ".join([f"config.tasks.{name}: {problems} with its examples", *shown])
