"""The probe after pre-training: fine-tunes the new model, and the same network from random weights, for some seconds.

The score is the fraction of words in a labelled set that are tagged correctly. Both fine-tunings read the same rows in
the same order and share their compiled programs; tagging each word with its most frequent tag is the baseline.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from electra_jax import storage
from electra_jax.config import schema
from electra_jax.config.finetuning import FinetuningConfig, ReferenceConfig
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.config.probe import of_probe, probe_of
from electra_jax.errors import InputError, MismatchError, Preempted
from electra_jax.finetuning import run
from electra_jax.finetuning.data.examples import SentenceExample, is_answered, of_kind
from electra_jax.progress import ProgressLine, QuietLine
from electra_jax.training import telemetry
from electra_jax.training.run_context import RunContext

DIRECTORY, RESULTS = "probe", "results.json"
# Directories of the two fine-tunings, and whether they start from random weights.
_STARTS = {"pretrained": False, "random_weights": True}


@dataclasses.dataclass(frozen=True)
class Probe:
    """A probe with its labelled examples.

    Attributes:
      config: a complete fine-tuning config that starts from the model in `workdir`.
      reference: an earlier result to compare with.
      examples: examples by split.
      context: context of the pre-training run.
      steps: updates in the pre-training run.
    """

    config: FinetuningConfig
    reference: ReferenceConfig | None
    examples: Mapping[str, Sequence[SentenceExample]]
    context: RunContext
    steps: int

    def run(self) -> None:
        """Fine-tunes from the run's last checkpoint and from random weights, and records the scores.

        results.json is written last, so an interrupted probe starts from scratch.

        Raises:
          Preempted: a stop was requested; the pre-trained model is complete.
          MismatchError: the processes read different examples.
        """
        try:
            with self.context.stop.doing("probing the complete model"):
                self._run()
        except Preempted as error:
            raise Preempted(
                "Stopped during the probe; the pre-trained model is complete and saved. Run the same command again to "
                "repeat the probe alone."
            ) from error

    def _run(self) -> None:
        began = time.time()
        workdir, cluster = self.context.workdir, self.context.cluster
        place, first = storage.join(workdir, DIRECTORY), cluster.from_first
        first(lambda: storage.remove(place))
        (name,) = self.config.tasks
        count, times = len(self.examples["train"]), len(_STARTS) * self.config.trials
        self.context.line.print(f"Probe: fine-tuning {times} times on {count:,} labelled sentences of {name} …")
        line = _LiveLine(self.context.line)
        start = run.start(self.config, place, line)
        tasks = run.make_tasks(self.config, {name: self.examples}, start.tokenizer)
        job = run.make_job(self.config, tasks, start)
        trainer = run.make_trainer(self.config, job, line)
        cluster.agree("examples of the probe", run.data_facts(job, start), MismatchError)
        for note in run.notes(self.config, job):
            self.context.line.print(of_probe(note))
        results = {}
        for name_of_start, is_random in _STARTS.items():
            directory = storage.join(place, name_of_start)
            config = dataclasses.replace(self.config, random_weights=is_random)
            fields = run.recorded_fields(config, start)
            first(functools.partial(storage.write_json, storage.join(directory, "config.json"), fields))
            own_start = dataclasses.replace(start, params=dict) if is_random else start
            described = f"{storage.join(workdir, 'config.json')}, config.probe"
            context = dataclasses.replace(self.context.within(directory), line=line)
            results[name_of_start] = run.make_trials(config, trainer, own_start, context, described).run()
        split = "test" if self.examples.get("test") and all(map(is_answered, self.examples["test"])) else "dev"
        summary = self._summary(name, split, results) | {"seconds": round(time.time() - began, 1)}
        self._record(summary)
        first(lambda: storage.write_json(storage.join(place, RESULTS), summary))

    def _summary(self, name: str, split: str, results: Mapping[str, Any]) -> dict[str, Any]:
        """Contents of results.json."""
        scores = {start: result["summary"][split]["accuracy"]["values"] for start, result in results.items()}
        return {
            "task": name,
            "split": split,
            "sentences": {part: len(examples) for part, examples in self.examples.items()},
            "words": sum(len(example.words) for example in self.examples[split]),
            "updates": results["pretrained"]["trials"][0]["step"],
            "word_accuracy": scores["pretrained"],
            "random_weights": scores["random_weights"],
            "word_frequencies": word_frequency_accuracy(self.examples["train"], self.examples[split]),
            "reference": schema.as_tree(self.reference) if self.reference else {},
            "pretraining_steps": self.steps,
        }

    def _record(self, summary: Mapping[str, Any]) -> None:
        """Adds the scores to the metrics of the run's last step."""
        scores = {
            "probe/word_accuracy": statistics.fmean(summary["word_accuracy"]),
            "probe/random_weights": statistics.fmean(summary["random_weights"]),
            "probe/word_frequencies": summary["word_frequencies"],
        }
        if self.reference:
            scores["probe/reference"] = self.reference.mean
        metrics = telemetry.MetricsWriter(self.context.workdir, self.context.cluster, resumed_at=self.steps)
        metrics.write(self.steps, scores)
        metrics.close()


class _LiveLine(QuietLine):
    """Shows the progress of the fine-tunings and hides their other output."""

    def __init__(self, line: ProgressLine) -> None:
        super().__init__()
        self._outer = line

    def update(self, text: str, *, now: float | None = None) -> None:
        """Shows `text` with the prefix "probe:"."""
        self._outer.update(f"probe: {text}", now=now)


def prepare(config: PretrainingConfig, context: RunContext) -> Probe | None:
    """The probe of a pre-training config; None if the config has none, or if the results exist.

    Called before training, so that problems with the labelled examples are reported at once.

    Raises:
      InputError: lists the problems with the examples.
    """
    probed = probe_of(config, model=context.workdir)
    done = storage.join(context.workdir, DIRECTORY, RESULTS)
    if config.probe is None or probed is None or context.cluster.from_first(lambda: storage.exists(done)):
        return None
    (name,) = probed.tasks
    try:
        splits = run.read_examples(probed, context.line).by_task[name]
    except InputError as error:
        raise InputError(of_probe(str(error))) from error
    examples = {split: of_kind(found, SentenceExample) for split, found in splits.items()}
    return Probe(probed, config.probe.reference, examples, context, config.steps)


def word_frequency_accuracy(training: Sequence[SentenceExample], scored: Sequence[SentenceExample]) -> float:
    """Accuracy of tagging each word with its most frequent tag in the training examples.

    Ties go to the tag that is more frequent over all words, then to the first in alphabetical order. Words that are not
    in the training examples get the most frequent tag overall.
    """
    of_all = collections.Counter(tag for example in training for tag in example.known_tags)
    of_word: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for example in training:
        for word, tag in zip(example.words, example.known_tags, strict=True):
            of_word[word][tag] += 1

    def most_frequent(counts: collections.Counter[str]) -> str:
        return min(counts, key=lambda tag: (-counts[tag], -of_all[tag], tag))

    fallback = most_frequent(of_all)
    chosen = {word: most_frequent(counts) for word, counts in of_word.items()}
    right = sum(
        chosen.get(word, fallback) == tag
        for example in scored
        for word, tag in zip(example.words, example.known_tags, strict=True)
    )
    return right / sum(len(example.words) for example in scored)
