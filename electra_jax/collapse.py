"""Symptoms of a collapsed discriminator, and advice; shared by runs and reports."""

from collections.abc import Mapping

_LEAST_RANK_SHARE = 0.05  # Of the width. Random weights have half of it, healthy small models a fifth.
_LEAST_RECALL = 0.01

ADVICE = (
    "Its states are a poor start for fine-tuning, often worse than random weights. Train the hybrid objective "
    "(--config.objective.name=hybrid --config.objective.corrective_weight=1 "
    "--config.objective.discriminator_weight=10); docs/objectives.md."
)


def symptoms(scores: Mapping[str, float], width: int) -> list[str]:
    """Returns the symptoms of a collapsed discriminator after its warm-up; none for a healthy one.

    Args:
      scores: scores of an evaluation, names without "eval/"; those of other objectives have no discriminator.
      width: width of its hidden states.
    """
    found = []
    rank, recall = scores.get("discriminator_rank"), scores.get("discriminator_recall")
    if rank is not None and rank < _LEAST_RANK_SHARE * width:
        found.append(
            f"its hidden states use {rank:.1f} of {width} directions (effective rank; healthy is "
            f"{_LEAST_RANK_SHARE * width:.0f} or more)"
        )
    if recall is not None and recall < _LEAST_RECALL:
        found.append(f"it finds {recall:.1%} of the replaced words (healthy is {_LEAST_RECALL:.0%} or more)")
    return found


def warning(scores: Mapping[str, float], width: int) -> str:
    """Returns a warning with advice; "" if there are no symptoms."""
    found = symptoms(scores, width)
    return f"The discriminator has collapsed: {' and '.join(found)}. {ADVICE}" if found else ""
