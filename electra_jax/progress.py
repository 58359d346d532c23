"""Progress messages of a command."""

import shutil
import sys
import time
from typing import TextIO

from absl import logging


class ProgressLine:
    """A line that rewrites itself on a terminal, and a plain line now and then in a log file."""

    def __init__(self, stream: TextIO = sys.stdout, seconds_between_lines: float = 10.0) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._pause = 0.2 if self._live else seconds_between_lines
        self._shown_at = -float("inf")
        self._open = False

    def update(self, text: str, *, now: float | None = None) -> None:
        """Shows `text` unless something was shown a moment ago."""
        now = time.monotonic() if now is None else now
        if now - self._shown_at < self._pause:
            return
        self._shown_at = now
        if self._live:
            width = shutil.get_terminal_size().columns  # 80 where a terminal does not know its width.
            self._stream.write("\r\033[K" + text[: width - 1])
            self._open = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def print(self, text: str) -> None:
        """Prints lines that stay, above the live line."""
        self._stream.write(("\r\033[K" if self._open else "") + text + "\n")
        self._stream.flush()
        self._open = False

    def warn(self, text: str) -> None:
        """Prints a warning, in yellow on a terminal."""
        text = f"Warning: {text}"
        self.print(f"\033[33m{text}\033[0m" if self._live else text)


class QuietLine(ProgressLine):
    """Progress of a process other than process 0: logged, and shown only with --verbosity=0."""

    def update(self, text: str, *, now: float | None = None) -> None:
        """Does nothing."""

    def print(self, text: str) -> None:
        """Logs the lines at level INFO."""
        logging.info("%s", text)

    def warn(self, text: str) -> None:
        """Logs a warning."""
        logging.warning("%s", text)
