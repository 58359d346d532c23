"""The page of a fine-tuning run, or of several trials: scores, their spread, curves and mistakes."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from electra_jax import storage
from electra_jax.reporting import curves, markup, metric_names, trial_table
from electra_jax.reporting.charts import last
from electra_jax.reporting.confusion import confusion_table
from electra_jax.reporting.divergence_section import divergence_section
from electra_jax.reporting.finetuning_files import FinetuningFiles, Run, read_files
from electra_jax.reporting.mistakes import read_predictions, split_section
from electra_jax.reporting.results import Results, Trial
from electra_jax.reporting.run_files import Json, read_json, run_name
from electra_jax.reporting.summary import remarks, seed_name, trial_count
from electra_jax.wording import duration

_MOST_FACTS = 8


def is_finetuning(directory: str, config: Json) -> bool:
    """Whether a directory is that of a fine-tuning run."""
    ended = any(storage.is_file(storage.join(directory, name)) for name in ("result.json", "results.json"))
    return ended or config.get("task") == "finetuning"


def page(directory: str, config: Json, command: str) -> Markup | None:
    """Returns the HTML of the page; None if the directory holds no run yet.

    Args:
      directory: directory of a run, or of several trials.
      config: the run's config.
      command: command that makes the page again.

    Raises:
      InputError: one of the files is damaged.
    """
    files = read_files(directory, config)
    if files is None:
        return None
    environment = read_json(storage.join(directory, "environment.json"))
    ended = [run.trial for run in files.runs if run.trial is not None]
    sections = _sections(files)  # First, because it may leave notes.
    trials = (storage.join(directory, name) for name in storage.names(directory) if name.startswith("seed_"))
    return markup.render(
        "finetuning",
        title=_title(files, directory),
        subtitle=_subtitle(files),
        notes=[*trial_table.failures(remarks(ended, files.failed)), *dict.fromkeys(files.notes)],
        facts=_facts(files),
        scores_heading="Trials" if files.results is not None else "Scores",
        scores=_scores(files, directory),
        curves=_curves(files),
        sections=sections,
        divergence=[divergence_section(place) for place in (directory, *trials)],
        config=config,
        environment=environment,
        command=command,
    )


def _title(files: FinetuningFiles, directory: str) -> str:
    tasks = ", ".join(files.tasks) if len(files.tasks) <= 4 else f"{len(files.tasks)} tasks"
    return " · ".join(part for part in ("Fine-tuning", tasks, run_name(directory)) if part)


def _subtitle(files: FinetuningFiles) -> str:
    """One sentence on what was done with which model."""
    config = files.config
    parts = []
    if config.get("init_from"):
        sizes_only = "a network of the same size as " if config.get("random_weights") is True else ""
        parts.append(f"From {sizes_only}{config['init_from']}")
    section = config.get("optimizer")
    optimizer = section if isinstance(section, dict) else {}
    for name, value in (
        ("epochs", config.get("epochs")),
        ("rows in a batch", config.get("batch_size")),
    ):
        if isinstance(value, int | float):
            parts.append(f"{value:g} {name}")
    for name in ("learning_rate", "layer_decay"):
        if isinstance(optimizer.get(name), int | float):
            parts.append(f"{name.replace('_', ' ')} {optimizer[name]:g}")
    return ", ".join(parts) + "." if parts else ""


def _facts(files: FinetuningFiles) -> Iterator[tuple[str, str, str]]:
    """Headline numbers: name, value and remark."""
    if files.several_tasks:
        yield from _common_score(files)
    if files.results is not None:
        yield from _facts_of_trials(files, files.results)
    elif len(files.runs) == 1:
        yield from _facts_of_run(files, files.runs[0])
    else:
        ended = sum(run.trial is not None for run in files.runs)
        yield "Trials", f"{ended}", f"ended, of {len(files.runs)} started"


def _common_score(files: FinetuningFiles) -> Iterator[tuple[str, str, str]]:
    scores = [score for run in files.runs if (score := files.main_score(run)) is not None]
    if not scores or len(scores) != len(files.runs):
        return
    value = metric_names.value(statistics.fmean(scores), 3)
    if len(scores) > 1:
        value += f" ± {metric_names.value(statistics.stdev(scores), 3)}"
    yield "Score, dev", value, f"of all {len(files.tasks)} tasks together"


def _facts_of_trials(files: FinetuningFiles, results: Results) -> Iterator[tuple[str, str, str]]:
    for split, name in _headlines(files, results.summary):
        spread = results.summary[split][name]
        value = metric_names.value(spread.mean, 3)
        if math.isfinite(spread.deviation):
            value += f" ± {metric_names.value(spread.deviation, 3)}"
        remark = f"mean ± deviation; median {metric_names.value(spread.median, 3)}"
        yield _headline(split, name), value, f"{remark}, best {metric_names.value(spread.best, 3)}"
    repeated = f"; {len(results.failed)} more learned nothing" if results.failed else ""
    yield "Trials", f"{len(results.trials)}", f"{trial_count(results).partition(', ')[2]}{repeated}"
    seconds = [trial.seconds for trial in (*results.trials, *results.failed) if trial.seconds is not None]
    if seconds:
        yield "Wall time", duration(sum(seconds)), "of all runs together"


def _facts_of_run(files: FinetuningFiles, run: Run) -> Iterator[tuple[str, str, str]]:
    if run.trial is None:
        for task in files.tasks:
            name = files.key(task, files.metric(task))
            score = last(run.histories, f"eval/{name}")
            if score is not None:
                yield _headline(files.key(task, "dev"), files.metric(task)), metric_names.value(score, 3), "so far"
    else:
        checkpoint = f"{run.trial.chosen} checkpoint".strip()
        if run.trial.step is not None:
            checkpoint += f", step {run.trial.step:,}"
        for split, name in _headlines(files, run.trial.scores):
            yield _headline(split, name), metric_names.value(run.trial.scores[split][name], 3), checkpoint
        if run.trial.seed is not None:
            yield "Seed", f"{run.trial.seed}", "one run; several trials show how much is luck"
    if run.histories:
        yield "Steps", f"{max(max(history) for history in run.histories.values()):,}", "updates"
    seconds = run.trial.seconds if run.trial is not None else last(run.histories, "time/elapsed_seconds")
    if seconds is not None:
        yield "Wall time", duration(seconds), "since the run began"


def _headline(split: str, metric: str) -> str:
    """Name of a metric with its split: "Accuracy, dev", or of several tasks "rte · Accuracy, dev"."""
    task, slash, split = split.rpartition("/")
    return f"{metric_names.words(f'{task}{slash}{metric}')}, {split}"


def _headlines(files: FinetuningFiles, scores: Mapping[str, Mapping[str, object]]) -> list[tuple[str, str]]:
    """Splits and metrics of the headline: the main metric of each task, dev before other splits."""
    metrics = {task: files.metric(task) for task in files.tasks}
    found = []
    for key in scores:
        task = key.rpartition("/")[0] if files.several_tasks else next(iter(files.tasks))
        if metrics.get(task) in scores[key]:
            found.append((key, metrics[task]))
    found.sort(key=lambda entry: entry[0].rpartition("/")[2] != "dev")
    return found[:_MOST_FACTS]


def _scores(files: FinetuningFiles, directory: str) -> Markup:
    if files.results is not None:
        return trial_table.trials_table(files.results, directory)
    run = files.runs[0]
    if len(files.runs) > 1 or run.trial is None:
        return Markup("")
    return trial_table.scores_table(run.trial.scores)


def _curves(files: FinetuningFiles) -> Markup:
    """HTML of learning curves; empty if there are none."""
    metrics = ["score", *(files.key(task, files.metric(task)) for task in files.tasks)]
    if len(files.runs) > 1:
        histories = {storage.name(run.directory): run.histories for run in files.runs if run.histories}
        return curves.trial_curves(histories, metrics) if histories else Markup("")
    run = files.runs[0]
    if not run.histories:
        return Markup("")
    reported = run.trial.step if run.trial is not None and run.trial.chosen == "best" else None
    return curves.run_curves(run.histories, metrics, reported)


@dataclasses.dataclass(frozen=True)
class _Section:
    """Mistakes of a task.

    Attributes:
      trial: name of the trial; empty for a single run.
      cut: number of examples that did not fit, by split; empty if all did.
      splits: name of each split, and the HTML of its parts.
    """

    heading: str
    trial: str
    cut: str
    splits: Sequence[tuple[str, Sequence[Markup]]]


def _sections(files: FinetuningFiles) -> list[_Section]:
    """A section for each task, with its splits; for several trials, those of the best one."""
    run = files.best_run()
    if run is None or run.trial is None:
        return []
    found = storage.files_in(run.directory, "predictions/*.*.jsonl")
    paths = {tuple(storage.name(path).split(".")[:2]): path for path in found}
    if not paths:
        files.notes.append("No predictions can be shown: predictions/ is missing or empty.")
    best = f"{seed_name(run.trial)}, the best trial{'' if files.results else ' so far'}" if len(files.runs) > 1 else ""
    sections = []
    for task in files.tasks:
        splits = [split for name, split in paths if name == task]
        splits += [split for split in map(_split, run.trial.confusion) if split not in splits]
        splits.sort(key=lambda split: (split != "dev", split == "test", split))
        parts = [(split, _parts(files, run.trial, task, split, paths.get((task, split)))) for split in splits]
        if shown := [(split, parts_of_split) for split, parts_of_split in parts if parts_of_split]:
            name = f"{task}: what it gets wrong" if files.several_tasks else "What it gets wrong"
            sections.append(_Section(name, best, _cut(files, run.trial, task), shown))
    return sections


def _parts(files: FinetuningFiles, trial: Trial, task: str, split: str, path: str | None) -> list[Markup]:
    """Confusion table and mistakes of a split; empty if neither is known."""
    confusion = trial.confusion.get(files.key(task, split))
    parts = [confusion_table(confusion)] if confusion is not None else []
    if path is not None:
        predictions = read_predictions(path, files.notes)
        if predictions.total:
            parts.append(split_section(predictions))
    return list(filter(None, parts))


def _cut(files: FinetuningFiles, trial: Trial, task: str) -> str:
    """Number of examples that did not fit, by split."""
    counts = {
        _split(key): count
        for key, count in trial.truncated.items()
        if count and (not files.several_tasks or key.rpartition("/")[0] == task)
    }
    return ", ".join(f"{count:,} in {split}" for split, count in counts.items())


def _split(key: str) -> str:
    return key.rpartition("/")[2]
