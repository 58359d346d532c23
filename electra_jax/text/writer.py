"""Makes a dataset: documents → tokenizer → rows → shards on disk, a few megabytes of text at a time."""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import pathlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ml_collections
import numpy as np

from electra_jax.errors import InputError, MismatchError
from electra_jax.text import dataset as datasets
from electra_jax.text import examples, sources
from electra_jax.text.dataset import Dataset
from electra_jax.text.shards import SplitWriter
from electra_jax.text.sources import Document
from electra_jax.text.tokenizer import Tokenizer, train_wordpiece

_CHUNK_CHARACTERS = 1_000_000  # Text encoded at once.
_SECONDS_BETWEEN_LINES = 30
_TRAINING_CHARACTERS = 200_000_000  # Of text for the tokenizer, shared out evenly among the sources.


def ensure(data: ml_collections.ConfigDict, progress: Callable[[str], None] = print) -> Dataset:
    """Opens `data.directory`, preparing it first when there is nothing.

    Args:
      data: `config.data`.
      progress: receives lines of text that say what happens.

    Raises:
      MismatchError: the directory holds a dataset made with other values.
      InputError: the directory holds something else, a dataset that is damaged, or see `prepare`.
    """
    directory = pathlib.Path(data.directory).expanduser()
    if not datasets.is_prepared(directory):
        return prepare(data, progress)
    dataset = datasets.open_dataset(directory)
    if dataset.fingerprint != data_fingerprint(data):
        found = _row_fields(ml_collections.ConfigDict(dataset.manifest["config"]))
        expected = _row_fields(data)
        differences = [
            f"  config.data.{name}: {found.get(name)!r} there, {expected.get(name)!r} here"
            for name in sorted(found | expected)
            if found.get(name) != expected.get(name)
        ]
        raise MismatchError(
            f"{directory} was prepared with another config:\n" + "\n".join(differences) + "\n"
            "Choose another --config.data.directory=, or delete that directory to prepare it anew."
        )
    return dataset


def data_fingerprint(data: ml_collections.ConfigDict) -> str:
    """Returns the SHA-256 of the fields of `config.data` that the rows follow from, in hexadecimal."""
    return hashlib.sha256(json.dumps(_row_fields(data), sort_keys=True).encode()).hexdigest()


def prepare(data: ml_collections.ConfigDict, progress: Callable[[str], None] = print) -> Dataset:
    """Makes the dataset that `config.data` describes, and opens it.

    Everything is written into a neighbouring folder that is renamed at the end. Memory stays the same however much
    text there is, except that one document is held whole.

    Args:
      data: `config.data`.
      progress: receives lines of text that say what was read and made.

    Raises:
      InputError: bad sources or fields, a directory that is not empty or cannot be written, a full disk, or too little
        text for both splits.
    """
    directory = pathlib.Path(data.directory).expanduser()
    if wrong := _problems(data, directory):
        raise InputError("\n".join(wrong))
    for left_over in sorted(directory.parent.glob(f"{directory.name}.partial-*")):
        progress(f"{left_over} is there, from a run that was killed (then delete it) or one that is still at work")
    sources.download(data.sources, data.download_cache)
    # Not the process id alone: in containers that share a disk it is often the same.
    partial = directory.with_name(f"{directory.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        _write_dataset(data, partial, progress)
        # Onto nothing or an empty folder; anything else makes this fail.
        os.rename(partial, directory)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            reason = "another process filled it meanwhile; run again to use what it made"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space, or set --config.data.directory= to another disk"
        else:
            reason = f"{error.strerror}; set --config.data.directory= to a place that can be written"
        raise InputError(f"config.data.directory: cannot write {directory}: {reason}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return datasets.open_dataset(directory)


def _row_fields(data: ml_collections.ConfigDict) -> dict[str, Any]:
    """Dotted names and values of the fields that the rows follow from, in types that JSON knows."""
    fields = json.loads(data.to_json())
    for name in ("directory", "download_cache"):
        fields.pop(name, None)
    tokenizer = fields.pop("tokenizer")
    if tokenizer["source"] != "train":
        del tokenizer["vocabulary_size"]  # The file decides.
    return fields | {f"tokenizer.{name}": value for name, value in tokenizer.items()}


def _problems(data: ml_collections.ConfigDict, directory: pathlib.Path) -> list[str]:
    found = sources.problems(data.sources)
    if data.rows != "segment_pairs":
        found.append(f"config.data.rows: found {data.rows!r}, expected 'segment_pairs'.")
    if data.sequence_length < examples.SHORTEST_ROW:
        shortest = examples.SHORTEST_ROW
        found.append(f"config.data.sequence_length: found {data.sequence_length}, expected {shortest} or more.")
    if not 0 < data.heldout_fraction < 1:
        found.append(f"config.data.heldout_fraction: found {data.heldout_fraction}, expected a number between 0 and 1.")
    for name in ("single_segment_probability", "short_row_probability"):
        if not 0 <= data[name] <= 1:
            found.append(f"config.data.{name}: found {data[name]}, expected a number from 0 to 1.")
    if "://" in data.directory:
        # A path of this name would be made as local folders.
        found.append(f"config.data.directory: {data.directory} is no local path; object storage cannot be used yet.")
    elif directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        found.append(
            f"config.data.directory: {directory} already holds something and is never overwritten; set "
            "--config.data.directory= to a new place, or delete it."
        )
    return found


@dataclasses.dataclass
class _Source:
    """What has been read from one source."""

    source: str
    documents: int = 0
    lines: int = 0
    characters: int = 0


def _write_dataset(data: ml_collections.ConfigDict, directory: pathlib.Path, progress: Callable[[str], None]) -> None:
    started = time.monotonic()
    tokenizer = _make_tokenizer(data)
    tokenizer.save(directory / "tokenizer")
    seconds = time.monotonic() - started
    progress(f"tokenizer: {tokenizer.vocabulary_size} pieces, source {data.tokenizer.source!r}, {seconds:.1f} s")

    started = time.monotonic()
    read = [_Source(source) for source in data.sources]
    words = number = 0
    reported = started
    with contextlib.ExitStack() as stack:
        train, heldout = (
            stack.enter_context(SplitWriter(directory, name, data.sequence_length, tokenizer))
            for name in datasets.SPLITS
        )
        for chunk in _chunks(_documents(data, read)):
            texts = [line for document in chunk for line in document.lines]
            words += sum(text.count(" ") + 1 for text in texts)
            encoded = iter(tokenizer.encode_batch(texts))
            for document in chunk:
                lines = list(itertools.islice(encoded, len(document.lines)))
                split = heldout if _is_heldout(document, data.heldout_fraction) else train
                split.add(_rows(lines, data, tokenizer, number))
                number += 1
            if time.monotonic() - reported > _SECONDS_BETWEEN_LINES:
                reported = time.monotonic()
                characters = sum(source.characters for source in read)
                progress(f"{number} documents, {characters / 1e6:.0f} M characters in {reported - started:.0f} s …")
    seconds = time.monotonic() - started

    if not (train.num_rows and heldout.num_rows):
        raise InputError(
            f"config.data.heldout_fraction: {number} documents gave {train.num_documents} to train on and "
            f"{heldout.num_documents} held out, and each side needs one. Add text, end documents sooner "
            f"(#documents=line), or change --config.data.heldout_fraction={data.heldout_fraction}."
        )
    _report(read, words, seconds, tokenizer, (train, heldout), progress)
    np.save(directory / "unigram_counts.npy", train.unigram_counts)
    manifest = {
        "format_version": datasets.FORMAT_VERSION,
        "data_fingerprint": data_fingerprint(data),
        "config": json.loads(data.to_json()),
        "length": data.sequence_length,
        "dtype": datasets.token_dtype(tokenizer.vocabulary_size).str,
        "tokenizer_sha256": tokenizer.sha256,
        "sources": [dataclasses.asdict(source) for source in read],
        "splits": {split.name: split.manifest() for split in (train, heldout)},
        "heldout_unigram_entropy": _entropy(heldout.unigram_counts),
    }
    # Last, so that a folder with a manifest is a whole dataset.
    (directory / datasets.MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")


def _documents(data: ml_collections.ConfigDict, read: list[_Source]) -> Iterator[Document]:
    """Yields the documents of all sources, counting in `read` what came from each."""
    for entry in read:
        for document in sources.documents(entry.source, data.download_cache):
            entry.documents += 1
            entry.lines += len(document.lines)
            entry.characters += sum(map(len, document.lines))
            yield document
        if not entry.documents:
            raise InputError(f"config.data.sources: {entry.source} holds no text. Take it out.")


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    gathered: list[Document] = []
    length = 0
    for document in documents:
        gathered.append(document)
        length += sum(map(len, document.lines))
        if length >= _CHUNK_CHARACTERS:
            yield gathered
            gathered, length = [], 0
    if gathered:
        yield gathered


def _is_heldout(document: Document, fraction: float) -> bool:
    """Decides by the text alone, so that copies of a document fall on the same side."""
    digest = hashlib.sha256("\n".join(document.lines).encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def _make_tokenizer(data: ml_collections.ConfigDict) -> Tokenizer:
    options = dict(lowercase=data.tokenizer.lowercase, strip_accents=data.tokenizer.strip_accents)
    if data.tokenizer.source != "train":
        return Tokenizer.load(data.tokenizer.source, **options)
    return train_wordpiece(_training_texts(data), vocabulary_size=data.tokenizer.vocabulary_size, **options)


def _training_texts(data: ml_collections.ConfigDict) -> Iterator[str]:
    """Yields lines for the tokenizer: the beginning of every source, held-out documents left out."""
    for source in data.sources:
        left = _TRAINING_CHARACTERS // len(data.sources)
        for document in sources.documents(source, data.download_cache):
            if not _is_heldout(document, data.heldout_fraction):
                yield from document.lines
                left -= sum(map(len, document.lines))
            if left <= 0:
                break


def _rows(
    lines: list[list[int]], data: ml_collections.ConfigDict, tokenizer: Tokenizer, number: int
) -> Iterator[np.ndarray]:
    return examples.segment_pairs(
        lines,
        length=data.sequence_length,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        pad_id=tokenizer.pad_id,
        # Keyed by the document's number, so that its boundaries do not depend on the documents before it.
        rng=np.random.Generator(np.random.Philox(key=data.seed, counter=[0, 0, 0, number])),
        single_segment_probability=data.single_segment_probability,
        short_row_probability=data.short_row_probability,
    )


def _entropy(counts: np.ndarray) -> float:
    """Entropy in nats of the distribution that int counts [vocabulary] describe."""
    frequencies = counts[counts > 0] / counts.sum()
    return float(-np.sum(frequencies * np.log(frequencies)))


def _report(
    read: list[_Source],
    words: int,
    seconds: float,
    tokenizer: Tokenizer,
    splits: tuple[SplitWriter, ...],
    progress: Callable[[str], None],
) -> None:
    for source in read:
        progress(
            f"read {source.documents} documents, {source.lines} lines, {source.characters / 1e6:.2f} M characters "
            f"from {source.source.split('#')[0]}"
        )
    counts = sum(split.unigram_counts for split in splits)
    megabytes = sum(source.characters for source in read) / 1e6
    progress(
        f"tokenized {words} words in {seconds:.1f} s ({megabytes / max(seconds, 1e-9):.1f} M characters/s): "
        f"{counts.sum() / words:.2f} tokens a word, {counts[tokenizer.unknown_id] / counts.sum():.4%} unknown"
    )
    for split in splits:
        positions = split.num_rows * split.length
        progress(
            f"{split.name}: {split.num_documents} documents, {split.num_rows} rows of {split.length}, "
            f"{split.num_tokens} tokens, {1 - split.num_tokens / positions:.1%} padding"
        )
