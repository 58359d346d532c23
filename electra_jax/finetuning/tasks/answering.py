"""Question answering: the answer is a span of the context, or there is none, as in SQuAD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from electra_jax.config.finetuning import AnsweringConfig
from electra_jax.errors import InputError
from electra_jax.finetuning.data.examples import QuestionExample
from electra_jax.finetuning.data.windows import QuestionRows, question_rows
from electra_jax.finetuning.metrics.answer_metrics import answer_scores, exact_and_f1
from electra_jax.finetuning.tasks.answer_search import Found, answer, confidence, search
from electra_jax.finetuning.tasks.task import Arrays, Predicted, Task, pair
from electra_jax.models.answer_heads import JointAnswerHead, SpanHead
from electra_jax.models.encoder import EncoderConfig
from electra_jax.text.tokenizers.tokenizer import Tokenizer
from electra_jax.training.job import Sums

_IMPOSSIBLE_WEIGHT = 0.5  # Weight of the answerability loss; Google's `answerable_weight`.
_SHOWN = 5  # Maximum number of candidates in a record.


class AnsweringTask(Task[QuestionRows]):
    """Implements `task.Task` for extractive question answering."""

    kind = "answering"
    curves: tuple[str, ...] = ("loss", "start_accuracy", "end_accuracy")

    def __init__(
        self,
        name: str,
        settings: AnsweringConfig,
        splits: Mapping[str, Sequence[QuestionExample]],
        tokenizer: Tokenizer,
        classifier_dropout_rate: float,
    ) -> None:
        """Turns questions into rows.

        Args:
          name: name of the task.
          settings: fields of `config.tasks.NAME`.
          splits: questions by split.
          tokenizer: the model's tokenizer.
          classifier_dropout_rate: unused; see `answer_heads.py`.

        Raises:
          InputError: a question has no answer, and the task is not `unanswerable`.
        """
        del classifier_dropout_rate
        self.name, self.metric, self.weight = name, settings.metrics[0], settings.weight
        self._settings = settings
        if not settings.unanswerable:
            _check_answers(f"config.tasks.{name}", splits)
        self.splits = {
            split: question_rows(
                examples,
                tokenizer,
                max_length=settings.max_length,
                stride=settings.stride,
                longest_question=settings.longest_question,
            )
            for split, examples in splits.items()
        }

    def head(self, encoder: EncoderConfig) -> nn.Module:
        """See `Task`."""
        if self._settings.head == "huggingface":
            return SpanHead(beams=self._settings.beams)
        return JointAnswerHead(beams=self._settings.beams, dtype=encoder.dtype)

    def loss(self, outputs: Arrays, batch: Arrays) -> Sums:
        """See `Task`: the mean cross-entropy of start and end, plus half the cross-entropy of answerability.

        As in Google's code, SQuAD 1.1 has the answerability loss too, although every question has an answer.
        """
        losses_B, sums = jnp.zeros(batch["weight"].shape), {}
        for place in ("start", "end"):
            logits_BxL, labels_B = outputs[f"{place}_logits"], batch[place]
            losses_B += optax.softmax_cross_entropy_with_integer_labels(logits_BxL, labels_B) / 2
            right_B = jnp.argmax(logits_BxL, axis=-1) == labels_B
            sums[f"{place}_accuracy"] = pair(right_B, batch["weight"])
        if "impossible_logits" in outputs:
            losses_B += _IMPOSSIBLE_WEIGHT * optax.sigmoid_binary_cross_entropy(
                outputs["impossible_logits"], batch["impossible"]
            )
        return {"loss": pair(losses_B, batch["weight"]), **sums}

    def loss_weight(self, batch: Arrays) -> jax.Array:
        """See `Task`: the number of rows."""
        return jnp.sum(batch["weight"])

    def predict(self, outputs: Arrays, batch: Arrays) -> dict[str, jax.Array]:
        """See `Task`: inputs of `answer_search.search`."""
        if "impossible_logits" in outputs:
            null_scores_B = outputs["impossible_logits"]
        else:
            null_scores_B = outputs["start_logits"][:, 0] + outputs["end_logits"][:, 0]
        beams = {name: outputs[name] for name in ("start_ids", "start_scores", "end_ids", "end_scores")}
        return {**beams, "null_scores": null_scores_B}

    def _found(self, rows: QuestionRows, predicted: Predicted) -> Iterator[tuple[QuestionExample, Found]]:
        found = search(rows, predicted, longest_answer=self._settings.longest_answer)
        return zip(rows.examples, found, strict=True)

    def _answer(self, found: Found) -> str:
        """The predicted answer; "" if there is none."""
        best = answer(found, self._null_threshold)
        return best.text if best else ""

    @property
    def _null_threshold(self) -> float | None:
        return self._settings.null_threshold if self._settings.unanswerable else None

    def score(self, rows: QuestionRows, predicted: Predicted) -> dict[str, float]:
        """See `Task`: `answer_metrics.answer_scores`, at the fixed threshold and at the best ones."""
        gold, best, null_odds = {}, {}, {}
        for example, found in self._found(rows, predicted):
            gold[example.key] = [answer.text for answer in example.answers or ()]
            best[example.key] = found.candidates[0].text if found.candidates else ""
            null_odds[example.key] = found.null_odds
        if not self._settings.unanswerable:
            return answer_scores(gold, best, None, None, unanswerable=False)
        return answer_scores(gold, best, null_odds, self._settings.null_threshold, unanswerable=True)

    def records(self, rows: QuestionRows, predicted: Predicted) -> Iterator[dict[str, Any]]:
        """See `Task`; "loss" is 1 − F1 times the confidence in the answer."""
        for example, found in self._found(rows, predicted):
            threshold = self._null_threshold
            record: dict[str, Any] = {
                "key": example.key,
                "question": example.question,
                "context": example.context,
                "prediction": self._answer(found),
                "probability": round(confidence(found, threshold), 5),
                "candidates": [
                    {"text": each.text, "start": each.start, "probability": round(each.probability, 5)}
                    for each in found.candidates[:_SHOWN]
                ],
            }
            if self._settings.unanswerable:
                record["null_odds"] = round(found.null_odds, 5)
            if example.answers is not None:
                labels = list(dict.fromkeys(answer.text for answer in example.answers))
                exact, f1 = exact_and_f1(labels, record["prediction"], unanswerable=self._settings.unanswerable)
                loss = (1 - f1) * record["probability"]
                record |= {"label": labels, "right": exact == 1, "f1": round(f1, 5), "loss": round(loss, 5)}
            yield record

    def collapsed(self, rows: QuestionRows, predicted: Predicted) -> str:
        """See `Task`."""
        answerable = any(example.answers != () for example in rows.examples)
        if not answerable or any(self._answer(found) for _, found in self._found(rows, predicted)):
            return ""
        return "no question is given an answer"

    def answer_files(self, rows: QuestionRows, predicted: Predicted) -> dict[str, dict[str, Any]]:
        """Files for SQuAD's evaluation scripts.

        Returns:
          "predictions.json": answers by question key, "" for none; for `unanswerable` tasks also "null_odds.json": the
          odds that there is no answer.
        """
        answers, null_odds = {}, {}
        for example, found in self._found(rows, predicted):
            answers[example.key] = self._answer(found)
            null_odds[example.key] = found.null_odds
        files = {"predictions.json": answers}
        return files | {"null_odds.json": null_odds} if self._settings.unanswerable else files

    def confusion(self, rows: QuestionRows, predicted: Predicted) -> None:
        """See `Task`: answers are not classes."""
        return None

    def description(self) -> dict[str, Any]:
        """See `Task`."""
        settings = self._settings
        return {
            "kind": self.kind,
            "head": settings.head,
            "unanswerable": settings.unanswerable,
            "null_threshold": settings.null_threshold,
            "max_length": settings.max_length,
            "stride": settings.stride,
            "longest_question": settings.longest_question,
            "longest_answer": settings.longest_answer,
            "beams": settings.beams,
        }


def _check_answers(field: str, splits: Mapping[str, Sequence[QuestionExample]]) -> None:
    for examples in splits.values():
        for example in examples:
            if example.answers == ():
                raise InputError(
                    f"{example.place}: question {example.key!r} has no answer. If this is intended, as in SQuAD 2.0, "
                    f"set --{field}.unanswerable=True."
                )
