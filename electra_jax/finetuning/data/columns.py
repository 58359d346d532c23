"""Reader of tagged sentences: a word per line in columns (CoNLL shared tasks, CoNLL-U), or a sentence per line."""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from electra_jax import foreign_json
from electra_jax.config.finetuning import TaggingConfig
from electra_jax.finetuning.data.examples import SentenceExample
from electra_jax.finetuning.data.labelled_file import SplitFile
from electra_jax.finetuning.data.spans import ImpossibleTagsError, respelled, scheme_of
from electra_jax.finetuning.data.tables import json_lines

# CoNLL-U (universaldependencies.org/format.html): multiword tokens and empty nodes.
_RANGE_OR_EMPTY = re.compile(r"\d+[-.]\d+")
_CONLLU_COLUMNS = 10
_UNKNOWN = "_"
_BLANKS = " \t"  # Only these separate and surround: some words contain no-break spaces.
_OF_TAGS = """'("accuracy",)'"""  # The metrics of tags that mark no spans.

# A line's number and its columns.
Line = tuple[int, list[str]]
# The places of a sentence's words, the words, and their tags if there are any.
Sentence = tuple[Sequence[int | str], Sequence[str], Sequence[str | None] | None]


def field_problems(place: str, task: TaggingConfig, formats: Mapping[str, str]) -> Iterator[str]:
    """Yields the problems with the fields of a task that this module reads.

    Args:
      place: the task's place in the config.
      task: its fields.
      formats: file formats by path.
    """
    conllu = [path for path, form in formats.items() if form == "conllu"]
    if conllu and not (1 <= task.word_column < 10 and -10 < task.tag_column < 10):
        yield (
            f"{place}.word_column: column {task.word_column} of {conllu[0]} does not hold words; CoNLL-U has words in "
            f"column 1 and parts of speech in 3: set --{place}.word_column=1 --{place}.tag_column=3"
        )
    if task.word_column == task.tag_column:
        yield f"{place}.tag_column: found {task.tag_column}, which is also the column of the words"
    if len(set(task.labels)) != len(task.labels):
        yield f"{place}.labels: found {tuple(task.labels)}, expected distinct names"
    elif len(task.labels) == 1:
        yield f"{place}.labels: found {tuple(task.labels)}, expected two tags or more"
    if task.word_key == task.tag_key:
        yield f"{place}.tag_key: found {task.tag_key!r}, which is also the key of the words"
    if not task.tag_separator:
        yield f'{place}.tag_separator: is empty, expected the separator between a word and its tag, such as "/"'


def read(file: SplitFile[TaggingConfig], text: str, form: str) -> list[SentenceExample]:
    """The valid sentences of a file; the problems with the others are recorded in `file`.

    Args:
      file: the file.
      text: its text.
      form: "columns", "conllu", "tokens" or "jsonl".
    """
    if form == "tokens":
        return _made(file, _token_sentences(file, text))
    if form == "jsonl":
        return _made(file, _json_sentences(file, text))
    return _made(file, _column_sentences(file, text, form))


def _column_sentences(file: SplitFile[TaggingConfig], text: str, form: str) -> Iterator[Sentence]:
    """Yields the sentences of "columns" or "conllu"."""
    sentences = list(_conllu_sentences(text) if form == "conllu" else _sentences(text, file.settings.tag_column))
    tagged, expected = True, _CONLLU_COLUMNS
    if form == "columns":
        if not sentences:
            return
        expected = len(sentences[0][0][1])
        tagged = _has_tags(file.settings, expected)
        if problem := _width_problem(file, expected, tagged):
            file.report(sentences[0][0][0], problem)
            return
    for lines in sentences:
        if _check_widths(file, lines, expected):
            words = [cells[file.settings.word_column] for _, cells in lines]
            tags = [cells[file.settings.tag_column] for _, cells in lines] if tagged else None
            if form == "conllu" and tags is not None:
                tags = ["" if tag == _UNKNOWN else tag for tag in tags]
            yield [line for line, _ in lines], words, tags


def _json_sentences(file: SplitFile[TaggingConfig], text: str) -> Iterator[Sentence]:
    """Yields the sentences of JSON lines, each with a list of words and one of tags."""
    word_key, tag_key = file.settings.word_key, file.settings.tag_key
    for line, value in json_lines(file, text):
        words, tags = value.get(word_key), value.get(tag_key)
        if not _are_texts(words):
            keys = ", ".join(map(repr, value)) or "no keys"
            file.refuse(
                line,
                f"found {keys}, expected {word_key!r} with a list of words; name the file's own with "
                f"{file.flag('word_key', '…')} and {file.flag('tag_key', '…')}",
            )
        elif tags is None and not file.answered:
            yield [line] * len(words), words, None
        elif not isinstance(tags, list) or not (_are_texts(tags) or _are_numbers(tags)):
            file.refuse(line, f"found {tag_key!r} {foreign_json.shown(tags)}, expected a list of tags")
        elif len(words) != len(tags):
            file.refuse(line, f"found {len(words)} words and {len(tags)} tags, expected equal numbers")
        elif problem := _number_problem(file, tags):
            file.refuse(line, problem)
        elif words:
            yield (
                [line] * len(words),
                words,
                [tag if isinstance(tag, str) else file.settings.labels[tag] for tag in tags],
            )


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _are_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(part, int) and not isinstance(part, bool) for part in value)


def _number_problem(file: SplitFile[TaggingConfig], tags: Sequence[str | int]) -> str:
    """What is wrong with tags that are numbers; ""."""
    numbers = [tag for tag in tags if isinstance(tag, int)]
    names = file.settings.labels
    wrong = next((number for number in numbers if not 0 <= number < len(names)), None)
    if wrong is None:
        return ""
    if not names:
        return (
            f"found the tag {wrong}, a number; name the tags in the order of their numbers: {file.flag('labels', '…')}"
        )
    return f"found the tag {wrong}, expected a number from 0 to {len(names) - 1}, as {file.flag('labels', '…')} has"


def _made(file: SplitFile[TaggingConfig], sentences: Iterable[Sentence]) -> list[SentenceExample]:
    """The valid sentences of a file, whose tags are spelled in one way."""
    read_in = list(sentences)
    spelling: Mapping[str, str] = {}
    if file.settings.spans:
        every = dict.fromkeys(tag for _, _, tags in read_in for tag in tags or () if tag not in (None, "", _UNKNOWN))
        spelling = respelled(tag for tag in every if tag)
        if spelling:
            theirs, ours = next(item for item in spelling.items() if item[0] != item[1])
            file.notes.append(f"{file.path}: tags such as {theirs!r} are read as {ours!r}")
    found: list[SentenceExample] = []
    for places, words, tags in read_in:
        found += _example(file, places, words, tags and [spelling.get(tag or "", tag) for tag in tags], len(found))
    return found


def examples(file: SplitFile[TaggingConfig], records: Iterable[tuple[str, Mapping[str, Any]]]) -> list[SentenceExample]:
    """Sentences from records with the lists "words" and "tags".

    Args:
      file: the file or dataset of the records.
      records: pairs of a place and a record.
    """

    def sentences() -> Iterator[Sentence]:
        for where, record in records:
            words, tags = record["words"], record["tags"]
            if not words:
                file.refuse(where, "has no words")
            elif len(words) != len(tags):
                file.refuse(where, f"found {len(words)} words and {len(tags)} tags, expected equal numbers")
            else:
                yield [f"{where}, word {number + 1}" for number in range(len(words))], words, tags

    return _made(file, sentences())


def _example(
    file: SplitFile[TaggingConfig],
    places: Sequence[int | str],
    words: Sequence[str],
    tags: Sequence[str | None] | None,
    number: int,
) -> list[SentenceExample]:
    """A list with the sentence, or an empty list if it has problems."""
    problems = [
        (place, "an empty word, expected a text") for place, word in zip(places, words, strict=True) if not word
    ]
    stated = tags or ()
    known = [tag for tag in stated if tag not in (None, "", _UNKNOWN)]
    unknown = len(known) < len(stated)
    if unknown and file.answered:
        problems += [
            (place, f"no tag for {word!r}") for place, word, tag in zip(places, words, stated, strict=True) if not tag
        ]
    elif known and not unknown and file.settings.spans:
        problems += [
            (place, _span_problem(file, tag)) for place, tag in zip(places, known, strict=True) if not _is_of_span(tag)
        ]
    if problems and file.settings.invalid_rows == "skip":
        file.refuse(*problems[0])  # One for each sentence, which is what is left out.
    elif problems:
        for place, problem in problems:
            file.refuse(place, problem)
    if problems:
        return []
    where = places[0] if isinstance(places[0], int) else places[0].partition(",")[0]
    return [
        SentenceExample(file.place(where), str(number), tuple(words), None if unknown or not known else tuple(known))
    ]


@functools.cache
def _is_of_span(tag: str) -> bool:
    try:
        scheme_of([[tag]])
    except ImpossibleTagsError:
        return False
    return True


def _span_problem(file: SplitFile[TaggingConfig], tag: str) -> str:
    return (
        f"the tag {tag!r} marks no span, expected O, or B-, I-, E-, S-, L- or U- and a type; if tags do not mark "
        f"spans, set {file.flag('spans', 'False')} {file.flag('metrics', _OF_TAGS)}; if they are in another column, "
        f"{file.flag('tag_column', '…')}"
    )


def _has_tags(settings: TaggingConfig, width: int) -> bool:
    column = settings.tag_column % width if -width <= settings.tag_column < width else -1
    return column >= 0 and column != settings.word_column % width


def _width_problem(file: SplitFile[TaggingConfig], width: int, tagged: bool) -> str:
    settings = file.settings
    if not -width <= settings.word_column < width:
        return (
            f"found {width} columns, expected words in column {settings.word_column} (the first is 0); set "
            f"{file.flag('word_column', '…')}"
        )
    if file.answered and not tagged:
        return (
            f"found {width} column{'s' * (width != 1)}, expected tags in column {settings.tag_column} and words in "
            f"column {settings.word_column} (the first is 0); set {file.flag('tag_column', '…')}"
        )
    return ""


def _check_widths(file: SplitFile[TaggingConfig], lines: Sequence[Line], expected: int) -> bool:
    wrong = [(line, cells) for line, cells in lines if len(cells) != expected]
    for line, cells in wrong[:1] if file.settings.invalid_rows == "skip" else wrong:
        file.refuse(line, f"{len(cells)} column{'s' * (len(cells) != 1)} ({' '.join(cells)[:60]}), expected {expected}")
    return not wrong


def _sentences(text: str, tag_column: int) -> Iterator[list[Line]]:
    """Yields sentences from columns separated by tabs or else blanks; skips comments and CoNLL-2003's -DOCSTART-.

    A line that begins with "# " at the beginning of a sentence is a comment, as in MultiCoNER, unless its last word is
    a tag that another word of the file has: "#" is a word, too.
    """
    sentences: list[list[Line]] = []
    lines: list[Line] = []
    for number, content in enumerate([*text.split("\n"), ""], start=1):
        content = content.strip(_BLANKS)
        cells = content.split("\t") if "\t" in content else [cell for cell in content.split(" ") if cell]
        if content and cells[0] != "-DOCSTART-":
            lines.append((number, [cell.strip(_BLANKS) for cell in cells]))
        elif lines:
            sentences.append(lines)
            lines = []
    tags = {
        cells[tag_column]
        for sentence in sentences
        for _, cells in sentence
        if cells[0] != "#" and -len(cells) <= tag_column < len(cells)
    }
    for sentence in sentences:
        start = 0
        while start < len(sentence) and _is_comment(sentence[start][1], tag_column, tags):
            start += 1
        if sentence[start:]:
            yield sentence[start:]


def _is_comment(cells: Sequence[str], tag_column: int, tags: Container[str]) -> bool:
    if cells[0] != "#":
        return False
    return not (-len(cells) <= tag_column < len(cells) and cells[tag_column] in tags)


def _token_sentences(file: SplitFile[TaggingConfig], text: str) -> Iterator[Sentence]:
    """Yields sentences of one line each, whose words are followed by their tags: the/DT cat/NN."""
    separator, until = file.settings.tag_separator, file.settings.line_until
    for number, content in enumerate(text.split("\n"), start=1):
        tokens = (content.partition(until)[0] if until else content).split()
        # From the right: words may contain the separator, as in 1/2/CD and 8:30:B-time.
        pairs = [token.rpartition(separator) for token in tokens]
        bad = [token for token, (word, _, tag) in zip(tokens, pairs, strict=True) if not (word and tag)]
        if bad:
            file.refuse(
                number,
                f"found {bad[0]!r}, expected a word and a tag joined by {separator!r}; set "
                f"{file.flag('tag_separator', '…')}, or {file.flag('line_until', '…')} if the sentence ends before it",
            )
        elif pairs:
            words, _, tags = zip(*pairs, strict=True)
            yield [number] * len(words), words, tags


def _conllu_sentences(text: str) -> Iterator[list[Line]]:
    lines: list[Line] = []
    for number, content in enumerate(text.split("\n"), start=1):
        if content.startswith("#"):
            continue
        cells = [cell.strip(_BLANKS) for cell in content.split("\t")]
        if not content.strip(_BLANKS):
            if lines:
                yield lines
            lines = []
        elif not _RANGE_OR_EMPTY.fullmatch(cells[0]):
            lines.append((number, cells))
    if lines:
        yield lines
