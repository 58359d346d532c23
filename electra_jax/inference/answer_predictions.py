"""Answers to questions about contexts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from electra_jax.finetuning.data.examples import QuestionExample
from electra_jax.finetuning.data.windows import question_rows
from electra_jax.finetuning.tasks import answer_search
from electra_jax.inference.kinds import MOST_CHARACTERS, OneByOne, Prepared
from electra_jax.inference.results import Answer, AnswerCandidate
from electra_jax.inference.row_batches import Arrays, Row
from electra_jax.inference.runtime import Output
from electra_jax.inference.text_windows import UnusableError, checked_text
from electra_jax.interop.model import TaskSettings
from electra_jax.text.tokenizers.tokenizer import Tokenizer

# Tokens that a row has at least for its window of the context.
_LEAST_ROOM = 16
# Added to the logits where no answer may be, as in the heads that are trained.
_DISALLOWED = -1000.0


class Answering(OneByOne):
    """Implements `kinds.Prediction`: the answer of extractive question answering, as a fine-tuning run searches it."""

    output: Output = "task"
    most_characters = MOST_CHARACTERS // 4

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        settings: TaskSettings,
        null_threshold: float | None,
        top_k: int = 5,
    ) -> None:
        """Keeps what it is given.

        Args:
          tokenizer: the model's tokenizer.
          max_length: maximum length of a row in tokens.
          settings: settings of the search.
          null_threshold: null odds above which there is no answer; None if every question has one.
          top_k: number of candidates in a result.
        """
        self._tokenizer, self._max_length, self._settings = tokenizer, max_length, settings
        self._null_threshold, self._top_k = null_threshold, top_k

    def _one(self, item: Any) -> Prepared:
        """See `OneByOne`; an input is a pair of question and context."""
        if isinstance(item, str) or not isinstance(item, Sequence) or len(item) != 2:
            raise UnusableError("expected a question and a context, found something else")
        for name, value in zip(("question", "context"), item, strict=True):
            try:
                checked_text(value)
            except UnusableError as error:
                raise UnusableError(f"the {name}: {error}") from error
        question, context = item[0].strip(), item[1]
        longest = max(1, min(self._settings.longest_question, self._max_length - 3 - _LEAST_ROOM))
        example = QuestionExample("", "", question, context, None)
        found = question_rows(
            [example],
            self._tokenizer,
            max_length=self._max_length,
            stride=self._settings.stride,
            longest_question=longest,
        )
        rows = []
        for start, length in zip(found.starts_N, found.lengths_N, strict=True):
            own = slice(start, start + length)
            rows.append(Row(found.tokens_T[own], found.segments_T[own], allowed_L=found.by_token["allowed"][0][own]))
        truncated = int(self._tokenizer.encode([question])[1][0]) - longest if found.truncated else 0

        def finish(kept: Sequence[Arrays]) -> Answer:
            predicted = {name: np.stack([one[name] for one in kept]) for name in kept[0]}
            (searched,) = answer_search.search(found, predicted, longest_answer=self._settings.longest_answer)
            return self._answer(searched, truncated, len(rows))

        return Prepared(rows, finish)

    def _answer(self, found: answer_search.Found, truncated: int, count: int) -> Answer:
        best = answer_search.answer(found, self._null_threshold)
        candidates = [
            AnswerCandidate(each.text, each.start, each.start + len(each.text), each.probability)
            for each in found.candidates[: self._top_k]
        ]
        return Answer(
            text=best.text if best else "",
            start=best.start if best else 0,
            end=best.start + len(best.text) if best else 0,
            probability=answer_search.confidence(found, self._null_threshold),
            null_odds=found.null_odds,
            candidates=tuple(candidates),
            truncated=truncated,
            windows=count,
        )

    def keep(self, row: Row, outputs: Arrays) -> Arrays:
        """What `answer_search.search` needs: the best starts and ends, and the score of no answer."""
        if "impossible_logits" in outputs:
            names = ("start_ids", "start_scores", "end_ids", "end_scores")
            return {name: outputs[name] for name in names} | {"null_scores": outputs["impossible_logits"]}
        length, beams = len(row.tokens_L), self._settings.beams
        found: dict[str, np.ndarray] = {"null_scores": outputs["start_logits"][0] + outputs["end_logits"][0]}
        for place in ("start", "end"):
            scores_L = outputs[f"{place}_logits"][:length] + np.float32(_DISALLOWED) * (1 - row.allowed_L)
            ids_K = np.argsort(-scores_L, kind="stable")[:beams]
            fill = (0, beams - len(ids_K))
            found[f"{place}_ids"] = np.pad(ids_K, fill).astype(np.int32)
            found[f"{place}_scores"] = np.pad(scores_L[ids_K], fill, constant_values=_DISALLOWED).astype(np.float32)
        return found
