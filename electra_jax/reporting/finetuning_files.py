"""The files of a fine-tuning run, or of several trials, as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.reporting.results import Results, Trial, read_results, read_trial
from electra_jax.reporting.run_files import Histories, Json, read_histories, read_json


@dataclasses.dataclass(frozen=True)
class Run:
    """A run with one seed.

    Attributes:
      trial: its result; None before its end.
      histories: its metrics; empty where there are none yet.
    """

    directory: str
    trial: Trial | None
    histories: Histories


@dataclasses.dataclass(frozen=True)
class FinetuningFiles:
    """Contents of a fine-tuning workdir.

    Attributes:
      tasks: the config's tasks by name, at least one; {"": {}} if no name is known.
      results: results of several trials once all have ended; None for one run.
      runs: the run, or one for each trial that has started.
      failed: runs that learned nothing and were repeated with another seed.
      notes: notes on what is missing.
    """

    config: Json
    tasks: Mapping[str, Json]
    results: Results | None
    runs: Sequence[Run]
    failed: Sequence[Trial]
    notes: list[str]

    @property
    def several_tasks(self) -> bool:
        """Whether the names of scores begin with a task's name."""
        return len(self.tasks) > 1

    def key(self, task: str, split: str) -> str:
        """Key of a split's scores, or of a metric's curve."""
        return f"{task}/{split}" if self.several_tasks else split

    def metric(self, task: str) -> str:
        """The main metric of a task."""
        metrics = self.tasks[task].get("metrics")
        if isinstance(metrics, list) and metrics:
            return str(metrics[0])
        named = [run.trial.metric for run in self.runs if run.trial]
        return named[0] if named else ""

    def main_score(self, run: Run) -> float | None:
        """Score by which runs are compared: the task's main metric on dev, or the common score of several tasks."""
        if self.several_tasks:
            scores = run.histories.get("eval/score", {})
            step = run.trial.step if run.trial and run.trial.step in scores else max(scores, default=None)
            return scores[step] if step is not None else None
        task = next(iter(self.tasks))
        return run.trial.scores.get("dev", {}).get(self.metric(task)) if run.trial else None

    def best_run(self) -> Run | None:
        """The completed run with the best main score."""
        ended = [run for run in self.runs if run.trial is not None]
        if not ended:
            return None
        sign = -1 if self.results and self.results.higher_is_better is False else 1
        scores = [self.main_score(run) for run in ended]
        worst = float("-inf")
        # NaN is never the best: no comparison with it is true.
        ranks = [sign * score if score is not None and score == score else worst for score in scores]
        return ended[ranks.index(max(ranks))]


def read_files(directory: str, config: Json) -> FinetuningFiles | None:
    """Reads a workdir; None if no run has started in it.

    Raises:
      InputError: one of the files is damaged.
    """
    notes: list[str] = []
    path = storage.join(directory, "results.json")
    results = read_results(read_json(path), path) if storage.is_file(path) else None
    if results is not None:
        runs = [_read_run(_place(directory, trial), notes, trial) for trial in results.trials]
        failed = results.failed
    elif any(storage.is_file(storage.join(directory, name)) for name in ("metrics.jsonl", "result.json")):
        runs, failed = [_read_run(directory, notes)], _read_failed(directory)
        if runs[0].trial is None:
            notes.append("The run has not ended: result.json, with the scores of all splits, is missing.")
    else:
        runs = [_read_run(storage.parent(path), notes) for path in storage.files_in(directory, "seed_*/metrics.jsonl")]
        failed = _read_failed(directory)
        if not runs:
            return None
        ended = sum(run.trial is not None for run in runs)
        notes.append(
            f"The trials have not ended: results.json is missing. {len(runs)} have started, {ended} of them have ended."
        )
    if not any(run.trial or run.histories for run in runs):
        raise InputError(
            f"{runs[0].directory if runs else directory}: found no metrics yet and no results, expected lines such as "
            "{'step': 20, 'train/loss': 0.7} in metrics.jsonl; look again when the run has come further"
        )
    bare = [storage.name(run.directory) for run in runs if not run.histories]
    if bare:
        notes.append(f"No learning curves of {', '.join(bare)}: metrics.jsonl is missing or empty.")
    several = results if len(runs) > 1 else None
    return FinetuningFiles(config, _tasks(config, runs), several, runs, failed, notes)


def _place(directory: str, trial: Trial) -> str:
    """The directory of a trial, whose own is relative: "." for a single one."""
    return directory if trial.directory in ("", ".") else storage.join(directory, trial.directory)


def _read_failed(directory: str) -> list[Trial]:
    """Failed trials of an unfinished run; afterwards results.json has them."""
    return [read_trial(read_json(path), path) for path in storage.files_in(directory, "failed/*/result.json")]


def _read_run(directory: str, notes: list[str], trial: Trial | None = None) -> Run:
    path = storage.join(directory, "result.json")
    if trial is None and storage.is_file(path):
        trial = read_trial(read_json(path), path)
    metrics = storage.join(directory, "metrics.jsonl")
    return Run(directory, trial, read_histories(metrics, notes) if storage.is_file(metrics) else {})


def _tasks(config: Json, runs: Sequence[Run]) -> Mapping[str, Json]:
    """Tasks from the config or, without one, from the names of scores and of prediction files."""
    tasks = config.get("tasks")
    if isinstance(tasks, dict) and tasks:
        return {name: task if isinstance(task, dict) else {} for name, task in tasks.items()}
    keys = {key for run in runs if run.trial for key in run.trial.scores}
    names = {key.rpartition("/")[0] for key in keys if "/" in key}
    names |= {
        storage.name(path).partition(".")[0]
        for run in runs
        for path in storage.files_in(run.directory, "predictions/*.*.jsonl")
    }
    return {name: {} for name in sorted(names)} or {"": {}}
