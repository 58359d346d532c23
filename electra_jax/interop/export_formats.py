"""The registry of export formats. Imports no writer, so that a mistyped flag fails at once."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclasses.dataclass(frozen=True)
class Format:
    """One export format.

    Attributes:
      module: module in this package with `write(model, directory)`, which returns notes for the user.
      about: description for --help.
      no_corrective_head: reason why it cannot hold the corrective head; empty if it can.
      no_task_head: reason why it cannot hold the head of a fine-tuned task; empty if it can.
      is_program: whether it holds programs, which `open_model` does not read. Its module compares the outputs, with
        `compare(model, directory)`, which returns the largest differences by network.
      precisions: the number formats that it can have; if there are any, `write` and `compare` have a third parameter,
        a sequence of those that are wanted.
      packages: packages that it needs in addition to those of electra_jax.
      extra: the extra of electra_jax that installs these.
    """

    module: str
    about: str
    no_corrective_head: str = ""
    no_task_head: str = ""
    is_program: bool = False
    precisions: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def write(self) -> Callable[..., tuple[str, ...]]:
        """The function that writes the format."""
        return importlib.import_module(f"{__package__}.{self.module}").write

    @property
    def compare(self) -> Callable[..., dict[str, float]]:
        """The function that compares an exported program with the model."""
        return importlib.import_module(f"{__package__}.{self.module}").compare

    def missing_packages(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


FORMATS: Mapping[str, Format] = {
    "huggingface": Format("huggingface_folder", "folders that transformers opens"),
    "google": Format(
        "google_checkpoint",
        "a TensorFlow 1 checkpoint for Google's code",
        no_corrective_head="Google's discriminator has no word head",
        no_task_head="Google's code has other kinds of heads",
    ),
    "electra_jax": Format("native_format", "a folder with everything that electra_jax has"),
    "onnx": Format(
        "onnx_folder",
        "folders for onnxruntime, Optimum and transformers.js, in the number formats of --precision",
        is_program=True,
        precisions=("fp32", "fp16", "int8"),
        packages=("onnx", "onnxruntime"),
        extra="onnx",
    ),
    "stablehlo": Format(
        "stablehlo_folder", "folders whose programs jax.export loads, without electra_jax", is_program=True
    ),
}
