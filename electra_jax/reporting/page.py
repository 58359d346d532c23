"""One self-contained HTML page on a run: how far it came, how well it learns, what it was told to do.

Reads the files of a workdir only; starts neither JAX nor TensorFlow.
"""

import html
import os
import pathlib
import shlex
import statistics
from collections.abc import Iterator
from typing import Any

from electra_jax import collapse
from electra_jax.errors import InputError
from electra_jax.reporting import finetuning, markup
from electra_jax.reporting.charts import charts, last, number
from electra_jax.reporting.files import (
    Histories,
    Json,
    has_step,
    read_histories,
    read_json,
    read_json_lines,
    write_page,
)
from electra_jax.reporting.probe import probe_section
from electra_jax.wording import duration

_MOST_EARLIER_STEPS = 6


def write_report(workdir: str | os.PathLike) -> pathlib.Path:
    """Writes `report.html` into a run's directory, whole or not at all, and returns its path.

    Raises:
      InputError: the directory or its metrics are missing, or one of its files cannot be read.
    """
    directory = pathlib.Path(workdir)
    config = read_json(directory / "config.json")
    command = shlex.join(["python", "-m", "electra_jax.report", f"--workdir={os.fspath(workdir)}"])
    page = None
    if finetuning.is_finetuning(directory, config):
        page = finetuning.page(directory, config, command)
    elif (directory / "metrics.jsonl").is_file():
        page = _pretraining_page(directory, config, command)
    if page is None:
        found = "a directory without metrics.jsonl" if directory.is_dir() else "no directory"
        raise InputError(
            f"--workdir={workdir}: found {found} at this local path, expected that of a run; "
            f"start one with `python -m electra_jax.main --config=… --workdir={shlex.quote(str(workdir))}`"
        )
    target = directory / "report.html"
    write_page(target, page)
    return target


def _pretraining_page(directory: pathlib.Path, config: Json, command: str) -> str:
    notes: list[str] = []
    path = directory / "metrics.jsonl"
    histories = read_histories(path, notes)
    if not histories:
        raise InputError(f"{path}: found no metrics yet, expected lines such as {{'step': 100, 'train/loss': 9.1}}")
    samples = _read_samples(directory / "samples.jsonl", notes)
    environment = read_json(directory / "environment.json")
    return markup.fill(
        "template.html",
        title=html.escape(_title(config, environment, histories, directory)),
        notes=markup.notes(_warnings(config, histories) + notes),
        facts=markup.facts(_facts(config, histories)),
        charts=charts({name: history for name, history in histories.items() if not name.startswith("probe/")}),
        samples=_samples(samples),
        probe=probe_section(directory),
        config=markup.table(config),
        environment=markup.table(environment),
        command=html.escape(command),
    )


def _read_samples(path: pathlib.Path, notes: list[str]) -> dict[int, dict[str, Json]]:
    """Sample rows by step and row."""
    samples: dict[int, dict[str, Json]] = {}
    if not path.is_file():
        return samples
    for place, record in read_json_lines(path, notes, has_step, "an integer `step`"):
        columns = [record.get(name) for name in ("tokens", "original", "masked", "replaced", "probability")]
        if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
            raise InputError(
                f"{place}: expected lists of one length named tokens, original, masked, replaced and probability; "
                "mend or delete the line"
            )
        samples.setdefault(record["step"], {})[str(record.get("row"))] = record
    return dict(sorted(samples.items()))


def _title(config: Json, environment: Json, histories: Histories, directory: pathlib.Path) -> str:
    objective = config.get("objective")
    objective = objective.get("name") if isinstance(objective, dict) else objective
    if not objective:
        objective = "mlm" if any(name.endswith("/mlm_loss") for name in histories) else ""
    name = config.get("name") or environment.get("config") or directory.resolve().name
    return " · ".join(str(part) for part in (config.get("task"), objective, name) if part)


def _warnings(config: Json, histories: Histories) -> list[str]:
    """What the last evaluation says is wrong, once the warm-up is over."""
    model, optimizer = config.get("model"), config.get("optimizer")
    width = model.get("hidden_size") if isinstance(model, dict) else None
    warmup = optimizer.get("warmup_steps", 0) if isinstance(optimizer, dict) else 0
    if not isinstance(width, int) or max(max(history) for history in histories.values()) <= warmup:
        return []
    scores = {
        name.removeprefix("eval/"): last(histories, name)
        for name in histories
        if name.startswith("eval/discriminator_")
    }
    text = collapse.warning(scores, width)
    return [text] if text else []


def _facts(config: Json, histories: Histories) -> Iterator[tuple[str, str, str]]:
    """Headline numbers: name, value and remark. What the files do not tell is left out."""
    done, total = max(max(history) for history in histories.values()), config.get("steps")
    yield "Steps", f"{done:,}", f"of {total:,}" if isinstance(total, int) else "so far"

    entropy, known = last(histories, "eval/unigram_entropy"), False
    for name, label in (("generator_loss", "Generator loss"), ("mlm_loss", "Masked-word loss")):
        loss = last(histories, f"eval/{name}")
        if loss is not None:
            remark = "nats, held-out"
            if entropy is not None:
                side = "below" if loss <= entropy else "above"
                remark += f"; {abs(entropy - loss):.2f} {side} word frequencies alone ({entropy:.2f})"
            yield label, f"{loss:.2f}", remark
            known = True
    own, unigram = last(histories, "eval/discriminator_auc"), last(histories, "eval/discriminator_auc_unigram")
    if own is not None:
        yield "AUC, generator", f"{own:.3f}", "held-out, against its own generator; 0.5 is chance"
    if unigram is not None:
        yield "AUC, unigram", f"{unigram:.3f}", "held-out, against words drawn by frequency"
    recall, precision = (last(histories, f"eval/discriminator_{name}") for name in ("recall", "precision"))
    if recall is not None and precision is not None:
        yield "Replaced words found", f"{recall:.0%}", f"held-out; {precision:.0%} of the words it flags were replaced"
    rank, model = last(histories, "eval/discriminator_rank"), config.get("model")
    if rank is not None:
        of = f" of {model['hidden_size']}" if isinstance(model, dict) and "hidden_size" in model else ""
        yield "Directions in use", f"{rank:.1f}", f"effective rank of the discriminator's states{of}"
    known |= own is not None
    if not known:
        for name in [name for name in histories if name.startswith("eval/")][:4]:
            yield name.removeprefix("eval/"), number(last(histories, name)), "held-out"

    data = config.get("data")
    rows, length = config.get("batch_size"), data.get("sequence_length") if isinstance(data, dict) else None
    rates = {step: rate for step, rate in histories.get("performance/tokens_per_second", {}).items() if rate > 0}
    if isinstance(rows, int) and isinstance(length, int):
        yield "Tokens seen", _tokens(done * rows * length), f"{rows:,} rows of {length:,} a step, with padding"
        elapsed = last(histories, "time/elapsed_seconds")
        if elapsed is not None:
            yield "Wall time", duration(elapsed), "since the run began"
        elif rates:
            starts = [0, *rates]
            seconds = sum((end - start) * rows * length / rates[end] for start, end in zip(starts, rates, strict=False))
            yield "Training time", duration(seconds), "from the throughput; without evaluation and start"
    if rates:
        yield "Tokens a second", f"{statistics.median(rates.values()):,.0f}", "median"


def _tokens(count: int) -> str:
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:,}"


def _samples(samples: dict[int, dict[str, Json]]) -> str:
    """The latest step's rows, then folded away those of some earlier steps from the first on."""
    if not samples:
        return "<p>This run keeps no samples.</p>"
    *earlier, latest = samples
    shown = earlier
    if len(earlier) > _MOST_EARLIER_STEPS:
        spacing = (len(earlier) - 1) / (_MOST_EARLIER_STEPS - 1)
        shown = [earlier[round(index * spacing)] for index in range(_MOST_EARLIER_STEPS)]
    heading, rows = _step_samples(latest, samples[latest])
    parts = [f"<h3>{heading}</h3>", rows]
    if shown:
        of = f", {len(shown)} of {len(earlier)} kept" if len(shown) < len(earlier) else ""
        parts.append(f"<h3>Earlier in training{of}</h3>")
    for step in shown:
        heading, rows = _step_samples(step, samples[step])
        parts.append(f"<details><summary>{heading}</summary>{rows}</details>")
    return "".join(parts)


def _step_samples(step: int, rows: dict[str, Json]) -> tuple[str, str]:
    """Heading and sentences of one step.

    Half of the pieces stay white, and one in fifty has the full colour: a young discriminator is sure of nothing, and
    on a scale from 0 to 100 % its page would show no difference.
    """
    probabilities = sorted(_probability(value) for row in rows.values() for value in row["probability"]) or [0.0]
    white, full = probabilities[len(probabilities) // 2], probabilities[int(len(probabilities) * 0.98)]
    full = max(full, white + 0.01)
    heading = f"Step {step:,} <small>white up to {white:.0%}, full colour from {full:.0%} on</small>"
    return heading, "".join(_sentence(row, white, full) for row in rows.values())


def _probability(value: Any) -> float:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, int | float) else 0.0


def _sentence(row: Json, white: float, full: float) -> str:
    """One row of tokens, pieces joined to words, each coloured by the probability that it was replaced."""
    pieces = []
    begins = markup.word_mark(str(token) for token in row["tokens"])
    columns = (row[name] for name in ("tokens", "original", "masked", "replaced", "probability"))
    for token, original, masked, replaced, probability in zip(*columns, strict=True):
        token, original = str(token), str(original)
        special = markup.is_special(token)
        joined = not special and (not token.startswith(begins) if begins else token.startswith("##"))
        text = html.escape(token.lstrip(begins) if begins else token.removeprefix("##"))
        above = html.escape(original.lstrip(begins) if begins else original.removeprefix("##" if joined else ""))
        probability = _probability(probability)
        colour = min(max(probability - white, 0.0) / (full - white), 1.0)
        kind = "special" if special else "replaced" if replaced else "guessed" if masked else "kept"
        told = html.escape(f"{probability:.0%} replaced" + (f"; was {original}" if replaced else ""))
        piece = f'<span class="{kind}" style="--p:{colour:.2f}" title="{told}">{text}</span>'
        if replaced:
            piece = f"<ruby>{piece}<rt>{above}</rt></ruby>"
        pieces.append(("" if joined else " ") + piece)
    return f'<p class="sentence">{"".join(pieces).strip()}</p>'
