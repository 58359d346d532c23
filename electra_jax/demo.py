"""Writes a page that runs a model in the browser: `python -m electra_jax.demo --model=runs/reviews --target=demo`.

The page is a folder of static files for any web server, such as `python -m http.server`. It sends no text anywhere, and
asks no other host for anything. docs/demo.md describes it.
"""

from __future__ import annotations

import shlex

from absl import flags

from electra_jax import entry_point
from electra_jax.config.shared import DOWNLOAD_CACHE
from electra_jax.errors import InputError

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A pre-trained model with its discriminator, or one fine-tuned for classification: a workdir of ours, an export, a "
    "Hugging Face folder, or a TensorFlow 1 checkpoint of Google's.",
)
_TARGET = flags.DEFINE_string("target", None, "The local folder to write.")
_HEAD = flags.DEFINE_string("head", "", "For a fine-tuning run with several tasks: the task whose head predicts.")
_PRECISION = flags.DEFINE_enum(
    "precision",
    "int8",
    ["int8", "fp16", "fp32"],
    "Number format of the network. int8: a quarter of fp32's size, and the fastest. fp16: half the size, computed in "
    "float32. fp32: equal to the model within rounding.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a page that this command wrote.")
_ONNXRUNTIME_WEB = flags.DEFINE_string(
    "onnxruntime_web",
    "",
    "The archive of the npm package onnxruntime-web, as `npm pack` writes it, in place of a download.",
)
_DOWNLOAD_CACHE = flags.DEFINE_string("download_cache", DOWNLOAD_CACHE, "Directory where the archive is kept.")


def main() -> None:
    """Writes the page and says how to open it; see `entry_point` for exit codes."""
    if not (_MODEL.value and _TARGET.value):
        raise InputError("Two flags are needed, for example --model=runs/quickstart --target=demo")
    # Imported here so that a mistyped flag answers at once.
    from electra_jax.browser import onnxruntime_web, page

    page.check_target(_TARGET.value, overwrite=_OVERWRITE.value)
    page.check_packages()
    from electra_jax.interop import checkpoints, finetuned

    model = finetuned.choose_head(checkpoints.open_model(_MODEL.value), _HEAD.value)
    shown = page.shown(model, _MODEL.value)
    runtime = onnxruntime_web.fetch(_DOWNLOAD_CACHE.value, _ONNXRUNTIME_WEB.value)
    written = page.write(shown, runtime, _TARGET.value, _PRECISION.value, overwrite=_OVERWRITE.value)
    print("\n".join([*written, "", *_instructions(_TARGET.value)]))


def _instructions(target: str) -> list[str]:
    return [
        f"page: {target}",
        f"To open it: python -m http.server --bind 127.0.0.1 --directory {shlex.quote(target)} 8000",
        "then visit http://localhost:8000. Any web server can serve the folder; opened as a file it does not work.",
    ]


def run() -> None:
    """Runs the command `electra-demo`: parses the flags, calls `main` and exits with its exit code."""
    entry_point.enter(main)


if __name__ == "__main__":
    run()
