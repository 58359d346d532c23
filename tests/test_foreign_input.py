"""Damaged variants of every foreign format are read or refused with an error of ours; `benchmarks/reliability/fuzz.py` does more."""

import random

import pytest

from benchmarks.reliability.foreign_files import FORMATS
from benchmarks.reliability.mutations import mutate
from electra_jax.errors import RunError

# Where an input takes long: TensorFlow's import, shapes of networks.
FEW, MANY = 10, 60


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_damaged_files_are_read_or_refused(form, tmp_path):
    form.make(tmp_path)
    form.read(tmp_path)
    path = tmp_path / form.file
    valid = path.read_bytes()
    refused = 0
    for number in range(MANY if form.weight >= 1 else FEW):
        path.write_bytes(mutate(random.Random(f"test {number}"), valid, form.kind))
        try:
            form.read(tmp_path)
        except RunError as error:
            refused += 1
            str(error).encode()
    assert refused or form.name == "TF1 checkpoint"
