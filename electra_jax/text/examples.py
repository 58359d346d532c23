"""Documents as rows of fixed length: one or two segments of one document, as ELECTRA is trained on.

After build_pretraining_dataset.py of google-research/electra, without its losses: there, whatever does not fit a row
is thrown away, and a short sentence may jump over those before it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

# [CLS] a [SEP] b [SEP]
SHORTEST_ROW = 5


def segment_pairs(
    lines: Sequence[Sequence[int]],
    *,
    length: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
    rng: np.random.Generator,
    single_segment_probability: float,
    short_row_probability: float,
) -> Iterator[np.ndarray]:
    """Yields the rows of one document: `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`, padded.

    All tokens of the document are in the rows, once and in order: what does not fit a row begins the next one. Only the
    last row of a document, and rows drawn to be short, hold padding; and one position where A leaves no room for B.

    Args:
      lines: piece ids of each line (a sentence, a verse, a paragraph); empty ones are skipped.
      length: positions in a row, at least 5.
      cls_id: opens a row.
      sep_id: ends a segment.
      pad_id: fills a row up.
      rng: draws the segment boundaries.
      single_segment_probability: share of rows with the first segment only.
      short_row_probability: share of rows that end at a length drawn uniformly from 5 to `length`.

    Yields:
      int32 of shape [length].

    Raises:
      ValueError: `length` is less than 5.
    """
    if length < SHORTEST_ROW:
        raise ValueError(f"a row must have at least {SHORTEST_ROW} positions, got {length}")
    waiting = [(line, 0) for line in reversed(lines) if len(line)]  # The next line is last; 0 of its tokens are taken.
    while waiting:
        target = int(rng.integers(SHORTEST_ROW, length + 1)) if rng.random() < short_row_probability else length
        single = rng.random() < single_segment_probability
        first, second = _take_row(waiting, target, target if single else (target - 3) // 2, single, rng)
        tokens = [cls_id, *first, sep_id, *second, sep_id] if second else [cls_id, *first, sep_id]
        row = np.full(length, pad_id, np.int32)
        row[: len(tokens)] = tokens
        yield row


def _take_row(
    waiting: list[tuple[Sequence[int], int]], target: int, first_target: int, single: bool, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Takes the segments of one row off the end of `waiting`, and puts the rest of a line that is cut back there."""
    first: list[int] = []
    second: list[int] = []
    while waiting:
        line, taken = waiting.pop()
        left = len(line) - taken
        into_first = single or not first
        if not into_first and not second:
            # Half of the lines that cross the middle still go before it.
            fits = len(first) + left < first_target
            into_first = fits or (len(first) < first_target and rng.random() < 0.5)
        if into_first:
            segment, room = first, target - 2 - len(first)
        else:
            segment, room = second, target - 3 - len(first) - len(second)
        segment.extend(line[taken : taken + room])
        if left > room:
            waiting.append((line, taken + room))
        if left >= room:
            break
    return first, second
