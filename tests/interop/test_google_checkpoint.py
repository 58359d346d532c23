"""Checkpoints that TensorFlow 1 wrote, and ours that it reads."""

import dataclasses
import os
import shutil

import jax
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.interop import google, google_checkpoint
from electra_jax.interop.tensor_map import flatten
from electra_jax.models.encoder import EncoderConfig
from tests.interop import made

# A published width, with heads 64 wide; generator and discriminator of one width, as in Small++.
SMALL = EncoderConfig(
    vocabulary_size=64, embedding_size=16, hidden_size=256, layers=3, heads=4, feed_forward_size=1024, positions=24
)
# A width that Google did not publish, with heads that its rule would not give; the generator has those of the rule.
NARROW = dataclasses.replace(SMALL, hidden_size=128, heads=4, feed_forward_size=512)
NARROW_PAIR = (NARROW, dataclasses.replace(NARROW, hidden_size=64, heads=1, feed_forward_size=256))


def save_with_tensorflow_1(path, variables, slots=True):
    """Writes variables as `tf.compat.v1.train.Saver` does at the end of Google's training."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for name, value in variables.items():
            v1.get_variable(name, initializer=value)
            for slot in ("adam_m", "adam_v") if slots else ():
                v1.get_variable(f"{name}/{slot}", initializer=np.zeros_like(value))
        step = v1.train.create_global_step()
        session.run(v1.global_variables_initializer())
        session.run(step.assign(1234))
        return v1.train.Saver().save(session, str(path), global_step=step)


@pytest.fixture
def written(tmp_path):
    """A checkpoint of TensorFlow 1, and the model whose weights are in it."""
    model = made.model((SMALL, SMALL))
    prefix = save_with_tensorflow_1(tmp_path / "model.ckpt", google.state_of(model.params))
    (tmp_path / "vocab.txt").write_text("\n".join(made.vocabulary()) + "\n")
    return prefix, model


def test_a_checkpoint_of_tensorflow_1_is_read_with_its_sizes_step_and_vocabulary(written):
    prefix, model = written
    read = google_checkpoint.read(prefix)
    assert read.networks == model.networks
    assert read.step == 1234
    jax.tree.map(np.testing.assert_array_equal, read.params, model.params)
    assert read.tokenizer.sha256 == model.tokenizer.sha256
    slots = 2 * len(google.state_of(model.params))
    assert read.skipped == ((f"{slots} optimizer slots", "only weights are converted"),)
    assert "discriminator: 4 attention heads, by Google's rule of 64 units each" in read.notes


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A checkpoint of TensorFlow 1 whose number of heads nobody can know, and the model whose weights are in it."""
    model = made.model(NARROW_PAIR)
    return save_with_tensorflow_1(
        tmp_path_factory.mktemp("google") / "narrow", google.state_of(model.params), slots=False
    ), model


def test_without_a_number_of_heads_an_unpublished_width_is_refused(narrow):
    prefix, _ = narrow
    with pytest.raises(
        InputError,
        match=r"narrow-1234: found a network of width 128, .* 256 \(4 heads\), 768 \(12 heads\), 1024 \(16 heads\)\. "
        r"Add the number to the path, as in PATH#heads=2",
    ):
        google_checkpoint.read(prefix)


def test_a_stated_number_of_heads_is_the_discriminators(narrow):
    prefix, model = narrow
    read = google_checkpoint.read(prefix, heads=4)
    assert read.networks == model.networks
    jax.tree.map(np.testing.assert_array_equal, read.params, model.params)
    assert "discriminator: 4 attention heads, as stated" in read.notes
    assert "generator: 1 attention heads, by Google's rule of 64 units each" in read.notes


def test_a_number_of_heads_that_does_not_divide_the_width_is_refused(narrow):
    prefix, _ = narrow
    with pytest.raises(InputError, match=r"narrow-1234: found heads=3, expected a number that divides .*, 128"):
        google_checkpoint.read(prefix, heads=3)


def test_a_stated_number_of_heads_holds_for_a_published_width(written):
    prefix, _ = written
    assert google_checkpoint.read(prefix, heads=8).discriminator.heads == 8


def test_a_stated_number_of_heads_must_be_the_manifests(tmp_path):
    google_checkpoint.write(made.model(), str(tmp_path))
    prefix = google_checkpoint.find(str(tmp_path))
    assert google_checkpoint.read(prefix, heads=4).discriminator.heads == 4
    with pytest.raises(InputError, match=r"found heads=2, expected 4 as in electra_jax\.json next to it"):
        google_checkpoint.read(prefix, heads=2)


def test_a_checkpoint_is_found_by_prefix_by_file_and_by_folder(written, tmp_path):
    prefix, _ = written
    find = google_checkpoint.find
    assert find(prefix) == prefix
    assert find(f"{prefix}.index") == prefix
    assert find(f"{prefix}.data-00000-of-00001") == prefix
    assert find(str(tmp_path)) == prefix
    assert find(str(tmp_path / "none")) is None

    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(prefix + suffix, tmp_path / f"model.ckpt-99{suffix}")
    assert find(str(tmp_path)) == prefix  # The state file says which.
    os.unlink(tmp_path / "checkpoint")
    with pytest.raises(InputError, match=r"several checkpoints, model\.ckpt-1234, model\.ckpt-99"):
        find(str(tmp_path))


def test_a_checkpoint_that_was_cut_off_is_refused(written):
    prefix, _ = written
    with open(f"{prefix}.data-00000-of-00001", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(InputError, match=r"model\.ckpt-1234: TensorFlow cannot read"):
        google_checkpoint.read(prefix)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    prefix = save_with_tensorflow_1(tmp_path / "bert", {"bert/embeddings/word_embeddings": np.ones((4, 2), np.float32)})
    with pytest.raises(InputError, match=r"bert-1234: has no ELECTRA"):
        google_checkpoint.read(prefix)


def test_one_encoder_with_both_heads_becomes_two_networks_of_equal_weights(tmp_path):
    model = made.model((SMALL, SMALL))
    state = google.state_of(model.params)
    tied = {name: array for name, array in state.items() if not name.startswith("generator/")}
    read = google_checkpoint.read(save_with_tensorflow_1(tmp_path / "tied", tied, slots=False))
    assert any("untied_generator=False" in note for note in read.notes)
    jax.tree.map(np.testing.assert_array_equal, read.params["generator"], read.params["discriminator"])


def test_tensorflow_1_restores_what_we_wrote(tmp_path):
    import tensorflow as tf

    model = made.model((SMALL, SMALL))
    assert google_checkpoint.write(model, str(tmp_path)) == ()
    assert sorted(os.listdir(tmp_path)) == [
        "README.md", "checkpoint", "electra_jax.json", "model.ckpt-1000.data-00000-of-00001", "model.ckpt-1000.index",
        "vocab.txt",
    ]  # fmt: skip
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        word = v1.get_variable("electra/embeddings/word_embeddings", (64, 16))
        step = v1.train.get_or_create_global_step()
        v1.train.Saver().restore(session, tf.train.latest_checkpoint(str(tmp_path)))
        np.testing.assert_array_equal(session.run(word), model.params["embeddings"]["word_embeddings"])
        assert session.run(step) == 1000
    assert (tmp_path / "vocab.txt").read_text().splitlines() == made.vocabulary()


@pytest.mark.parametrize("make", [made.model, made.masked_language_model, made.discriminator_alone])
def test_what_we_wrote_is_read_back_with_its_number_of_heads(tmp_path, make):
    model = make()
    notes = google_checkpoint.write(model, str(tmp_path))
    assert any("'num_attention_heads': 4" in note for note in notes)
    read = google_checkpoint.read(google_checkpoint.find(str(tmp_path)))
    assert read.networks == model.networks
    assert flatten(read.params).keys() == flatten(model.params).keys()
    jax.tree.map(np.testing.assert_array_equal, read.params, dict(model.params))
    assert (read.origin, read.sources) == (model.origin, model.sources)


def test_what_googles_code_cannot_compute_is_refused(tmp_path):
    model = made.model()
    biased = dataclasses.replace(model.discriminator, attention_bias="distance_decay")
    with pytest.raises(InputError, match="attention_bias"):
        google_checkpoint.write(dataclasses.replace(model, discriminator=biased), str(tmp_path))
    coarse = dataclasses.replace(model.discriminator, layer_norm_epsilon=1e-5)
    with pytest.raises(InputError, match="epsilon of 1e-05"):
        google_checkpoint.write(dataclasses.replace(model, discriminator=coarse), str(tmp_path))
    assert os.listdir(tmp_path) == []
