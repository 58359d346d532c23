"""The record of a checkpoint: its progress, and the shape, dtype and digest of each array. JSON, with a checksum.

It decides what is wrong with a checkpoint that cannot be restored: if the record is intact and its arrays are not those
of the model, the checkpoint belongs to another config; whatever else fails is damage.
"""

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

from electra_jax.errors import MismatchError

_STEP, _ARRAYS, _CHECKSUM = "step", "arrays", "checksum"
_SHOWN_DIFFERENCES = 8


class Damaged(Exception):
    """A checkpoint is incomplete or not as it was written; the message is the reason, in a line."""


@dataclasses.dataclass
class Progress:
    """The part of a checkpoint next to the state: the data position, and the time that the run has taken so far."""

    next_batch: int  # The global batch that the next update reads: the state's step + `batches_passed_over`.
    started_at: float  # Seconds since 1970 at the run's very first start.
    productive_seconds: float = 0.0  # Spent since then on updates that were not lost.
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # Spent otherwise, by activity; see `goodput`.
    batches_passed_over: int = 0  # Because the run went back after it diverged, and never reads them again.
    rollbacks: int = 0  # How often it went back.
    rolled_back_to: int = 0  # The step that it went back to the last time.


@dataclasses.dataclass(frozen=True)
class ArrayRecord:
    """What is known of one array."""

    dtype: str
    shape: tuple[int, ...]
    digest: int

    def described(self) -> str:
        """Dtype and shape as text."""
        return f"{self.dtype}{list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Record:
    """The record of one checkpoint.

    Attributes:
      progress: where the run was.
      arrays: each array of the state by name; None in a checkpoint from before digests were saved.
    """

    progress: Progress
    arrays: Mapping[str, ArrayRecord] | None


def arrays_of(named: Mapping[str, Any], digests: Mapping[str, int]) -> dict[str, ArrayRecord]:
    """The records of arrays, from the arrays and their digests by name."""
    return {name: ArrayRecord(str(leaf.dtype), tuple(leaf.shape), digests[name]) for name, leaf in named.items()}


def to_json(step: int, progress: Progress, arrays: Mapping[str, ArrayRecord]) -> dict[str, Any]:
    """The record as JSON."""
    fields = dataclasses.asdict(progress) | {
        _STEP: step,
        _ARRAYS: {name: [array.dtype, list(array.shape), array.digest] for name, array in arrays.items()},
    }
    return fields | {_CHECKSUM: _checksum(fields)}


def parse(content: bytes, step: int) -> Record:
    """Reads a record.

    Args:
      content: the file.
      step: the step that the checkpoint is named after.

    Raises:
      Damaged: it is not the record of a checkpoint at that step.
    """
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged("the record is not JSON") from error
    if not isinstance(fields, dict):
        raise Damaged(f"the record is a {type(fields).__name__}, expected an object")
    checksum = fields.pop(_CHECKSUM, None)
    # Records from before there were digests have neither of the two.
    if (checksum is not None or _ARRAYS in fields) and checksum != _checksum(fields):
        raise Damaged("the record does not have its checksum")
    arrays = fields.pop(_ARRAYS, None)
    recorded = fields.pop(_STEP, fields.get("next_batch"))
    progress = _progress(fields)
    if recorded != step:
        raise Damaged(f"the record is of step {recorded}")
    return Record(progress, None if arrays is None else _arrays(arrays))


def _checksum(fields: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _progress(fields: dict[str, Any]) -> Progress:
    known = {field.name: field for field in dataclasses.fields(Progress)}
    if unknown := fields.keys() - known.keys():
        raise Damaged(f"the record has unknown fields: {', '.join(sorted(unknown))}")
    for name, field in known.items():
        if name not in fields:
            if field.default is field.default_factory is dataclasses.MISSING:
                raise Damaged(f"the record has no {name}")
            continue
        value = fields[name]
        if field.default_factory is dict:
            if not isinstance(value, dict) or not all(map(_is_number, value.values())):
                raise Damaged(f"{name} of the record is {value!r:.40}, expected numbers by name")
        elif not _is_number(value) or (field.type is int and not isinstance(value, int)):
            raise Damaged(f"{name} of the record is {value!r:.40}, expected a number")
    return Progress(**fields)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _arrays(fields: Any) -> dict[str, ArrayRecord]:
    try:
        return {
            name: ArrayRecord(str(dtype), tuple(map(int, shape)), int(digest))
            for name, (dtype, shape, digest) in fields.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise Damaged("the record's list of arrays is not one") from error


def check_fits(recorded: Mapping[str, ArrayRecord], expected: Mapping[str, Any], place: str) -> None:
    """Raises MismatchError if a checkpoint has other arrays than the config's model.

    Args:
      recorded: the arrays of the checkpoint.
      expected: what has shape and dtype, by name.
      place: name of the checkpoint in the message.
    """
    wanted = {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in expected.items()}
    found = {name: array.described() for name, array in recorded.items()}
    names = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    if not names:
        return
    lines = [
        f"  {name}: {found.get(name, 'nothing')} there, {wanted.get(name, 'nothing')} here"
        for name in names[:_SHOWN_DIFFERENCES]
    ]
    if len(names) > _SHOWN_DIFFERENCES:
        lines.append(f"  and {len(names) - _SHOWN_DIFFERENCES} more")
    raise MismatchError(
        f"{place} does not fit this config:\n" + "\n".join(lines) + "\n"
        "Resume with the config it was made with, or give another --workdir."
    )


def check_digests(recorded: Mapping[str, ArrayRecord], digests: Mapping[str, int]) -> None:
    """Raises Damaged if arrays do not have the digests that were recorded.

    Args:
      recorded: the arrays of the checkpoint.
      digests: those of the arrays that were read, by name; may be a part of them.
    """
    wrong = [name for name, digest in digests.items() if recorded[name].digest != digest]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Damaged(
            f"{len(wrong)} of {len(digests)} arrays do not have their checksums: {', '.join(wrong[:3])}{more}"
        )
