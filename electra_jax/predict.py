"""Predicts with a trained model: `python -m electra_jax.predict --model=runs/small --task=detect < texts.txt`.

Reads lines of text, tables, JSON lines or SQuAD's JSON, and writes one line of JSON for each input, in its order. An
input that cannot be used gets an "error". docs/predict.md describes all of it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from electra_jax import entry_point, storage
from electra_jax.errors import InputError
from electra_jax.inference import inputs
from electra_jax.progress import ProgressLine
from electra_jax.stop_signals import Interrupts

if TYPE_CHECKING:
    from electra_jax.inference.inputs import Request
    from electra_jax.inference.predictor import Predictor
    from electra_jax.training.appended_file import AppendedFile

_STANDARD = inputs.STANDARD_INPUT
_TASKS = ("detect", "fill", "classify", "tag", "answer", "embed", "score")

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A workdir of ours, pre-trained or fine-tuned, a checkpoint or trial in it, an export, a Hugging Face folder, or a "
    "TensorFlow 1 checkpoint of Google's (PATH#heads=N for widths that Google did not publish).",
)
_TASK = flags.DEFINE_enum(
    "task",
    None,
    list(_TASKS),
    "detect: for each token the probability that it was replaced. fill: tokens for each [MASK]. classify: class, "
    "classes or grade. tag: spans or tags of words. answer: the answer in a context. embed: a vector. score: "
    "pseudo-log-likelihood. By default what the model was made for.",
)
_HEAD = flags.DEFINE_string("head", "", "For a fine-tuning run with several tasks: the task whose head predicts.")
_INPUT = flags.DEFINE_string("input", _STANDARD, 'A file, an address, or "-" for standard input.')
_TEXT = flags.DEFINE_multi_string("text", [], "A text in place of --input; may be given several times.")
_FORMAT = flags.DEFINE_enum(
    "format", "auto", list(inputs.FORMATS), "Of the input; by default by its suffix, of standard input lines."
)
_TEXT_COLUMNS = flags.DEFINE_list(
    "text_columns",
    [],
    "Columns or keys of the text, of the two texts of a pair, of question and context, or of the words; by default "
    "common names of them are looked for, such as text or sentence.",
)
_ID_COLUMN = flags.DEFINE_string("id_column", "", "Column or key of the id; by default id, key, guid, idx or index.")
_COLUMNS = flags.DEFINE_list("columns", [], "Names of all columns of a table whose first line does not name them.")
_OUTPUT = flags.DEFINE_string("output", _STANDARD, 'A file, an address, or "-" for standard output.')
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an output that exists.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Rows that are computed at once.", lower_bound=1)
_MAX_LENGTH = flags.DEFINE_integer(
    "max_length",
    None,
    "Maximum length of a row in tokens; longer texts are read in windows. By default that of training.",
    lower_bound=8,
)
_LONG_TEXTS = flags.DEFINE_enum(
    "long_texts",
    "truncate",
    ["truncate", "windows"],
    "classify: read what fits into a row, as training does, or average the logits of all windows of the text.",
)
_PROBABILITIES = flags.DEFINE_bool(
    "probabilities", False, "Also write the probabilities of all classes, of each word's tag, of each token's score."
)
_THRESHOLD = flags.DEFINE_float(
    "threshold", 0.5, "Probability from which one of several classes is chosen, or a token counts as replaced.",
    lower_bound=0.0, upper_bound=1.0,
)  # fmt: skip
_TOP_K = flags.DEFINE_integer("top_k", 5, "Candidates for each mask or question.", lower_bound=1)
_NULL_THRESHOLD = flags.DEFINE_float(
    "null_threshold", None, "answer: null odds above which there is no answer; by default that of training."
)
_POOLING = flags.DEFINE_enum(
    "pooling", "mean", ["mean", "cls"], "embed: mean of the last hidden states of all tokens, or that of [CLS]."
)
_NORMALIZE = flags.DEFINE_bool("normalize", True, "embed: divide each vector by its length.")
_NETWORK = flags.DEFINE_enum(
    "network", None, ["generator", "corrective"],
    "fill, score: the generator, or the discriminator's word head (hybrid objective); by default the generator.",
)  # fmt: skip
_STRICT = flags.DEFINE_bool("strict", False, "End with 64 at the first input that cannot be used.")
_COMPILE_CACHE = flags.DEFINE_string(
    "compile_cache",
    None,
    "Directory of compiled programs; by default electra_jax/compiled in the user's cache, $XDG_CACHE_HOME or ~/.cache. "
    "Empty for none.",
)
_TIMINGS = flags.DEFINE_bool("timings", False, "Print on standard error how long the start took, by its parts.")


def main() -> None:
    """Predicts for every input; see `entry_point` for exit codes."""
    with Interrupts() as interrupts:
        _run(interrupts)


def _run(interrupts: Interrupts) -> None:
    started = time.monotonic()
    if not _MODEL.value:
        raise InputError("--model: is missing, expected a workdir, an export or a checkpoint, such as runs/quickstart")
    _check_output(_OUTPUT.value)
    # Imported here so that a mistyped flag answers at once.
    from electra_jax.inference import predictor

    imported = time.monotonic()
    _use_compile_cache()
    model = predictor.load(_MODEL.value, head=_HEAD.value, batch_size=_BATCH_SIZE.value, max_length=_MAX_LENGTH.value)
    task = _TASK.value or model.task
    for note in model.notes:
        print(f"note: {note}", file=sys.stderr)
    read = time.monotonic()
    # The start of the process, imports of this module included.
    timings = {"start": started - _process_start(), "imports": imported - started, "model": read - imported}
    with contextlib.closing(_Output(_OUTPUT.value)) as output:
        problems = _predict(model, task, output, timings, interrupts)
    if problems:
        print(f'{problems:,} input{"s" * (problems > 1)} could not be used: see "error" in the output', file=sys.stderr)


def _process_start() -> float:
    """When this process began, on the monotonic clock; now where the system does not tell."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return ticks / os.sysconf("SC_CLK_TCK") + time.monotonic() - time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()


def _use_compile_cache() -> None:
    directory = _COMPILE_CACHE.value
    if directory is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        directory = os.path.join(cache, "electra_jax", "compiled")
    if directory:
        import jax

        from electra_jax.training.compile_cache import use_compile_cache

        use_compile_cache(directory, "")
        # Programs of small models compile in less than the second from which training keeps them.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _predict(model: Predictor, task: str, output: _Output, timings: dict[str, float], interrupts: Interrupts) -> int:
    """Writes a line for each input; returns how many of them could not be used.

    Raises:
      InputError: --strict, and one could not be used.
    """
    from electra_jax.inference.predictor import Flush
    from electra_jax.inference.records import Detail, line
    from electra_jax.inference.results import Problem

    detail = Detail(_PROBABILITIES.value, _THRESHOLD.value)
    waiting: collections.deque[Request] = collections.deque()

    def values() -> Iterator[Any]:
        for request in _requests(task):
            if request is None:
                yield Flush.FLUSH
            else:
                waiting.append(request)
                yield request.value
            # Before it waits for more.
            interrupts.check()

    progress = ProgressLine(sys.stderr) if output.shows_progress else None
    began, count, problems = time.monotonic(), 0, 0
    lines: list[str] = []

    def flush() -> None:
        with interrupts.held():
            content = "".join(lines).encode()
            lines.clear()
            output.write(content)

    try:
        for result in model.stream(task, values(), **_options(task)):
            interrupts.check()
            request = waiting.popleft()
            if count == 0 and _TIMINGS.value:
                timings["first answer"] = time.monotonic() - began
                parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in timings.items())
                print(f"first answer after {sum(timings.values()):.2f} s: {parts}", file=sys.stderr)
            count += 1
            if isinstance(result, Problem):
                problems += 1
                if _STRICT.value:
                    flush()
                    raise InputError(f"input {request.id!r}: {result.message} (--strict)")
            lines.append(line(request.id, result, detail))
            # When nothing is ready that was read, the output waits for nothing.
            if not waiting or len(lines) >= _LINES_AT_ONCE:
                flush()
                if progress:
                    rate = count / max(time.monotonic() - began, 1e-9)
                    progress.update(f"{count:,} inputs, {rate:,.0f} a second")
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        return problems
    except KeyboardInterrupt:
        flush()
        output.close()
        print(f"\nInterrupted after {count:,} inputs; their lines are whole.", file=sys.stderr)
        sys.exit(130)
    flush()
    if progress:
        rate = count / max(time.monotonic() - began, 1e-9)
        progress.print(f"{count:,} inputs, {rate:,.0f} a second: {_OUTPUT.value}")
    return problems


_LINES_AT_ONCE = 256


def _requests(task: str) -> Iterator[Request | None]:
    if _TEXT.value:
        for number, text in enumerate(_TEXT.value):
            yield inputs.Request(number, text)
        return
    layout = inputs.Layout(_FORMAT.value, tuple(_TEXT_COLUMNS.value), _ID_COLUMN.value, tuple(_COLUMNS.value))
    yield from inputs.requests(_INPUT.value, task, layout)


def _options(task: str) -> dict[str, Any]:
    match task:
        case "classify":
            return {"threshold": _THRESHOLD.value, "long_texts": _LONG_TEXTS.value}
        case "answer":
            return {"null_threshold": _NULL_THRESHOLD.value, "top_k": _TOP_K.value}
        case "embed":
            return {"pooling": _POOLING.value, "normalize": _NORMALIZE.value}
        case "fill":
            return {"network": _NETWORK.value, "top_k": _TOP_K.value}
        case "score":
            return {"network": _NETWORK.value}
    return {}


class _Output:
    """A file, an object or standard output that takes whole lines."""

    def __init__(self, path: str) -> None:
        """Opens it; an object store is written at the end, and every half minute at most."""
        self.shows_progress = path != _STANDARD
        self._object: AppendedFile | None = None
        self._descriptor = 1
        if storage.is_remote(path):
            from electra_jax.training.appended_file import AppendedFile

            # Empty at first, which also shows that it can be written.
            storage.write(path, b"")
            self._object = AppendedFile(path)
        elif path != _STANDARD:
            local = os.path.expanduser(path)
            os.makedirs(os.path.dirname(local) or ".", exist_ok=True)
            self._descriptor = os.open(local, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    def write(self, content: bytes) -> None:
        """Writes lines.

        Raises:
          BrokenPipeError: nobody reads them any more.
        """
        if self._object:
            self._object.append(content)
            return
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """Returns when everything is written."""
        if self._object:
            self._object.publish()
        elif self._descriptor != 1:
            os.close(self._descriptor)
            self._descriptor = 1


def _check_output(path: str) -> None:
    """Checks the output before any slow work.

    Raises:
      InputError: it exists, or is an address that cannot be used.
    """
    if path != _STANDARD:
        if problem := storage.problem(path):
            raise InputError(f"--output={problem}")
        if storage.is_directory(path):
            raise InputError(f"--output={path}: is a directory, expected a file")
        if _INPUT.value != _STANDARD and storage.absolute(path) == storage.absolute(_INPUT.value):
            raise InputError(f"--output={path}: is the input, expected another file")
        if storage.exists(path) and not _OVERWRITE.value:
            raise InputError(f"--output={path}: exists; give another path, or replace it with --overwrite")


def run() -> None:
    """Runs the command `electra-predict`: parses the flags, calls `main` and exits with its exit code."""
    entry_point.enter(main)


if __name__ == "__main__":
    run()
