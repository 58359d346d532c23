"""The part of a run's page that shows why the run went back, or ended, because it diverged."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.reporting import markup
from electra_jax.reporting.run_files import Json, read_json

_MOST_SKIPPED = 20  # Rows of a table.
_NAME = re.compile(r"[1-9][0-9]{0,17}\.json")  # Of a file; the number of the event.


@dataclasses.dataclass(frozen=True)
class _Update:
    """An update that was computed once more.

    Attributes:
      step, batch: its number, and that of its global batch.
      rows, rows_not_finite: rows of the batch, and those whose share of the loss is not finite.
      verdict: what the rows say about the cause.
      norms: module or layer, norm of its gradient, norm of its parameters.
      largest: number, share of the loss and text of the rows with the largest shares.
    """

    step: int
    batch: int
    rows: int
    rows_not_finite: int
    verdict: str
    norms: list[tuple[str, str, str]]
    largest: list[tuple[int, str, str]]


@dataclasses.dataclass(frozen=True)
class _Event:
    """A rollback, or the end of the run."""

    title: str
    cause: str
    advice: str
    skipped: list[tuple[int, int, str]]
    left_out: int
    recent: list[tuple[str, str, str, str]]
    updates: list[_Update]


def divergence_section(directory: str) -> Markup:
    """HTML of the files in a run's divergence/; empty without them.

    Raises:
      InputError: a file is damaged.
    """
    folder = storage.join(directory, "divergence")
    names = [name for name in storage.names(folder) if _NAME.fullmatch(name)]
    events = [_event(storage.join(folder, name)) for name in sorted(names, key=lambda name: (len(name), name))]
    return markup.render("divergence", events=events)


def _event(path: str) -> _Event:
    content = read_json(path)
    try:
        number = content["rollbacks_before"] + 1
        what = "the run ended" if content["ends_the_run"] else f"rollback {number}"
        skipped = content["skipped"]
        return _Event(
            title=f"Step {content['step']:,}: {what}",
            cause=content["cause"],
            advice=content["advice"],
            skipped=[(one["step"], one["batch"], one["reason"]) for one in skipped[:_MOST_SKIPPED]],
            left_out=max(0, len(skipped) - _MOST_SKIPPED),
            recent=[
                (name, _number(value["mean"]), _number(value["standard_deviation"]), _number(value["limit"]))
                for name, value in content["recent"].items()
            ],
            updates=[_update(one) for one in content["diagnosed"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: found {error!r}, expected evidence as a run writes it; delete the file") from error


def _update(one: Json) -> _Update:
    rows, broken = one["rows"], one["rows_not_finite"]
    if 0 < broken < rows:
        verdict = "The others are finite, so the text of these rows is the likely cause."
    elif broken:
        verdict = "All of them: the cause is in the parameters or the arithmetic rather than in the text."
    else:
        verdict = "With the parameters of now, no row is at fault."
    gradients, parameters = (list(_by_layer(one[name])) for name in ("gradient_norms", "parameter_norms"))
    return _Update(
        step=one["step"],
        batch=one["batch"],
        rows=rows,
        rows_not_finite=broken,
        verdict=verdict,
        norms=[
            (name, _number(norm), _number(of_parameters))
            for (name, norm), (_, of_parameters) in zip(gradients, parameters, strict=True)
        ],
        largest=[(row["row"], _number(row["share_of_loss"]), row["text"]) for row in one["largest"]],
    )


def _by_layer(norms: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    for module, norm in norms.items():
        if isinstance(norm, list):
            yield from ((f"{module}/{layer}", value) for layer, value in enumerate(norm))
        else:
            yield module, norm


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
