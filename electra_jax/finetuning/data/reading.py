"""The labelled examples of a task from its files, and everything that is wrong with them, said at once."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from electra_jax.config.finetuning import ClassificationConfig, TaggingConfig, TaskConfig
from electra_jax.errors import InputError
from electra_jax.finetuning.data.examples import Example, SentenceExample, TextExample, of_kind
from electra_jax.finetuning.data.labelled_file import SplitFile
from electra_jax.finetuning.data.spans import ImpossibleTagsError, scheme_of
from electra_jax.finetuning.tasks.kinds import KINDS
from electra_jax.text.sources import pypi, tfds_examples

_SHOWN = 20
_SHOWN_LABELS = 12
_SUBSET_SEED = 0


class Reading(NamedTuple):
    """What the files of a task gave.

    Attributes:
      splits: examples by split: "train", "dev", "test" if there is one, and those of `more`.
      notes: lines for the log: what was left out.
    """

    splits: dict[str, list[Example]]
    notes: list[str]


def problems_of_fields(name: str, task: TaskConfig) -> list[str]:
    """What is wrong with how a task says where its examples are; nothing is opened.

    Args:
      name: of the task.
      task: its fields, of a known kind.
    """
    place = f"config.tasks.{name}"
    problems = [] if task.train else [f"{place}.train: is empty, expected a file or tfds:NAME#split=train"]
    formats = KINDS[task.kind].formats
    if task.format != "auto" and task.format not in formats:
        problems.append(
            f"{place}.format: found {task.format!r}, expected auto or, of kind {task.kind}, {', '.join(formats)}"
        )
    for split in {"train", "dev", "test"} & set(task.more):
        problems.append(f"{place}.more: {split!r} is a split of its own; take another name")
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
            problems.append(f"{place}: the name {path!r} says no format ({known}); set --{place}.format=…")
    try:
        codecs.lookup(task.encoding)
    except LookupError:
        problems.append(f"{place}.encoding: {task.encoding!r} is not known, expected utf-8, latin-1 and the like")
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
      name: of the task.
      task: its fields.
      directory: relative paths start here.
      download_cache: directory that keeps packages.

    Returns:
      Examples by split, and notes. Of the training split the chosen part, if `train_examples` wants one, and after it
      the swapped copies that `double_unordered` asks for.

    Raises:
      InputError: lists what is wrong with the fields or with the files, each with its place and how to mend it.
    """
    if problems := problems_of_fields(name, task):
        raise InputError("\n".join(problems))
    files = [SplitFile(name, task, split, path) for split, path in _paths(task).items()]
    splits = {file.split: _read(file, directory, download_cache) for file in files}
    # What training has is known only where all of it could be read.
    if not any(file.problems for file in files if file.split == "train"):
        whole = splits["train"]
        for split, count in (("train", task.train_examples), ("dev", task.dev_examples)):
            splits[split] = subset(splits.get(split, []), count)
        _compare(files, splits, whole)
    if any(file.problems for file in files):
        raise InputError(_worded(name, files))
    if isinstance(task, ClassificationConfig) and task.double_unordered:
        pairs = of_kind(splits["train"], TextExample)
        splits["train"] += [dataclasses.replace(pair, texts=pair.texts[::-1]) for pair in pairs]
    return Reading({file.split: splits[file.split] for file in files}, [note for file in files for note in file.notes])


def subset(examples: Sequence[Example], count: int) -> list[Example]:
    """As many examples of a split, the same ones in every run, in the order of the file.

    A smaller subset is part of a larger one.

    Args:
      examples: all of them.
      count: how many; 0 takes all.
    """
    if not 0 < count < len(examples):
        return list(examples)
    order = np.random.Generator(np.random.Philox(_SUBSET_SEED)).permutation(len(examples))
    return [examples[number] for number in sorted(order[:count])]


def _paths(task: TaskConfig) -> dict[str, str]:
    """The path of each split; one whose path is empty is left out."""
    named = {"train": task.train, "dev": task.dev, "test": task.test, **task.more}
    return {split: path for split, path in named.items() if path}


def _format(task: TaskConfig, path: str) -> str:
    """How a file is read; empty where its name does not say."""
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
            examples = reader.examples(file, _published(file))
        except InputError as error:
            file.add(str(error))
            return []
    else:
        text = file.text(directory, download_cache)
        if text is None:
            return []
        examples = reader.read(file, text, form)
    if not examples and not file.problems:
        file.add(f"{file.path}: holds no examples")
    return examples


def _published(file: SplitFile[TaskConfig]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Examples of a dataset of TFDS, with the names of classes for their numbers."""
    settings = file.settings
    source = tfds_examples.parse(file.path)
    names, records = tfds_examples.open_split(source, f"config.tasks.{file.task}")
    if isinstance(settings, TaggingConfig):
        wanted = [source.words, source.tags]
    elif not isinstance(settings, ClassificationConfig):
        wanted = ["id", "question", "context", "answers"]
    else:
        wanted = [*settings.text_columns, settings.label_column, *filter(None, [settings.key_column])]
    for number, record in enumerate(records):
        if missing := [name for name in wanted if name not in record]:
            raise InputError(
                f"{file.path}: no field {', '.join(map(repr, missing))}, found {', '.join(map(repr, record))}; name "
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
    """The name of a class for its number, None for -1; what is no number of a class stays."""
    if not names or not isinstance(value, int):
        return value
    if value >= len(names):
        return str(value)
    return names[value] if value >= 0 else None


def _labels(task: TaskConfig, example: Example) -> tuple[str, ...]:
    """What must be known from training, once each: classes, tags, or types of spans."""
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
    """Labels of examples, sorted."""
    return dict.fromkeys(sorted({label for example in examples for label in _labels(task, example)}))


def _compare(
    files: Sequence[SplitFile[TaskConfig]], splits: Mapping[str, Sequence[Example]], whole: Sequence[Example]
) -> None:
    """Puts down labels that training does not have; tags are only noted, as large sets of them have rare ones.

    Args:
      files: one for each split.
      splits: what is trained on, scored and predicted.
      whole: the training split, of which some may have been chosen.
    """
    task = files[0].settings
    if isinstance(task, TaggingConfig) and task.spans:
        _compare_schemes(files, splits)
    named = task.labels if isinstance(task, ClassificationConfig) else ()
    known = dict.fromkeys(named) if named else _known(task, splits["train"])
    left_out = {} if named else _known(task, whole).keys() - known.keys()
    for file in files:
        if task.kind == "tagging":
            file.notes += _unknown_tags(task, splits[file.split], known, file.path)
            continue
        first: dict[str, tuple[str, int]] = {}
        for example in splits[file.split]:
            for label in _labels(task, example):
                if label not in known:
                    place, count = first.get(label, (example.place, 0))
                    first[label] = place, count + 1
        for label, (place, count) in first.items():
            others = f" (and {count - 1:,} more such)" if count > 1 else ""
            if label in left_out:
                said = f"is not among the {len(splits['train']):,} training examples that are taken"
                mend = f"; raise {file.flag('train_examples', '…')} or name all labels with {file.flag('labels', '…')}"
            else:
                said = f"is not known from {'the labels' if named else 'the training split'} ({_listed(known)})"
                mend = f"; set {file.flag('labels', '…')} or mend it" if named else "; mend it or leave it out"
            file.add(f"{place}: the label {label!r}{others} {said}{mend}")


def _unknown_tags(task: TaskConfig, examples: Sequence[Example], known: Container[str], path: str) -> Iterator[str]:
    """A line for the log if sentences have tags that training does not have."""
    unknown = [[tag for tag in _labels(task, example) if tag not in known] for example in examples]
    if count := sum(map(bool, unknown)):
        yield (
            f"{path.partition('#sha256=')[0]}: {count:,} of {len(examples):,} sentences have tags that training does "
            f"not have, such as {next(filter(None, unknown))[0]!r}; those words count as wrong"
        )


def _compare_schemes(files: Sequence[SplitFile[TaskConfig]], splits: Mapping[str, Sequence[Example]]) -> None:
    """Puts down splits whose tags are not as those of the training split: those are read by its scheme."""
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
            file.add(f"{file.path}: tags have the letters L and U of BILOU, those of the training split have not")


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
    problems = f"{count:,} problem{'s' if count > 1 else ''}"
    return "\n  ".join([f"config.tasks.{name}: {problems} with its examples", *shown])
