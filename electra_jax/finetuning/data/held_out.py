"""Examples to score that are not trained on: drawn from one file, and compared with those that are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from electra_jax.finetuning.data.examples import Example, QuestionExample, SentenceExample, TextExample

_SEED = 0


def divided(examples: Sequence[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """Divides a split into one to train on and one to score, the same in every run, both in the order of the file.

    Each class is divided by itself, so that both have it in like shares. Examples with the same text, and questions
    about the same context, stay together.

    Args:
      examples: the split.
      fraction: share of the second one.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, example in enumerate(examples):
        groups.setdefault(_group(example), []).append(number)
    strata: dict[Hashable, list[list[int]]] = {}
    for members in groups.values():
        strata.setdefault(_stratum(examples[members[0]]), []).append(members)
    chosen: set[int] = set()
    generator = np.random.Generator(np.random.Philox(_SEED))
    due = 0.0  # Carried from one class to the next, so that the share of rare classes adds up.
    for stratum in strata.values():
        due += fraction * len(stratum)
        # One of each class is trained on.
        count = min(round(due), len(stratum) - 1)
        due -= count
        chosen.update(number for index in generator.permutation(len(stratum))[:count] for number in stratum[index])
    first = [example for number, example in enumerate(examples) if number not in chosen]
    return first, [examples[number] for number in sorted(chosen)]


def _group(example: Example) -> Hashable:
    return example.context if isinstance(example, QuestionExample) else _text(example)


def _stratum(example: Example) -> Hashable:
    """The class of an example that has one."""
    return example.label if isinstance(example, TextExample) and isinstance(example.label, str) else None


def _text(example: Example) -> Hashable:
    match example:
        case TextExample():
            return example.texts
        case SentenceExample():
            return example.words
        case QuestionExample():
            return example.question, example.context


def leaks(splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """A note for each other split that has texts of the training split: its scores say less about new text."""
    known = {_text(example) for example in splits["train"]}
    notes = []
    for split, examples in splits.items():
        count = sum(_text(example) in known for example in examples) if split != "train" else 0
        if count:
            notes.append(
                f"{split}: {count:,} of {len(examples):,} examples have the same text as one in the training split"
            )
    return notes
