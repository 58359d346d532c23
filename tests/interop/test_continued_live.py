"""A model of transformers, trained on here, and given back."""

import numpy as np
import pytest

from electra_jax.text.tokenizers import self_check
from tests.interop import made
from tests.running import main

pytestmark = pytest.mark.interop

ROWS = 208  # Of the word table, padded to a multiple of 8: 200 pieces and an added one.


def saved_pair(folder):
    """An ELECTRA of transformers with random weights, generator and discriminator over one set of embeddings."""
    import transformers

    from benchmarks import continued_training

    vocabulary = made.vocabulary(200)
    discriminator, generator = continued_training.pair(ROWS)
    (folder / "vocab.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = transformers.BertTokenizer(
        str(folder / "vocab.txt"), do_lower_case=True, additional_special_tokens=["[E1]"]
    )
    for name, model in (("generator", generator), ("discriminator", discriminator)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return discriminator


def test_a_pair_of_transformers_trains_on_for_twenty_steps_and_goes_back(tmp_path):
    import torch
    import transformers

    before = saved_pair(tmp_path / "theirs")
    sentences = [*self_check.sentences(), "a[E1]b [E1]"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs" / "discriminator")
    expected = tokenizer(sentences).input_ids
    assert any(len(tokenizer) - 1 in ids for ids in expected)
    printed = main(
        "--config=configs/small.py:quicktest",
        f"--workdir={tmp_path}/run",
        f"--config.init_from={tmp_path}/theirs",
        f"--config.data.directory={tmp_path}/data",
        f"--config.compile_cache={tmp_path}/compiled",
    )
    for said in (
        "config.data.tokenizer.vocabulary_size: 208 (was 512)",
        "config.model.generator_width: 0.5 (was 0.25)",
        "taken: generator_head",
        "taken: discriminator_head",
    ):
        assert said in printed
    assert "initial values" not in printed
    # Run again, the run is complete, and needs the model no more.
    (tmp_path / "theirs").rename(tmp_path / "gone")
    again = main(
        "--config=configs/small.py:quicktest",
        f"--workdir={tmp_path}/run",
        f"--config.init_from={tmp_path}/theirs",
        f"--config.data.directory={tmp_path}/data",
        f"--config.compile_cache={tmp_path}/compiled",
    )
    assert "This run is complete" in again
    printed = main(
        f"--source={tmp_path}/run",
        f"--target={tmp_path}/back",
        "--to=huggingface",
        program=("-m", "electra_jax.convert"),
    )
    assert "step 20" in printed
    after = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "back" / "discriminator")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back" / "discriminator")
    assert tokenizer(sentences).input_ids == expected
    assert after.config.vocab_size == ROWS
    ids = tokenizer("a rose is a rose")["input_ids"]
    with torch.no_grad():
        logits = [model.eval()(torch.tensor([ids])).logits.numpy() for model in (before, after)]
    assert np.isfinite(logits[1]).all()
    # Trained on from those weights: near them, and no longer the same.
    assert 0 < np.abs(logits[1] - logits[0]).max() < 3
    kernels = [
        dict(model.named_parameters())["electra.encoder.layer.0.attention.self.query.weight"].detach().numpy()
        for model in (before, after)
    ]
    assert np.corrcoef(kernels[0].ravel(), kernels[1].ravel())[0, 1] > 0.9
