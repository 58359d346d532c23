"""Errors that end a run, each with the exit code that a launcher reads.

Every message states what was found, what was expected, and which field or flag fixes it.
"""


class RunError(Exception):
    """A reason to stop that the user should read without a traceback."""

    exit_code = 1


class InputError(RunError):
    """A flag, a config field or an input file is wrong."""

    exit_code = 64


class Preempted(RunError):
    """The run was asked to stop; its state is saved and the same command continues from there."""

    exit_code = 75


class ProcessLost(RunError):
    """A process of the run never joined, or is gone; the same command continues from what was saved."""

    exit_code = 75


class StorageLost(RunError):
    """Storage cannot be read or written any more; the same command continues from what was saved."""

    exit_code = 75


class Diverged(RunError):
    """Going back to a checkpoint has not helped against losses that are not finite, or spike; nor would a new start."""

    exit_code = 76


class MismatchError(RunError):
    """A checkpoint or a dataset was made for another config."""

    exit_code = 77
