"""The folder of a run's checkpoints: which steps there are, their records, and damaged ones under other names."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator

from electra_jax import storage
from electra_jax.training import checkpoint_errors, checkpoint_record
from electra_jax.training.checkpoint_record import Damaged, Record

FOLDER = "checkpoints"
STATE, PROGRESS = "state", "progress"  # The items of a checkpoint.
# Orbax's name of a checkpoint while it is written, where storage can rename; at an address it bears its name at once,
# and is complete when it holds this file.
_UNFINISHED = re.compile(r"[0-9]+\.orbax-checkpoint-tmp.*", re.ASCII)
_COMMITTED = "commit_success.txt"
_STEP = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
# Orbax and TensorStore take them for patterns, or for a separator of folders.
_PATTERN_CHARACTERS = "[]*?\\"


def steps(directory: storage.Path) -> list[int]:
    """The steps that seem to have a checkpoint, ascending."""
    names = [name for name in storage.names(directory) if _STEP.fullmatch(name)]
    return sorted(int(name) for name in names if not _is_unfinished(directory, name))


def _is_unfinished(directory: storage.Path, name: str) -> bool:
    if not storage.is_remote(directory):
        return _UNFINISHED.fullmatch(name) is not None
    return bool(_STEP.fullmatch(name)) and not storage.exists(storage.join(directory, name, _COMMITTED))


def place(directory: storage.Path, step: int) -> str:
    """The path of a checkpoint."""
    return storage.join(directory, str(step))


def read_record(directory: storage.Path, step: int) -> Record:
    """The record of a checkpoint.

    Raises:
      Damaged: there is none, or it is not intact.
      OSError: storage cannot be read.
    """
    path = storage.join(place(directory, step), PROGRESS, "metadata")
    if not storage.is_directory(place(directory, step)):
        raise Damaged("it is not a folder")
    if not storage.names(place(directory, step)):
        raise Damaged("it is empty")
    try:
        content = storage.read(path)
    except OSError as error:
        if checkpoint_errors.is_trouble(error):
            raise
        raise Damaged(f"{PROGRESS}/metadata is missing, so it was never finished or lost files") from error
    return checkpoint_record.parse(content, step)


def newest_complete(directory: storage.Path) -> int | None:
    """The newest step whose record is intact; None if there is none.

    Raises:
      OSError: storage cannot be read.
    """
    for step in reversed(steps(directory)):
        with contextlib.suppress(Damaged):
            read_record(directory, step)
            return step
    return None


def set_aside(directory: storage.Path, name: str) -> str:
    """Gives something in the folder a name under which it is no checkpoint, and returns that name."""
    taken = set(storage.names(directory))
    number = 1
    while (other := f"{name}.damaged" + (f"-{number}" if number > 1 else "")) in taken:
        number += 1
    storage.move(storage.join(directory, name), storage.join(directory, other))
    return other


def set_aside_before(directory: storage.Path) -> list[str]:
    """Names of what was set aside, at this start or an earlier one."""
    return [name for name in storage.names(directory) if re.search(r"\.damaged(-[0-9]+)?$", name)]


def remove_unfinished(directory: storage.Path) -> list[str]:
    """Deletes what a killed process left of a checkpoint that it was writing; returns the names."""
    unfinished = [name for name in storage.names(directory) if _is_unfinished(directory, name)]
    for name in unfinished:
        storage.remove(storage.join(directory, name))
    return unfinished


def problem(directory: storage.Path) -> str:
    """Why checkpoints can never be written at an address: it has characters of a pattern; "" if they can."""
    found = sorted({character for character in os.fspath(directory) if character in _PATTERN_CHARACTERS})
    if storage.is_remote(directory) and found:
        return f"{directory}: found {' '.join(found)}, which object storage takes for a pattern; use another name"
    return ""


@contextlib.contextmanager
def plain(directory: storage.Path) -> Iterator[str]:
    """A path of the same folder that Orbax and TensorStore take for nothing else.

    They take `runs/lr[1e-4]` for a pattern when they look for what they have written, find nothing, and leave a
    checkpoint without arrays; a link with a plain name leads to such a folder.
    """
    path = os.fspath(directory)
    is_plain = not any(character in _PATTERN_CHARACTERS for character in path) and path.isprintable()
    if storage.is_remote(path) or is_plain:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="electra_jax-") as folder:
        link = os.path.join(folder, FOLDER)
        os.symlink(os.path.abspath(os.path.expanduser(path)), link)
        yield link
