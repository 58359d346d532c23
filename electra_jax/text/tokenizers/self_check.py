"""Whether two readings of a tokenizer give the same ids, on sentences in many scripts.

A Hugging Face folder often says twice how text becomes ids: in tokenizer.json, which the `tokenizers` library runs, and
in the files next to it. transformers' precedence decides which counts, see `huggingface_files`; a contradiction is
reported.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.text.tokenizers import huggingface_files, library_tokenizer, special_tokens, tokenizer, wordpiece
from electra_jax.text.tokenizers.tokenizer import Tokenizer

WHOLE, VOCABULARY = "tokenizer.json", "vocab.txt"
_SENTENCES = "package:sentences.txt"
# Controls, odd blanks and combining marks, which a text file does not show.
_ODD = (
    "Ça va? ÉTÉ naïve 東京 Привет\t(unaffable) don't  STOP... ½ ﬁ",
    " \u200b x\u00a0y €5 😀 e\u0301 ",
    "a\u3000b \x07bell\x00 \ufffd \u202eab\u202c \u0438\u0306 \u304b\u3099 o\u0302\u0301 \u00adsoft",
)
# Of each tokenizer.json; published ones have up to a thousand, all treated alike.
_MOST_ADDED = 50
_SHOWN_IDS = 8

Ids = list[list[int]]


def sentences() -> list[str]:
    """The sentences that tokenizers are compared on; none spells a special token."""
    return [*storage.read(_SENTENCES).decode().rstrip("\n").split("\n"), *_ODD]


def ids_of(given: Tokenizer, texts: Sequence[str]) -> Ids:
    """The ids that a tokenizer gives to each text."""
    ids, lengths = given.encode(texts)
    flat, found, start = ids.tolist(), [], 0
    for length in lengths.tolist():
        found.append(flat[start : start + length])
        start += length
    return found


def first_difference(texts: Iterable[str], one: Ids, other: Ids, names: tuple[str, str]) -> str | None:
    """Says of the first text with different ids which they are, from where they differ on; None if all are equal.

    Args:
      texts: the texts.
      one, other: the ids of each text in two readings.
      names: of the readings, such as "by vocab.txt".
    """
    for text, ids, others in zip(texts, one, other, strict=True):
        if ids != others:
            pairs = enumerate(zip(ids, others, strict=False))
            start = next((place for place, (a, b) in pairs if a != b), min(len(ids), len(others)))
            return f"{text!r} has the ids {_shown(ids, start)} {names[0]}, {_shown(others, start)} {names[1]}"
    return None


def contradictions(path: str, ours: Tokenizer) -> tuple[str, ...]:
    """What the files of a given tokenizer say differently from how it was read, one line for each.

    Args:
      path: what was given: a folder or a file, local or remote.
      ours: the tokenizer that was read from it.

    Raises:
      InputError: a file is damaged.
    """
    if not storage.is_directory(path):
        return _beside(path, ours)
    names = storage.names(path)
    if WHOLE not in names:
        return ()
    place = storage.join(path, WHOLE)
    described = _described(place)
    texts = [*sentences(), *_spelling_added(described)]
    try:
        written = library_tokenizer.ids_as_written(json.dumps(described), place, texts)
    except InputError as error:
        return (f"tokenizer: {error} Only its pieces are used, with the rules of {huggingface_files.CONFIG}",)
    found = []
    if difference := first_difference(
        texts, written, ids_of(ours, texts), (f"by {WHOLE} alone", "by all files, which count here")
    ):
        found.append(f"tokenizer: {path}: its files contradict each other: {difference}")
    if VOCABULARY in names and ours.kind == "wordpiece":
        found += _of_vocabulary(path, described, written)
    return tuple(found)


def check_written(given: Tokenizer, directory: str) -> int:
    """Runs every tokenizer.json of an exported folder with the `tokenizers` library.

    Args:
      given: the tokenizer that was exported.
      directory: the export; each network may have a folder of its own.

    Returns:
      How many of these files there are.

    Raises:
      InputError: a file gives other ids than the tokenizer; its message says which.
    """
    folders = [directory, *(storage.join(directory, name) for name in storage.names(directory))]
    places = [storage.join(folder, WHOLE) for folder in folders]
    places = [place for place in places if storage.exists(place)]
    for place in places:
        described = _described(place)
        texts = [*sentences(), *_spelling_added(described)]
        # Next to tokenizer_config.json it is for transformers, which expects [CLS] and [SEP] around a text.
        marked = storage.exists(storage.join(storage.parent(place), huggingface_files.CONFIG))
        ids = ids_of(given, texts)
        expected = [[given.cls_id, *of_text, given.sep_id] for of_text in ids] if marked else ids
        written = library_tokenizer.ids_as_written(json.dumps(described), place, texts, add_special_tokens=marked)
        if difference := first_difference(
            texts, expected, written, ("in the model's tokenizer", f"in {storage.name(place)} as written")
        ):
            raise InputError(f"{place}: {difference}")
    return len(places)


def _shown(ids: list[int], start: int) -> str:
    shown = ids[start : start + _SHOWN_IDS]
    before, after = "…, " if start else "", ", …" if len(ids) > start + _SHOWN_IDS else ""
    return f"[{before}{', '.join(map(str, shown))}{after}]"


def _described(place: str) -> Any:
    return foreign_json.read(place, "copy the folder again")


def _spelling_added(described: Any) -> list[str]:
    """Texts that spell the added pieces of a tokenizer.json, each inside a word and by itself."""
    added = described.get("added_tokens") if isinstance(described, dict) else None
    contents = [piece.get("content") for piece in added or [] if isinstance(piece, dict)]
    pieces = [
        content
        for content in contents
        if isinstance(content, str) and content not in special_tokens.KNOWN and not special_tokens.is_spare(content)
    ]
    return [f"x{piece}y {piece} É" for piece in pieces[:_MOST_ADDED]]


def _of_vocabulary(path: str, described: Any, written: Ids) -> list[str]:
    """What a vocab.txt says differently from the tokenizer.json next to it, which transformers prefers."""
    model = described.get("model")
    pieces = model.get("vocab") if isinstance(model, dict) else None
    text = storage.read(storage.join(path, VOCABULARY)).decode("utf-8", "replace")
    listed = wordpiece.read_vocabulary(text)
    known = {**pieces} if isinstance(pieces, dict) else {}
    known |= {piece["content"]: piece["id"] for piece in described.get("added_tokens") or []}
    others = [
        (row, piece) for piece, row in listed.items() if known.get(piece) != row and not special_tokens.is_spare(piece)
    ]
    if not others or not known:
        return []
    row, piece = others[0]
    there = "is not a piece" if piece not in known else f"has the id {known[piece]}"
    said = f"{piece!r} has the id {row} in {VOCABULARY} and {there} in {WHOLE}, which counts here"
    replaced = {**described, "model": {**model, "vocab": listed}, "added_tokens": []}
    texts = sentences()
    try:
        by_list = library_tokenizer.ids_as_written(json.dumps(replaced), path, texts)
        difference = first_difference(texts, by_list, written[: len(texts)], (f"by {VOCABULARY}", f"by {WHOLE}"))
    except InputError:
        difference = None
    more = f"; {difference}" if difference else ""
    return [f"tokenizer: {path}: its files contradict each other: {said}{more}"]


def _beside(path: str, ours: Tokenizer) -> tuple[str, ...]:
    """Whether a file, read alone as its path says, gives other ids than its folder."""
    folder = storage.parent(path)
    if storage.name(path) not in (WHOLE, VOCABULARY) or not storage.exists(
        storage.join(folder, huggingface_files.CONFIG)
    ):
        return ()
    advice = f"name the folder, {folder}, to follow what lies next to the file"
    try:
        whole = tokenizer.load(folder)
    except InputError as error:
        return (f"tokenizer: {path} is read alone; as a folder it would be refused: {error}",)
    texts = sentences()
    difference = first_difference(
        texts, ids_of(ours, texts), ids_of(whole, texts), ("by this file alone", "by all files of its folder")
    )
    return (f"tokenizer: {path} is read alone: {difference}; {advice}",) if difference else ()
