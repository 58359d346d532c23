"""Reader of tagged sentences: one word per line in columns (CoNLL shared tasks, CoNLL-U) or one sentence per line."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from electra_jax.config.finetuning import TaggingConfig
from electra_jax.finetuning.data.examples import SentenceExample
from electra_jax.finetuning.data.labelled_file import SplitFile
from electra_jax.finetuning.data.spans import ImpossibleTagsError, scheme_of

# CoNLL-U (universaldependencies.org/format.html): multiword tokens and empty nodes.
_RANGE_OR_EMPTY = re.compile(r"\d+[-.]\d+")
_CONLLU_COLUMNS = 10
_UNKNOWN = "_"

# A line's number and its columns.
Line = tuple[int, list[str]]


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
    if not task.tag_separator:
        yield f'{place}.tag_separator: is empty, expected the separator between a word and its tag, such as "/"'


def read(file: SplitFile[TaggingConfig], text: str, form: str) -> list[SentenceExample]:
    """The valid sentences of a file; the problems with the others are recorded in `file`.

    Args:
      file: the file.
      text: its text.
      form: "columns", "conllu" or "tokens".
    """
    if form == "tokens":
        return _token_sentences(file, text)
    sentences = list(_conllu_sentences(text) if form == "conllu" else _sentences(text))
    tagged, expected = True, _CONLLU_COLUMNS
    if form == "columns":
        if not sentences:
            return []
        expected = len(sentences[0][0][1])
        tagged = _has_tags(file.settings, expected)
        if problem := _width_problem(file, expected, tagged):
            file.report(sentences[0][0][0], problem)
            return []
    found: list[SentenceExample] = []
    for lines in sentences:
        if _check_widths(file, lines, expected):
            words = [cells[file.settings.word_column] for _, cells in lines]
            tags = [cells[file.settings.tag_column] for _, cells in lines] if tagged else None
            if form == "conllu" and tags is not None:
                tags = ["" if tag == _UNKNOWN else tag for tag in tags]
            found += _example(file, [line for line, _ in lines], words, tags, len(found))
    return found


def examples(file: SplitFile[TaggingConfig], records: Iterable[tuple[str, Mapping[str, Any]]]) -> list[SentenceExample]:
    """Sentences from records with the lists "words" and "tags".

    Args:
      file: the file or dataset of the records.
      records: pairs of a place and a record.
    """
    found: list[SentenceExample] = []
    for where, record in records:
        words, tags = record["words"], record["tags"]
        if not words:
            file.report(where, "has no words")
        elif len(words) != len(tags):
            file.report(where, f"found {len(words)} words and {len(tags)} tags, expected equal numbers")
        else:
            places = [f"{where}, word {number + 1}" for number in range(len(words))]
            found += _example(file, places, words, tags, len(found))
    return found


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
    for place, problem in problems:
        file.report(place, problem)
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
        f"spans, set {file.flag('spans', 'False')}; if they are in another column, {file.flag('tag_column', '…')}"
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
    for line, cells in wrong:
        file.report(line, f"{len(cells)} column{'s' * (len(cells) != 1)} ({' '.join(cells)[:60]}), expected {expected}")
    return not wrong


def _sentences(text: str) -> Iterator[list[Line]]:
    """Yields sentences from columns separated by tabs or else blanks; skips the -DOCSTART- lines of CoNLL-2003."""
    lines: list[Line] = []
    for number, content in enumerate(text.split("\n"), start=1):
        # Only blanks and tabs separate: some words contain no-break spaces.
        cells = content.split("\t") if "\t" in content else [cell for cell in content.split(" ") if cell]
        if not any(cells) or cells[0] == "-DOCSTART-":
            if lines:
                yield lines
            lines = []
        else:
            lines.append((number, cells))
    if lines:
        yield lines


def _token_sentences(file: SplitFile[TaggingConfig], text: str) -> list[SentenceExample]:
    """Sentences of one line each, whose words are followed by their tags: the/DT cat/NN."""
    separator, until = file.settings.tag_separator, file.settings.line_until
    found: list[SentenceExample] = []
    for number, content in enumerate(text.split("\n"), start=1):
        tokens = (content.partition(until)[0] if until else content).split()
        # From the right: words may contain the separator, as in 1/2/CD and 8:30:B-time.
        pairs = [token.rpartition(separator) for token in tokens]
        bad = [token for token, (word, _, tag) in zip(tokens, pairs, strict=True) if not (word and tag)]
        if bad:
            file.report(
                number,
                f"found {bad[0]!r}, expected a word and a tag joined by {separator!r}; set "
                f"{file.flag('tag_separator', '…')}, or {file.flag('line_until', '…')} if the sentence ends before it",
            )
        elif pairs:
            words, _, tags = zip(*pairs, strict=True)
            found += _example(file, [number] * len(words), words, tags, len(found))
    return found


def _conllu_sentences(text: str) -> Iterator[list[Line]]:
    lines: list[Line] = []
    for number, content in enumerate(text.split("\n"), start=1):
        if content.startswith("#"):
            continue
        cells = content.split("\t")
        if not content.strip():
            if lines:
                yield lines
            lines = []
        elif not _RANGE_OR_EMPTY.fullmatch(cells[0]):
            lines.append((number, cells))
    if lines:
        yield lines
