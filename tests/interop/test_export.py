"""Writing a copy: it is there when it is good, and not at all otherwise; at the widths of all three sizes."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from electra_jax.configs import base, small
from electra_jax.errors import InputError, MismatchError
from electra_jax.interop import export, google_checkpoint, huggingface_folder, native_format, tokenizer_files
from electra_jax.interop.checkpoints import open_model
from electra_jax.interop.model import in_float32
from electra_jax.pretraining.jobs import encoder_config
from electra_jax.text.tokenizers import library_tokenizer
from tests.configs import typed
from tests.interop import made, peer


def sizes_of(preset, width, **cut):
    """The (discriminator, generator) sizes of a preset at full width, cut in depth and vocabulary to be quick."""
    config = preset.get_config()
    encoder = dataclasses.replace(in_float32(encoder_config(typed(config), "cpu")), **cut)
    return encoder, encoder.scaled(width or config.model.generator_width)


CUT = dict(layers=2, vocabulary_size=300, positions=64)
SIZES = {
    "small": lambda: sizes_of(small, None, **CUT),
    "small++": lambda: sizes_of(small, 1.0, **CUT),
    "base": lambda: sizes_of(base, None, **CUT),
}  # Large has Base's kinds of tensors.


@pytest.mark.slow
@pytest.mark.parametrize("form", made.WEIGHT_FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_goes_to_every_format_and_back_without_a_changed_bit(tmp_path, size, form):
    model = made.model(SIZES[size]())
    written = export.write(model, str(tmp_path / "copy"), form)
    assert written.difference == {"generator": 0, "discriminator": 0}
    assert not [note for note in written.notes if "overrides" in note]
    read = open_model(str(tmp_path / "copy"))
    assert read.networks == model.networks
    jax.tree.map(np.testing.assert_array_equal, read.params, dict(model.params))
    assert read.tokenizer.sha256 == model.tokenizer.sha256


@pytest.mark.slow
def test_small_at_full_depth_and_vocabulary_goes_through_all_formats(tmp_path):
    model = made.model(sizes_of(small, None))
    source = model
    for form in made.WEIGHT_FORMATS:
        export.write(source, str(tmp_path / form), form)
        source = open_model(str(tmp_path / form))
    assert source.networks == model.networks
    jax.tree.map(np.testing.assert_array_equal, source.params, dict(model.params))


@pytest.mark.parametrize("form", made.WEIGHT_FORMATS)
@pytest.mark.parametrize("make", [made.masked_language_model, made.discriminator_alone])
def test_a_single_network_goes_to_every_format_and_back(tmp_path, make, form):
    model = make()
    export.write(model, str(tmp_path / "copy"), form)
    read = open_model(str(tmp_path / "copy"))
    assert read.networks == model.networks
    assert jax.tree.structure(read.params) == jax.tree.structure(dict(model.params))


def test_the_head_of_a_task_is_said_to_be_left_out_of_googles_format(tmp_path):
    model = made.discriminator_alone(task_head=made.task_head())
    assert export.write(model, str(tmp_path / "google"), "google").skipped == (
        ("head of ElectraForSequenceClassification", "Google's code has other kinds of heads"),
    )
    assert export.write(model, str(tmp_path / "ours"), "electra_jax").skipped == ()


def test_a_target_that_is_there_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    for name in ("full", "link"):
        with pytest.raises(InputError, match=f"{name}: exists"):
            export.write(made.model(), str(tmp_path / name), "electra_jax")
    with pytest.raises(InputError, match="nonsense:// cannot be used"):
        export.write(made.model(), "nonsense://bucket/model", "electra_jax")


@pytest.mark.parametrize("form", made.WEIGHT_FORMATS)
def test_nothing_is_left_where_writing_fails(tmp_path, form, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    writer = {"huggingface": huggingface_folder, "google": google_checkpoint, "electra_jax": native_format}[form]
    monkeypatch.setattr(writer, "write", full)
    with pytest.raises(OSError, match="No space left"):
        export.write(made.model(), str(tmp_path / "copy"), form)
    assert os.listdir(tmp_path) == []


def changed(**changes):
    """An `open_model` that reads something else than what was written."""
    return lambda path: dataclasses.replace(made.model(), **changes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (changed(params=made.model(seed=1).params), "read back differ from those written: discriminator/"),
        (
            changed(discriminator=dataclasses.replace(peer.TINY, layer_norm_epsilon=0.1)),
            "differences .* in the outputs of .*discriminator",
        ),
        (changed(tokenizer=made.tokenizer(lowercase=False, strip_accents=False)), "the tokenizer read back differs"),
    ],
    ids=["weights", "sizes", "tokenizer"],
)
def test_a_copy_that_is_not_the_same_is_deleted(tmp_path, monkeypatch, wrong, message):
    monkeypatch.setattr(export, "open_model", wrong)
    with pytest.raises(MismatchError, match=message):
        export.write(made.model(), str(tmp_path / "copy"), "electra_jax")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", ["huggingface", "electra_jax"])
def test_tokenizer_files_are_run_by_their_library(tmp_path, form, monkeypatch):
    written = export.write(made.model(), str(tmp_path / "copy"), form)
    assert written.tokenizer_files == {"huggingface": 2, "electra_jax": 1}[form]
    monkeypatch.setattr(library_tokenizer, "ids_as_written", lambda text, place, texts, **_: [[7] for _ in texts])
    with pytest.raises(MismatchError, match=r"tokenizer\.json: .The quick brown .* in the model's tokenizer, "):
        export.write(made.model(), str(tmp_path / "other"), form)
    assert os.listdir(tmp_path) == ["copy"]


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = made.model()
    model.params["discriminator_head"]["dense"]["bias"][0] = np.nan
    with pytest.raises(MismatchError, match=r"differences .* in the outputs of discriminator"):
        export.write(model, str(tmp_path / "copy"), "electra_jax")


def test_a_folder_can_be_entered_by_others(tmp_path):
    export.write(made.model(), str(tmp_path / "new" / "copy"), "electra_jax")
    assert os.stat(tmp_path / "new" / "copy").st_mode & 0o777 == 0o755
    assert tokenizer_files.load_saved(str(tmp_path / "new" / "copy" / "tokenizer")) is not None
