"""Reader of questions about contexts: JSON as SQuAD 1.1 and 2.0 have it, and JSON lines as MRQA 2019 does."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

import pydantic

from electra_jax import foreign_json
from electra_jax.config.finetuning import AnsweringConfig
from electra_jax.finetuning.data.examples import Answer, QuestionExample
from electra_jax.finetuning.data.labelled_file import SplitFile
from electra_jax.finetuning.data.tables import json_lines
from electra_jax.finetuning.metrics.answer_metrics import normalised
from electra_jax.foreign_json import Record

# The place of a question, its context, and the question as in the file.
_Asked = tuple[int | str, Any, Mapping[str, Any]]


class _Problem(Exception):
    """A problem with a question."""


def field_problems(place: str, task: AnsweringConfig, formats: Mapping[str, str]) -> Iterable[str]:
    """No problems: the formats of this module have no fields.

    Args:
      place: the task's place in the config.
      task: its fields.
      formats: file formats by path.
    """
    return ()


def read(file: SplitFile[AnsweringConfig], text: str, form: str) -> list[QuestionExample]:
    """The valid questions of a file; the problems with the others are recorded in `file`.

    Args:
      file: the file.
      text: its text.
      form: "squad" or "mrqa".
    """
    return _examples(file, _mrqa_questions(file, text) if form == "mrqa" else _squad_questions(file, text))


def examples(
    file: SplitFile[AnsweringConfig], records: Iterable[tuple[str, Mapping[str, Any]]]
) -> list[QuestionExample]:
    """Questions from records with "id", "question", "context", "answers" and optionally "is_impossible".

    Args:
      file: the file or dataset of the records.
      records: pairs of a place and a record, whose answers are a dict of the lists "text" and "answer_start".
    """

    def asked() -> Iterator[_Asked]:
        for where, record in records:
            yield where, record["context"], record

    return _examples(file, asked())


def _examples(file: SplitFile[AnsweringConfig], asked: Iterable[_Asked]) -> list[QuestionExample]:
    found: list[QuestionExample] = []
    places: dict[str, str] = {}
    moved: list[str] = []  # Places of answers that were found elsewhere.
    for where, context, question in asked:
        key = question.get("id", question.get("qid"))
        shown = f"question {key!r}"
        place = f"{file.place(where)}, {shown}" if where else file.place(shown)
        try:
            if not isinstance(key, (str, int)) or key == "":
                raise _Problem("has no id")
            key = str(key)
            if key in places:
                raise _Problem(f"has the id of another question ({places[key]}); ids must differ within a split")
            places[key] = place
            for name, value in (("question", question.get("question")), ("context", context)):
                if not isinstance(value, str) or not value.strip():
                    raise _Problem(f"found the {name} {value!r}, expected a text")
            answers = _answers(file, context, question, functools.partial(moved.append, place))
        except _Problem as problem:
            file.refuse_at(place, str(problem))
            continue
        found.append(QuestionExample(place, key, question["question"].strip(), context, answers))
    if moved:
        file.notes.append(
            f"{file.path}: {len(moved):,} answers are elsewhere in their context than stated, first {moved[0]}"
        )
    return found


def _answers(
    file: SplitFile[AnsweringConfig], context: str, question: Mapping[str, Any], moved: Callable[[], None]
) -> tuple[Answer, ...] | None:
    """The answers of a question; `moved` is called for each that is taken from elsewhere in the context."""
    if "detected_answers" in question:
        return _detected(context, question["detected_answers"])
    impossible, stated = question.get("is_impossible"), question.get("answers")
    if isinstance(stated, dict):
        stated = _listed(stated)
    if impossible:
        if stated:
            raise _Problem("has answers and is_impossible; leave out one of them")
        return ()
    if stated is None:
        if file.answered:
            raise _Problem('has no "answers"')
        return None
    if not isinstance(stated, list):
        raise _Problem(f'found "answers" {stated!r}, expected a list')
    if not stated and impossible is None and not file.answered and not file.settings.unanswerable:
        return None
    # SQuAD's dev set has the answers of several people, often equal.
    return tuple(dict.fromkeys(_stated(file, context, answer, moved) for answer in stated))


def _listed(stated: Mapping[str, Any]) -> Any:
    """Answers as the `datasets` library has them, texts and places in a list each, as SQuAD does; else unchanged."""
    texts, starts = stated.get("text"), stated.get("answer_start")
    if isinstance(texts, str) and isinstance(starts, int):
        return [stated]
    if not isinstance(texts, list) or not isinstance(starts, list):
        return stated
    if len(texts) != len(starts):
        raise _Problem(f"found {len(texts)} answers and {len(starts)} places, expected as many")
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]


def _stated(file: SplitFile[AnsweringConfig], context: str, answer: Any, moved: Callable[[], None]) -> Answer:
    text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
    if not isinstance(text, str) or not isinstance(start, int):
        raise _Problem(f'has the answer {answer!r}, expected "text" and a number "answer_start"')
    if not text.strip():
        raise _Problem("has an empty answer")
    if start < 0 or context[start : start + len(text)] != text:
        if not (places := [match.start() for match in re.finditer(re.escape(text), context)]):
            raise _Problem(f"its answer {_short(text)} does not occur in the context")
        elsewhere = min(places, key=lambda place: abs(place - start))
        if file.settings.realign_answers:
            moved()
            return Answer(text, elsewhere)
        there = context[max(start, 0) : max(start, 0) + len(text)]
        raise _Problem(
            f"its answer {_short(text)} is not at answer_start {start}, where the context has {_short(there)}, but at "
            f"{elsewhere}; count in characters, from 0, or set {file.flag('realign_answers', 'True')}"
        )
    return Answer(text, start)


class _Detected(Record):
    """An answer in MRQA's format; a span ends with its last character."""

    text: str
    char_spans: list[Annotated[list[int], pydantic.Field(min_length=2, max_length=2)]]


def _detected(context: str, detected: Any) -> tuple[Answer, ...]:
    """MRQA's answers by their places; the texts may differ in spelling."""
    found: dict[Answer, None] = {}
    if not isinstance(detected, list):
        raise _Problem(f'found "detected_answers" {foreign_json.shown(detected)}, expected a list')
    for stated in detected:
        try:
            answer = _Detected.model_validate(stated)
        except pydantic.ValidationError as error:
            raise _Problem(f'has the answer {stated!r}, expected "text" and "char_spans", pairs of numbers') from error
        text = answer.text
        for start, end in ((first, last + 1) for first, last in answer.char_spans):
            there = context[start:end]
            if not 0 <= start < end <= len(context) or normalised(there) != normalised(text):
                raise _Problem(
                    f"its answer {_short(text)} is not at characters {start} to {end - 1}, where the context has "
                    f"{_short(there)}"
                )
            found[Answer(there, start)] = None
    if not found:
        raise _Problem("has no detected answer")
    return tuple(found)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


# The objects that a file may list at its top: articles, their paragraphs, or one question each with its context.
_ARTICLE, _PARAGRAPH, _ROW = ("paragraphs",), ("context", "qas"), ("context", "question")
_SHOWN_FIELDS = 8


def _squad_questions(file: SplitFile[AnsweringConfig], text: str) -> Iterator[_Asked]:
    try:
        content = foreign_json.parse(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.colno == 1:
            yield from _mrqa_questions(file, text)
        else:
            file.report(
                error.lineno, f"is not JSON ({error.msg}, column {error.colno}); the file is damaged or cut short"
            )
        return
    except ValueError as error:
        file.add(f"{file.path}: is not JSON ({error})")
        return
    listed = content.get("data", [content]) if isinstance(content, dict) else content
    if not isinstance(listed, list):
        file.add(f"{file.path}: {_other_shape(content)}")
        return
    for number, entry in enumerate(listed, start=1):
        if _has(entry, _ARTICLE) and isinstance(entry["paragraphs"], list):
            for p, paragraph in enumerate(entry["paragraphs"], start=1):
                where = f"article {number}, paragraph {p}"
                if _has(paragraph, _PARAGRAPH):
                    yield from _asked(file, where, paragraph["context"], paragraph["qas"])
                else:
                    file.report(where, f"found {_fields(paragraph)}, expected {_named(_PARAGRAPH)}")
        elif _has(entry, _PARAGRAPH):
            yield from _asked(file, f"paragraph {number}", entry["context"], entry["qas"])
        elif _has(entry, _ROW):
            yield f"example {number}", entry["context"], entry
        else:
            file.add(f"{file.path}: {_other_shape(content, entry, number if entry is not content else 0)}")
            return


def _mrqa_questions(file: SplitFile[AnsweringConfig], text: str) -> Iterator[_Asked]:
    for number, (line, paragraph) in enumerate(json_lines(file, text)):
        if number == 0 and "header" in paragraph:
            continue
        if _has(paragraph, _PARAGRAPH):
            yield from _asked(file, line, paragraph["context"], paragraph["qas"])
        elif _has(paragraph, _ROW):
            yield line, paragraph["context"], paragraph
        else:
            file.report(line, f"expected {_named(_PARAGRAPH)}, or {_named(_ROW)}, found {_fields(paragraph)}")


def _has(entry: Any, fields: Iterable[str]) -> bool:
    return isinstance(entry, dict) and all(name in entry for name in fields)


def _named(fields: Iterable[str]) -> str:
    return " and ".join(f'"{name}"' for name in fields)


def _fields(entry: Any) -> str:
    """What an entry is, for messages: the names of its fields."""
    if not isinstance(entry, dict):
        return foreign_json.shown(entry)
    more = ", …" if len(entry) > _SHOWN_FIELDS else ""
    return (", ".join(foreign_json.shown(name) for name in list(entry)[:_SHOWN_FIELDS]) or "no fields") + more


def _other_shape(content: Any, entry: Any = None, number: int = 0) -> str:
    """What is wrong with a file of another shape than SQuAD's."""
    found = f"found {_fields(content)}" if isinstance(content, dict) else f"found {foreign_json.shown(content)}"
    if number:
        found += f", and in entry {number} {_fields(entry)}"
    return (
        f'is not in the format of SQuAD: {found}; expected {{"data": [{{"paragraphs": [{{"context": …, "qas": '
        '[{"id": …, "question": …, "answers": [{"text": …, "answer_start": …}]}]}]}]}, or a list of the paragraphs, or '
        'of objects with "id", "context", "question" and "answers"'
    )


def _asked(file: SplitFile[AnsweringConfig], where: int | str, context: Any, questions: Any) -> Iterator[_Asked]:
    if not isinstance(questions, list) or not all(isinstance(question, dict) for question in questions):
        file.report(where, '"qas" is not a list of objects')
        return
    for question in questions:
        yield where, context, question
