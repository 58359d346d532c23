"""The manifest of a dataset, summed over the results of its units, and a summary of it for the terminal."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from electra_jax import storage
from electra_jax.config.pretraining import DataConfig
from electra_jax.errors import InputError
from electra_jax.text.dataset import dataset as datasets
from electra_jax.text.dataset import filters, shards, stages, units
from electra_jax.text.dataset.units import Settings, Unit
from electra_jax.text.sources import text_sources
from electra_jax.text.tokenizers import tokenizer_report
from electra_jax.text.tokenizers.tokenizer import Tokenizer

_SHOWN_ROWS = 6  # Of each split.
_SHOWN_CHARACTERS = 10
_TOLD_UNKNOWN = 0.01  # Share of the tokens from which a warning is due.
_COUNTED = ("documents", "lines", "characters", "words", "tokens")
_REASONS = {
    "too_short": "shorter than shortest_document",
    "too_long": "longer than longest_document",
    "copies": "copies of earlier documents",
    "unknown": "with too many unknown tokens",
}


def build(
    data: DataConfig, settings: Settings, todo: Sequence[Unit], pieces: Tokenizer, casing_reason: str
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the content of manifest.json, and the counts of non-special tokens written, int64 [splits, vocabulary].

    Args:
      data: `config.data`, with the casing that was decided.
      settings, todo: the preparation.
      pieces: the dataset's tokenizer.
      casing_reason: why that casing; "" if it was given.

    Raises:
      InputError: a source held no text.
    """
    summaries = [json.loads(storage.read(stages.rows_path(settings, unit))) for unit in todo]
    counts_SxV = np.zeros((len(datasets.SPLITS), pieces.vocabulary_size), np.int64)
    for unit in todo:
        counts_SxV += filters.load(settings.work("counts", unit.number, "npy"))
    return {
        "format_version": datasets.FORMAT_VERSION,
        "data_fingerprint": units.fingerprint(data),
        "config": units.row_fields(data),
        "length": data.sequence_length,
        "rows": data.rows,
        "dtype": shards.token_dtype(pieces.vocabulary_size).str,
        "tokenizer_sha256": pieces.sha256,
        "tokenizer_kind": pieces.kind,
        "vocabulary_size": pieces.vocabulary_size,
        "sources": [_source_summary(source, number, summaries) for number, source in enumerate(data.sources)],
        "splits": {
            name: _split_summary(name, summaries, pieces, of_split)
            for name, of_split in zip(datasets.SPLITS, counts_SxV, strict=True)
        },
        "casing_reason": casing_reason,
        "unknown_tokens": int(counts_SxV[:, pieces.unknown_id].sum()),
        "unknown_characters": _commonest([summary.get("unknown_characters", {}) for summary in summaries]),
        "long_words": sum(summary.get("long_words", 0) for summary in summaries),
        "long_word": next((summary["long_word"] for summary in summaries if summary.get("long_word")), ""),
        "heldout_unigram_entropy": _entropy(counts_SxV[datasets.SPLITS.index("heldout")]),
    }, counts_SxV


def lines(manifest: dict[str, Any]) -> Iterator[str]:
    """Yields lines for the terminal: what was read, dropped and written."""
    for source in manifest["sources"]:
        dropped = ", ".join(f"{count} {_REASONS[reason]}" for reason, count in source["dropped"].items())
        yield (
            f"read {source['documents']} documents, {source['lines']} lines, {source['characters'] / 1e6:.2f} M "
            f"characters from {text_sources.place(source['source'])}; dropped {dropped or 'nothing'}"
        )
        yield from (f"  {note}" for note in source.get("notes", ()))
    # Tokens of the text, not of the rows: "google_segment_pairs" drops some.
    words, tokens = (sum(source[name] for source in manifest["sources"]) for name in ("words", "tokens"))
    written = sum(split["pieces"] for split in manifest["splits"].values())
    yield (
        f"{words} words: {tokens / max(1, words):.2f} tokens a word, "
        f"{manifest['unknown_tokens'] / max(1, written):.4%} unknown"
    )
    for name, split in manifest["splits"].items():
        positions = max(1, split["rows"] * manifest["length"])
        yield (
            f"{name}: {split['documents']} documents, {split['rows']} rows of {manifest['length']}, "
            f"{split['tokens']} tokens, {1 - split['tokens'] / positions:.1%} padding"
        )


def warnings(manifest: dict[str, Any]) -> Iterator[str]:
    """Yields warnings on text that the tokenizer does not know."""
    written = sum(split["pieces"] for split in manifest["splits"].values())
    share = manifest["unknown_tokens"] / max(1, written)
    if share > _TOLD_UNKNOWN:
        shown = " ".join(manifest["unknown_characters"])
        commonest = f", most often by the characters {shown}" if shown else ""
        yield f"{share:.1%} of the dataset's tokens are unknown{commonest}. {_advice(manifest['config'])}"
    if manifest["long_words"]:
        yield tokenizer_report.long_words(manifest["long_words"], manifest["long_word"])


def _advice(config: dict[str, Any]) -> str:
    flag = "--config.data.tokenizer"
    if config["tokenizer"]["source"] != "train":
        return f"Give a tokenizer of this text's language, or train one: {flag}.source=train"
    return (
        f"More are known with {flag}.kind=unigram, a higher {flag}.character_coverage or a larger "
        f"{flag}.vocabulary_size"
    )


def _commonest(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """The most frequent characters of all units; summaries that an earlier version began have none."""
    total = sum(map(Counter, counts), Counter[str]())
    return dict(Counter(dict(sorted(total.items()))).most_common(_SHOWN_CHARACTERS))


def _source_summary(source: str, number: int, summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of what was read from one source, and of what was dropped by reason."""
    of_source = [summary for summary in summaries if summary["source"] == number]
    counted = {name: sum(summary[name] for summary in of_source) for name in _COUNTED}
    if not counted["documents"]:
        raise InputError(f"config.data.sources: {source} holds no text. Remove it.")
    dropped = sum((Counter(summary["dropped"]) for summary in of_source), Counter())
    # Summaries of a preparation that an earlier version began have no notes.
    notes = [note for summary in of_source for note in summary.get("notes", ())]
    return {"source": source, **counted, "dropped": dict(sorted(dropped.items()))} | ({"notes": notes} if notes else {})


def _split_summary(
    name: str, summaries: Sequence[dict[str, Any]], pieces: Tokenizer, counts_V: np.ndarray
) -> dict[str, Any]:
    of_split = [(summary["source"], summary["splits"][name]) for summary in summaries]
    counted = {field: sum(split[field] for _, split in of_split) for field in ("documents", "rows", "tokens")}
    examples = [row for _, split in of_split for row in split["examples"]]
    step = max(1, len(examples) // _SHOWN_ROWS)
    return (
        counted
        | {
            "pieces": int(counts_V.sum()),  # Tokens without the special ones.
            "lengths": np.sum([split["lengths"] for _, split in of_split], axis=0).tolist(),
            "examples": [" ".join(pieces.pieces(row)) for row in examples[::step][:_SHOWN_ROWS]],
            "shards": [
                {"file": split["file"], "rows": split["rows"], "sha256": split["sha256"], "source": source}
                for source, split in of_split
                if split["rows"]
            ],
        }
    )


def _entropy(counts: np.ndarray) -> float:
    """Entropy in nats of the distribution that int counts [vocabulary] describe."""
    frequencies = counts[counts > 0] / counts.sum()
    return float(-np.sum(frequencies * np.log(frequencies)))
