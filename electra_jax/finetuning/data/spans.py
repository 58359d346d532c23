"""Spans written as one tag for each word: detects a file's scheme, converts to BIOES for training and back to IOB2.

A tag is O, or a letter, or a letter, "-" and a type: B-PER. The schemes (Ramshaw and Marcus 1995; Sang and Veenstra
1999; Ratinov and Roth 2009):

  bio2   B starts each span, I continues it (IOB2, CoNLL-2000 and -2002)
  bio1   I for all words; B only where a span directly follows another of its type (IOB1, CoNLL-2003 as published)
  bio    a mixture of the two
  bioes  as bio2, with E on the last word and S on a span of one word (IOBES)
  bilou  bioes with the letters L and U (BILUO)

All schemes, and predicted tags, are read by one rule: that of conlleval, the scorer of the CoNLL shared tasks, with
seqeval's addition of S. A word continues the span of the previous word if it is I or E, the previous word is B or I,
and the types are equal. Every other tagged word starts a span. No tagged word is lost: an E or I without a start starts
a span, and a B or I without an E ends where the next word does not continue it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

# Other spellings of B-PER: PER-B, PER_B, B_PER.
_LETTER_LAST = re.compile(r"(.+)[-_]([BIESLU])")
_LETTER_FIRST = re.compile(r"([BIESLU])[-_](.+)")
_BILOU_TO_BIOES = str.maketrans("LU", "ES")


class ImpossibleTagsError(ValueError):
    """Tags that belong to no scheme.

    Attributes:
      problems: one sentence for each distinct tag: the tag, its first place and its number of occurrences.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def respelled(tags: Iterable[str]) -> dict[str, str]:
    """How the tags of a file that spells them otherwise are spelled here; empty if they are spelled so, or cannot be.

    Args:
      tags: the distinct tags of the file; all of them must have one spelling, since I-B is a type B and a type I.
    """
    spelled = [tag for tag in tags if tag != "O"]
    if all(map(_is_possible, spelled)):
        return {}
    for pattern, letter, kind in ((_LETTER_FIRST, 1, 2), (_LETTER_LAST, 2, 1)):
        found = {tag: pattern.fullmatch(tag) for tag in spelled}
        if all(found.values()):
            return {tag: f"{match[letter]}-{match[kind]}" for tag, match in found.items() if match}
    return {}


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme that the tags of a split follow: "bio1", "bio2", "bio", "bioes" or "bilou".

    Letters decide first: E and S mean bioes, L and U mean bilou. Without spans it is "bio2". Files with errors are
    "bio", which is read like bio1 and bio2.

    Args:
      sentences: tags of each sentence.

    Raises:
      ImpossibleTagsError: tags without one of the letters, such as parts of speech, or with letters of two schemes.
    """
    bio1 = bio2 = True
    letters: set[str] = set()
    impossible: dict[str, list[tuple[int, int]]] = {}
    for number, tags in enumerate(sentences):
        before = "O"
        for position, tag in enumerate(tags):
            if not _is_possible(tag):
                impossible.setdefault(tag, []).append((number, position))
                continue
            letters.add(tag[0])
            touches = before != "O" and before[1:] == tag[1:]
            bio1 &= tag[0] != "B" or touches
            bio2 &= tag[0] != "I" or touches
            before = tag
    problems = [
        f"{tag!r} (sentence {places[0][0] + 1}, word {places[0][1] + 1}; {len(places)} in all) marks no span: "
        "expected O, or B-, I-, E-, S-, L- or U- and a type"
        for tag, places in impossible.items()
    ]
    if letters & set("ES") and letters & set("LU"):
        found = ", ".join(sorted(letters))
        problems.append(f"the letters {found} belong to two schemes: BIOES has E and S, BILOU has L and U")
    if problems:
        raise ImpossibleTagsError(problems)
    if letters & set("ES"):
        return "bioes"
    if letters & set("LU"):
        return "bilou"
    return "bio2" if bio2 else "bio1" if bio1 else "bio"


def to_bioes(tags: Sequence[str], scheme: str) -> list[str]:
    """Writes a sentence's spans as BIOES.

    Args:
      tags: tags of the words.
      scheme: the file's scheme, from `scheme_of`.
    """
    if scheme == "bilou":
        tags = [tag[0].translate(_BILOU_TO_BIOES) + tag[1:] for tag in tags]
    bioes = ["O"] * len(tags)
    for start, end in _spans(tags):
        kind = tags[start][1:]
        if end - start == 1:
            bioes[start] = "S" + kind
        else:
            bioes[start:end] = ["B" + kind, *["I" + kind] * (end - start - 2), "E" + kind]
    return bioes


def from_bioes(tags: Sequence[str]) -> list[str]:
    """Writes a sentence's spans, read by conlleval's rule, as IOB2.

    Args:
      tags: tags of the words, with the letters B, I, E, S and O, perhaps ill-formed.
    """
    bio2 = ["O"] * len(tags)
    for start, end in _spans(tags):
        kind = tags[start][1:]
        bio2[start:end] = ["B" + kind, *["I" + kind] * (end - start - 1)]
    return bio2


def _is_possible(tag: str) -> bool:
    letter, kind = tag[:1], tag[1:]
    if letter == "O":
        return not kind
    return letter in tuple("BIESLU") and (not kind or (kind[0] == "-" and len(kind) > 1))


def _spans(tags: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yields the spans of a sentence in order, as (first word, last word + 1)."""
    start = None
    for position, (before, tag) in enumerate(itertools.pairwise(["O", *tags, "O"])):
        if tag[0] in "IE" and before[0] in "BI" and tag[1:] == before[1:]:
            continue
        if start is not None:
            yield start, position
        start = None if tag == "O" else position
