"""The directory of a dataset in preparation: its lock, its plan, and what an earlier attempt left."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from electra_jax import nested, ownership, storage
from electra_jax.config.pretraining import DataConfig
from electra_jax.errors import InputError, MismatchError
from electra_jax.progress import ProgressLine
from electra_jax.stop_signals import StopSignals
from electra_jax.text.dataset import dataset as datasets
from electra_jax.text.dataset import units
from electra_jax.text.dataset.units import WORK, Unit

_LOCK = "lock"


def check(directory: str, overwrite: bool) -> None:
    """Raises InputError if a directory holds something else, or a finished dataset that may not be overwritten."""
    found = storage.names(directory)
    if datasets.MANIFEST in found and not overwrite:
        raise InputError(
            f"config.data.directory: {directory} already holds a dataset; add --overwrite to make it again, or choose "
            "another --config.data.directory=."
        )
    is_dataset = datasets.MANIFEST in found or WORK in found
    if storage.is_file(directory):
        raise InputError(
            f"config.data.directory: {directory} is a file, expected a folder of a dataset, or a new one; choose "
            "another --config.data.directory=."
        )
    if found and not is_dataset:
        raise InputError(
            f"config.data.directory: {directory} already holds something that is not a dataset, and is never "
            "overwritten; choose another --config.data.directory=."
        )


@contextlib.contextmanager
def locked(directory: str, line: ProgressLine, stop: StopSignals) -> Iterator[None]:
    """Locks a directory against a second preparation; see `ownership`."""
    work = storage.join(directory, WORK)
    if not storage.is_remote(work):
        os.makedirs(os.path.expanduser(work), exist_ok=True)
    complaint = (
        f"config.data.directory: {directory} is being prepared by another process ({{owner}}). "
        "Wait for it, or choose another --config.data.directory=."
    )
    try:
        with ownership.owned(work, _LOCK, complaint, line.print, stop):
            yield
    finally:
        if not storage.names(work):  # Nothing was begun, or all is done.
            storage.remove(work)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.expanduser(directory))


def clear(directory: str) -> None:
    """Deletes a dataset, the manifest first, so that a part of it is never taken for a complete one."""
    storage.remove(storage.join(directory, datasets.MANIFEST))
    for name in storage.names(directory):
        if name != WORK:
            storage.remove(storage.join(directory, name))
    clear_work(directory)


def clear_work(directory: str) -> None:
    """Deletes the intermediate files."""
    for name in storage.names(storage.join(directory, WORK)):
        if name != _LOCK:
            storage.remove(storage.join(directory, WORK, name))


def begin(data: DataConfig, todo: Sequence[Unit], line: ProgressLine) -> DataConfig:
    """Writes the plan, or checks that an existing one is equal.

    Returns:
      `config.data`, with the casing of the existing plan where it is "auto" here.
    """
    for folder in ("", WORK, "tokenizer"):
        place = storage.join(data.directory, folder) if folder else data.directory
        for name in storage.names(place):
            if name.startswith("."):  # Half-written by a process that was killed.
                storage.remove(storage.join(place, name))
    path = storage.join(data.directory, WORK, "plan.json")
    plan = json.loads(json.dumps(units.to_json(todo, data)))
    if storage.exists(path):
        existing = json.loads(storage.read(path))
        continued = units.with_casing(data, existing["config"]["tokenizer"])
        if units.fingerprint(continued) == existing["data_fingerprint"]:
            data, plan = continued, json.loads(json.dumps(units.to_json(todo, continued)))
        if existing["data_fingerprint"] != plan["data_fingerprint"]:
            changes = "\n".join(differences(existing["config"], plan["config"]))
            if any(name.startswith("rows-") for name in storage.names(storage.join(data.directory, WORK))):
                raise MismatchError(
                    f"{data.directory} holds an unfinished dataset of another config:\n{changes}\n"
                    "Finish it with the old values, choose another --config.data.directory=, or discard it with: "
                    "python -m electra_jax.prepare --overwrite"
                )
            line.print(f"{data.directory} was begun with another config and has no rows yet; starting over:")
            line.print(changes)
            clear(data.directory)
        elif existing["units"] != plan["units"]:
            raise InputError(
                f"config.data.sources: the text changed since {data.directory} was begun: "
                f"{_first_change(existing, plan)}. Restore the old text to "
                "continue, or start again with: python -m electra_jax.prepare --overwrite"
            )
        else:
            line.print(f"continuing with what is finished in {data.directory}")
            return data
    storage.write(path, json.dumps(plan, ensure_ascii=False).encode())
    return data


def _first_change(before: dict[str, Any], after: dict[str, Any]) -> str:
    old, new = (
        {(piece["place"], piece["start"]): piece for unit in tree["units"] for piece in unit["pieces"]}
        for tree in (before, after)
    )
    place = min(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))[0]
    return place if place in {key[0] for key in old.keys() & new.keys()} else f"{place} is gone, or new"


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """One line for each field of `config.data` that differs."""
    there, here = (nested.flatten(fields, prefix="config.data.") for fields in (before, after))
    return [
        f"  {name}: {there.get(name)!r} there, {here.get(name)!r} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
