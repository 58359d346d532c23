"""The dataset card: a self-contained HTML page on a prepared dataset's sources, its rows and likely problems.

Reads the manifest only; imports nothing that reads text.
"""

import dataclasses
import itertools
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import pydantic
from markupsafe import Markup

from electra_jax import dataset_manifest, nested, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Count, Record
from electra_jax.reporting import markup
from electra_jax.reporting.lengths import histogram
from electra_jax.wording import quantity

Json = dict[str, Any]

_SPLITS = {"train": "training", "heldout": "held-out"}
_ROWS = {"segment_pairs": "segment pairs", "packed": "packed"}
_TOKENIZERS = {"wordpiece": "WordPiece", "unigram": "SentencePiece unigram", "bpe": "SentencePiece BPE"}
_REASONS = {"too_short": "too short", "too_long": "too long", "copies": "copies", "unknown": "unknown tokens"}
_COUNTED = ("documents", "lines", "characters", "words")
_COLUMNS = ("Documents", "Lines", "Characters, M", "Words", "Dropped", "Training rows", "Share of rows")
_UNKNOWN = ("[UNK]", "<unk>")

_MOST_PADDING = 0.2
_MOST_UNKNOWN = 0.01
_MOST_DROPPED = 0.5
_FEWEST_HELDOUT_ROWS = 100

_MOST_WARNINGS = 8
_OPEN_ROWS = 2  # Of the training split; the others are folded away.


class _CardSource(dataset_manifest.Source):
    documents: Count
    lines: Count
    characters: Count
    words: Count
    tokens: Count = 0  # Older datasets lack it.
    dropped: dict[str, Count]


class _CardSplit(dataset_manifest.Split):
    pieces: Count
    lengths: Annotated[list[Count], pydantic.Field(max_length=64)]
    examples: list[str]


class _CardSplits(Record):
    train: _CardSplit
    heldout: _CardSplit


class _Tokenizer(Record):
    source: str
    lowercase: bool
    strip_accents: bool


class _CardConfig(Record):
    tokenizer: _Tokenizer


class _CardManifest(dataset_manifest.Manifest):
    """What a card shows of manifest.json."""

    config: _CardConfig  # type: ignore[assignment]  # more precise than a run needs
    rows: str
    tokenizer_sha256: str
    tokenizer_kind: str
    vocabulary_size: Count
    unknown_tokens: Count
    casing_reason: str = ""  # Older datasets lack this and what follows.
    unknown_characters: dict[str, Count] = pydantic.Field(default_factory=dict)
    long_words: Count = 0
    sources: list[_CardSource]  # type: ignore[assignment]
    splits: _CardSplits  # type: ignore[assignment]

    @pydantic.model_validator(mode="after")
    def _check_sources(self) -> "_CardManifest":
        for split in (self.splits.train, self.splits.heldout):
            if any(shard.source >= len(self.sources) for shard in split.shards):
                raise ValueError(f"shards of the {len(self.sources)} sources alone")
        return self


def write_card(directory: str | os.PathLike) -> str:
    """Writes `card.html` into a prepared dataset's directory, atomically, and returns its path.

    Args:
      directory: directory of the dataset; a local path, or an address that `storage.py` writes to.

    Raises:
      InputError: no manifest, one of another format version, or a damaged one; or the page cannot be written.
    """
    target = storage.join(directory, "card.html")
    manifest, _ = dataset_manifest.read(directory, _CardManifest)
    page = _page(manifest, _title(os.fspath(directory)))
    try:
        # A source's path may hold bytes that are not UTF-8.
        storage.write(target, page.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(
            f"{target}: the card cannot be written ({error.strerror or error}). The dataset itself is complete; free "
            "some space or fix the permissions of its directory."
        ) from error
    return target


def _title(directory: str) -> str:
    path = directory if storage.is_remote(directory) else os.path.abspath(os.path.expanduser(directory))
    return f"Dataset · {path.rstrip('/').rpartition('/')[2]}"


def _page(manifest: Json, title: str) -> Markup:
    warnings = list(_warnings(manifest))
    rows = _rows_of_sources(manifest)
    sources = [_source(source, own, sum(rows)) for source, own in zip(manifest["sources"], rows, strict=True)]
    train, heldout = ([_row(text) for text in manifest["splits"][name]["examples"]] for name in _SPLITS)
    folded = (("More of the training split", train[_OPEN_ROWS:]), ("Of the held-out split", heldout))
    return markup.render(
        "dataset_card",
        title=title,
        warnings=warnings[:_MOST_WARNINGS],
        more_warnings=max(len(warnings) - _MOST_WARNINGS, 0),
        facts=_facts(manifest),
        format=manifest["format_version"],
        hashes=[
            ("data fingerprint", str(manifest["data_fingerprint"])),
            ("tokenizer SHA-256", str(manifest["tokenizer_sha256"])),
        ],
        columns=_COLUMNS,
        sources=sources,
        total=_source(_sum(manifest["sources"]), sum(rows), sum(rows)) if len(sources) > 1 else None,
        histogram=histogram(manifest),
        open_rows=train[:_OPEN_ROWS],
        folded_rows=[(heading, shown) for heading, shown in folded if shown],
        config=manifest["config"],
        command=_command(manifest["config"]),
    )


def _padding(split: Json, length: int) -> float:
    """The share of a split's positions that hold padding."""
    positions = split["rows"] * length
    return 1 - split["tokens"] / positions if positions else 0.0


def _pieces(manifest: Json) -> int:
    return sum(manifest["splits"][name]["pieces"] for name in _SPLITS)


def _rows_of_sources(manifest: Json) -> list[int]:
    """Training rows of each source."""
    rows = [0] * len(manifest["sources"])
    for shard in manifest["splits"]["train"]["shards"]:
        rows[shard["source"]] += shard["rows"]
    return rows


def _facts(manifest: Json) -> Iterator[tuple[str, str, str]]:
    """Headline numbers: name, value and remark."""
    train, heldout = (manifest["splits"][name] for name in _SPLITS)
    length, sources = manifest["length"], manifest["sources"]
    kind = _ROWS.get(manifest["rows"], manifest["rows"])
    yield "Training rows", f"{train['rows']:,}", f"of {length:,} tokens, {kind}"
    yield "Held-out rows", f"{heldout['rows']:,}", "for evaluation, from documents of their own"
    yield (
        "Tokens",
        quantity(train["tokens"]),
        f"to train on, {quantity(heldout['tokens'])} held out; without padding",
    )
    yield "Documents", f"{train['documents']:,}", f"to train on, {heldout['documents']:,} held out"
    of_sources = "1 source" if len(sources) == 1 else f"{len(sources):,} sources"
    yield "Text", quantity(sum(source["characters"] for source in sources)), f"characters, read from {of_sources}"

    shares = [f"{_padding(split, length):.1%}" for split in (train, heldout)]
    yield "Padding", shares[0], f"of the positions in training rows; {shares[1]} in held-out ones"
    yield "Tokens a word", _tokens_per_word(sources), "of the text read; words are separated by blanks"
    pieces = _pieces(manifest)
    yield "Unknown", f"{manifest['unknown_tokens'] / max(1, pieces):.3%}", "of the tokens, special ones left out"
    tokenizer = str(_TOKENIZERS.get(manifest["tokenizer_kind"], manifest["tokenizer_kind"]))
    yield "Vocabulary", f"{manifest['vocabulary_size']:,}", f"pieces, {tokenizer}; {_casing(manifest['config'])}"
    if reason := manifest.get("casing_reason"):
        yield "Casing", "auto", f"decided from the text: {reason}"
    entropy = manifest["heldout_unigram_entropy"]
    yield "Unigram entropy", f"{entropy:.2f}", "nats, held-out: the loss of knowing only how frequent each token is"


def _tokens_per_word(sources: Sequence[Json]) -> str:
    words = sum(source["words"] for source in sources)
    # Older datasets counted the tokens of rows alone, which may be fewer than those of the text.
    if not words or any("tokens" not in source for source in sources):
        return "–"
    return f"{sum(source['tokens'] for source in sources) / words:.2f}"


def _casing(config: Json) -> str:
    tokenizer = config["tokenizer"]
    if str(tokenizer["source"]).endswith((".json", ".model")):
        return "casing set by its file"  # Which may differ from the config's.
    case = "lower-cased" if tokenizer["lowercase"] else "cased"
    return f"{case}, accents {'stripped' if tokenizer['strip_accents'] else 'kept'}"


def _warnings(manifest: Json) -> Iterator[str]:
    """Yields warnings, those on sources first."""
    for source, rows in zip(manifest["sources"], _rows_of_sources(manifest), strict=True):
        lost, documents = sum(source["dropped"].values()), source["documents"]
        faults = [] if rows else ["gave no training row"]
        if lost > _MOST_DROPPED * documents:
            reasons = ", ".join(_dropped(source["dropped"]))
            faults.append(f"lost {lost:,} of its {documents:,} documents ({lost / documents:.0%}: {reasons})")
        if faults:
            yield f"{_short(source['source'])} {' and '.join(faults)}."
    unknown = manifest["unknown_tokens"] / max(1, _pieces(manifest))
    if unknown > _MOST_UNKNOWN:
        shown = " ".join(manifest.get("unknown_characters", {}))
        commonest = f" Most often unknown: {shown}" if shown else ""
        yield f"{unknown:.1%} of the tokens are unknown: the tokenizer does not fit this text.{commonest}"
    if long_words := manifest.get("long_words"):
        yield f"{long_words:,} words have more characters than WordPiece takes, and are one unknown token each."
    padding = {name: _padding(manifest["splits"][name], manifest["length"]) for name in _SPLITS}
    padded = [f"{padding[name]:.0%} of {word} rows" for name, word in _SPLITS.items() if padding[name] > _MOST_PADDING]
    if padded:
        advice = "" if manifest["rows"] == "packed" else ' config.data.rows="packed" puts short documents together.'
        yield f"Padding fills {' and '.join(padded)}, and teaches nothing.{advice}"
    if manifest["splits"]["heldout"]["rows"] < _FEWEST_HELDOUT_ROWS:
        yield (
            f"Only {manifest['splits']['heldout']['rows']} rows are held out: evaluation will be noisy. "
            "config.data.heldout_fraction sets their share."
        )


def _short(source: str) -> str:
    """A source without most of its archive's hash."""
    return re.sub(r"(sha256=\w{8})\w+", r"\1…", source)


def _dropped(dropped: dict[str, int]) -> list[str]:
    """Counts of dropped documents by reason, the most frequent first."""
    ordered = sorted(dropped.items(), key=lambda entry: (-entry[1], entry[0]))
    return [f"{count:,} {_REASONS.get(reason, reason)}" for reason, count in ordered if count]


@dataclasses.dataclass(frozen=True)
class _Source:
    """A line of the table of sources.

    Attributes:
      name: the source as the config has it.
      short: the same without most of its archive's hash.
      counts: cells from documents to words.
      lost: number of dropped documents, with their share.
      lost_most: whether these are more than half.
      reasons: number of dropped documents for each reason.
      rows: training rows.
      share: share of all training rows.
    """

    name: str
    short: str
    counts: Sequence[str]
    lost: str
    lost_most: bool
    reasons: Sequence[str]
    rows: int
    share: str


def _source(source: Json, rows: int, all_rows: int) -> _Source:
    lost, documents = sum(source["dropped"].values()), source["documents"]
    return _Source(
        name=source["source"],
        short=_short(source["source"]),
        counts=(
            f"{documents:,}",
            f"{source['lines']:,}",
            f"{source['characters'] / 1e6:,.2f}",
            f"{source['words']:,}",
        ),
        lost=f"{lost:,} ({lost / documents:.1%})" if lost and documents else f"{lost:,}",
        lost_most=lost > _MOST_DROPPED * documents,
        reasons=_dropped(source["dropped"]),
        rows=rows,
        share=f"{rows / max(1, all_rows):.1%}",
    )


def _sum(sources: Sequence[Json]) -> Json:
    """All sources as one."""
    total: Json = {"source": "All"} | {name: sum(source[name] for source in sources) for name in _COUNTED}
    return total | {"dropped": sum((Counter(source["dropped"]) for source in sources), Counter())}


def _row(text: str) -> list[tuple[str, str, bool]]:
    """Pieces of a row: class if special, text, and whether a blank precedes it."""
    pieces = text.split(" ")
    begins = markup.word_mark(pieces)
    parts = []
    for piece, run in itertools.groupby(pieces):
        times = len(list(run))
        if markup.is_special(piece):
            counted = piece if times == 1 else f"{piece} × {times}"
            parts.append(("unknown" if piece in _UNKNOWN else "special", counted, True))
            continue
        joined = not piece.startswith(begins) if begins else piece.startswith("##")
        shown = piece.removeprefix(begins) if begins else piece.removeprefix("##")
        parts.extend([("", shown, not joined)] * times)
    return parts


def _command(config: Json) -> str:
    """Command that makes the same rows from the same text, a flag on each line."""
    flags = [shlex.quote(f"--config.data.{name}={_literal(value)}") for name, value in nested.flatten(config).items()]
    lines = ["python -m electra_jax.prepare --config=configs/base.py", "--config.data.directory=DIRECTORY", *flags]
    return " \\\n    ".join(lines)


def _literal(value: Any) -> str:
    """A value as a flag takes it: text as it is, a list as a Python tuple."""
    if isinstance(value, list | tuple):
        return f"({''.join(_quoted(item) + ',' for item in value)})"
    return str(value)


def _quoted(item: Any) -> str:
    # Double quotes, which the shell need not escape.
    return json.dumps(item, ensure_ascii=False) if isinstance(item, str) else repr(item)
