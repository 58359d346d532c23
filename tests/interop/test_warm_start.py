"""What a run takes from a model: all that fits, nothing by halves, and a contradiction is an error that helps."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.interop import checkpoints
from electra_jax.interop.warm_start import finetuning_params, pretraining_params
from electra_jax.models.electra import Electra, MaskedLanguageModel
from tests.interop import made, made_finetuned, peer


def expected(module):
    """The tree of shapes that a run has."""
    row = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    return nn.unbox(jax.eval_shape(module.init, jax.random.key(0), row, row, row, row)["params"])


def electra(config=peer.TINY, generator=peer.TINY_PAIR[1]):
    return expected(Electra(config, generator))


def test_a_pair_fits_its_own_sizes_whole():
    model = made.model()
    params, report = pretraining_params(model, electra())
    assert jax.tree.structure(params) == jax.tree.structure(electra())
    jax.tree.map(np.testing.assert_array_equal, params, dict(model.params))
    assert (report.initial, report.unused) == ((), ())


def test_what_is_not_there_stays_initial():
    params, report = pretraining_params(made.discriminator_alone(), electra())
    assert params.keys() == {"embeddings", "discriminator"}
    assert set(report.initial) == {"discriminator_head", "generator", "generator_head"}
    assert "initial values: generator" in report.lines()


def test_an_encoder_serves_as_a_generator_of_the_same_sizes():
    params, report = pretraining_params(made.discriminator_alone(), electra(peer.TINY, peer.TINY))
    assert report.taken["generator"] == "discriminator"
    jax.tree.map(np.testing.assert_array_equal, params["generator"], params["discriminator"])
    assert "taken: generator from discriminator" in report.lines()


def test_a_masked_language_model_begins_from_one_and_from_an_encoder():
    module = expected(MaskedLanguageModel(peer.TINY))
    params, report = pretraining_params(made.masked_language_model(), module)
    assert jax.tree.structure(params) == jax.tree.structure(module)
    assert dict(report.taken) == {"embeddings": "embeddings", "encoder": "generator", "head": "generator_head"}
    params, report = pretraining_params(made.discriminator_alone(), module)
    assert (report.taken["encoder"], report.initial) == ("discriminator", ("head",))


def test_a_masked_language_model_of_a_pair_takes_the_network_that_fits():
    pair = made.model()
    half = expected(MaskedLanguageModel(peer.TINY_PAIR[1]))
    assert pretraining_params(pair, half)[1].taken["encoder"] == "generator"
    # At full width it is the discriminator, and the generator's head is another network's.
    _, report = pretraining_params(pair, expected(MaskedLanguageModel(peer.TINY)))
    assert (report.taken["encoder"], report.initial) == ("discriminator", ("head",))
    with pytest.raises(InputError, match=r"encoder/layers/.*expected \[3, "):
        pretraining_params(pair, expected(MaskedLanguageModel(dataclasses.replace(peer.TINY, layers=3))))


def test_a_full_size_mlm_becomes_the_discriminator_with_a_new_generator():
    params, report = pretraining_params(made.masked_language_model(), electra())
    assert report.taken == {"discriminator": "generator", "embeddings": "embeddings"}
    assert set(report.initial) == {"generator", "generator_head", "discriminator_head"}
    assert report.unused == ("generator_head",)
    assert params.keys() == {"discriminator", "embeddings"}


def test_parts_that_a_run_has_no_place_for_are_said():
    model = made.masked_language_model()
    target = {name: part for name, part in electra(peer.TINY, peer.TINY).items() if not name.startswith("generator")}
    _, report = pretraining_params(model, target)
    assert report.taken["discriminator"] == "generator"
    assert report.unused == ("generator_head",)


def test_contradictions_are_listed_with_the_fields_that_mend_them():
    other = dataclasses.replace(peer.TINY, vocabulary_size=70, layers=3)
    with pytest.raises(InputError) as raised:
        pretraining_params(made.model(), electra(other, other.scaled(1 / 4)))
    message = str(raised.value)
    assert "embeddings/word_embeddings: found [64, 16], expected [70, 16]" in message
    assert "discriminator/layers/output/bias: found [2, 32], expected [3, 32]" in message
    assert "generator_head/bias: found [64], expected [70]" in message
    mending = message.splitlines()[-1]
    assert mending == (
        "Set --config.data.tokenizer.vocabulary_size=64 --config.model.layers=2 --config.model.generator_width=0.5 "
        "--config.model.generator_depth=1"
    )


def test_every_size_of_the_config_is_mended():
    other = dataclasses.replace(
        peer.TINY, embedding_size=20, hidden_size=40, heads=5, feed_forward_size=60, positions=25
    )
    with pytest.raises(InputError) as raised:
        pretraining_params(made.discriminator_alone(), electra(other, other))
    for field, value in (
        ("embedding_size", 16), ("hidden_size", 32), ("heads", 4), ("feed_forward_size", 48), ("positions", 24),
    ):  # fmt: skip
        assert f"--config.model.{field}={value}" in str(raised.value)


@pytest.mark.parametrize(
    ("make", "network", "unused"),
    [
        (made.model, "discriminator", ["generator", "generator_head", "discriminator_head"]),
        (made.masked_language_model, "generator", ["generator_head"]),
        (
            lambda: made.discriminator_alone(task_head=made.task_head()),
            "discriminator",
            ["head of ElectraForSequenceClass"],
        ),
    ],
    ids=["pair", "masked language model", "fine-tuned elsewhere"],
)
def test_fine_tuning_takes_the_main_encoder_and_says_what_it_leaves(make, network, unused):
    model = make()
    params, sizes, lines = finetuning_params(model)
    assert params.keys() == {"embeddings", "encoder"}
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], model.params[network])
    jax.tree.map(np.testing.assert_array_equal, params["embeddings"], model.params["embeddings"])
    assert sizes == peer.TINY
    assert lines[:2] == ["taken: embeddings", f"taken: encoder from {network}"]
    assert len(lines) == 2 + len(unused)
    for part in unused:
        assert any(line.startswith(f"not used: {part}") for line in lines[2:])


def test_a_run_of_several_tasks_gives_its_encoder_to_the_next_one(tmp_path):
    job = made_finetuned.job(made_finetuned.task("mnli", "classification"), made_finetuned.task("squad", "answering"))
    params = made_finetuned.params_of(job)
    made_finetuned.write_run(tmp_path / "run", job, params, steps=(10,))
    taken, sizes, lines = finetuning_params(checkpoints.open_model(str(tmp_path / "run")))
    assert sizes == job.encoder
    jax.tree.map(np.testing.assert_array_equal, taken, {part: params[part] for part in ("embeddings", "encoder")})
    assert {"not used: head of task mnli", "not used: head of task squad"} <= set(lines)
    assert "note: the run is unfinished: read its newest checkpoint" in lines


def test_fine_tuning_takes_float32_and_hears_what_was_skipped():
    model = made.discriminator_alone(skipped=(("pooler", "ELECTRA has no pooler"),))
    narrow = jax.tree.map(lambda leaf: leaf.astype(np.float16), dict(model.params))
    params, _, lines = finetuning_params(dataclasses.replace(model, params=narrow))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert "not used: pooler (ELECTRA has no pooler)" in lines
