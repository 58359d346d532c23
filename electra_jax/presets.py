"""Config files of the flag --config: a path, or the name of a preset in `electra_jax/configs`."""

import difflib
import os
import pathlib
import re
from collections.abc import Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from electra_jax.config import reference
from electra_jax.errors import InputError

# --help shows a flag with the module that called `define_flag`.
flags.disclaim_key_flags()

# --noconfig.NAME sets a field to False.
_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<name>[^=]+)")
_FOLDER = pathlib.Path(__file__).with_name("configs")


def names() -> list[str]:
    """Returns the names of all presets, sorted: "base", "finetune/glue"."""
    found = (path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.glob("*.py"))
    finetuning = (path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.glob("finetune/*.py"))
    return sorted(name for name in (*found, *finetuning) if not name.endswith(("__init__", "finetune/base")))


def locate(argument: str) -> str:
    """Returns PATH[:VARIANT] for PATH[:VARIANT] or NAME[:VARIANT]; a file that exists takes precedence over a name.

    Raises:
      InputError: there is neither such a file nor such a preset.
    """
    path, colon, variant = argument.partition(":")
    if os.path.isfile(path):
        return argument
    if path in names():
        return f"{_FOLDER / path}.py{colon}{variant}"
    raise InputError(f"--config={path}: found neither such a file nor such a preset{_hint(path)}")


def define_flag(help_string: str, flag_values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder:
    """Defines --config, which takes a path or a preset's name."""
    holder = config_flags.DEFINE_config_file("config", help_string=help_string, flag_values=flag_values)
    # The flag keeps what the user wrote as its `config_filename`; only the parser sees the path.
    flag_values["config"].parser = _Parser(name="config")
    return holder


def given(flag_values: flags.FlagValues = flags.FLAGS) -> str:
    """Returns what the user wrote after --config=, not the path that it stands for."""
    return config_flags.get_config_filename(flag_values["config"])


def unknown_fields(arguments: Sequence[str]) -> list[str]:
    """Returns a line for each override --config.NAME whose name is no field of the file that --config names.

    Raises:
      InputError: see `locate`.
    """
    overrides = [match for argument in arguments if (match := _OVERRIDE.match(argument))]
    path = _config_path(arguments)
    if not overrides or path is None:
        return []
    tree = _Parser(name="config").parse(path).to_dict()
    return list(filter(None, (reference.unknown_field(tree, match.group("name")) for match in overrides)))


def _config_path(arguments: Sequence[str]) -> str | None:
    """The last value of --config, written --config=PATH or --config PATH."""
    found = None
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            found = value if equals else next(iter(arguments[number + 1 :]), None)
    return found


class _Parser(ConfigFileFlagParser):
    def parse(self, path: str) -> ml_collections.ConfigDict:
        return super().parse(locate(path))


def _hint(path: str) -> str:
    """Suggests a file of the same folder, or a preset."""
    folder = os.path.dirname(path) or "."
    present = [name for name in os.listdir(folder) if name.endswith(".py")] if os.path.isdir(folder) else []
    near = difflib.get_close_matches(os.path.basename(path), present, n=1)
    if near:
        return f"; did you mean {os.path.join(folder, near[0])}?"
    name = path.removesuffix(".py").removeprefix("configs/")
    near = difflib.get_close_matches(name, names(), n=1)
    meant = f"; did you mean --config={near[0]}?" if near else "."
    return f"{meant} Presets: {', '.join(names())}"
