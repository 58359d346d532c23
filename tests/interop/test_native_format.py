"""Our own format: all of a model, and nothing that does not belong together."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.interop import checkpoints, native_format
from tests.interop import made


@pytest.fixture
def folder(tmp_path):
    native_format.write(made.model(), str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("make", [made.model, made.masked_language_model, made.discriminator_alone])
def test_a_model_is_read_back_whole(tmp_path, make):
    model = make()
    native_format.write(model, str(tmp_path))
    read = checkpoints.open_model(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, read.params, dict(model.params))
    assert read.tokenizer.sha256 == model.tokenizer.sha256
    same = ("discriminator", "generator", "step", "origin", "sources", "task_head")
    assert [getattr(read, name) for name in same] == [getattr(model, name) for name in same]


def test_every_size_and_rate_is_kept(tmp_path):
    model = made.model()
    odd = dataclasses.replace(model.discriminator, dropout_rate=0.2, layer_norm_epsilon=1e-6, initializer_range=0.1)
    native_format.write(dataclasses.replace(model, discriminator=odd), str(tmp_path))
    assert native_format.read(str(tmp_path)).discriminator == odd


def test_the_manifest_says_task_step_and_origin(folder):
    fields = json.loads((folder / "electra_jax.json").read_text())
    assert (fields["format"], fields["task"], fields["step"], fields["origin"]) == (
        1,
        "electra",
        1000,
        "made for a test",
    )
    assert fields["generator"]["hidden_size"] == 16
    assert native_format.manifest(made.masked_language_model())["task"] == "mlm"
    assert native_format.manifest(made.discriminator_alone())["task"] == "encoder"


def test_the_head_of_a_task_is_kept_with_its_labels(tmp_path):
    head = made.task_head()
    native_format.write(made.discriminator_alone(task_head=head), str(tmp_path))
    read = native_format.read(str(tmp_path)).task_head
    assert (read.architecture, read.fields) == (head.architecture, head.fields)
    jax.tree.map(np.testing.assert_array_equal, read.tensors, dict(head.tensors))


def test_a_tokenizer_of_another_model_is_refused(folder):
    made.tokenizer(lowercase=False, strip_accents=False).save(folder / "tokenizer")
    with pytest.raises(InputError, match=r"tokenizer: found SHA-256 .*, expected .* as in electra_jax\.json"):
        native_format.read(str(folder))


def test_a_model_without_tokenizer_has_none(tmp_path):
    native_format.write(made.model(tokenizer=None), str(tmp_path))
    assert native_format.read(str(tmp_path)).tokenizer is None


@pytest.mark.parametrize("content", ["{", '{"format": 1}', "[]", '{"format": 1, "generator": {"sizes": 1}}'])
def test_a_damaged_manifest_is_refused(folder, content):
    (folder / "electra_jax.json").write_text(content)
    with pytest.raises(InputError, match=r"electra_jax\.json: cannot be read"):
        native_format.read(str(folder))


def test_a_later_format_is_refused(folder):
    fields = json.loads((folder / "electra_jax.json").read_text()) | {"format": 2}
    (folder / "electra_jax.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="found format 2, expected 1"):
        native_format.read(str(folder))
