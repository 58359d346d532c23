"""Labelled examples as values, before any tokenizer has seen them: what files give, and what tasks take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TypeVar


@dataclasses.dataclass(frozen=True)
class TextExample:
    """One sentence, or two, to be classified or graded.

    Attributes:
      place: file and line, for messages: "RTE/train.tsv:17".
      key: identifies the example in predictions: its index in the split, or what the file calls it.
      texts: one or two, none empty.
      label: the name of a class; of multi-label tasks several, perhaps none; of regression a number; None where the
        answer is not known, as in test files.
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
      tags: one for each word as the file has them; None where they are not known.
    """

    place: str
    key: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None

    @property
    def known_tags(self) -> tuple[str, ...]:
        """The tags of a labelled sentence.

        Raises:
          ValueError: they are not known.
        """
        if self.tags is None:
            raise ValueError(f"{self.place}: the tags are not known")
        return self.tags


@dataclasses.dataclass(frozen=True)
class Answer:
    """A stretch of a context.

    Attributes:
      text: context[start : start + len(text)].
      start: in characters.
    """

    text: str
    start: int


@dataclasses.dataclass(frozen=True)
class QuestionExample:
    """A question about a context.

    Attributes:
      place: file and where in it.
      key: the id that the file gives it; unique in a split.
      question: not empty.
      context: not empty.
      answers: each right; the first one is trained on. None where they are not known; empty where the context does not
        hold one.
    """

    place: str
    key: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None


Example = TextExample | SentenceExample | QuestionExample
ExampleT = TypeVar("ExampleT", bound=Example)


def of_kind(examples: Iterable[Example], kind: type[ExampleT]) -> list[ExampleT]:
    """The examples, typed as the kind that all of them are.

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
    """Whether it is known what is right; of test files it is not."""
    match example:
        case TextExample():
            return example.label is not None
        case SentenceExample():
            return example.tags is not None
        case QuestionExample():
            return example.answers is not None
