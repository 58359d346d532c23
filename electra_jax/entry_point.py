"""Shared by all commands: parsing of flags, and the message and exit code at the end."""

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from electra_jax import presets, storage
from electra_jax.config import reference
from electra_jax.errors import InputError, RunError

# Error numbers of a full or protected disk.
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)

_FIELD_HELP = "--config.help"


def enter(main: Callable[[], None], leave: Callable[[int], Any] = sys.exit) -> None:
    """Parses the flags and calls `main`; ends the process, through `leave`, with the exit code of what happened."""
    # Orbax reports each file that it renames, TensorFlow its build; --verbosity=0 brings Orbax's lines back.
    logging.set_verbosity(logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    _describe(main.__module__)
    app.run(lambda _: leave(_guarded(main)), flags_parser=_parse)


def _describe(module: str) -> None:
    """Lets --help of a console script show the entry module's docstring and flags, as `python -m` does."""
    if module != "__main__":
        sys.modules["__main__"].__doc__ = sys.modules[module].__doc__
        for flag in flags.FLAGS.get_key_flags_for_module(module):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _guarded(main: Callable[[], None]) -> int:
    try:
        main()
    except RunError as error:
        return _fail(error)
    except storage.RemoteError as error:
        return _fail(InputError(f"{error}. Check the address, the network and the permissions, then run again."))
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        place = f" {error.filename}" if error.filename else ""
        return _fail(
            InputError(
                f"Cannot write{place}: {os.strerror(error.errno)}. Free some space or fix the permissions, then "
                f"run the same command again; it continues from what is complete."
            )
        )
    except KeyboardInterrupt:
        print("\nInterrupted. What is complete stays; the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str]) -> Sequence[str]:
    """Parses flags; whatever is left over or unknown ends the process with exit code 64.

    --config.help prints the fields of the config with the other overrides applied, and ends the process.
    """
    asks_for_fields = _FIELD_HELP in argv
    argv = [argument for argument in argv if argument != _FIELD_HELP]
    sys.argv[:] = argv  # ml_collections looks for overrides there, and `help` is no field.
    try:
        if unknown := presets.unknown_fields(argv[1:]):
            raise InputError("\n".join(unknown))
        left_over = flags.FLAGS(argv)[1:]
        if left_over:
            raise InputError("\n".join(_stray(argument) for argument in left_over))
        if asks_for_fields:
            _print_fields()
    except RunError as error:
        sys.exit(_fail(error))
    except (flags.Error, OSError, ImportError, SyntaxError, AttributeError, KeyError, TypeError, ValueError) as error:
        # A config file is code of the user's: what it raises while it is read is a message about the flags, too.
        sys.exit(_fail(InputError(_readable(error))))
    return argv


def _print_fields() -> NoReturn:
    config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
    if config is None:
        raise InputError(f"{_FIELD_HELP}: also name a config, for example --config=base {_FIELD_HELP}")
    print(reference.flag_help(config.to_dict()))
    sys.exit(0)


def _stray(argument: str) -> str:
    if re.match(r"[\w.]+=", argument):
        return f"{argument}: not a flag; did you mean --{argument}?"
    return f"{argument}: not a flag; every argument here begins with two dashes"


def _readable(error: Exception) -> str:
    """The message without the wrapping that flags and config files put around it."""
    text = str(error)
    if "Traceback" in text:
        # From within a config file: the line that failed and its error.
        return text.splitlines()[0] + "\n" + "\n".join(text.rstrip().splitlines()[-3:])
    return text


def _fail(error: RunError) -> int:
    print(f"\n{error}", file=sys.stderr, flush=True)
    return error.exit_code
