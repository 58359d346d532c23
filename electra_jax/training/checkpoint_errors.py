"""What an error of Orbax or TensorStore means: damaged files, or storage that could not be reached."""

import errno
import functools
import gc
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from electra_jax.errors import RunError
from electra_jax.training.checkpoint_record import Damaged

Value = TypeVar("Value")

# What storage may say although the files are as they were written.
_TROUBLE = re.compile(
    r"UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|PERMISSION_DENIED|UNAUTHENTICATED|ABORTED|CANCELLED|"
    r"[Ii]nput/output error|[Tt]imed out|Connection (?:refused|reset)|Stale file handle"
)
_DAMAGE_NUMBERS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP)
_LONGEST_REASON = 200  # Characters.


def read_plainly(read: Callable[[], Value]) -> Value:
    """The result of `read`, which calls Orbax; its errors without the stack traces and specifications that it prints.

    Raises:
      Damaged: the files are not as Orbax wrote them.
      OSError: storage cannot be read.
    """
    # Of arrays that are read at the same time Orbax leaves all errors but the first to the interpreter, which prints.
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    problem: Exception
    try:
        try:
            return read()
        except (RunError, Damaged, PermissionError, MemoryError, jax.errors.JaxRuntimeError):
            raise  # JAX's are of devices or of processes, not of files.
        except Exception as error:
            problem = (
                OSError(in_a_line(error)) if is_trouble(error) else Damaged(f"cannot be read ({in_a_line(error)})")
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # Coroutines that were never awaited.
            gc.collect()
        # A read may still end afterwards, and find the loop closed that began it.
        hook = functools.partial(_print_unless_closed, hook)
    finally:
        sys.unraisablehook = hook
    raise problem


def _print_unless_closed(hook: Callable[[Any], Any], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


def is_trouble(error: BaseException) -> bool:
    """Whether an error is of storage or network, so that the same may succeed later; False for damaged files."""
    return any(map(_is_trouble, _causes(error)))


def _is_trouble(error: BaseException) -> bool:
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return False
    if isinstance(error, OSError):
        return error.errno not in _DAMAGE_NUMBERS
    return bool(_TROUBLE.search(_shortened(error)))


def in_a_line(error: BaseException) -> str:
    """The cause of an error, in a line."""
    *_, cause = _causes(error)
    text = " ".join(_shortened(cause).split())
    if len(text) > _LONGEST_REASON:  # It begins with the kind and ends with the reason; paths are in between.
        text = f"{text[: _LONGEST_REASON // 3]} … {text[-2 * _LONGEST_REASON // 3 :]}"
    return text or type(cause).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, the one that it was raised from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _shortened(error: BaseException) -> str:
    """The message without TensorStore's specification and source lines."""
    return re.split(r" \[(?:tensorstore_spec|source locations)| See full TensorStore details", str(error))[0]
