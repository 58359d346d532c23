"""Output files of a fine-tuning run: predictions for every example, the GLUE submission, SQuAD's files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from electra_jax import storage
from electra_jax.finetuning.data.labelled_file import LeftOut

PREDICTIONS = "predictions"
SKIPPED = "skipped.jsonl"
SUBMISSION = "submission.zip"
# A fixed date in the archive, so that the same predictions give the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_predictions(directory: str, task: str, split: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes predictions/TASK.SPLIT.jsonl atomically."""
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    content = "".join(f"{line}\n" for line in lines)
    storage.write(storage.join(directory, PREDICTIONS, f"{task}.{split}.jsonl"), content.encode())


def write_left_out(directory: str, left_out: Mapping[str, Sequence[LeftOut]]) -> None:
    """Writes skipped.jsonl, atomically: the examples that were left out, with their places and reasons."""
    lines = [
        json.dumps({"task": task, "place": example.place, "reason": example.reason}, ensure_ascii=False)
        for task, examples in left_out.items()
        for example in examples
    ]
    if lines:
        storage.write(storage.join(directory, SKIPPED), "".join(f"{line}\n" for line in lines).encode())


def write_answer_files(directory: str, task: str, split: str, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the input files of official evaluation scripts: predictions/TASK.SPLIT.NAME for each file."""
    for name, content in files.items():
        storage.write_json(storage.join(directory, PREDICTIONS, f"{task}.{split}.{name}"), content, indent=1)


def submission_lines(records: Iterable[Mapping[str, Any]], highest: float | None = None) -> str:
    """The content of a GLUE result file: a header, then index and prediction.

    Args:
      records: records of an unlabelled split, in its order.
      highest: upper bound of a grade, which is clipped to [0, highest]; None for classes.
    """
    lines = ["index\tprediction"]
    for index, record in enumerate(records):
        prediction = record["prediction"]
        if highest is not None:
            prediction = f"{min(max(prediction, 0.0), highest):.3f}"
        lines.append(f"{index}\t{prediction}")
    return "".join(f"{line}\n" for line in lines)


def write_submission(directory: str, files: Mapping[str, str]) -> str:
    """Writes submission.zip with GLUE's result files by name, in the layout of gluebenchmark.com."""
    path = storage.join(directory, SUBMISSION)
    with storage.open_to_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(f"{name}.tsv", _ZIP_DATE), content)
    return path
