"""Reader of questions about contexts: the JSON files of SQuAD 1.1 and 2.0, and the JSON lines of MRQA 2019."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

import pydantic

from electra_jax import foreign_json
from electra_jax.config.finetuning import AnsweringConfig
from electra_jax.errors import InputError
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
            texts, starts = record["answers"]["text"], record["answers"]["answer_start"]
            if len(texts) != len(starts):
                file.refuse(
                    where,
                    f"question {record['id']!r}: found {len(texts)} answers and {len(starts)} places, expected as many",
                )
                continue
            answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
            yield where, record["context"], {**record, "answers": answers}

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


class _Paragraph(Record):
    context: Any
    qas: Any


class _Article(Record):
    paragraphs: list[_Paragraph]


class _Squad(Record):
    data: list[_Article]


def _squad_questions(file: SplitFile[AnsweringConfig], text: str) -> Iterator[_Asked]:
    fix = (
        'expected {"data": [{"paragraphs": [{"context": …, "qas": […]}]}]}; files of JSON lines need '
        f"{file.flag('format', 'mrqa')}"
    )
    try:
        content = foreign_json.parse(text)
        articles = foreign_json.checked(_Squad, content, f"{file.path}: is not in the format of SQuAD", fix).data
    except json.JSONDecodeError as error:
        file.report(error.lineno, f"is not JSON ({error.msg}, column {error.colno}); the file is damaged or cut short")
        return
    except (ValueError, InputError) as error:
        file.add(str(error) if isinstance(error, InputError) else f"{file.path}: is not JSON ({error})")
        return
    for a, article in enumerate(articles):
        for p, paragraph in enumerate(article.paragraphs):
            yield from _asked(file, f"article {a + 1}, paragraph {p + 1}", paragraph.context, paragraph.qas)


def _mrqa_questions(file: SplitFile[AnsweringConfig], text: str) -> Iterator[_Asked]:
    for number, (line, paragraph) in enumerate(json_lines(file, text)):
        if number == 0 and "header" in paragraph:
            continue
        if "context" in paragraph and "qas" in paragraph:
            yield from _asked(file, line, paragraph["context"], paragraph["qas"])
        else:
            file.report(line, f'expected "context" and "qas", found {", ".join(map(repr, paragraph)) or "no keys"}')


def _asked(file: SplitFile[AnsweringConfig], where: int | str, context: Any, questions: Any) -> Iterator[_Asked]:
    if not isinstance(questions, list) or not all(isinstance(question, dict) for question in questions):
        file.report(where, '"qas" is not a list of objects')
        return
    for question in questions:
        yield where, context, question
