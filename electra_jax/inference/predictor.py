"""The Python API: `electra_jax.load` opens a model, whose methods predict."""

from __future__ import annotations

import enum
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from electra_jax.errors import InputError
from electra_jax.inference import opening
from electra_jax.inference.answer_predictions import Answering
from electra_jax.inference.kinds import Prediction
from electra_jax.inference.opening import Opened
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
from electra_jax.inference.row_batches import outputs_of
from electra_jax.inference.runtime import Output
from electra_jax.inference.text_predictions import Classifier, Embedder, LongTexts, Pooling
from electra_jax.inference.token_predictions import Detecting, TagWords
from electra_jax.inference.word_predictions import Filler, Scorer
from electra_jax.interop.finetuned import JOINT_ANSWERS
from electra_jax.interop.model import TaskHead, TaskSettings

Kind = TypeVar("Kind")
Network = Literal["generator", "corrective"]

TASKS = ("detect", "fill", "classify", "tag", "answer", "embed", "score")

# Inputs that are sorted by length together; the first time fewer, so that the first results come soon.
_FIRST_GROUP, _GROWTH, _LARGEST_GROUP = 32, 8, 2048
# Shorter rows have no room for two texts and their special tokens.
_SHORTEST_ROW = 8
_TASK_OF_HEAD = {
    "ElectraForSequenceClassification": "classify",
    "ElectraForTokenClassification": "tag",
    "ElectraForQuestionAnswering": "answer",
    JOINT_ANSWERS: "answer",
}
_MISSING = {
    "detect": "a discriminator with its head",
    "fill": "a generator or another masked language model",
    "score": "a generator or another masked language model",
    "classify": "a head fine-tuned for classification",
    "tag": "a head fine-tuned for tagging",
    "answer": "a head fine-tuned for questions",
    "embed": "the encoder's hidden states",
}


class Flush(enum.Enum):
    """Between the inputs of a stream: the results so far are wanted before more inputs are read."""

    FLUSH = 0


def load(
    path: str | os.PathLike[str], *, head: str = "", batch_size: int = 32, max_length: int | None = None
) -> Predictor:
    """Opens a model: a workdir, a checkpoint of one, an export, a Hugging Face folder, or a checkpoint of Google's.

    Args:
      path: local path or address; see `docs/predict.md`.
      head: for a fine-tuning run of several tasks, the task whose head predicts.
      batch_size: rows that are computed at once.
      max_length: maximum length of a row in tokens; by default that of training, or all that the model can read.

    Raises:
      InputError: nothing readable was found, it is damaged, has no tokenizer, or an argument does not fit it.
      MismatchError: a checkpoint of a run is damaged, or does not fit the config next to it.
    """
    return Predictor(opening.open_for_inference(os.fspath(path), head), batch_size=batch_size, max_length=max_length)


class Predictor:
    """A model that predicts. Immutable but for caches of compiled programs and of words; threads may share it."""

    def __init__(self, opened: Opened, *, batch_size: int = 32, max_length: int | None = None) -> None:
        """Takes a model from `opening.open_for_inference`; see `load`."""
        if batch_size < 1:
            raise InputError(f"batch_size: found {batch_size}, expected at least 1")
        if max_length is not None and not _SHORTEST_ROW <= max_length <= opened.positions:
            raise InputError(
                f"max_length: found {max_length}, expected {_SHORTEST_ROW} to {opened.positions}, the positions of "
                f"{opened.origin}"
            )
        self._opened, self._batch_size, self._max_length = opened, batch_size, max_length
        # Tokenizers remember words, which two threads must not do at once.
        self._lock = threading.Lock()

    @property
    def origin(self) -> str:
        """Readable description of the model's source."""
        return self._opened.origin

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions that were made when the model was read."""
        return self._opened.notes

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the model can do: names of methods, some of `TASKS`."""
        outputs, head = self._opened.runtime.outputs, self._opened.head
        able = set()
        if "replaced" in outputs:
            able.add("detect")
        if {"generator_words", "corrective_words"} & outputs:
            able |= {"fill", "score"}
        if "hidden" in outputs:
            able.add("embed")
        if "task" in outputs and head:
            able.add(_TASK_OF_HEAD[head.architecture])
        return tuple(task for task in TASKS if task in able)

    @property
    def task(self) -> str:
        """What the model was made for.

        Raises:
          InputError: it can do several things, none of which is clearly meant.
        """
        head = self._opened.head
        if head:
            return _TASK_OF_HEAD[head.architecture]
        meant = [task for task in self.tasks if task in ("detect", "fill")] or list(self.tasks)
        if len(meant) == 1 and not self._opened.heads:
            return meant[0]
        if self._opened.heads:
            raise InputError(self._several_heads())
        raise InputError(
            f"{self.origin}: was made for no single task; choose one of {', '.join(self.tasks)}, as --task={meant[0]}"
        )

    def _several_heads(self) -> str:
        heads = ", ".join(self._opened.heads)
        return f"{self.origin}: was trained on several tasks; name one with head=… (--head=…), one of {heads}"

    def detect(self, texts: Iterable[str]) -> list[Detection]:
        """For each token of each text, the probability that it was replaced.

        Raises:
          InputError: the model has no discriminator, or a text cannot be used.
        """
        return self._all(Detection, "detect", texts)

    def fill(self, texts: Iterable[str], *, top_k: int = 5, network: Network | None = None) -> list[Filling]:
        """The most probable tokens for each [MASK] of each text.

        Args:
          texts: each with at least one mask, spelled "[MASK]" or as the vocabulary spells it.
          top_k: number of tokens for each mask.
          network: "generator", or "corrective" for the discriminator's word head; by default the one there is.

        Raises:
          InputError: the model has no such network, or a text cannot be used.
        """
        return self._all(Filling, "fill", texts, top_k=top_k, network=network)

    def classify(
        self, texts: Iterable[str | Sequence[str]], *, threshold: float = 0.5, long_texts: LongTexts = "truncate"
    ) -> list[Classification | MultiClassification | Grade]:
        """The class, the classes or the grade of each text, or pair of texts.

        Args:
          texts: texts; for a model of pairs, pairs of them.
          threshold: for models of several classes at once, the probability from which a class is chosen.
          long_texts: "truncate" reads what fits into a row, as training does; "windows" averages the logits of all
            windows of a single text.

        Raises:
          InputError: the model does not classify, or a text cannot be used.
        """
        kinds = (Classification, MultiClassification, Grade)
        return self._all(kinds, "classify", texts, threshold=threshold, long_texts=long_texts)

    def tag(self, texts: Iterable[str | Sequence[str]]) -> list[Tagging]:
        """The tags of each text's words, and the spans that they mark.

        Args:
          texts: texts, or sentences as sequences of words.

        Raises:
          InputError: the model does not tag, or a text cannot be used.
        """
        return self._all(Tagging, "tag", texts)

    def answer(
        self, questions: Iterable[Sequence[str]], *, null_threshold: float | None = None, top_k: int = 5
    ) -> list[Answer]:
        """The answer to each question in its context.

        Args:
          questions: pairs of a question and a context.
          null_threshold: null odds above which a question has no answer; by default that of training, where every
            question may have had an answer.
          top_k: number of candidates in a result.

        Raises:
          InputError: the model does not answer, or a question cannot be used.
        """
        return self._all(Answer, "answer", questions, null_threshold=null_threshold, top_k=top_k)

    def embed(self, texts: Iterable[str], *, pooling: Pooling = "mean", normalize: bool = True) -> np.ndarray:
        """A vector for each text, float32 [N, D].

        Args:
          texts: any number of texts.
          pooling: "mean" of the last hidden states of all tokens, [CLS] and [SEP] included, or "cls" for that of [CLS].
          normalize: divides each vector by its length.

        Raises:
          InputError: a text cannot be used.
        """
        found = self._all(Embedding, "embed", texts, pooling=pooling, normalize=normalize)
        return np.stack([one.vector_D for one in found]) if found else np.zeros((0, 0), np.float32)

    def score(self, texts: Iterable[str], *, network: Network | None = None) -> list[Score]:
        """The pseudo-log-likelihood of each text; takes a row for each token.

        Args:
          texts: any number of texts.
          network: see `fill`.

        Raises:
          InputError: the model has no such network, or a text cannot be used.
        """
        return self._all(Score, "score", texts, network=network)

    def stream(self, task: str, inputs: Iterable[Any], **options: Any) -> Iterator[Result | Problem]:
        """Predicts one input after the other, in bounded memory.

        Args:
          task: one of `tasks`.
          inputs: as the method of that name takes them, without end if need be. A `Problem` among them comes out as it
            is; `Flush.FLUSH` gets no result and brings those of the inputs before it.
          options: options of that method.

        Returns:
          One result for each input, in order; a `Problem` where an input cannot be used. Up to 2,048 inputs are read
          ahead, since texts of similar length are computed together.

        Raises:
          InputError: the model cannot do the task, or an option does not fit it; at once.
        """
        return self._stream(self._prediction(task, inputs, **options), inputs, _FIRST_GROUP)

    def _prediction(self, task: str, inputs: Iterable[Any], **options: Any) -> Prediction:
        if isinstance(inputs, str):
            raise InputError(f"found one text, expected several; write {task}([text])")
        if task not in TASKS:
            raise InputError(f"task: found {task!r}, expected one of {', '.join(TASKS)}")
        if task not in self.tasks:
            if self._opened.heads and self._opened.head is None and task in _TASK_OF_HEAD.values():
                raise InputError(self._several_heads())
            raise InputError(
                f"{self.origin}: cannot {task}, which needs {_MISSING[task]}; it can {', '.join(self.tasks)}"
            )
        tokenizer, head = self._opened.tokenizer, self._opened.head
        length = self._max_length or self._opened.positions
        match task:
            case "detect":
                return Detecting(tokenizer, length, **options)
            case "embed":
                return Embedder(tokenizer, length, **options)
            case "fill":
                output = self._words(options.pop("network", None))
                return Filler(tokenizer, length, output, **options)
            case "score":
                return Scorer(tokenizer, length, self._words(options.pop("network", None)), **options)
        if head is None:
            raise InputError(f"{self.origin}: has no head of a task")
        return self._of_head(task, head, **options)

    def _words(self, network: Network | None) -> Output:
        outputs = self._opened.runtime.outputs
        if network is None:
            return "generator_words" if "generator_words" in outputs else "corrective_words"
        wanted: dict[str, Output] = {"generator": "generator_words", "corrective": "corrective_words"}
        if network not in wanted or wanted[network] not in outputs:
            known = [name for name, output in wanted.items() if output in outputs]
            raise InputError(f"network: found {network!r}, expected one that the model has: {', '.join(known)}")
        return wanted[network]

    def _of_head(self, task: str, head: TaskHead, **options: Any) -> Prediction:
        tokenizer, settings = self._opened.tokenizer, head.settings
        length = self._max_length or min(head.max_length or self._opened.positions, self._opened.positions)
        if task == "answer":
            settings = settings or TaskSettings(name="", kind="answering")
            threshold = options.pop("null_threshold", None)
            if threshold is None and settings.unanswerable:
                threshold = settings.null_threshold
            return Answering(tokenizer, length, settings, threshold, **options)
        if task == "tag":
            marks_spans = settings.spans if settings else None
            return TagWords(tokenizer, length, labels_of(head), head.token_type, marks_spans, **options)
        labels = labels_of(head)
        columns = settings.text_columns if settings else ()
        return Classifier(tokenizer, length, labels, kind_of(head, labels), columns, **options)

    def _stream(self, prediction: Prediction, inputs: Iterable[Any], first: int) -> Iterator[Result | Problem]:
        for group in _groups(inputs, first, prediction.most_characters):
            with self._lock:
                usable = prediction.prepare([item for item in group if not isinstance(item, Problem)])
            prepared = iter(usable)
            ready = [item if isinstance(item, Problem) else next(prepared) for item in group]
            rows = [row for one in ready if not isinstance(one, Problem) for row in one.rows]
            kept = iter(
                outputs_of(
                    self._opened.runtime,
                    prediction.output,
                    rows,
                    prediction.keep,
                    batch_size=self._batch_size,
                    longest=self._opened.positions,
                    pad_id=self._opened.tokenizer.pad_id,
                )
            )
            for one in ready:
                if isinstance(one, Problem):
                    yield one
                else:
                    yield one.finish(list(itertools.islice(kept, len(one.rows))))

    def _all(
        self, kinds: type[Kind] | tuple[type[Kind], ...], task: str, inputs: Iterable[Any], **options: Any
    ) -> list[Kind]:
        prediction = self._prediction(task, inputs, **options)
        found: list[Kind] = []
        # Nothing is shown before all is done, so the first group need not be small.
        for number, result in enumerate(self._stream(prediction, inputs, _LARGEST_GROUP)):
            if isinstance(result, Problem):
                raise InputError(f"input {number}: {result.message}; `stream` gives a Problem in its place")
            if not isinstance(result, kinds):
                raise TypeError(f"found a {type(result).__name__}, expected {kinds}")
            found.append(result)
        return found


def labels_of(head: TaskHead) -> tuple[str, ...]:
    """Names of the logits. For tags the reverse map is used, in which our exports keep BIOES."""
    bias = head.tensors.get("classifier.out_proj.bias", head.tensors.get("classifier.bias"))
    count = len(bias) if bias is not None else len(head.fields.get("id2label") or ())
    named = {int(number): name for number, name in (head.fields.get("id2label") or {}).items()}
    numbered = head.fields.get("label2id") or {}
    if head.architecture == "ElectraForTokenClassification" and sorted(numbered.values()) == list(range(count)):
        named = {number: name for name, number in numbered.items()}
    return tuple(named.get(number, f"LABEL_{number}") for number in range(count))


def kind_of(head: TaskHead, labels: Sequence[str]) -> str:
    """What a head for classification gives: "classification" (one class), "multilabel" (any number) or "regression"."""
    stated = head.settings.kind if head.settings else ""
    of_type = {"multi_label_classification": "multilabel", "regression": "regression"}
    fallback = "regression" if len(labels) == 1 else "classification"
    return stated or of_type.get(head.fields.get("problem_type") or "", fallback)


def _groups(inputs: Iterable[Any], first: int, most_characters: int) -> Iterator[list[Any]]:
    """Yields groups of inputs, the first one of at most `first`."""
    group: list[Any] = []
    limit, characters = first, 0
    for item in inputs:
        if item is not Flush.FLUSH:
            group.append(item)
            characters += _characters(item)
        if group and (item is Flush.FLUSH or len(group) >= limit or characters >= most_characters):
            yield group
            limit = min(_GROWTH * limit, _LARGEST_GROUP)
            group, characters = [], 0
    if group:
        yield group


def _characters(item: Any) -> int:
    if isinstance(item, str):
        return len(item)
    return sum(map(_characters, item)) if isinstance(item, (list, tuple)) else 1
