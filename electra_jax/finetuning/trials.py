"""Trials of a fine-tuning run, one for each seed, and their results: scores, predictions, failed runs.

A single trial uses the workdir itself; several trials have a subdirectory each, named after the seed. A run that
learned nothing, which happens on small data sets, is moved to failed/ and repeated with a seed that no other trial has.
All state is in files, so that a stopped command resumes where it was.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError, MismatchError
from electra_jax.finetuning import outputs
from electra_jax.finetuning.data.examples import is_answered
from electra_jax.finetuning.finetuning_job import DEV, job_of
from electra_jax.finetuning.tasks.task import Predicted, Task
from electra_jax.training import checkpoint_steps, loop, telemetry
from electra_jax.training.profiling import ProfiledSteps
from electra_jax.training.run_context import RunContext
from electra_jax.training.state import TrainState
from electra_jax.training.trainer import Trainer

RESULT, RESULTS = "result.json", "results.json"
_FAILED, _SEED = "failed", "seed_"  # The directory of failed runs, and the beginning of a trial's name.
# Distance from the first seed to the seeds of repeated runs: more than there are trials.
_RESEED_DISTANCE = 1000
# Larger confusion matrices are unreadable as pictures.
_MOST_CONFUSED = 60


@dataclasses.dataclass(frozen=True)
class Trials:
    """The trials of one command.

    Attributes:
      context: context of the command.
      seed: seed of the first trial.
      count: number of trials.
      reseeds: how many runs may be repeated, over all trials.
      chosen: which checkpoint of a trial is scored, "last" or "best".
      make_trainer: makes a trainer from a seed and whether to load the pre-trained weights, for a trial that has not
        started.
      submissions: names of GLUE's result files by task and split.
      prepare: called with the directory and the seed of a trial before it starts.
      profiled: updates of each trial to trace.

    Only process 0 reads and writes files; it broadcasts what the others need.
    """

    context: RunContext
    seed: int
    count: int
    reseeds: int
    chosen: str
    submissions: Mapping[str, Mapping[str, str]]
    make_trainer: Callable[[int, bool], Trainer]
    prepare: Callable[[str, int], None]
    profiled: ProfiledSteps | None = None

    @property
    def workdir(self) -> str:
        """The workdir of the command, the parent of the directories of several trials."""
        return self.context.workdir

    def run(self) -> dict[str, Any]:
        """Runs the missing trials, and returns the contents of results.json.

        Raises:
          MismatchError: the workdir holds one trial and the config asks for several, or the other way round.
        """
        if self.count > 1 and storage.exists(storage.join(self.workdir, "checkpoints")):
            raise MismatchError(
                f"--workdir={self.workdir}: found a single trial, expected config.trials={self.count}; give another "
                "--workdir for several trials"
            )
        if self.count == 1 and any(name.startswith(_SEED) for name in storage.names(self.workdir)):
            raise MismatchError(
                f"--workdir={self.workdir}: found several trials, expected config.trials=1; set config.trials to their "
                "number or more, or give another --workdir"
            )
        trials = [self._trial(self.seed + slot) for slot in range(self.count)]
        results = _results(trials, self._failed())
        self.context.cluster.from_first(lambda: storage.write_json(storage.join(self.workdir, RESULTS), results))
        return results

    def evaluate(self) -> dict[str, Any]:
        """Scores the chosen checkpoints of finished trials, and writes their predictions again.

        Raises:
          InputError: no trial is finished.
        """

        def read() -> list[dict[str, Any]]:
            finished = [
                *storage.files_in(self.workdir, RESULT),
                *storage.files_in(self.workdir, f"{_SEED}*/{RESULT}"),
            ]
            if not finished:
                raise InputError(f"--workdir={self.workdir}: found no finished trial; train first, with --mode=train")
            return [_read(path) for path in finished]

        trials = []
        for result in self.context.cluster.from_first(read):
            directory = self.workdir if result["directory"] == "." else storage.join(self.workdir, result["directory"])
            trials.append(self._finish(directory, result["seed"], self.make_trainer(result["seed"], False)))
        return _results(trials, self._failed())

    def _directory(self, seed: int) -> str:
        return self.workdir if self.count == 1 else storage.join(self.workdir, f"{_SEED}{seed}")

    def _failed(self) -> list[dict[str, Any]]:
        """Results of the failed runs, in the order in which they failed."""

        def read() -> list[dict[str, Any]]:
            found = [_read(path) for path in storage.files_in(self.workdir, f"{_FAILED}/*/{RESULT}")]
            return sorted(found, key=lambda result: result["failed_as"])

        return self.context.cluster.from_first(read)

    def _trial(self, first_seed: int) -> dict[str, Any]:
        """The result of a trial, repeated while it fails and repetitions are left."""
        failed = {result["seed"]: result["failed_as"] for result in self._failed()}
        seed = first_seed
        while seed in failed:
            self.context.cluster.from_first(functools.partial(self._discard_moved, seed))
            seed = self.seed + _RESEED_DISTANCE + failed[seed]
        while True:
            directory = self._directory(seed)
            result = self._run(directory, seed)
            used = len(self._failed())
            if not result["collapsed"] or used >= self.reseeds:
                if result["collapsed"]:
                    self.context.line.print(
                        f"Seed {seed} has failed, too: {result['collapsed']}. It is not repeated, as config.reseeds="
                        f"{self.reseeds} allows no more; its scores count."
                    )
                return result
            move = functools.partial(self._move_failed, directory, result | {"failed_as": used})
            self.context.cluster.from_first(move)
            next_seed = self.seed + _RESEED_DISTANCE + used
            self.context.line.print(
                f"Seed {seed} has failed: {result['collapsed']}. Repeated with seed {next_seed}; the failed run is "
                f"kept in {storage.join(self.workdir, _FAILED, f'{_SEED}{seed}')} and reported in the results."
            )
            seed = next_seed

    def _run(self, directory: str, seed: int) -> dict[str, Any]:
        first = self.context.cluster.from_first
        path = storage.join(directory, RESULT)
        if result := first(lambda: _read(path) if storage.exists(path) else None):
            return result
        if self.count > 1:
            self.context.line.print(f"== Trial with seed {seed}")
        first(lambda: self.prepare(directory, seed))
        started = time.time()
        started_before = first(lambda: bool(checkpoint_steps.steps(storage.join(directory, checkpoint_steps.FOLDER))))
        trainer = self.make_trainer(seed, not started_before)
        loop.train(trainer, self.context.within(directory), self.profiled)
        result = self._finish(directory, seed, trainer) | {"seconds": round(time.time() - started, 1)}
        first(lambda: storage.write_json(path, result))
        return result

    def _move_failed(self, directory: str, result: Mapping[str, Any]) -> None:
        """Moves the files of a failed trial to failed/, except those that trials share."""
        seed = result["seed"]
        target = storage.join(self.workdir, _FAILED, f"{_SEED}{seed}")
        storage.make_directory(target)
        storage.write_json(storage.join(directory, RESULT), {**result, "directory": f"{_FAILED}/{_SEED}{seed}"})
        moved = storage.names(directory)
        if directory == self.workdir:
            shared = {"config.json", "environment.json", "tokenizer", "tasks.json", _FAILED}
            moved = [name for name in moved if name not in shared]
        # The result last, as it marks the trial as complete: an interrupted move is then resumed.
        for name in sorted(moved, key=lambda name: name == RESULT):
            storage.move(storage.join(directory, name), storage.join(target, name))
        if directory != self.workdir:
            storage.remove(directory)

    def _discard_moved(self, seed: int) -> None:
        """Deletes a failed run's result from where it ran: in an object store, a kill may come before a move's end."""
        directory = self._directory(seed)
        path = storage.join(directory, RESULT)
        if storage.exists(path) and _read(path)["seed"] == seed:
            storage.remove(path if directory == self.workdir else directory)

    def _finish(self, directory: str, seed: int, trainer: Trainer) -> dict[str, Any]:
        """Scores the chosen checkpoint on all splits, and writes its predictions."""
        job = job_of(trainer)
        step = self._chosen_step(directory, trainer)
        with _restored(trainer, self.context.within(directory), step) as state:
            predicted = {
                (task.name, split): predictions_of(trainer, state, task, split)
                for task in job.tasks
                for split in task.splits
                if split != "train"
            }
        result: dict[str, Any] = {
            "seed": seed,
            "directory": "." if directory == self.workdir else storage.name(directory),
            "step": step,
            "chosen": self.chosen,
            "metric": job.metric,
            "scores": {},
            "confusion": {},
            "truncated": {},
        }
        submission: dict[str, str] = {}
        for task in job.tasks:
            for split, rows in task.splits.items():
                place = split if len(job.tasks) == 1 else f"{task.name}/{split}"
                if rows.truncated:
                    result["truncated"][place] = rows.truncated
                if split == "train":
                    continue
                own = predicted[task.name, split]
                records = list(task.records(rows, own))
                if self.context.cluster.is_first:
                    _write_split(directory, task, split, records, own)
                if name := self.submissions.get(task.name, {}).get(split):
                    highest = task.description()["label_scale"] if task.kind == "regression" else None
                    submission[name] = outputs.submission_lines(records, highest)
                if all(map(is_answered, rows.examples)):
                    result["scores"][place] = {name: float(value) for name, value in task.score(rows, own).items()}
                    counts = task.confusion(rows, own)
                    if counts is not None and len(counts) <= _MOST_CONFUSED:
                        result["confusion"][place] = {
                            "labels": task.description()["labels"],
                            "counts": counts.tolist(),
                        }
        if submission and self.context.cluster.is_first:
            outputs.write_submission(directory, submission)
        reasons = {task.name: task.collapsed(task.splits[DEV], predicted[task.name, DEV]) for task in job.tasks}
        result["collapsed"] = "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
        return result

    def _chosen_step(self, directory: str, trainer: Trainer) -> int:
        steps = trainer.optimizer_config.steps
        if self.chosen == "last":
            return steps

        def best() -> int:
            path = storage.join(directory, "metrics.jsonl")
            lines = telemetry.JsonLines(path, resumed_at=steps)
            step = lines.best_step(trainer.config.best_metric)
            if step is None:
                raise MismatchError(f"{path}: found no {trainer.config.best_metric}, expected an evaluation")
            return step

        return self.context.cluster.from_first(best)


def _write_split(directory: str, task: Task, split: str, records: list[dict[str, Any]], predicted: Predicted) -> None:
    """Writes a split's predictions, and the files that official evaluation scripts read."""
    outputs.write_predictions(directory, task.name, split, records)
    outputs.write_answer_files(directory, task.name, split, task.answer_files(task.splits[split], predicted))


def predictions_of(trainer: Trainer, state: TrainState, task: Task, split: str) -> Predicted:
    """A model's predictions for each row of a split."""
    job = job_of(trainer)
    results = [
        trainer.evaluation_step(state, trainer.put(batch), trainer.evaluation_key)
        for batch in job.batches_of(task, split)
    ]
    return job.predictions(task, split, jax.device_get(results))


@contextlib.contextmanager
def _restored(trainer: Trainer, context: RunContext, step: int) -> Iterator[TrainState]:
    with loop.opened_checkpoints(trainer, context) as checkpoints, trainer.placed():
        state, _ = checkpoints.restore(step, trainer.abstract, trainer.shardings)
        yield state


def _read(path: str) -> dict[str, Any]:
    # Scores may be NaN.
    return foreign_json.read_as(dict[str, Any], path, "delete the file, and the trial is run again", finite=False)


def _results(trials: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Contents of results.json: the trials, the failed runs, and statistics by split and metric."""
    values: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        for split, scores in trial["scores"].items():
            for name, value in scores.items():
                values.setdefault(split, {}).setdefault(name, []).append(value)
    return {
        "metric": trials[0]["metric"],
        "higher_is_better": True,
        "trials": copy.deepcopy(list(trials)),
        "failed": list(failed),
        "summary": {
            split: {name: _statistics(name, numbers) for name, numbers in metrics.items()}
            for split, metrics in values.items()
        },
    }


def _statistics(name: str, values: list[float]) -> dict[str, Any]:
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "best": min(values) if name == "mse" else max(values),
        "values": values,
    }
