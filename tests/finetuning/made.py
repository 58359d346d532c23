"""Small tasks for tests: a tokenizer of whole words, and examples from lists."""

import numpy as np

from electra_jax.configs.finetune import base
from electra_jax.finetuning.data.examples import SentenceExample, TextExample
from electra_jax.finetuning.tasks.classification import ClassificationTask
from electra_jax.finetuning.tasks.tagging import TaggingTask
from electra_jax.models.encoder import EncoderConfig
from tests.configs import typed_task

PAD, UNKNOWN, CLS, SEP, MASK = range(5)


class WordTokenizer:
    """Each word of a list is a piece, an unknown word one [UNK] a letter, and "…" is nothing at all."""

    pad_id, unknown_id, cls_id, sep_id, mask_id = range(5)

    def __init__(self, words):
        self._ids = {word: number for number, word in enumerate(words.split(), start=5)}
        self.vocabulary_size = 5 + len(self._ids)

    def encode(self, texts):
        ids = [
            [piece for word in text.split() if word != "…" for piece in self._pieces(word)] for text in texts
        ]  # fmt: skip
        return np.array([piece for row in ids for piece in row], np.int32), np.array(list(map(len, ids)), np.int64)

    def _pieces(self, word):
        return [self._ids[word]] if word in self._ids else [UNKNOWN] * len(word)


def encoder(**changes):
    sizes = dict(
        vocabulary_size=40, embedding_size=8, hidden_size=16, layers=2, heads=2, feed_forward_size=32, positions=64
    )
    return EncoderConfig(**(sizes | changes))


def texts(*pairs):
    """Examples from (text or texts, label)."""
    return [
        TextExample(f"made:{number}", str(number), (text,) if isinstance(text, str) else tuple(text), label)
        for number, (text, label) in enumerate(pairs)
    ]


def sentences(*pairs):
    """Examples from ("words", "tags" or None)."""
    return [
        SentenceExample(f"made:{number}", str(number), tuple(words.split()), tags and tuple(tags.split()))
        for number, (words, tags) in enumerate(pairs)
    ]


def classification(tokenizer, train, name="made", **settings):
    splits = {"train": train, "dev": settings.pop("dev", train)}
    if "test" in settings:
        splits["test"] = settings.pop("test")
    return ClassificationTask(name, typed_task(base.classification_task(**settings)), splits, tokenizer, 0.1)


def tagging(tokenizer, train, name="made", **settings):
    splits = {"train": train, "dev": settings.pop("dev", train)}
    return TaggingTask(name, typed_task(base.tagging_task(**settings)), splits, tokenizer, 0.1)
