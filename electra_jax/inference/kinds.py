"""The protocol of what can be predicted; each kind is a class that implements it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from electra_jax.inference.results import Problem, Result
from electra_jax.inference.row_batches import Arrays, Row
from electra_jax.inference.runtime import Output
from electra_jax.inference.text_windows import UnusableError


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """An input as rows.

    Attributes:
      rows: its rows, at least one.
      finish: the result, given what `Prediction.keep` returned for each of the rows.
    """

    rows: Sequence[Row]
    finish: Callable[[Sequence[Any]], Result]


class Prediction(Protocol):
    """One kind of prediction with its options; keeps no state between inputs.

    Attributes:
      output: what it asks the runtime for.
      most_characters: characters of the inputs that are prepared at once, which bounds the memory.
    """

    output: Output
    most_characters: int

    def prepare(self, items: Sequence[Any]) -> list[Prepared | Problem]:
        """The rows of each input, or why it cannot be used."""
        ...

    def keep(self, row: Row, outputs: Arrays) -> Any:
        """What is needed of a row's outputs, as little as possible."""
        ...


class OneByOne(Prediction):
    """A kind that prepares each input by itself."""

    def prepare(self, items: Sequence[Any]) -> list[Prepared | Problem]:
        """See `Prediction`."""
        return [self._one_or_problem(item) for item in items]

    def _one_or_problem(self, item: Any) -> Prepared | Problem:
        try:
            return self._one(item)
        except UnusableError as error:
            return Problem(str(error))

    @abc.abstractmethod
    def _one(self, item: Any) -> Prepared:
        """The rows of an input.

        Raises:
          UnusableError: it cannot be used.
        """


# For predictions with a row, or a few, for each input.
MOST_CHARACTERS = 2_000_000
