"""A self-contained HTML page on a run: progress, learning curves, samples and config.

Reads the files of a workdir only; starts neither JAX nor TensorFlow.
"""

import dataclasses
import shlex
import statistics
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from electra_jax import collapse, storage
from electra_jax.errors import InputError
from electra_jax.reporting import finetuning_page, markup, time_bar
from electra_jax.reporting.charts import charts, final_value, last, number
from electra_jax.reporting.divergence_section import divergence_section
from electra_jax.reporting.probe_results import probe_section
from electra_jax.reporting.run_files import (
    Histories,
    Json,
    has_step,
    read_histories,
    read_json,
    read_json_lines,
    run_name,
)
from electra_jax.wording import duration

_MOST_EARLIER_STEPS = 6
_NOT_CURVES = ("probe/", time_bar.PREFIX)  # Metrics that have a section of their own.


def has_metrics(workdir: storage.Path) -> bool:
    """Returns whether a run, or one of its trials, has logged anything that a report could show."""
    names = ("metrics.jsonl", "result.json", "results.json", "seed_*/metrics.jsonl", "seed_*/result.json")
    return any(storage.size(path) for name in names for path in storage.files_in(workdir, name))


def write_report(workdir: storage.Path) -> str:
    """Writes `report.html` into a run's directory, atomically, and returns its path.

    Raises:
      InputError: the directory or its metrics are missing, or one of its files cannot be read.
    """
    directory = str(workdir)
    config = read_json(storage.join(directory, "config.json"))
    command = shlex.join(["python", "-m", "electra_jax.report", f"--workdir={directory}"])
    page = None
    if finetuning_page.is_finetuning(directory, config):
        page = finetuning_page.page(directory, config, command)
    elif storage.is_file(storage.join(directory, "metrics.jsonl")):
        page = _pretraining_page(directory, config, command)
    if page is None:
        found = "a directory without metrics.jsonl" if storage.is_directory(directory) else "no directory"
        place = "address" if storage.is_remote(directory) else "local path"
        raise InputError(
            f"--workdir={workdir}: found {found} at this {place}, expected that of a run; "
            f"start one with `python -m electra_jax.main --config=… --workdir={shlex.quote(str(workdir))}`"
        )
    target = storage.join(directory, "report.html")
    # A path may hold bytes that are not UTF-8.
    storage.write(target, page.encode("utf-8", "replace"))
    return target


def _pretraining_page(directory: str, config: Json, command: str) -> Markup:
    notes: list[str] = []
    path = storage.join(directory, "metrics.jsonl")
    histories = read_histories(path, notes)
    if not histories:
        raise InputError(f"{path}: found no metrics yet, expected lines such as {{'step': 100, 'train/loss': 9.1}}")
    samples = _read_samples(storage.join(directory, "samples.jsonl"), notes)
    environment = read_json(storage.join(directory, "environment.json"))
    return markup.render(
        "pretraining",
        title=_title(config, environment, histories, directory),
        warning=_warning(config, histories),
        notes=notes,
        facts=_facts(config, histories),
        time_bar=time_bar.time_bar(histories),
        charts=charts({name: history for name, history in histories.items() if not name.startswith(_NOT_CURVES)}),
        samples=_samples(samples),
        divergence=divergence_section(directory),
        probe=probe_section(directory),
        config=config,
        environment=environment,
        command=command,
    )


def _warning(config: Json, histories: Histories) -> str:
    """Warning from the last evaluation; "" if there is none, or if the warm-up had not ended."""
    evaluations = {name: history for name, history in histories.items() if name.startswith("eval/")}
    step = max((max(history) for history in evaluations.values()), default=0)
    if step <= (_integer(config, "optimizer", "warmup_steps") or 0):
        return ""
    scores = {name.removeprefix("eval/"): history[step] for name, history in evaluations.items() if step in history}
    # Without a known width there is nothing to compare the rank with.
    found = collapse.warning(scores, _integer(config, "model", "hidden_size") or 0)
    return f"Step {step:,}: {found}" if found else ""


def _integer(config: Json, section: str, field: str) -> int | None:
    fields = config.get(section)
    value = fields.get(field) if isinstance(fields, dict) else None
    return value if isinstance(value, int) else None


def _read_samples(path: str, notes: list[str]) -> dict[int, dict[str, Json]]:
    """Sample rows by step and row."""
    samples: dict[int, dict[str, Json]] = {}
    if not storage.is_file(path):
        return samples
    for place, record in read_json_lines(path, notes, has_step, "an integer `step`"):
        columns = [record.get(name) for name in ("tokens", "original", "masked", "replaced", "probability")]
        lengths = [len(column) for column in columns if isinstance(column, list)]
        if len(lengths) != len(columns) or len(set(lengths)) != 1:
            raise InputError(
                f"{place}: expected lists of one length named tokens, original, masked, replaced and probability; "
                "fix or delete the line"
            )
        samples.setdefault(record["step"], {})[str(record.get("row"))] = record
    return dict(sorted(samples.items()))


def _title(config: Json, environment: Json, histories: Histories, directory: str) -> str:
    objective = config.get("objective")
    objective = objective.get("name") if isinstance(objective, dict) else objective
    if not objective:
        objective = "mlm" if any(name.endswith("/mlm_loss") for name in histories) else ""
    name = config.get("name") or environment.get("config") or run_name(directory)
    return " · ".join(str(part) for part in (config.get("task"), objective, name) if part)


def _facts(config: Json, histories: Histories) -> Iterator[tuple[str, str, str]]:
    """Yields headline numbers: name, value and remark. Those that the files lack are left out."""
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
        yield "AUC, unigram", f"{unigram:.3f}", "held-out, against unigram samples"
    yield from _detection_facts(histories)
    yield from _rank_facts(histories, _integer(config, "model", "hidden_size"))
    known |= own is not None
    if not known:
        for name in [name for name in histories if name.startswith("eval/")][:4]:
            yield name.removeprefix("eval/"), number(final_value(histories[name])), "held-out"

    rows, length = config.get("batch_size"), _integer(config, "data", "sequence_length")
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


def _detection_facts(histories: Histories) -> Iterator[tuple[str, str, str]]:
    """Yields the discriminator's recall and precision on replaced tokens."""
    recall, precision = (last(histories, f"eval/discriminator_{name}") for name in ("recall", "precision"))
    if recall is not None:
        yield "Recall", f"{recall:.1%}", "held-out; the replaced tokens that are flagged at a threshold of 50%"
    if precision is not None:
        # Precision is recorded as 0 where no token is flagged, which would read as "always wrong".
        flagged = precision > 0 or bool(recall)
        remark = "the flagged tokens that were replaced, at a threshold of 50%" if flagged else "none found at 50%"
        yield "Precision", f"{precision:.1%}" if flagged else "–", f"held-out; {remark}"
    average = last(histories, "eval/discriminator_average_precision")
    replaced = last(histories, "eval/replaced_fraction")
    if average is not None:
        remark = "held-out, over all thresholds"
        if replaced is not None:
            remark += f"; guessing scores about the replaced share, {replaced:.3f}"
        yield "Average precision", f"{average:.3f}", remark


def _rank_facts(histories: Histories, width: int | None) -> Iterator[tuple[str, str, str]]:
    """Yields the effective rank of the hidden states of the network that is kept."""
    of = f"of {width} directions" if width else "directions"
    for network in ("discriminator", "encoder"):
        rank = last(histories, f"eval/{network}_rank")
        if rank is not None:
            yield "Effective rank", f"{rank:.1f}", f"{of} in use by the {network}'s hidden states"


def _tokens(count: int) -> str:
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:,}"


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A piece of a sentence as the page shows it.

    Attributes:
      text: the piece without its mark.
      after_blank: whether a word begins with it.
      kind: class of the style sheet.
      colour: from 0 to 1, by the probability that it was replaced.
      tooltip: text at the pointer.
      above: the original piece; None if it was not replaced.
    """

    text: str
    after_blank: bool
    kind: str
    colour: str
    tooltip: str
    above: str | None


@dataclasses.dataclass(frozen=True)
class _StepSamples:
    """The sentences of one step.

    Half of the pieces stay white, and one in fifty has the full colour: a young discriminator is sure of nothing, and
    on a scale from 0 to 100 % its page would show no difference.

    Attributes:
      white: up to this probability a piece has no colour.
      full: from this probability on a piece has the full colour.
    """

    number: int
    white: float
    full: float
    sentences: list[list[_Piece]]


def _samples(samples: dict[int, dict[str, Json]]) -> Markup:
    """The latest step's rows, then folded away those of some earlier steps from the first on."""
    steps = list(samples)
    shown = earlier = steps[:-1]
    if len(earlier) > _MOST_EARLIER_STEPS:
        spacing = (len(earlier) - 1) / (_MOST_EARLIER_STEPS - 1)
        shown = [earlier[round(index * spacing)] for index in range(_MOST_EARLIER_STEPS)]
    return markup.render(
        "samples",
        latest=_step_samples(steps[-1], samples[steps[-1]]) if steps else None,
        earlier=[_step_samples(step, samples[step]) for step in shown],
        kept=len(earlier),
    )


def _step_samples(step: int, rows: dict[str, Json]) -> _StepSamples:
    probabilities = sorted(_probability(value) for row in rows.values() for value in row["probability"]) or [0.0]
    white, full = probabilities[len(probabilities) // 2], probabilities[int(len(probabilities) * 0.98)]
    full = max(full, white + 0.01)
    return _StepSamples(step, white, full, [list(_sentence(row, white, full)) for row in rows.values()])


def _probability(value: Any) -> float:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, int | float) else 0.0


def _sentence(row: Json, white: float, full: float) -> Iterator[_Piece]:
    """The pieces of a row, each coloured by the probability that it was replaced."""
    begins = markup.word_mark(str(token) for token in row["tokens"])
    columns = (row[name] for name in ("tokens", "original", "masked", "replaced", "probability"))
    for token, original, masked, replaced, probability in zip(*columns, strict=True):
        token, original = str(token), str(original)
        special = markup.is_special(token)
        joined = not special and (not token.startswith(begins) if begins else token.startswith("##"))
        above = original.lstrip(begins) if begins else original.removeprefix("##" if joined else "")
        probability = _probability(probability)
        yield _Piece(
            text=token.lstrip(begins) if begins else token.removeprefix("##"),
            after_blank=not joined,
            kind="special" if special else "replaced" if replaced else "guessed" if masked else "kept",
            colour=f"{min(max(probability - white, 0.0) / (full - white), 1.0):.2f}",
            tooltip=f"{probability:.0%} replaced" + (f"; was {original}" if replaced else ""),
            above=above if replaced else None,
        )
