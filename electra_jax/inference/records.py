"""Results as JSON-ready objects, one for each input."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from electra_jax.inference.results import (
    Answer,
    Classification,
    Detection,
    Embedding,
    Filling,
    Grade,
    MultiClassification,
    Problem,
    Result,
    Score,
    Tagging,
)

_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Detail:
    """How much a record holds.

    Attributes:
      probabilities: those of all classes, words, tokens.
      threshold: probability from which a token counts as replaced.
    """

    probabilities: bool = False
    threshold: float = 0.5


def line(identity: Any, result: Result | Problem, detail: Detail) -> str:
    """The line of an input, with its end."""
    body = record(result, detail)
    try:
        text = json.dumps({"id": identity, **body}, ensure_ascii=False, allow_nan=False)
    except ValueError:
        problem = {"error": "the model's outputs are not finite; its weights are damaged or have diverged"}
        text = json.dumps({"id": identity if _is_plain(identity) else str(identity), **problem}, ensure_ascii=False)
    return text + "\n"


def _is_plain(identity: Any) -> bool:
    return not isinstance(identity, float) or math.isfinite(identity)


def record(result: Result | Problem, detail: Detail) -> dict[str, Any]:
    """A result without the input's id."""
    match result:
        case Problem():
            return {"error": result.message}
        case Detection():
            return _detection(result, detail) | _windows(result.windows)
        case Filling():
            masks = [
                {
                    "start": mask.start,
                    "end": mask.end,
                    "candidates": [
                        {"token": each.token, "probability": _rounded(each.probability)} for each in mask.candidates
                    ],
                }
                for mask in result.masks
            ]
            return {"text": result.text, "masks": masks} | _windows(result.windows)
        case Classification() | MultiClassification():
            return _classes(result, detail) | _truncated(result.truncated) | _windows(result.windows)
        case Grade():
            return {"grade": _rounded(result.grade)} | _truncated(result.truncated) | _windows(result.windows)
        case Tagging():
            return _tags(result, detail) | _windows(result.windows)
        case Answer():
            return _answer(result) | _truncated(result.truncated) | _windows(result.windows)
        case Embedding():
            return {"embedding": [round(float(each), 7) for each in result.vector_D]} | _windows(result.windows)
        case Score():
            return _score(result, detail) | _windows(result.windows)


def _rounded(number: float) -> float:
    return round(float(number), _DIGITS)


def _windows(count: int) -> dict[str, int]:
    return {"windows": count} if count > 1 else {}


def _truncated(tokens: int) -> dict[str, int]:
    return {"truncated": tokens} if tokens else {}


def _detection(result: Detection, detail: Detail) -> dict[str, Any]:
    places = zip(result.tokens, result.starts_T, result.ends_T, result.probabilities_T, strict=True)
    tokens = [
        {"token": token, "start": int(start), "end": int(end), "probability": _rounded(probability)}
        for token, start, end, probability in places
    ]
    return {"replaced": int(np.sum(result.probabilities_T >= detail.threshold)), "tokens": tokens}


def _classes(result: Classification | MultiClassification, detail: Detail) -> dict[str, Any]:
    own: dict[str, Any]
    if isinstance(result, Classification):
        own = {"label": result.label, "probability": _rounded(result.probability)}
    else:
        own = {"labels": list(result.chosen)}
    if detail.probabilities:
        named = zip(result.labels, map(_rounded, result.probabilities_C), strict=True)
        own["probabilities"] = dict(named)
    return own


def _tags(result: Tagging, detail: Detail) -> dict[str, Any]:
    own: dict[str, Any] = {}
    if result.marks_spans:
        own["spans"] = [
            {
                "label": span.label,
                "start": span.start,
                "end": span.end,
                "text": span.text,
                "probability": _rounded(span.probability),
            }
            for span in result.spans
        ]
    if detail.probabilities or not result.marks_spans:
        places = zip(result.words, result.tags, result.starts_W, result.ends_W, result.probabilities_W, strict=True)
        own["words"] = [
            {"text": word, "tag": tag, "start": int(start), "end": int(end), "probability": _rounded(probability)}
            for word, tag, start, end, probability in places
        ]
    return own


def _answer(result: Answer) -> dict[str, Any]:
    return {
        "answer": result.text,
        "start": result.start,
        "end": result.end,
        "probability": _rounded(result.probability),
        "null_odds": _rounded(result.null_odds),
        "candidates": [
            {"text": each.text, "start": each.start, "end": each.end, "probability": _rounded(each.probability)}
            for each in result.candidates
        ],
    }


def _score(result: Score, detail: Detail) -> dict[str, Any]:
    perplexity = result.perplexity
    own: dict[str, Any] = {
        "score": _rounded(result.total),
        "tokens": len(result.tokens),
        "perplexity": _rounded(perplexity) if math.isfinite(perplexity) else None,
    }
    if detail.probabilities:
        places = zip(result.tokens, result.starts_T, result.ends_T, result.log_probabilities_T, strict=True)
        own["log_probabilities"] = [
            {"token": token, "start": int(start), "end": int(end), "log_probability": _rounded(value)}
            for token, start, end, value in places
        ]
    return own
