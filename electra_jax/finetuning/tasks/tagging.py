"""Tagging the words of sentences: chunks, names, parts of speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from electra_jax.config.finetuning import TaggingConfig
from electra_jax.finetuning.data import spans, text_rows
from electra_jax.finetuning.data.examples import SentenceExample, is_answered
from electra_jax.finetuning.data.rows import Rows
from electra_jax.finetuning.data.windows import covering
from electra_jax.finetuning.metrics import label_metrics
from electra_jax.finetuning.tasks.task import Arrays, Predicted, Task
from electra_jax.models.encoder import EncoderConfig
from electra_jax.models.task_heads import TaggingHead
from electra_jax.text.tokenizers.tokenizer import Tokenizer
from electra_jax.training.job import Sums

_OUTSIDE = "O"
# The number of a tag that is not in the training split: never predicted, excluded from the loss.
_UNKNOWN = -1


class TaggingTask(Task[Rows[SentenceExample]]):
    """Implements `task.Task`: a word has the tag of its first piece.

    Attributes:
      tags: names of the tags, in the order of the logits; BIOES for spans.
    """

    kind = "tagging"
    curves: tuple[str, ...] = ("loss", "accuracy")

    def __init__(
        self,
        name: str,
        settings: TaggingConfig,
        splits: Mapping[str, Sequence[SentenceExample]],
        tokenizer: Tokenizer,
        classifier_dropout_rate: float,
    ) -> None:
        """Turns sentences into rows.

        Args:
          name: name of the task.
          settings: fields of `config.tasks.NAME`.
          splits: sentences by split; "train" gives the tags unless the settings name them.
          tokenizer: the model's tokenizer.
          classifier_dropout_rate: dropout rate of the head.
        """
        self.name, self.metric, self.weight = name, settings.metrics[0], settings.weight
        self._settings, self._dropout_rate = settings, classifier_dropout_rate
        self._scheme = spans.scheme_of([e.known_tags for e in splits["train"]]) if settings.spans else None
        self.tags = self._tags_of(splits["train"])
        self.splits = {split: self._rows(examples, tokenizer) for split, examples in splits.items()}

    def _trained(self, tags: Sequence[str]) -> Sequence[str]:
        """A sentence's tags as the model is trained on them."""
        return spans.to_bioes(tags, self._scheme) if self._scheme else tags

    def _reported(self, tags: Sequence[str]) -> list[str]:
        """A sentence's tags as they are scored and reported: spans as B-… and I-…"""
        return list(spans.from_bioes(tags) if self._scheme else tags)

    def _tags_of(self, examples: Sequence[SentenceExample]) -> tuple[str, ...]:
        named = self._settings.labels
        found = set(named) or {tag for example in examples for tag in self._trained(example.known_tags)}
        if not self._scheme:
            return tuple(named or sorted(found))
        kinds = sorted({tag.partition("-")[2] for tag in found - {_OUTSIDE}})
        return (_OUTSIDE, *(f"{part}-{kind}" if kind else part for kind in kinds for part in "BIES"))

    def _rows(self, examples: Sequence[SentenceExample], tokenizer: Tokenizer) -> Rows[SentenceExample]:
        """Rows [CLS] pieces of the words [SEP]; of a longer sentence its windows, each with the words it owns."""
        ids, lengths = text_rows.encoded_words([word for example in examples for word in example.words], tokenizer)
        numbers = {tag: number for number, tag in enumerate(self.tags)}
        room = self._settings.max_length - 2
        tokens, firsts, targets, row_lengths, example_N, truncated = [], [], [], [], [], 0
        word = piece = 0
        for example_number, example in enumerate(examples):
            word_lengths = lengths[word : word + len(example.words)]
            ends_W = np.cumsum(word_lengths)
            first_W, count = ends_W - word_lengths, int(ends_W[-1])
            if not self._settings.windows:
                first_W = first_W[ends_W <= room]
                count = int(ends_W[len(first_W) - 1]) if len(first_W) else 0
                truncated += len(first_W) < len(ends_W)
            tags_W = np.zeros(len(first_W), np.int32)
            if example.tags is not None:
                tags = self._trained(example.tags)[: len(first_W)]
                tags_W[:] = [numbers.get(tag, _UNKNOWN) for tag in tags]
            cover = covering(count, room)
            for number, (window, size) in enumerate(zip(cover.window_W, cover.size_W, strict=True)):
                own = cover.owner_T[first_W] == number
                places = cover.place_T[first_W[own]]
                first, target = np.zeros((2, size + 2), np.int32)
                first[places], target[places] = 1, tags_W[own]
                within = ids[piece + window : piece + window + size]
                tokens.append(np.array([tokenizer.cls_id, *within, tokenizer.sep_id], np.int32))
                firsts.append(first)
                targets.append(target)
                row_lengths.append(size + 2)
                example_N.append(example_number)
            word += len(example.words)
            piece += int(ends_W[-1])
        tokens_T = np.concatenate(tokens)
        return Rows(
            examples=examples,
            example_N=np.array(example_N, np.int32),
            tokens_T=tokens_T,
            segments_T=np.full_like(tokens_T, self._settings.segment),
            lengths_N=np.array(row_lengths, np.int64),
            by_row={},
            by_token={"first": (np.concatenate(firsts), 0), "tag": (np.concatenate(targets), 0)},
            truncated=truncated,
        )

    def head(self, encoder: EncoderConfig) -> nn.Module:
        """See `Task`."""
        return TaggingHead(tags=len(self.tags), dropout_rate=self._dropout_rate, dtype=encoder.dtype)

    def loss(self, outputs: Arrays, batch: Arrays) -> Sums:
        """See `Task`: cross-entropy, a mean over words."""
        losses_BxL, weights_BxL = self._losses(outputs, batch)
        right_BxL = jnp.argmax(outputs["logits"], axis=-1) == batch["tag"]
        total = jnp.sum(weights_BxL)
        return {
            "loss": jnp.stack([jnp.sum(losses_BxL * weights_BxL), total]),
            "accuracy": jnp.stack([jnp.sum(right_BxL * weights_BxL), total]),
        }

    def _losses(self, outputs: Arrays, batch: Arrays) -> tuple[jax.Array, jax.Array]:
        known_BxL = jnp.maximum(batch["tag"], 0)
        losses_BxL = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], known_BxL)
        return losses_BxL, self._weights(batch)

    def _weights(self, batch: Arrays) -> jax.Array:
        return batch["first"] * (batch["tag"] != _UNKNOWN) * batch["weight"][:, None]

    def loss_weight(self, batch: Arrays) -> jax.Array:
        """See `Task`: the number of words."""
        return jnp.sum(self._weights(batch))

    def predict(self, outputs: Arrays, batch: Arrays) -> dict[str, jax.Array]:
        """See `Task`."""
        losses_BxL, weights_BxL = self._losses(outputs, batch)
        return {
            "tag": jnp.argmax(outputs["logits"], axis=-1).astype(jnp.int32),
            "loss": jnp.sum(losses_BxL * weights_BxL, axis=-1),
        }

    def _predictions(self, rows: Rows[SentenceExample], predicted: Predicted) -> Iterator[list[str]]:
        """Yields each sentence's tags; words that are in no row are tagged O."""
        first_T = rows.by_token["first"][0] == 1
        chosen: list[list[str]] = [[] for _ in rows.examples]
        starts_N = rows.starts_N
        for row, (example, start, length) in enumerate(zip(rows.example_N, starts_N, rows.lengths_N, strict=True)):
            numbers = predicted["tag"][row, :length][first_T[start : start + length]]
            chosen[example] += [self.tags[number] for number in numbers]
        for example, tags in zip(rows.examples, chosen, strict=True):
            yield self._reported(tags) + [_OUTSIDE] * (len(example.words) - len(tags))

    def score(self, rows: Rows[SentenceExample], predicted: Predicted) -> dict[str, float]:
        """See `Task`."""
        labels = [self._reported(self._trained(example.known_tags)) for example in rows.examples]
        return label_metrics.tagging_scores(labels, list(self._predictions(rows, predicted)), self._settings.metrics)

    def records(self, rows: Rows[SentenceExample], predicted: Predicted) -> Iterator[dict[str, Any]]:
        """See `Task`; a sentence is right if all its tags are."""
        predictions = self._predictions(rows, predicted)
        losses = np.bincount(rows.example_N, predicted["loss"])
        for example, tags, loss in zip(rows.examples, predictions, losses, strict=True):
            record: dict[str, Any] = {"key": example.key, "words": list(example.words), "predictions": tags}
            if is_answered(example):
                labels = self._reported(self._trained(example.known_tags))
                record |= {"labels": labels, "right": tags == labels, "loss": round(float(loss), 5)}
            yield record

    def collapsed(self, rows: Rows[SentenceExample], predicted: Predicted) -> str:
        """See `Task`."""
        first_T = rows.by_token["first"][0] == 1
        found = {tag for tags in self._predictions(rows, predicted) for tag in tags}
        several = len(np.unique(rows.by_token["tag"][0][first_T])) > 1
        return f"every word is tagged {found.pop()!r}" if len(found) == 1 and several else ""

    def confusion(self, rows: Rows[SentenceExample], predicted: Predicted) -> np.ndarray | None:
        """Counts by true and predicted tag over the words of the rows, int64 [C, C]."""
        first_T = rows.by_token["first"][0] == 1
        chosen = [predicted["tag"][row, :length] for row, length in enumerate(rows.lengths_N)]
        return label_metrics.confusion(
            rows.by_token["tag"][0][first_T], np.concatenate(chosen)[first_T], len(self.tags)
        )

    def description(self) -> dict[str, Any]:
        """See `Task`."""
        settings = self._settings
        return {
            "kind": self.kind,
            "head": settings.head,
            "labels": list(self.tags),
            "spans": settings.spans,
            "segment": settings.segment,
            "max_length": settings.max_length,
        }
