"""Words that do not belong: how well `detect` finds replacements that no generator made, in held-out text.

    python -m benchmarks.inference.planted_words --model=runs/quickstart --data=data/quickstart

Held-out rows of the prepared dataset are turned into text. Of the words in it, letters only, 15 % are replaced: by
words drawn by their frequency, or by distinct words drawn uniformly, which are rarer. A word's score is the largest
probability of its tokens. Prints the area under the ROC curve over all words that could have been replaced.
"""

import argparse
import collections
import json
import os

import numpy as np
import scipy.stats

import electra_jax
from electra_jax.inference.predictor import Predictor
from electra_jax.text.dataset.dataset import open_dataset
from electra_jax.text.tokenizers import tokenizer

_REPLACED_SHARE = 0.15  # As in training.

Words = list[str]


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="the prepared dataset")
    parser.add_argument("--rows", type=int, default=500)
    given = parser.parse_args()
    texts = heldout_texts(given.data, given.rows)
    counts = collections.Counter(word for words in texts for word in words if word.isalpha())
    vocabulary, frequencies = list(counts), np.array(list(counts.values()), float)
    shares = {"unigram": frequencies / frequencies.sum(), "uniform": np.full(len(counts), 1 / len(counts))}
    model = electra_jax.load(given.model)
    for name, share in shares.items():
        planted = [plant(words, vocabulary, share, np.random.default_rng(n)) for n, words in enumerate(texts)]
        figures = area(model, planted)
        print(json.dumps({"replacements": name} | figures))


def heldout_texts(directory: str, rows: int) -> list[Words]:
    """Words of the first held-out rows, as the vocabulary spells them."""
    dataset = open_dataset(directory)
    pieces = tokenizer.load(os.path.join(directory, "tokenizer"))
    special = {pieces.pad_id, pieces.cls_id, pieces.sep_id}
    ids_NxL = dataset.heldout.rows(np.arange(min(rows, dataset.heldout.num_rows)))
    return [pieces.decode(number for number in row if number not in special).split() for row in ids_NxL.tolist()]


def plant(
    words: Words, vocabulary: Words, share: np.ndarray, draw: np.random.Generator
) -> tuple[Words, dict[int, bool]]:
    """Replaces words.

    Returns:
      The words; and by position, for all that could have been replaced, whether they were.
    """
    candidates = [position for position, word in enumerate(words) if word.isalpha()]
    replaced = draw.random(len(candidates)) < _REPLACED_SHARE
    new, was_replaced = list(words), {}
    for position, chosen in zip(candidates, replaced, strict=True):
        if chosen:
            new[position] = vocabulary[draw.choice(len(vocabulary), p=share)]
        # A word that was replaced by itself belongs.
        was_replaced[position] = new[position] != words[position]
    return new, was_replaced


def area(model: Predictor, planted: list[tuple[Words, dict[int, bool]]]) -> dict[str, float]:
    """Area under the ROC curve, and the number of words."""
    scores: list[float] = []
    labels: list[bool] = []
    for (words, was_replaced), found in zip(
        planted, model.detect([" ".join(words) for words, _ in planted]), strict=True
    ):
        ends = np.cumsum([len(word) + 1 for word in words])
        of_token = np.searchsorted(ends, found.starts_T, side="right")
        largest = np.zeros(len(words), np.float32)
        np.maximum.at(largest, of_token, found.probabilities_T)
        scores += largest[list(was_replaced)].tolist()
        labels += was_replaced.values()
    ranks, is_planted = scipy.stats.rankdata(scores), np.array(labels)
    positives, negatives = int(is_planted.sum()), int((~is_planted).sum())
    wins = ranks[is_planted].sum() - positives * (positives + 1) / 2
    return {"area_under_curve": round(wins / positives / negatives, 4), "planted": positives, "others": negatives}


if __name__ == "__main__":
    main()
