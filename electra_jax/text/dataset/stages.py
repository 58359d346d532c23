"""The work of one worker on one unit of text: pure functions of the unit and the files of earlier stages.

Each file of a unit's result appears complete or not at all, its summary last, so that workers may be killed at any
time, and one that repeats the work writes the same bytes.
"""

import contextlib
import dataclasses
import errno
import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypedDict

import numpy as np

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.dataset import dataset as datasets
from electra_jax.text.dataset import filters, row_builders
from electra_jax.text.dataset.google_rows import GoogleExampleBuilder
from electra_jax.text.dataset.shards import ShardWriter
from electra_jax.text.dataset.units import Settings, Unit
from electra_jax.text.sources import text_sources
from electra_jax.text.sources.text_sources import Document
from electra_jax.text.tokenizers import tokenizer, tokenizer_report
from electra_jax.text.tokenizers.tokenizer import Tokenizer

# Receives the number of bytes read since the last call.
Read = Callable[[int], None]
# Does one stage's work on one unit.
Task = Callable[[Settings, Unit, Read], None]

_CHUNK_CHARACTERS = 1_000_000  # Text encoded at once.
# Documents of n tokens are counted under the bit length of n: 0, 1, 2-3, 4-7, …
LENGTH_BINS = 33
_TOLD_UNKNOWN = 0.01  # Share of a document's tokens from which its characters are looked at.
_COUNTED_CHARACTERS = 1_000_000  # Of a unit.
_KEPT_CHARACTERS = 100
_SHOWN_LETTERS = 30  # Of a word that is too long.
_EXAMPLES = 3  # Rows of each split of a unit that are kept to be shown.


def scan(settings: Settings, unit: Unit, read: Read) -> None:
    """Reads a unit for the first time: hashes of its documents, and a sample of them for the tokenizer.

    Writes work/hashes-N.npy (uint64 [documents, 2]) and, if a tokenizer is to be trained, work/sample-N.txt.
    """
    digests = bytearray()
    sample: list[str] = []
    fraction = settings.sample_fractions[unit.source] if settings.sample_fractions else 0.0
    heldout_fraction = settings.data.heldout_fraction
    for document in _documents(settings, unit, read, _ignore):  # `write_rows` collects the notes.
        digest = filters.content_hash(document)
        digests += digest
        if (
            not filters.is_heldout(digest, heldout_fraction)
            and filters.is_sampled(digest, fraction)
            and not filters.length_fault(document, settings.data.filters)
        ):
            sample += document.lines
    if settings.sample_fractions:
        storage.write(settings.work("sample", unit.number, "txt"), "".join(f"{line}\n" for line in sample).encode())
    filters.save(scan_path(settings, unit), np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64))


def scan_path(settings: Settings, unit: Unit) -> str:
    """The file whose presence means that a unit was scanned."""
    return settings.work("hashes", unit.number, "npy")


def write_rows(settings: Settings, unit: Unit, read: Read) -> None:
    """Turns a unit into shards of rows: train-N.bin and heldout-N.bin; a split without rows has no file.

    Writes work/counts-N.npy (int64 [splits, vocabulary], non-special tokens) and work/rows-N.json (see `_summary`).

    Raises:
      InputError: the text cannot be read, or has changed since it was scanned.
    """
    pieces = _tokenizer(settings.directory, storage.read(settings.tokenizer_mark))
    kept, unknown = _Kept(settings, unit), _Unknown(pieces)
    rng = np.random.Generator(np.random.Philox(key=settings.data.seed, counter=[0, 0, 0, unit.number]))
    with contextlib.ExitStack() as stack:
        splits = {name: stack.enter_context(_Split(settings, unit, name, pieces, rng)) for name in datasets.SPLITS}
        for chunk in _chunks(kept.documents(read)):
            lines = list(itertools.chain.from_iterable(document.lines for document, _ in chunk))
            ids, lengths = pieces.encode(lines)
            line_ends = np.cumsum([len(document.lines) for document, _ in chunk])
            token_ends = np.concatenate([[0], np.cumsum(lengths)])
            for (document, heldout), line_end in zip(chunk, line_ends, strict=True):
                first = line_end - len(document.lines)
                tokens = ids[token_ends[first] : token_ends[line_end]]
                if kept.is_known(tokens, pieces.unknown_id):
                    kept.count(document, tokens)
                    unknown.add(document, tokens)
                    splits["heldout" if heldout else "train"].add(tokens, lengths[first:line_end])
        for split in splits.values():
            split.finish()
    filters.save(settings.work("counts", unit.number, "npy"), np.stack([split.counts for split in splits.values()]))
    summary = kept.summary() | unknown.summary() | {"splits": {name: split.summary() for name, split in splits.items()}}
    storage.write(rows_path(settings, unit), json.dumps(summary).encode())


def rows_path(settings: Settings, unit: Unit) -> str:
    """The file whose presence means that a unit's rows are written."""
    return settings.work("rows", unit.number, "json")


def attempt(task: Task, settings: Settings, unit: Unit, read: Read) -> str:
    """Runs a task; returns a message for the user if it fails, else ""."""
    try:
        task(settings, unit, read)
    except InputError as error:
        return str(error)
    except OSError as error:
        return storage_fault(settings.directory, error)
    return ""


def storage_fault(directory: str, error: OSError) -> str:
    """Message on why a dataset cannot be written, with the fix."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full; free some space"
    else:
        cause = f"{error.strerror}: {error.filename}" if error.filename else error.strerror or str(error)
        reason = f"{cause}; fix it"
    return (
        f"config.data.directory: cannot write {directory}: {reason} and run the same command again, which continues "
        "from here."
    )


@functools.lru_cache(maxsize=1)
def _tokenizer(directory: str, sha256: bytes) -> Tokenizer:
    """The dataset's tokenizer, opened once in a process; the hash tells it from an earlier one at the same path."""
    found = tokenizer.load(storage.join(directory, "tokenizer"))
    if found.sha256 != sha256.decode():
        raise InputError(f"{directory}/tokenizer changed while the dataset was being made; run again with --overwrite.")
    return found


def _documents(settings: Settings, unit: Unit, read: Read, note: Callable[[str], None]) -> Iterator[Document]:
    for piece in unit.pieces:
        yield from text_sources.documents(piece, settings.download_cache, read, note)


def _ignore(note: str) -> None:
    pass


def _chunks(documents: Iterable[tuple[Document, bool]]) -> Iterator[list[tuple[Document, bool]]]:
    gathered: list[tuple[Document, bool]] = []
    length = 0
    for entry in documents:
        gathered.append(entry)
        length += sum(map(len, entry[0].lines))
        if length >= _CHUNK_CHARACTERS:
            yield gathered
            gathered, length = [], 0
    if gathered:
        yield gathered


@dataclasses.dataclass
class _Kept:
    """The documents of a unit that the filters keep, with counts of what was read and dropped."""

    settings: Settings
    unit: Unit
    documents_read: int = 0
    lines: int = 0
    characters: int = 0
    # Of documents that are kept, also of text that rows then drop:
    words: int = 0  # Separated by blanks.
    tokens: int = 0  # Without the special ones of rows.
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)
    notes: list[str] = dataclasses.field(default_factory=list)  # On bytes of files that were passed over.

    def documents(self, read: Read) -> Iterator[tuple[Document, bool]]:
        """Yields the documents that length and copy filters keep, each with whether it is held out."""
        data = self.settings.data
        known = self._scanned()
        for number, document in enumerate(_documents(self.settings, self.unit, read, self.notes.append)):
            self.documents_read += 1
            self.lines += len(document.lines)
            self.characters += sum(map(len, document.lines))
            digest = filters.content_hash(document)
            fault = filters.length_fault(document, data.filters)
            if known:
                digests, copies = known
                if number >= len(digests) or digests[number].tobytes() != digest:
                    raise self._changed()
                fault = fault or ("copies" if copies[number] else "")
            if fault:
                self.dropped[fault] += 1
            else:
                yield document, filters.is_heldout(digest, data.heldout_fraction)
        if known and self.documents_read != len(known[0]):
            raise self._changed()

    def is_known(self, tokens: np.ndarray, unknown_id: int) -> bool:
        """Whether a document has few enough unknown tokens; counts those that have too many."""
        largest = self.settings.data.filters.largest_unknown_share
        if largest < 1 and np.count_nonzero(tokens == unknown_id) > largest * len(tokens):
            self.dropped["unknown"] += 1
            return False
        return True

    def count(self, document: Document, tokens: np.ndarray) -> None:
        """Adds a document that is kept to the words and tokens."""
        self.words += sum(line.count(" ") + 1 for line in document.lines)
        self.tokens += len(tokens)

    def summary(self) -> dict[str, Any]:
        """Counts of the text for rows-N.json."""
        counted = dict(
            documents=self.documents_read,
            lines=self.lines,
            characters=self.characters,
            words=self.words,
            tokens=self.tokens,
        )
        return {"source": self.unit.source, **counted, "dropped": dict(self.dropped), "notes": self.notes}

    def _scanned(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Results of the scan: hashes as big-endian uint64 [documents, 2], and which documents are copies."""
        if not self.settings.data.filters.drop_copies:
            return None
        digests = filters.load(scan_path(self.settings, self.unit)).astype(">u8")
        return digests, filters.load(self.settings.work("copies", self.unit.number, "npy"))

    def _changed(self) -> InputError:
        places = sorted({piece.place for piece in self.unit.pieces})
        return InputError(
            f"config.data.sources: {', '.join(places[:3])} changed while the dataset was being made. Keep the text "
            "unchanged and prepare it again with --overwrite."
        )


@dataclasses.dataclass
class _Unknown:
    """What a tokenizer does not know of the documents of a unit: characters, and words that are too long."""

    pieces: Tokenizer
    characters: Counter[str] = dataclasses.field(default_factory=Counter)
    long_words: int = 0
    long_word: str = ""  # The beginning of the first.

    def add(self, document: Document, tokens: np.ndarray) -> None:
        """Adds a document that is kept; one without unknown tokens costs nothing."""
        unknown = np.count_nonzero(tokens == self.pieces.unknown_id)
        if not unknown:
            return
        for line in document.lines:
            for word in self.pieces.overlong(line):
                self.long_words += 1
                self.long_word = self.long_word or word[:_SHOWN_LETTERS]
        if unknown > _TOLD_UNKNOWN * len(tokens) and self.characters.total() < _COUNTED_CHARACTERS:
            for line in document.lines:
                self.characters.update(line)

    def summary(self) -> dict[str, Any]:
        """Counts for rows-N.json: of the most frequent characters that no piece has, and of long words."""
        seen = sorted(character for character in self.characters if not character.isspace())
        unknown = tokenizer_report.unknown_characters(self.pieces, seen)
        counts = Counter({character: self.characters[character] for character in unknown})
        return {
            "unknown_characters": dict(counts.most_common(_KEPT_CHARACTERS)),
            "long_words": self.long_words,
            "long_word": self.long_word,
        }


class _Layout(TypedDict):
    """Length and special tokens of a row."""

    length: int
    cls_id: int
    sep_id: int
    pad_id: int


class _Drawn(TypedDict):
    """Random choices of a row: their generator and probabilities."""

    rng: np.random.Generator
    single_segment_probability: float
    short_row_probability: float


class _Split(contextlib.AbstractContextManager):
    """The rows of one split of one unit."""

    def __init__(self, settings: Settings, unit: Unit, name: str, pieces: Tokenizer, rng: np.random.Generator) -> None:
        data = settings.data
        path = storage.join(settings.directory, f"{name}-{unit.number:05d}.bin")
        self._writer = ShardWriter(path, length=data.sequence_length, tokenizer=pieces)
        self._documents = 0
        self._examples: list[list[int]] = []
        self._lengths = np.zeros(LENGTH_BINS, np.int64)
        layout = _Layout(length=data.sequence_length, cls_id=pieces.cls_id, sep_id=pieces.sep_id, pad_id=pieces.pad_id)
        drawn = _Drawn(
            rng=rng,
            single_segment_probability=data.single_segment_probability,
            short_row_probability=data.short_row_probability,
        )
        # Rows, some at a time, of a document's tokens, int32 [N], and the lengths of its lines.
        self._rows: Callable[[np.ndarray, np.ndarray], Iterable[np.ndarray]]
        self._packer: row_builders.Packer | None = None
        match data.rows:
            case "segment_pairs":
                self._rows = lambda tokens, lengths: row_builders.segment_pairs(tokens, lengths, **layout, **drawn)
            case "google_segment_pairs":
                builder = GoogleExampleBuilder(**layout, **drawn)
                self._rows = lambda tokens, lengths: [builder.add(tokens, lengths)]
            case "packed":
                self._packer = packer = row_builders.Packer(**layout)
                self._rows = lambda tokens, _: [packer.add(tokens)]

    def __enter__(self) -> "_Split":
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    @property
    def counts(self) -> np.ndarray:
        """How often each non-special token was written, int64 [vocabulary]."""
        return self._writer.unigram_counts

    def add(self, tokens: np.ndarray, line_lengths: np.ndarray) -> None:
        """Adds one document."""
        self._documents += 1
        self._lengths[len(tokens).bit_length()] += 1
        for rows in self._rows(tokens, line_lengths):
            self._write(rows)

    def finish(self) -> None:
        """Writes the rows that waited for more documents."""
        if self._packer:
            self._write(self._packer.finish())

    def _write(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        if len(self._examples) < _EXAMPLES:
            self._examples.append(rows[0].tolist())
        self._writer.add(rows)

    def summary(self) -> dict[str, Any]:
        """Entry of this split in rows-N.json."""
        return self._writer.summary() | {
            "documents": self._documents,
            "lengths": self._lengths.tolist(),
            "examples": self._examples,
        }
