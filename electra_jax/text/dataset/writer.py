"""Makes a dataset: plan → scan → copies, tokenizer → rows → manifest.

Everything is written into the dataset's own directory, intermediate files into its work/ folder. Each file appears
complete, so that a killed preparation continues where it was; the manifest is written last, and then work/ is deleted.
"""

import dataclasses
import hashlib
import io
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from electra_jax import storage
from electra_jax.config.pretraining import DataConfig
from electra_jax.config.schema import AUTO
from electra_jax.errors import InputError, MismatchError
from electra_jax.progress import ProgressLine
from electra_jax.stop_signals import StopSignals
from electra_jax.text.dataset import dataset as datasets
from electra_jax.text.dataset import filters, manifest, stages, units, workspace
from electra_jax.text.dataset.dataset import Dataset
from electra_jax.text.dataset.runners import Runner
from electra_jax.text.dataset.units import Settings, Unit
from electra_jax.text.sources import text_sources
from electra_jax.text.tokenizers import casing as casings
from electra_jax.text.tokenizers import self_check, tokenizer, tokenizer_report
from electra_jax.text.tokenizers.tokenizer import Tokenizer
from electra_jax.wording import duration

# Compressed text as a multiple of its file, an estimate that only affects how much is sampled for the tokenizer.
_COMPRESSION = 4
_MOST_SPARE_ROWS = 127  # Word tables are padded to multiples of 8, 64 or 128.
_REPORTED_CHARACTERS = 2_000_000  # Text that describes a new tokenizer.
_TRAINING_OPTIONS = ("kind", "vocabulary_size", "lowercase", "strip_accents", "character_coverage")


def ensure(
    data: DataConfig, line: ProgressLine, runner: Runner | None = None, stop: StopSignals | None = None
) -> tuple[Dataset, bool]:
    """Opens the dataset in `data.directory`, which is prepared first if it is missing; returns whether it was.

    Args:
      data: `config.data`.
      line: receives progress messages.
      runner: where to prepare; local processes by default.
      stop: requests that may end the process meanwhile.

    Raises:
      MismatchError: the directory holds a dataset made with other values, or with another tokenizer.
      InputError: the directory holds something else, a dataset that is damaged, or see `prepare`.
    """
    if not datasets.is_prepared(data.directory):
        return prepare(data, line, runner, stop), True
    dataset = datasets.open_dataset(data.directory)
    data = units.with_casing(data, dataset.manifest["config"].get("tokenizer"))
    if dataset.fingerprint != units.fingerprint(data):
        raise MismatchError(
            f"{data.directory} was prepared with another config:\n"
            + "\n".join(workspace.differences(dataset.manifest["config"], units.row_fields(data)))
            + "\nChoose another --config.data.directory=, or make it again: python -m electra_jax.prepare --overwrite"
        )
    if data.tokenizer.source != "train" and storage.exists(data.tokenizer.source):
        given, _ = _loaded_tokenizer(data, data.tokenizer.source)
        if given.sha256 != dataset.tokenizer.sha256 and not _was_read_alone(data, dataset.tokenizer):
            raise MismatchError(
                f"config.data.tokenizer.source: {data.tokenizer.source} is not the tokenizer that {data.directory} was "
                f"prepared with (SHA-256 {given.sha256[:12]}… there, {dataset.tokenizer.sha256[:12]}… in the dataset). "
                "Restore the old file, or choose another --config.data.directory=."
            )
    return dataset, False


def prepare(
    data: DataConfig,
    line: ProgressLine,
    runner: Runner | None = None,
    stop: StopSignals | None = None,
    *,
    overwrite: bool = False,
) -> Dataset:
    """Makes the dataset that `config.data` describes, or finishes one that was interrupted, and opens it.

    Args:
      data: `config.data`.
      line: receives messages on what was read and made.
      runner: where to work; local processes by default.
      stop: requests that may end the process meanwhile.
      overwrite: deletes an existing dataset, finished or not.

    Raises:
      InputError: bad sources or fields, a directory that holds something else or cannot be written, a full disk,
        another preparation running there, or too little text for both splits.
      MismatchError: the directory holds an unfinished dataset of another config.
    """
    runner = runner or Runner()
    if wrong := units.text_problems(data):
        raise InputError("\n".join(wrong))
    workspace.check(data.directory, overwrite)
    try:
        with workspace.locked(data.directory, line, stop or StopSignals()):
            if overwrite:
                workspace.clear(data.directory)
            elif datasets.is_prepared(data.directory):  # By a process that held the lock until now.
                return datasets.open_dataset(data.directory)
            return _prepare(data, line, runner)
    except OSError as error:
        raise InputError(stages.storage_fault(data.directory, error)) from error


def _prepare(data: DataConfig, line: ProgressLine, runner: Runner) -> Dataset:
    started = time.monotonic()
    text_sources.download(data.sources, data.download_cache)
    todo = units.make_units(data)
    data = workspace.begin(data, todo, line)
    settings = Settings(data.directory, data.download_cache, data, _sample_fractions(data, todo))
    # What is wrong with a given tokenizer is known before hours of reading.
    given = None if data.tokenizer.source == "train" else _ready_tokenizer(data, settings, todo, line)
    if settings.needs_scan:
        left = _unfinished(todo, [stages.scan_path(settings, unit) for unit in todo])
        runner.run("reading", stages.scan, settings, left, line)
    if settings.data.filters.drop_copies:
        copies = [settings.work("copies", unit.number, "npy") for unit in todo]
        if _unfinished(todo, copies):
            filters.write_copies([stages.scan_path(settings, unit) for unit in todo], copies)
    casing: Mapping[str, Any] = (
        casings.observed(given.normalize) if given else _decided_casing(data, settings, todo, line)
    )
    data = units.with_casing(data, casing)
    pieces = _ready_tokenizer(data, settings, todo, line) if given is None else given
    left = _unfinished(todo, [stages.rows_path(settings, unit) for unit in todo])
    runner.run("making rows", stages.write_rows, settings, left, line)
    _finish(data, settings, todo, pieces, casing.get("reason", ""), line)
    line.print(f"prepared in {duration(time.monotonic() - started)}: {data.directory}")
    return datasets.open_dataset(data.directory)


def _unfinished(todo: Sequence[Unit], results: Sequence[str]) -> list[Unit]:
    """Returns the units without a result."""
    if not results:
        return []
    there = set(storage.names(results[0].rpartition("/")[0]))
    return [unit for unit, path in zip(todo, results, strict=True) if path.rpartition("/")[2] not in there]


def _sample_fractions(data: DataConfig, todo: Sequence[Unit]) -> tuple[float, ...]:
    """Returns the share of each source's documents to train the tokenizer on: as much text from every source."""
    if data.tokenizer.source != "train":
        return ()
    share = tokenizer.SAMPLE_CHARACTERS / len(data.sources)
    characters = [1] * len(data.sources)
    for unit in todo:
        for piece in unit.pieces:
            compressed = piece.place.endswith((".gz", ".zst", ".parquet"))
            characters[unit.source] += piece.size * (_COMPRESSION if compressed else 1)
    return tuple(min(1.0, share / count) for count in characters)


def _decided_casing(
    data: DataConfig, settings: Settings, todo: Sequence[Unit], line: ProgressLine
) -> Mapping[str, Any]:
    """The fields of `casings.Casing` for a tokenizer that is trained, decided from its sample unless that was done."""
    given, path = data.tokenizer, storage.join(data.directory, units.WORK, "casing.json")
    if AUTO not in (given.lowercase, given.strip_accents):
        return {}
    if storage.exists(path):
        return dict(json.loads(storage.read(path)))
    decided = casings.decide(
        _sample(_sample_paths(settings, todo), characters=_REPORTED_CHARACTERS),
        lowercase=given.lowercase,
        strip_accents=given.strip_accents,
        kind=given.kind,
    )
    line.print(f"casing, decided from the text: {decided.reason}")
    storage.write(path, json.dumps(dataclasses.asdict(decided)).encode())
    return dataclasses.asdict(decided)


def _sample_paths(settings: Settings, todo: Sequence[Unit]) -> list[str]:
    return [settings.work("sample", unit.number, "txt") for unit in todo]


def _ready_tokenizer(data: DataConfig, settings: Settings, todo: Sequence[Unit], line: ProgressLine) -> Tokenizer:
    """Returns the dataset's tokenizer, trained or copied into the dataset unless that was done before."""
    mark, folder = settings.tokenizer_mark, storage.join(data.directory, "tokenizer")
    if storage.exists(mark):
        return tokenizer.load(folder)
    started = time.monotonic()
    if data.tokenizer.source == "train":
        samples = _sample_paths(settings, todo)
        wanted = {name: getattr(data.tokenizer, name) for name in _TRAINING_OPTIONS}
        pieces = tokenizer.train(_sample(samples), **wanted, note=line.print)
        shown = list(_sample(samples, characters=_REPORTED_CHARACTERS))
    else:
        (pieces, note), shown = _loaded_tokenizer(data, data.tokenizer.source), []
        for text in (*([note] if note else []), *self_check.contradictions(data.tokenizer.source, pieces)):
            line.print(text)
    pieces.save(folder)
    spare = tokenizer.spare_rows(pieces)
    size = f"{pieces.vocabulary_size - spare} pieces" + (f" and {spare} spare rows" if spare else "")
    line.print(
        f"tokenizer: {size}, {pieces.kind}, source {data.tokenizer.source!r}, {duration(time.monotonic() - started)}"
    )
    described = tokenizer_report.describe(pieces, shown)
    for text in described.lines:
        line.print(f"  {text}")
    for text in described.warnings:
        line.warn(text)
    storage.write(mark, pieces.sha256.encode())
    return pieces


def _loaded_tokenizer(data: DataConfig, source: str, *, is_foreign: bool = True) -> tuple[Tokenizer, str]:
    """The tokenizer of a source, and a line on what was inferred, or ""."""
    given = data.tokenizer
    pieces, note = tokenizer.load_with_casing(
        source,
        lowercase=given.lowercase,
        strip_accents=given.strip_accents,
        add_special_pieces=given.add_special_pieces,
        is_foreign=is_foreign,
    )
    # The word table's rows, of which a few may have no piece; with more of them, the number is a mistake.
    rows = given.vocabulary_size
    if 0 < rows - pieces.vocabulary_size <= _MOST_SPARE_ROWS:
        return tokenizer.with_spare_rows(pieces, rows, "config.data.tokenizer.source"), note
    return pieces, note


def _was_read_alone(data: DataConfig, used: Tokenizer) -> bool:
    """Whether a dataset's tokenizer is the tokenizer.json of its source, as earlier versions read some folders."""
    source = data.tokenizer.source
    whole = storage.join(source, self_check.WHOLE) if storage.is_directory(source) else source
    if not whole.endswith(".json") or not storage.exists(whole):
        return False
    alone, _ = _loaded_tokenizer(data, whole, is_foreign=False)
    return alone.sha256 == used.sha256


def _sample(paths: Sequence[str], characters: int = tokenizer.SAMPLE_CHARACTERS) -> Iterator[str]:
    """Yields lines of the sample; a random share of them where it is larger than the given number of characters."""
    share = characters / max(1, sum(storage.size(path) for path in paths))
    rng = random.Random(0)
    for path in paths:
        with storage.open_to_read(path) as file:
            for text in file:
                if share >= 1 or rng.random() < share:
                    yield text.decode().removesuffix("\n")


def _finish(
    data: DataConfig,
    settings: Settings,
    todo: Sequence[Unit],
    pieces: Tokenizer,
    casing_reason: str,
    line: ProgressLine,
) -> None:
    """Sums the units' results, writes the manifest, and removes work/."""
    built, counts = manifest.build(data, settings, todo, pieces, casing_reason)
    for text in manifest.lines(built):
        line.print(text)
    for text in manifest.warnings(built):
        line.warn(text)
    train, heldout = (built["splits"][name] for name in datasets.SPLITS)
    if not (train["rows"] and heldout["rows"]):
        workspace.clear(data.directory)  # Running again would end here again.
        raise InputError(
            f"config.data.heldout_fraction: {train['documents'] + heldout['documents']} documents gave "
            f"{train['documents']} to train on and {heldout['documents']} held out, and each split needs one. Add "
            "text, end documents sooner (#documents=line), or change "
            f"--config.data.heldout_fraction={data.heldout_fraction}."
        )
    unigram_counts = io.BytesIO()
    np.save(unigram_counts, counts[datasets.SPLITS.index("train")], allow_pickle=False)
    storage.write(storage.join(data.directory, datasets.UNIGRAM_COUNTS), unigram_counts.getvalue())
    built["unigram_counts_sha256"] = hashlib.sha256(unigram_counts.getvalue()).hexdigest()
    # Last, so that a folder with a manifest is a complete dataset.
    path = storage.join(data.directory, datasets.MANIFEST)
    storage.write(path, json.dumps(built, indent=2, ensure_ascii=False).encode())
    workspace.clear_work(data.directory)
