"""Exports for onnxruntime predict what the model that they were made from predicts."""

import dataclasses

import numpy as np
import pytest

import electra_jax
from electra_jax.errors import InputError
from electra_jax.interop import export
from tests.inference import made_predictors
from tests.interop import made
from tests.interop.made_finetuned import HEADS, with_head

pytestmark = pytest.mark.interop

TEXTS = ["ab cd ef", "gh", "Ábc de, fgh!", "a b c d e f g h i j k l m n o p q r s t"]


def assert_close(one, other):
    """Compares results field by field."""
    assert type(one) is type(other)
    for field in dataclasses.fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray) and np.issubdtype(mine.dtype, np.floating):
            np.testing.assert_allclose(mine, theirs, atol=1e-4)
        elif isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)


def test_a_pair_detects_and_fills_as_in_jax(tmp_path):
    export.write(made.model(), str(tmp_path / "pair"), "onnx", ("fp32",))
    ours, theirs = made_predictors.pretrained(), electra_jax.load(tmp_path / "pair")
    assert theirs.tasks == ("detect", "fill", "score")
    for one, other in zip(ours.detect(TEXTS), theirs.detect(TEXTS), strict=True):
        assert_close(one, other)
    for one, other in zip(ours.fill(["ab [MASK] ef"]), theirs.fill(["ab [MASK] ef"]), strict=True):
        assert [each.id for each in one.masks[0].candidates] == [each.id for each in other.masks[0].candidates]


@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_every_head_predicts_as_in_jax(tmp_path, kind, head):
    model = with_head(kind, head)
    export.write(model, str(tmp_path / "onnx"), "onnx", ("fp32",))
    ours = made_predictors.Predictor(made_predictors.opened(model))
    theirs = electra_jax.load(tmp_path / "onnx")
    assert theirs.task == ours.task
    given = [("ab cd", "ef gh ab cd ef")] * 2 if ours.task == "answer" else TEXTS
    for one, other in zip(getattr(ours, ours.task)(given), getattr(theirs, ours.task)(given), strict=True):
        assert_close(one, other)


def test_a_file_of_another_precision_can_be_named(tmp_path):
    export.write(made.model(), str(tmp_path / "pair"), "onnx", ("fp32", "int8"))
    folder = tmp_path / "pair" / "discriminator"
    exact, rounded = (electra_jax.load(path) for path in (folder, folder / "onnx" / "model_quantized.onnx"))
    one, other = (model.detect(TEXTS)[0].probabilities_T for model in (exact, rounded))
    assert 0 < np.abs(one - other).max() < 0.1


def test_a_head_that_is_not_there_is_refused(tmp_path):
    export.write(with_head("tagging", "paper"), str(tmp_path / "onnx"), "onnx", ("fp32",))
    with pytest.raises(InputError, match="found no head 'other'; an export for onnxruntime has one head"):
        electra_jax.load(tmp_path / "onnx", head="other")
