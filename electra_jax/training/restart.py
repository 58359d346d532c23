"""A run without checkpoints: new, killed before its first, or one that lost them, which is not repeated unasked."""

import json
from collections.abc import Callable

from electra_jax import storage
from electra_jax.errors import MismatchError
from electra_jax.training import checkpoint, checkpoint_steps, divergence

# Files that a run appends to, and would drop lines from.
_APPENDED = ("metrics.jsonl", "samples.jsonl")
_KEPT = (*_APPENDED, divergence.FOLDER)


def check(workdir: storage.Path, save_every_steps: int, allowed: bool, note: Callable[[str], None]) -> None:
    """Returns if a run may train from the newest checkpoint, or from the beginning if it has none; in process 0.

    Args:
      workdir: directory of the run.
      save_every_steps: interval of checkpoints.
      allowed: whether a run that had checkpoints may begin again; its metrics are then kept under another name.
      note: called with what the user should know.

    Raises:
      MismatchError: the run had checkpoints, and they are gone.
      OSError: storage cannot be read or written.
    """
    directory = storage.join(workdir, checkpoint_steps.FOLDER)
    if steps := checkpoint_steps.steps(directory):
        if allowed:
            note(f"--restart has no effect: there is a checkpoint {steps[-1]:,} to resume from.")
        return
    reached, skips = _progress(storage.join(workdir, "metrics.jsonl"))
    lost = _loss(directory, reached, save_every_steps, skips)
    if lost and not allowed:
        raise MismatchError(
            f"--workdir={workdir}: {lost}. Copy a checkpoint back, or add --restart to train from the beginning, which "
            f"keeps the old {' and '.join(_APPENDED)} under other names."
        )
    if lost:
        kept = [_kept(workdir, name) for name in _KEPT if storage.exists(storage.join(workdir, name))]
        storage.remove(checkpoint.mark_of(directory))
        note(f"Training from the beginning, as --restart says; kept: {', '.join(kept) or 'nothing'}.")
    elif reached:
        note(f"The run ended at step {reached:,}, before its first checkpoint; training from the beginning.")


def _loss(directory: str, reached: int, save_every_steps: int, skips: bool) -> str:
    """What shows that the run had checkpoints; "" if it had none yet.

    Args:
      directory: the folder of checkpoints.
      reached: last step in the run's metrics.
      save_every_steps: interval of checkpoints.
      skips: whether the run skips updates; it then saves later than it is due, and marks its first checkpoint.
    """
    aside = checkpoint_steps.set_aside_before(directory)
    if storage.exists(checkpoint.mark_of(directory)):
        found = f"found {', '.join(aside)} alone" if aside else "found none"
        return f"the run had checkpoints in {directory}, {found}, and its metrics reach step {reached:,}"
    # At an address a folder exists only while it holds something.
    if reached and not storage.is_remote(directory) and not storage.exists(directory):
        return f"metrics.jsonl reaches step {reached:,} and {directory} is gone"
    if reached > save_every_steps and not skips:
        due = f"checkpoints are due every {save_every_steps:,} steps"
        return f"metrics.jsonl reaches step {reached:,}, {due}, and {directory} has none"
    return ""


def _progress(path: str) -> tuple[int, bool]:
    """The highest step in metrics.jsonl, 0 without one, and whether its run counts updates that are skipped."""
    if not storage.exists(path):
        return 0, False
    reached, skips = 0, False
    for line in storage.read(path).split(b"\n"):
        try:
            values = json.loads(line)
            reached, skips = max(reached, int(values["step"])), skips or "train/skipped" in values
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue  # The last line of a killed process.
    return reached, skips


def _kept(workdir: storage.Path, name: str) -> str:
    """Renames a file or a folder, and returns its new name."""
    taken = set(storage.names(workdir))
    stem, point, ending = name.partition(".")
    number = 1
    while (other := f"{stem}.before_restart{f'-{number}' if number > 1 else ''}{point}{ending}") in taken:
        number += 1
    storage.move(storage.join(workdir, name), storage.join(workdir, other))
    return other
