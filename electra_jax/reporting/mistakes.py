"""A model's mistakes with their text: reads the predictions of a split, and renders the worst as HTML."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections import Counter
from typing import Any, TypeGuard

from markupsafe import Markup

from electra_jax.errors import InputError
from electra_jax.reporting import excerpts, markup, metric_names
from electra_jax.reporting.run_files import Json, read_json_lines

_MOST_MISTAKES = 20
_OPEN_MISTAKES = 5  # The others are folded away.
_MOST_LABELS = 30


@dataclasses.dataclass
class Predictions:
    """Summary of a file of predictions.

    Attributes:
      total: number of examples.
      known: number of examples with a known answer.
      wrong: number of these that are wrong; 0 for grades, which are hardly ever met exactly.
      graded: whether predictions are numbers.
      labels: count of each predicted label; for answers, of "an answer" and "no answer".
      grades: smallest, sum and largest of predicted numbers.
      worst: the wrong ones with the largest loss, or the grades with the largest error; worst first.
    """

    total: int = 0
    known: int = 0
    wrong: int = 0
    graded: bool = False
    labels: Counter[str] = dataclasses.field(default_factory=Counter)
    grades: tuple[float, float, float] = (math.inf, 0.0, -math.inf)
    worst: list[Json] = dataclasses.field(default_factory=list)


def read_predictions(path: str, notes: list[str]) -> Predictions:
    """Reads a file of predictions, line by line, and keeps the worst.

    Args:
      path: one JSON object a line, as `Task.records` in `finetuning/tasks/task.py` makes them.
      notes: receives a note on a truncated last line.

    Raises:
      InputError: a line before the last one is damaged.
    """
    found = Predictions()
    heap: list[tuple[float, int, Json]] = []
    for place, record in read_json_lines(path, notes, _is_prediction, "a prediction"):
        _check(record, place)
        found.total += 1
        predicted = record.get("prediction")
        truth = _truth(record)
        if "words" in record:
            found.labels.update(str(tag) for tag in record["predictions"])
        elif "question" in record:
            found.labels["an answer" if predicted else "no answer"] += 1
        elif _is_number(predicted):
            found.graded = True
            low, total, high = found.grades
            found.grades = min(low, predicted), total + predicted, max(high, predicted)
        else:
            found.labels.update(str(label) for label in (predicted if isinstance(predicted, list) else [predicted]))
        if truth is None:
            continue
        found.known += 1
        if found.graded:
            badness = abs(predicted - truth) if _is_number(predicted) and _is_number(truth) else 0.0
        elif record.get("right") is False:
            found.wrong += 1
            badness = _loss(record)
        else:
            continue
        entry = (badness, -found.total, record)  # Of equals, the first in the file stays.
        if len(heap) < _MOST_MISTAKES:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    found.worst = [record for _, _, record in sorted(heap, key=lambda entry: (-entry[0], -entry[1]))]
    return found


def _is_prediction(record: Json) -> bool:
    return "prediction" in record or isinstance(record.get("predictions"), list)


def _truth(record: Json) -> Any:
    """The true answer; None if it is not known."""
    return record.get("labels", record.get("label"))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _loss(record: Json) -> float:
    """Loss of a record; NaN, from a model that diverged, counts as infinite."""
    loss = record.get("loss")
    if not _is_number(loss):
        return 0.0
    return math.inf if math.isnan(loss) else loss


def _check(record: Json, place: str) -> None:
    """Raises an `InputError` if a record cannot be shown."""
    problem = ""
    if "words" in record:
        columns = [record["words"], record.get("predictions"), record.get("labels") or record["words"]]
        if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
            problem = "lists of one length named words, predictions and labels"
    elif "question" in record:
        if not isinstance(record.get("context"), str) or not isinstance(_truth(record), list | None):
            problem = "a context, and a list of labels where they are known"
    elif not isinstance(record.get("texts"), list):
        problem = "a list named texts"
    if problem:
        raise InputError(f"{place}: expected {problem}; fix or delete the line")


def split_section(predictions: Predictions) -> Markup:
    """HTML of a split: its worst mistakes or, if no answer is known, counts of its predictions."""
    if not predictions.known:
        return _unlabelled(predictions)
    if not predictions.worst:
        return markup.call("mistakes", "all_right", predictions.known)
    shown = len(predictions.worst)
    if predictions.graded:
        lead = f"The {shown} largest errors of {predictions.known:,}." if shown > 1 else "One example."
    else:
        share = predictions.wrong / predictions.known
        which = "all of them" if shown == predictions.wrong else f"the {shown} with the largest loss"
        lead = f"{predictions.wrong:,} of {predictions.known:,} are not right ({share:.1%}); here {which}."
    mistakes = [_mistake(record) for record in predictions.worst]
    return markup.call("mistakes", "worst", lead, mistakes[:_OPEN_MISTAKES], mistakes[_OPEN_MISTAKES:])


def _unlabelled(predictions: Predictions) -> Markup:
    grades = ""
    if predictions.graded:
        low, total, high = predictions.grades
        grades = f"From {low:.4g} to {high:.4g}, mean {total / predictions.total:.4g}."
    return markup.render(
        "unlabelled",
        total=predictions.total,
        grades=grades,
        labels=predictions.labels.most_common(_MOST_LABELS),
        count=sum(predictions.labels.values()),
        left=len(predictions.labels) - _MOST_LABELS,
    )


@dataclasses.dataclass(frozen=True)
class _Mistake:
    """A wrong prediction as the page shows it.

    Attributes:
      predicted: the model's prediction; empty where the text shows it.
      right: the true answer; likewise.
      aside: how far they are apart.
      remark: key and loss of the example.
      question: the question about the text, if any.
      text: HTML of the text.
    """

    predicted: str
    right: str
    aside: str
    remark: str
    question: str | None
    text: Markup


def _mistake(record: Json) -> _Mistake:
    remarks = [f"example {record['key']}"] if "key" in record else []
    if _is_number(record.get("loss")):
        remarks.append(f"loss {metric_names.value(record['loss'], 2)}")
    question = None
    if "words" in record:
        pairs = list(zip(record["predictions"], record["labels"], strict=True))
        shown = ("", "", f"{sum(guess != tag for guess, tag in pairs)} of {len(pairs)} tags wrong")
        text = excerpts.tagged(record["words"], record["predictions"], record["labels"])
    elif "question" in record:
        shown, question, text = _answers(record), str(record["question"]), _context(record)
    else:
        shown, text = _labels(record), Markup("").join(excerpts.whole(str(part)) for part in record["texts"])
    return _Mistake(*shown, " · ".join(remarks), question, text)


def _truths(record: Json) -> list[str]:
    return list(dict.fromkeys(str(label) for label in _truth(record)))


def _context(record: Json) -> Markup:
    """HTML of the context; the first of the candidates is the prediction, with its start."""
    given, candidates = str(record["prediction"] or ""), record.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    start = first.get("start") if isinstance(first, dict) and first.get("text") == given else None
    start = start if isinstance(start, int) else None
    return excerpts.in_context(record["context"], given, _truths(record), start)


def _answers(record: Json) -> tuple[str, str, str]:
    given = f"“{record['prediction']}”" if record["prediction"] else "no answer"
    truths = [f"“{truth}”" for truth in _truths(record)] or ["not answered in the context"]
    overlap = f"F1 {record['f1']:.2f}" if _is_number(record.get("f1")) else ""
    return given + _percent(record.get("probability")), " or ".join(truths), overlap


def _labels(record: Json) -> tuple[str, str, str]:
    predicted, truth = record["prediction"], record["label"]
    if _is_number(predicted) and _is_number(truth):
        return f"{predicted:.4g}", f"{truth:.4g}", f"off by {_signed(predicted - truth)}"
    probabilities = record.get("probabilities")

    def named(labels: Any) -> str:
        labels = labels if isinstance(labels, list) else [labels]
        return ", ".join(_with_probability(label, probabilities) for label in labels) or "none"

    return named(predicted), named(truth), ""


def _signed(difference: float) -> str:
    return f"{difference:+.3g}".replace("-", "−")


def _with_probability(label: Any, probabilities: Any) -> str:
    probability = probabilities.get(str(label)) if isinstance(probabilities, dict) else None
    return f"{label}{_percent(probability)}"


def _percent(probability: Any) -> str:
    return f" {probability:.0%}" if _is_number(probability) else ""
