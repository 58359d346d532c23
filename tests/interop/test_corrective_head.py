"""The word head of a hybrid discriminator goes where formats have a place for it, and nowhere unsaid."""

import dataclasses
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.interop import export, huggingface_folder
from electra_jax.interop.checkpoints import open_model
from electra_jax.interop.model import outputs, shape_problems
from electra_jax.interop.tensor_map import flatten
from electra_jax.interop.warm_start import finetuning_params, pretraining_params
from electra_jax.models.electra import Electra
from tests.interop import made, peer


@functools.cache
def hybrid():
    """An ELECTRA pair whose discriminator has a word head, with weights of effect everywhere."""
    row = jnp.zeros((1, 8), jnp.int32)
    shapes = jax.eval_shape(Electra(*peer.TINY_PAIR, corrective=True).init, jax.random.key(0), *[row] * 4)
    draw = np.random.default_rng(7)
    head = jax.tree.map(
        lambda leaf: draw.normal(scale=0.2, size=leaf.shape).astype(np.float32),
        nn.unbox(shapes)["params"]["corrective_head"],
    )
    pair = made.model()
    return dataclasses.replace(pair, params={**pair.params, "corrective_head": head})


@pytest.mark.parametrize("form", ["electra_jax", "huggingface"])
def test_the_head_goes_through_without_a_changed_bit(tmp_path, form):
    model = hybrid()
    assert shape_problems(model) == []
    written = export.write(model, str(tmp_path / "copy"), form)
    assert written.difference == {"generator": 0, "discriminator": 0, "corrective_head": 0}
    read = open_model(str(tmp_path / "copy"))
    jax.tree.map(np.testing.assert_array_equal, read.params, dict(model.params))


def test_huggingface_has_a_third_folder_a_masked_language_model(tmp_path):
    export.write(hybrid(), str(tmp_path / "copy"), "huggingface")
    folder = tmp_path / "copy" / "discriminator_mlm"
    fields = json.loads((folder / "config.json").read_text())
    assert fields["architectures"] == ["ElectraForMaskedLM"]
    assert fields["hidden_size"] == peer.TINY.hidden_size
    assert {path.name for path in (tmp_path / "copy" / "discriminator").iterdir()} == {
        path.name for path in folder.iterdir()
    }
    assert "# ELECTRA, masked language model" in (folder / "README.md").read_text()
    alone = open_model(str(folder))
    np.testing.assert_array_equal(
        alone.params["generator"]["layers"]["output"]["kernel"],
        hybrid().params["discriminator"]["layers"]["output"]["kernel"],
    )


def test_a_head_of_another_discriminator_is_refused(tmp_path):
    export.write(hybrid(), str(tmp_path / "copy"), "huggingface")
    other = made.model(seed=1)
    export.write(other, str(tmp_path / "other"), "huggingface")
    (tmp_path / "copy" / "discriminator_mlm").rename(tmp_path / "other" / "discriminator_mlm")
    with pytest.raises(InputError, match="two different copies"):
        huggingface_folder.read(str(tmp_path / "other"))


def test_google_has_no_place_for_it_and_the_copy_says_so(tmp_path):
    written = export.write(hybrid(), str(tmp_path / "copy"), "google")
    assert written.skipped == (("corrective_head", "Google's discriminator has no word head"),)
    assert "corrective_head" not in open_model(str(tmp_path / "copy")).params


def test_a_hybrid_run_takes_it_and_others_say_that_they_do_not():
    row = jax.ShapeDtypeStruct((1, 8), jnp.int32)

    def expected(corrective):
        module = Electra(*peer.TINY_PAIR, corrective=corrective)
        return nn.unbox(jax.eval_shape(module.init, jax.random.key(0), *[row] * 4)["params"])

    taken, report = pretraining_params(hybrid(), expected(corrective=True))
    assert flatten(taken).keys() == flatten(hybrid().params).keys()
    assert report.initial == ()
    _, report = pretraining_params(hybrid(), expected(corrective=False))
    assert report.unused == ("corrective_head",)
    _, report = pretraining_params(made.model(), expected(corrective=True))
    assert report.initial == ("corrective_head",)
    assert "not used: corrective_head" in finetuning_params(hybrid())[2]


@pytest.mark.interop
def test_the_third_folder_predicts_our_words_in_transformers(tmp_path):
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    huggingface_folder.write(hybrid(), str(tmp_path))
    folder = tmp_path / "discriminator_mlm"
    rows = AutoTokenizer.from_pretrained(folder)("ab cd.", "ef!", return_tensors="pt")
    theirs, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    ids, segments = (rows[name].numpy().astype(np.int32) for name in ("input_ids", "token_type_ids"))
    ours = outputs(hybrid(), ids, segments)["corrective_head"]
    with torch.inference_mode():
        np.testing.assert_allclose(theirs.eval()(**rows).logits.numpy(), ours, atol=1e-5)
