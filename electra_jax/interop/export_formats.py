"""The registry of export formats. Imports no writer, so that a mistyped flag fails at once."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from electra_jax.interop.model import Model


@dataclasses.dataclass(frozen=True)
class Format:
    """One export format.

    Attributes:
      module: module in this package with `write(model, directory)`, which returns notes for the user.
      about: description for --help.
      no_corrective_head: reason why it cannot hold the corrective head; empty if it can.
      no_task_head: reason why it cannot hold the head of a fine-tuned task; empty if it can.
    """

    module: str
    about: str
    no_corrective_head: str = ""
    no_task_head: str = ""

    @property
    def write(self) -> Callable[[Model, str], tuple[str, ...]]:
        """The function that writes the format."""
        return importlib.import_module(f"{__package__}.{self.module}").write


FORMATS: Mapping[str, Format] = {
    "huggingface": Format("huggingface_folder", "folders that transformers opens"),
    "google": Format(
        "google_checkpoint",
        "a TensorFlow 1 checkpoint for Google's code",
        no_corrective_head="Google's discriminator has no word head",
        no_task_head="Google's code has other kinds of heads",
    ),
    "electra_jax": Format("native_format", "a folder with everything that electra_jax has"),
}
