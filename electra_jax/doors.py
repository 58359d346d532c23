"""What the commands share: how flags are read, and how a run ends with a message and an exit code."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from electra_jax.errors import InputError, RunError


def enter(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; ends the process with the exit code of what happened."""
    # Orbax reports each file that it renames, TensorFlow its build; --verbosity=0 brings Orbax's lines back.
    logging.set_verbosity(logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    app.run(lambda _: sys.exit(_guarded(main)), flags_parser=_parse)


def _guarded(main: Callable[[], None]) -> int:
    try:
        main()
    except RunError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("\nInterrupted; nothing of this run was saved yet.", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str]) -> Sequence[str]:
    """Parses flags; whatever is left over or unknown ends the process with exit code 64."""
    try:
        left_over = flags.FLAGS(argv)[1:]
        if left_over:
            raise InputError("\n".join(_stray(argument) for argument in left_over))
    except RunError as error:
        sys.exit(_fail(error))
    except (flags.Error, OSError, ImportError, SyntaxError, AttributeError, KeyError, TypeError, ValueError) as error:
        # A config file is code of the user's: what it raises while it is read is a message about the flags, too.
        sys.exit(_fail(InputError(_readable(error, argv))))
    return argv


def _stray(argument: str) -> str:
    if re.match(r"[\w.]+=", argument):
        return f"{argument}: not a flag; did you mean --{argument}?"
    return f"{argument}: not a flag; every argument here begins with two dashes"


def _readable(error: Exception, argv: Sequence[str]) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, flags.UnrecognizedFlagError) and "Did you mean" not in text:
        near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), n=1)
        text += f" Did you mean --{near[0]}?" if near else ""
    if isinstance(error, FileNotFoundError | ImportError):
        text += f"\nfound while reading the config of: {' '.join(argv[1:])}"
    return text


def _fail(error: RunError) -> int:
    print(f"\n{error}", file=sys.stderr, flush=True)
    return error.exit_code
