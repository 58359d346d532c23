"""Labelled examples before tokenization: the output of file readers and the input of tasks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import TypeVar


@dataclasses.dataclass(frozen=True)
class TextExample:
    """One sentence, or two, to be classified or graded.

    Attributes:
      place: file and line, for messages: "RTE/train.tsv:17".
      key: identifies the example in predictions: its index in the split, or its key in the file.
      texts: one or two, none empty.
      label: the name of a class, a tuple of names in multi-label tasks, or a number in regression; None if unknown, as
        in test files.
    """

    place: str
    key: str
    texts: tuple[str, ...]
    label: str | float | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class SentenceExample:
    """A sentence whose words are to be tagged.

    Attributes:
      place: file and line of its first word.
      key: its index in the split.
      words: at least one, none empty.
      tags: one for each word, as in the file; None if unknown.
    """

    place: str
    key: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None

    @property
    def known_tags(self) -> tuple[str, ...]:
        """The tags of a labelled sentence.

        Raises:
          ValueError: the tags are unknown.
        """
        if self.tags is None:
            raise ValueError(f"{self.place}: found no tags, expected one for each word")
        return self.tags


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer: a span of a context.

    Attributes:
      text: context[start : start + len(text)].
      start: offset in characters.
    """

    text: str
    start: int


@dataclasses.dataclass(frozen=True)
class QuestionExample:
    """A question about a context.

    Attributes:
      place: file and position in it, for messages.
      key: its id in the file; unique in a split.
      question: not empty.
      context: not empty.
      answers: the right answers; the first is trained on. None if unknown; empty if the context has no answer.
    """

    place: str
    key: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None


Example = TextExample | SentenceExample | QuestionExample
# Longer ones are no numbers of classes, and take Python long to convert.
_WHOLE_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)
ExampleT = TypeVar("ExampleT", bound=Example)


def of_kind(examples: Iterable[Example], kind: type[ExampleT]) -> list[ExampleT]:
    """The examples, all of which must be of one kind.

    Raises:
      TypeError: one is of another kind.
    """
    typed: list[ExampleT] = []
    for example in examples:
        if not isinstance(example, kind):
            raise TypeError(f"{example.place}: found a {type(example).__name__}, expected a {kind.__name__}")
        typed.append(example)
    return typed


def is_answered(example: Example) -> bool:
    """Whether the example is labelled; those of test files are not."""
    match example:
        case TextExample():
            return example.label is not None
        case SentenceExample():
            return example.tags is not None
        case QuestionExample():
            return example.answers is not None


def text_of(example: Example) -> str:
    """The text of an example, with where it was read."""
    match example:
        case TextExample():
            texts = example.texts
        case SentenceExample():
            texts = (" ".join(example.words),)
        case QuestionExample():
            texts = example.question, example.context
    return f"{example.place}: {' | '.join(texts)}"


def in_order(labels: Iterable[str]) -> list[str]:
    """Distinct labels, sorted: as numbers if all of them are whole numbers."""
    distinct = set(labels)
    if all(_WHOLE_NUMBER.fullmatch(label) for label in distinct):
        return sorted(distinct, key=lambda label: (int(label), label))
    return sorted(distinct)
