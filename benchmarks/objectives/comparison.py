"""A comparison from its plan: which pieces it has, in which order they are done, and the scores that they gave."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.objectives import recipes, work
from benchmarks.objectives.plan import Plan
from benchmarks.objectives.recipes import Run, StepCost
from benchmarks.objectives.schedule import Executor
from benchmarks.objectives.statistics import chosen_rate
from benchmarks.objectives.tasks import RANDOM, TASKS, TaskFiles
from benchmarks.objectives.work import Piece, Source, Store
from electra_jax.errors import RunError


@dataclasses.dataclass(frozen=True)
class Score:
    """One score of one model; fields are the columns of scores.csv.

    Attributes:
      contender: its name, or "random".
      budget_kind, budget: see `plan.KINDS`; of random weights "" and 0.
      pretraining_seed: of the model; of random weights the seed that they are compared with.
      steps, tokens, flops, paper_flops: what pre-training had up to this model; FLOPs as `StepCost` says.
      pretraining_seconds: that went into updates, measured; None of random weights.
      task, metric: what was scored.
      split: "test" counts, "dev" chose the learning rate.
      learning_rate: of fine-tuning; None without.
      finetuning_run: from 0.
      value: the score.
    """

    contender: str
    budget_kind: str
    budget: float
    pretraining_seed: int
    steps: int
    tokens: int
    flops: float
    paper_flops: float
    pretraining_seconds: float | None
    task: str
    metric: str
    split: str
    learning_rate: float | None
    finetuning_run: int
    value: float


class Comparison:
    """A plan with its files, the cost of its steps and the results so far."""

    def __init__(self, plan: Plan, files: Mapping[str, TaskFiles], costs: Mapping[str, StepCost], store: Store) -> None:
        """Opens nothing.

        Args:
          plan: what is compared.
          files: of each task.
          costs: of a step of each contender.
          store: of results.

        Raises:
          InputError: a budget is too small.
        """
        self.plan, self.files, self.costs, self.store = plan, files, costs, store
        self._runs = {seed: recipes.runs_of(plan, costs, seed) for seed in plan.seeds}
        # Of all that a plan asks for, configs take the longest to make.
        self.pretraining: Callable[[Run], Piece] = functools.cache(
            lambda run: work.pretraining(plan, run, costs[run.contender].flops)
        )
        self.scoring: Callable[[Source, str, float | None], Piece] = functools.cache(
            lambda source, task, rate: work.scoring(
                plan, source, task, files[task], rate, self.pretraining(source.run), store
            )
        )

    def runs(self, seed: int) -> list[Run]:
        """The pre-training runs of a seed."""
        return self._runs[seed]

    def sources(self, seed: int) -> list[Source]:
        """The models of a seed, random weights first."""
        # Sizes and tokenizer are the same in all runs of the baseline.
        shape = next(run for run in self._runs[self.plan.seeds[0]] if run.contender == self.plan.baseline)
        random = work.random_source(shape, self.plan.seeds.index(seed), seed)
        return [random, *work.sources_of(self.runs(seed), self.plan)]

    def choosing_source(self, contender: str) -> Source:
        """The model on which a contender's learning rates are chosen: first seed, first kind of budget, its largest."""
        own = [source for source in self.sources(self.plan.seeds[0]) if source.contender == contender]
        return max((source for source in own if source.kind == own[0].kind), key=lambda source: source.amount)

    def grid(self, contender: str, task: str) -> dict[float, Piece]:
        """The pieces that a learning rate is chosen from; empty for a task without fine-tuning."""
        if not TASKS[task].is_finetuned:
            return {}
        source = self.choosing_source(contender)
        return {rate: self.scoring(source, task, rate) for rate in self.plan.finetuning.learning_rates}

    def rate(self, contender: str, task: str) -> float | None:
        """The chosen learning rate; None if the grid is not done, or there is none.

        Only scores of the dev split take part.
        """
        metric = TASKS[task].metrics[0]
        grid = self.grid(contender, task)
        results = {rate: result for rate, piece in grid.items() if (result := self.store.result(piece)) is not None}
        if not grid or len(results) < len(grid):
            return None
        return chosen_rate({rate: result["dev"][metric] for rate, result in results.items()})

    def scored(self, seed: int, *, expected: bool = False) -> list[tuple[Source, str, Piece]]:
        """The scoring pieces of a seed, as far as learning rates are chosen, those of a task and a recipe together.

        Args:
          seed: of pre-training.
          expected: take the first rate of the grid where none is chosen yet, to count the pieces.
        """
        found = []
        for source in self.sources(seed):
            for task in self.plan.tasks:
                rate = self.rate(source.contender, task)
                if rate is None and TASKS[task].is_finetuned:
                    if not expected:
                        continue
                    rate = self.plan.finetuning.learning_rates[0]
                found.append((source, task, self.scoring(source, task, rate)))
        return sorted(found, key=lambda item: (item[1], item[2].name.rpartition("/")[2]))

    def pieces(self) -> list[Piece]:
        """All pieces, as far as they are known."""
        grids = [self.grid(name, task) for task in self.plan.tasks for name in (RANDOM, *self.plan.contenders)]
        return [
            *(self.pretraining(run) for seed in self.plan.seeds for run in self.runs(seed)),
            *(piece for grid in grids for piece in grid.values()),
            *(piece for seed in self.plan.seeds for _, _, piece in self.scored(seed, expected=True)),
        ]

    def run(self, executor: Executor, after_each_seed: Callable[[], None]) -> None:
        """Does all pieces, seed by seed, so that a table of few seeds is there early.

        Raises:
          Preempted: a signal came.
        """
        executor.expect(self.pieces())
        for seed in self.plan.seeds:
            executor.run([self.pretraining(run) for run in self.runs(seed)])
            if seed == self.plan.seeds[0]:
                self._choose_rates(executor)
                executor.expect(self.pieces())
            executor.run([piece for source, _, piece in self.scored(seed) if self._is_trained(source)])
            after_each_seed()

    def _choose_rates(self, executor: Executor) -> None:
        grids: dict[tuple[str, float], list[Piece]] = {}
        for task in self.plan.tasks:
            for contender in (RANDOM, *self.plan.contenders):
                if self._is_trained(self.choosing_source(contender)):
                    for rate, piece in self.grid(contender, task).items():
                        grids.setdefault((task, rate), []).append(piece)
        # Models that share a recipe come one after the other, and share its compiled programs.
        executor.run([piece for pieces in grids.values() for piece in pieces])

    def _is_trained(self, source: Source) -> bool:
        return self.store.record(self.pretraining(source.run)) is not None

    def scores(self) -> list[Score]:
        """Every score of the pieces that are done."""
        return [
            score
            for seed in self.plan.seeds
            for source, task, piece in self.scored(seed)
            if (result := self.store.result(piece))
            for score in self._scores_of(source, task, result)
        ]

    def _scores_of(self, source: Source, task: str, result: Mapping[str, Any]) -> list[Score]:
        steps = 0 if source.contender == RANDOM else source.step
        cost = self.costs[source.run.contender]
        whole = (self.store.result(self.pretraining(source.run)) or {}).get("seconds")
        seconds = whole * steps / source.run.steps if whole and steps else None
        rate = self.rate(source.contender, task)
        return [
            Score(
                source.contender, source.kind, source.amount, source.seed, steps, steps * cost.tokens,
                steps * cost.flops, steps * cost.paper_flops, seconds, task, metric, split,
                rate, number, value,
            )
            for split in ("dev", "test")
            for metric, values in result.get(split, {}).items()
            for number, value in enumerate(values)
        ]  # fmt: skip

    def collapsed(self) -> dict[str, int]:
        """By contender, how many fine-tuning runs learned nothing; they count all the same."""
        found: dict[str, int] = {}
        for seed in self.plan.seeds:
            for source, _, piece in self.scored(seed):
                count = (self.store.result(piece) or {}).get("collapsed", 0)
                found[source.contender] = found.get(source.contender, 0) + count
        return {name: count for name, count in found.items() if count}


def prepared(plan: Plan, files: Mapping[str, TaskFiles], store: Store, executor: Executor | None) -> Comparison:
    """The comparison of a plan, after the calibration that budgets in seconds need.

    Args:
      plan: what is compared.
      files: of each task.
      store: of results.
      executor: calibrates if that was not done yet; None if it must not.

    Raises:
      RunError: the calibration failed, or is not there.
      InputError: a budget is too small.
    """
    seconds: Mapping[str, float | None] = dict.fromkeys(plan.contenders)
    if "seconds" in plan.budgets:
        piece = work.calibration(plan)
        if executor:
            executor.expect([piece])
            executor.run([piece])
        found = store.result(piece)
        if found is None:
            raise RunError(
                f"budgets.seconds: no step times in {store.workdir}; run without --report_only, or see above"
            )
        seconds = found
    costs = {
        name: recipes.step_cost(recipes.contender_config(plan, name), seconds[name]) for name in plan.contenders
    }  # fmt: skip
    return Comparison(plan, files, costs, store)
