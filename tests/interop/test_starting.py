"""A run that starts from a model takes its sizes and its tokenizer, and says so."""

import dataclasses
import importlib
import json

import pytest

from electra_jax.errors import InputError
from electra_jax.interop import exported
from electra_jax.interop.starting import fit, repeat
from electra_jax.pretraining.job import encoder_config
from tests.interop import made, peer


@pytest.fixture
def config(tmp_path):
    """ELECTRA-Small, to start from a folder that has a vocabulary."""
    found = importlib.import_module("electra_jax.configs.small").get_config()
    found.init_from = str(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(made.vocabulary()))
    return found


def test_the_config_takes_the_models_sizes_and_says_which_changed(config, tmp_path):
    changes = fit(config, made.model())
    encoder = encoder_config(config, "cpu")
    for name in (
        "layers",
        "hidden_size",
        "heads",
        "feed_forward_size",
        "embedding_size",
        "positions",
        "vocabulary_size",
    ):
        assert getattr(encoder, name) == getattr(peer.TINY, name)
    generator = encoder.scaled(config.model.generator_width, config.model.generator_depth)
    assert generator.hidden_size == peer.TINY_PAIR[1].hidden_size
    assert config.data.tokenizer.source == str(tmp_path / "vocab.txt")
    assert "config.model.hidden_size: 32 (was 256)" in changes
    assert "config.model.generator_width: 0.5 (was 0.25)" in changes
    assert f"config.data.tokenizer.source: {tmp_path}/vocab.txt (was train)" in changes
    assert len([change for change in changes if "attention_bias" in change]) == 0
    assert fit(config, made.model()) == []


def test_a_generator_as_wide_as_the_discriminator_needs_no_flag(config):
    pair = (peer.TINY, peer.TINY)
    fit(config, made.model(pair))
    assert config.model.generator_width == 1.0


def test_a_resumed_run_repeats_what_was_taken_and_nothing_else(config, tmp_path):
    fit(config, made.model())
    recorded = json.loads(config.to_json_best_effort())
    again = importlib.import_module("electra_jax.configs.small").get_config()
    again.init_from = config.init_from
    again.model.dropout_rate = 0.3
    (tmp_path / "vocab.txt").unlink()
    repeat(again, recorded)
    assert again.model.dropout_rate == 0.3
    again.model.dropout_rate = config.model.dropout_rate
    assert json.loads(again.to_json_best_effort()) == recorded


def test_without_a_generator_the_configs_fraction_stays(config):
    fit(config, made.discriminator_alone())
    assert config.model.generator_width == 0.25


def test_a_tokenizer_that_was_named_stays(config):
    config.data.tokenizer.source = "elsewhere/vocab.txt"
    fit(config, made.model())
    assert config.data.tokenizer.source == "elsewhere/vocab.txt"


def test_a_tokenizer_is_found_beside_a_model_whose_heads_are_stated(config, tmp_path):
    config.init_from = f"{tmp_path}/model.ckpt-1000#heads=4"
    fit(config, made.model())
    assert config.data.tokenizer.source == str(tmp_path / "vocab.txt")


def test_a_model_without_tokenizer_asks_for_one(config, tmp_path):
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"has no tokenizer beside it .*--config.data.tokenizer.source=PATH"):
        fit(config, made.model())


def test_a_generator_of_other_proportions_is_refused(config):
    model = made.model()
    odd = dataclasses.replace(model, generator=dataclasses.replace(model.generator, feed_forward_size=40))
    with pytest.raises(InputError, match=r"the generator of .* has feed_forward_size 40; .* would have 24"):
        fit(config, odd)


def test_another_epsilon_is_refused(config):
    model = made.model()
    sizes = dataclasses.replace(model.discriminator, layer_norm_epsilon=1e-5)
    with pytest.raises(InputError, match=r"layer_norm_epsilon 1e-05, and pre-training knows only 1e-12"):
        fit(config, dataclasses.replace(model, discriminator=sizes))


def test_an_exported_folder_knows_its_tokenizer(config, tmp_path):
    exported.write(made.model(), str(tmp_path / "exported"))
    config.init_from = str(tmp_path / "exported")
    fit(config, made.model())
    assert config.data.tokenizer.source == str(tmp_path / "exported" / "tokenizer" / "tokenizer.json")
