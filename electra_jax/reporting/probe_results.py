"""Results of a probe, for the terminal and for the page of a pre-training run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from markupsafe import Markup

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.reporting import markup
from electra_jax.reporting.run_files import Json, read_json


def probe_lines(workdir: str) -> list[str]:
    """Returns the results of a run's probe as text; empty if there are none.

    Raises:
      InputError: the file of the results is damaged.
    """
    results, rows = _read(workdir)
    if not rows:
        return []
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
    table = [f"  {name.ljust(widths[0])}  {value.ljust(widths[1])}  {remark}".rstrip() for name, value, remark in rows]
    return [f"What the model is worth: {_described(results)}", *table]


def probe_section(workdir: str) -> Markup:
    """Returns the results of a run's probe as a section of its page; empty if there are none.

    Raises:
      InputError: see `probe_lines`.
    """
    results, rows = _read(workdir)
    if not rows:
        return Markup("")
    return markup.render(
        "probe",
        lead=f"{_described(results)[0].upper()}{_described(results)[1:]}.",
        rows=[(name, f"{value}  {remark}".strip()) for name, value, remark in rows],
    )


def _read(workdir: str) -> tuple[Json, list[tuple[str, str, str]]]:
    path = storage.join(workdir, "probe", "results.json")
    results = read_json(path)
    try:
        return results, list(_rows(results)) if results else []
    except (KeyError, TypeError, ValueError, OverflowError, statistics.StatisticsError) as error:
        raise InputError(f"{path}: has no scores of a probe ({error!r}); delete the file and run again") from error


def _described(results: Json) -> str:
    sentences, split = results["sentences"], results["split"]
    return (
        f"word accuracy on {sentences[split]:,} sentences of {results['task']} ({results['words']:,} words) after "
        f"{results['updates']:,} updates on {sentences['train']:,} others"
    )


def _rows(results: Json) -> Iterator[tuple[str, str, str]]:
    """Name, value and remark of each figure."""
    yield "this model", *_measured(results["word_accuracy"])
    yield "the same network from random weights", *_measured(results["random_weights"])
    yield "each word's most frequent tag", f"{results['word_frequencies']:.3f}", "no network"
    if reference := results["reference"]:
        remark = f"{reference['seeds']} seeds, recorded in {reference['recorded']}"
        if reference["steps"] != results["pretraining_steps"]:
            remark += f", for {reference['steps']:,} steps; this run has {results['pretraining_steps']:,}"
        yield reference["name"], f"{reference['mean']:.3f} ± {reference['sd']:.3f}", remark


def _measured(values: list[float]) -> tuple[str, str]:
    if len(values) == 1:
        return f"{values[0]:.3f}", ""
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}", f"{len(values)} fine-tunings"
