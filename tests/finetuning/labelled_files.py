"""Files of a task in a folder of a test, and what reading them says."""

import pytest

from electra_jax.configs.finetune import base
from electra_jax.errors import InputError
from electra_jax.finetuning.data.reading import read_splits
from tests.configs import typed_task


def reading_of(folder, task, **contents):
    """What is read of a task whose files have these contents; text is written as UTF-8."""
    _write(folder, task, contents)
    return read_splits("it", typed_task(task), str(folder), str(folder / "cache"))


def splits_of(folder, task, **contents):
    """Its examples by split."""
    return reading_of(folder, task, **contents).splits


def notes_of(folder, task, **contents):
    """What is left out or odd, as the log says it."""
    return reading_of(folder, task, **contents).notes


def problems_of(folder, task, **contents):
    """The lines of the message that refuses these contents."""
    _write(folder, task, contents)
    with pytest.raises(InputError) as error:
        read_splits("it", typed_task(task), str(folder), str(folder / "cache"))
    problems = str(error.value).split("\n  ")[1:]
    return [problem for problem in problems if not problem.startswith("A few such examples")]


def text_task(suffix="tsv", **changes):
    """Sentences and labels in train and dev."""
    return base.classification_task(**({"train": f"train.{suffix}", "dev": f"dev.{suffix}"} | changes))


def _write(folder, task, contents):
    for split, content in contents.items():
        path = folder / (task[split] if split in task else task.more[split])
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
