"""A run that starts from a model takes its sizes and its tokenizer, and says so."""

import dataclasses
import json

import pytest

from electra_jax.config import schema
from electra_jax.errors import InputError
from electra_jax.interop import native_format
from electra_jax.interop.warm_start import fit, repeat
from electra_jax.pretraining.jobs import encoder_config
from tests.configs import preset, typed
from tests.interop import made, peer


@pytest.fixture
def config(tmp_path):
    """ELECTRA-Small, to start from a folder that has a vocabulary."""
    (tmp_path / "vocab.txt").write_text("\n".join(made.vocabulary()))
    return dataclasses.replace(typed(preset("small")), init_from=str(tmp_path))


def with_tokenizer(config, source):
    tokenizer = dataclasses.replace(config.data.tokenizer, source=source)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=tokenizer))


def test_the_config_takes_the_models_sizes_and_says_which_changed(config, tmp_path):
    config, changes = fit(config, made.model())
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
    assert fit(config, made.model()) == (config, [])


def test_a_generator_as_wide_as_the_discriminator_needs_no_flag(config):
    pair = (peer.TINY, peer.TINY)
    fitted, _ = fit(config, made.model(pair))
    assert fitted.model.generator_width == 1.0


def test_a_resumed_run_repeats_what_was_taken_and_nothing_else(config, tmp_path):
    fitted, _ = fit(config, made.model())
    recorded = json.loads(json.dumps(schema.as_tree(fitted)))
    (tmp_path / "vocab.txt").unlink()
    assert repeat(config, recorded) == fitted
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, dropout_rate=0.3))
    expected = dataclasses.replace(fitted, model=dataclasses.replace(fitted.model, dropout_rate=0.3))
    assert repeat(other, recorded) == expected


def test_without_a_generator_the_configs_fraction_stays(config):
    fitted, _ = fit(config, made.discriminator_alone())
    assert fitted.model.generator_width == 0.25


def test_a_tokenizer_that_was_named_stays(config):
    fitted, _ = fit(with_tokenizer(config, "elsewhere/vocab.txt"), made.model())
    assert fitted.data.tokenizer.source == "elsewhere/vocab.txt"


def test_a_tokenizer_is_found_beside_a_model_whose_heads_are_stated(config, tmp_path):
    config = dataclasses.replace(config, init_from=f"{tmp_path}/model.ckpt-1000#heads=4")
    fitted, _ = fit(config, made.model())
    assert fitted.data.tokenizer.source == str(tmp_path / "vocab.txt")


def test_a_model_without_tokenizer_asks_for_one(config, tmp_path):
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"found no tokenizer next to .*--config.data.tokenizer.source=PATH"):
        fit(config, made.model())


def test_a_generator_of_other_proportions_is_refused(config):
    model = made.model()
    odd = dataclasses.replace(model, generator=dataclasses.replace(model.generator, feed_forward_size=40))
    with pytest.raises(InputError, match=r"the generator of .* has feed_forward_size 40, expected 24"):
        fit(config, odd)


def test_another_epsilon_is_refused(config):
    model = made.model()
    sizes = dataclasses.replace(model.discriminator, layer_norm_epsilon=1e-5)
    with pytest.raises(InputError, match=r"layer_norm_epsilon 1e-05, expected 1e-12"):
        fit(config, dataclasses.replace(model, discriminator=sizes))


def test_an_exported_folder_knows_its_tokenizer(config, tmp_path):
    native_format.write(made.model(), str(tmp_path / "exported"))
    config = dataclasses.replace(config, init_from=str(tmp_path / "exported"))
    fitted, _ = fit(config, made.model())
    assert fitted.data.tokenizer.source == str(tmp_path / "exported" / "tokenizer" / "tokenizer.json")


def test_a_folder_whose_files_change_the_tokenizer_is_named_itself(config, tmp_path):
    stated = {"tokenizer_class": "ElectraTokenizer", "do_lower_case": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated | {"tokenize_chinese_chars": False}))
    assert fit(config, made.model())[0].data.tokenizer.source == str(tmp_path)
