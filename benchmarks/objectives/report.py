"""Results of a comparison: scores.csv, report.md and a figure for each kind of budget."""

from __future__ import annotations

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence

from benchmarks.objectives import figure
from benchmarks.objectives.comparison import Comparison, Score
from benchmarks.objectives.statistics import BySeed, Statistic, over_seeds, paired_difference
from benchmarks.objectives.tasks import RANDOM, TASKS
from electra_jax import storage
from electra_jax.wording import duration, quantity

_TITLES = {
    "flops": "Equal FLOPs",
    "seconds": "Equal seconds",
    "at_tokens": "Checkpoints of one run, at equal tokens",
}
_COLUMNS = {
    "conll2000": "CoNLL-2000", "ud": "UD part of speech", "sst2": "SST-2", "trec": "TREC", "cola": "CoLA",
    "stsb": "STS-B, not tuned",
}  # fmt: skip


def write(comparison: Comparison, directory: pathlib.Path) -> list[pathlib.Path]:
    """Writes all files, each atomically, and returns their paths."""
    scores = comparison.scores()
    files = {"scores.csv": csv_text(scores).encode()}
    figures = []
    for kind in comparison.plan.budgets:
        lines = figure_lines(comparison, scores, kind)
        if lines:
            label = f"pre-training {'seconds (budget)' if kind == 'seconds' else 'FLOPs'}"
            figures.append(f"transfer_{kind}.png")
            files[figures[-1]] = figure.draw(lines, _TITLES[kind], label)
    files = {"report.md": markdown(comparison, scores, figures).encode()} | files
    for name, content in files.items():
        storage.write(directory / name, content)
    return [directory / name for name in files]


def csv_text(scores: Sequence[Score]) -> str:
    """One line for each score."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(Score))
    writer.writerows(dataclasses.astuple(score) for score in scores)
    return stream.getvalue()


def by_seed(
    scores: Sequence[Score], contender: str, kind: str, budget: float, task: str, metric: str
) -> dict[int, list[float]]:
    """Test scores of one cell of the table, by pre-training seed."""
    found: dict[int, list[float]] = {}
    for score in scores:
        place = score.contender, score.budget_kind, score.budget, score.task, score.metric, score.split
        if place == (contender, kind, budget, task, metric, "test"):
            found.setdefault(score.pretraining_seed, []).append(score.value)
    return found


def figure_lines(comparison: Comparison, scores: Sequence[Score], kind: str) -> dict[str, dict[str, list]]:
    """Lines of a figure: points (x, statistic) by contender, for each task and metric.

    Random weights are a single point at x = 0.
    """
    plan, panels = comparison.plan, {}
    for task, metric in _columns(comparison):
        lines: dict[str, list[tuple[float, Statistic]]] = {}
        for name in plan.contenders:
            for budget in plan.budgets[kind]:
                found = over_seeds(by_seed(scores, name, kind, budget, task, metric))
                if found:
                    x = budget if kind == "seconds" else _spent(scores, name, kind, budget).flops
                    lines.setdefault(name, []).append((x, found))
        random = over_seeds(by_seed(scores, RANDOM, "", 0.0, task, metric))
        if random:
            lines[RANDOM] = [(0.0, random)]
        if lines:
            panels[f"{_COLUMNS[task]}: {metric}"] = lines
    return panels


def markdown(comparison: Comparison, scores: Sequence[Score], figures: Sequence[str]) -> str:
    """The report as Markdown."""
    plan = comparison.plan
    pieces = {piece.path: piece for piece in comparison.pieces()}
    done, total = sum(comparison.store.record(piece) is not None for piece in pieces.values()), len(pieces)
    lines = ["# Comparison of pre-training objectives", ""]
    if done < total:
        lines += [f"**Unfinished: {done} of {total} pieces of work are done.**", ""]
    runs = _count(plan.finetuning.seeds, "fine-tuning run")
    lines += [
        f"Mean ± standard deviation (n - 1) over pre-training seeds ({', '.join(map(str, plan.seeds))}) of the mean "
        f"over {runs}; a single seed has no standard deviation. Scores are those "
        "of the last checkpoint on the test split, which was not used for any choice. Differences from "
        f"{plan.baseline} are paired by pre-training seed.",
        "",
    ]
    for kind in plan.budgets:
        lines += [f"## {_TITLES[kind]}", "", *_note(kind)]
        for budget in plan.budgets[kind]:
            lines += _budget_tables(comparison, scores, kind, budget)
        lines += [f"![{_TITLES[kind]}]({name})\n" for name in figures if name == f"transfer_{kind}.png"]
    lines += _costs(comparison, scores)
    lines += _choices(comparison)
    return "\n".join(lines) + "\n"


def _note(kind: str) -> list[str]:
    match kind:
        case "flops":
            return ["Each budget is a separate run whose learning rate decays to zero.", ""]
        case "seconds":
            return ["The number of steps follows from step times measured in one process, contenders taking turns.", ""]
    return ["One run, whose learning rate reaches zero only at the last checkpoint.", ""]


def _columns(comparison: Comparison) -> list[tuple[str, str]]:
    return [(task, metric) for task in comparison.plan.tasks for metric in TASKS[task].metrics]


def _budget_tables(comparison: Comparison, scores: Sequence[Score], kind: str, budget: float) -> list[str]:
    """Scores of all contenders at a budget, each followed by its difference from the baseline."""
    plan, columns = comparison.plan, _columns(comparison)
    head = ["", "seeds", *(f"{_COLUMNS[task]}, {metric}" for task, metric in columns)]
    lines = [f"### {_amount(kind, budget)}", "", _row(head), _row(["---"] * len(head))]
    for name in (*plan.contenders, RANDOM):
        place = (name, "", 0.0) if name == RANDOM else (name, kind, budget)
        cells: list[BySeed] = [by_seed(scores, *place, *column) for column in columns]
        seeds = max((len(cell) for cell in cells), default=0)
        lines.append(_row([name, str(seeds), *(_worded(over_seeds(cell)) for cell in cells)]))
        if name not in (plan.baseline, RANDOM):
            base: list[BySeed] = [by_seed(scores, plan.baseline, kind, budget, *column) for column in columns]
            paired = [paired_difference(cell, other) for cell, other in zip(cells, base, strict=True)]
            pairs = max((found.n for found in paired if found), default=0)
            differences = [_worded(found, signed=True) for found in paired]
            lines.append(_row([f"{name} − {plan.baseline}", str(pairs), *differences]))
    return [*lines, ""]


def _spent(scores: Sequence[Score], contender: str, kind: str, budget: float) -> Score:
    """The first score of a contender at a budget; all of them have the same pre-training compute."""
    return next(
        score
        for score in scores
        if (score.contender, score.budget_kind, score.budget) == (contender, kind, budget)
    )  # fmt: skip


def _costs(comparison: Comparison, scores: Sequence[Score]) -> list[str]:
    """Steps, tokens, FLOPs and seconds of each budget."""
    head = ["budget", "contender", "steps", "tokens", "FLOPs", "FLOPs as in the paper", "measured seconds"]
    lines = ["## Compute of pre-training", "", _row(head), _row(["---"] * len(head))]
    for kind, amounts in comparison.plan.budgets.items():
        for budget in amounts:
            for name in comparison.plan.contenders:
                own = [s for s in scores if (s.contender, s.budget_kind, s.budget) == (name, kind, budget)]
                if not own:
                    continue
                first = own[0]
                seconds = {s.pretraining_seed: [s.pretraining_seconds] for s in own if s.pretraining_seconds}
                measured = over_seeds(seconds)
                cells = [_amount(kind, budget), name, f"{first.steps:,}", quantity(first.tokens)]
                cells += [f"{first.flops:.4g}", f"{first.paper_flops:.4g}"]
                lines.append(_row([*cells, duration(measured.mean) if measured else ""]))
    return [
        *lines,
        "",
        "FLOPs are those of matrix products: a multiply-add counts as two, the backward pass as two forward passes. "
        "As in the paper: element-wise operations too, and the backward pass as one forward pass.",
        "",
    ]


def _choices(comparison: Comparison) -> list[str]:
    """The chosen learning rates, and notes on the fine-tuning."""
    plan, rates = comparison.plan, comparison.plan.finetuning.learning_rates
    tuned = [task for task in plan.tasks if TASKS[task].is_finetuned]
    head = ["", *(_COLUMNS[task] for task in tuned)]
    lines = ["## Learning rates of fine-tuning", "", _row(head), _row(["---"] * len(head))]
    at_edge = False
    for name in (*plan.contenders, RANDOM):
        chosen = [comparison.rate(name, task) for task in tuned]
        marks = ["*" if len(rates) > 1 and rate in (rates[0], rates[-1]) else "" for rate in chosen]
        at_edge = at_edge or any(marks)
        cells = [f"{rate:g}{mark}" if rate else "" for rate, mark in zip(chosen, marks, strict=True)]
        lines.append(_row([name, *cells]))
    random = f"Random weights have the sizes and the tokenizer of {plan.baseline}."
    if not tuned:
        return [random]
    source = comparison.choosing_source(plan.baseline)
    amount = _amount(source.kind, source.amount)
    lines += ["", f"Chosen for each contender and task from {', '.join(f'{rate:g}' for rate in rates)} by the mean "
              f"score on a dev split, with the model of pre-training seed {plan.seeds[0]} at {amount}; then used "
              "for all its seeds and budgets. Where a task has no dev split of its own, one was held out of the "
              "training examples."]  # fmt: skip
    if at_edge:
        lines.append("\\* at an edge of the grid: a rate beyond it may be better.")
    if found := comparison.collapsed():
        counts = ", ".join(f"{name} {count}" for name, count in found.items())
        lines += ["", f"Fine-tuning runs that learned nothing (included in all scores): {counts}."]
    return [*lines, "", random]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _amount(kind: str, budget: float) -> str:
    """A budget as text, with its unit."""
    match kind:
        case "flops":
            return f"{quantity(budget)}FLOPs"
        case "seconds":
            return duration(budget)
    return f"{quantity(budget)} tokens"


def _worded(found: Statistic | None, signed: bool = False) -> str:
    if found is None:
        return ""
    mean = f"{found.mean:{'+' if signed else ''}.4f}"
    return mean if found.sd is None else f"{mean} ± {found.sd:.4f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
