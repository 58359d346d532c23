"""Folders of Hugging Face: what is written is read, what others write is taken as far as it is ELECTRA, the rest is said."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.interop import checkpoints, huggingface, huggingface_folder, tensor_files
from electra_jax.interop.tensor_map import flatten
from tests.interop import made


@pytest.fixture
def folder(tmp_path):
    huggingface_folder.write(made.model(), str(tmp_path / "pair"))
    return tmp_path / "pair"


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def rewrite(folder, change):
    """Changes the tensors of a folder."""
    path = str(folder / "model.safetensors")
    tensors = dict(tensor_files.read(path))
    change(tensors)
    tensor_files.write(path, tensors)


def as_bert(folder, tmp_path, architecture="BertForMaskedLM"):
    """A folder of BERT made of our discriminator, with pooler and word head."""
    config = dataclasses.replace(made.peer.TINY, embedding_size=32)
    huggingface_folder.write(dataclasses.replace(made.discriminator_alone(), **wide(config)), str(tmp_path / "bert"))
    bert = tmp_path / "bert" / "discriminator"
    made.rename(bert, model_type="bert", architectures=[architecture], embedding_size=None)

    def change(tensors):
        for name in list(tensors):
            tensors[f"bert.{name}"] = tensors.pop(name)
        for name in list(tensors):
            # As converted from TensorFlow long ago.
            if "LayerNorm.weight" in name:
                tensors[name.replace("weight", "gamma")] = tensors.pop(name)
        tensors["bert.pooler.dense.weight"] = np.ones((32, 32), np.float32)
        tensors["bert.embeddings.position_ids"] = np.arange(24)[None]
        tensors["cls.predictions.bias"] = np.ones(64, np.float32)

    rewrite(bert, change)
    return bert, dataclasses.replace(made.discriminator_alone(), **wide(config))


def wide(config):
    params = made.peer.random_params((config, config))
    return {"discriminator": config, "params": {part: params[part] for part in ("embeddings", "discriminator")}}


def test_a_pair_is_written_and_read_back_whole(folder):
    model = made.model()
    read = checkpoints.open_model(str(folder))
    assert read.networks == model.networks
    jax.tree.map(np.testing.assert_array_equal, read.params, dict(model.params))
    assert (read.step, read.origin, read.sources) == (model.step, model.origin, model.sources)
    assert read.tokenizer.sha256 == model.tokenizer.sha256


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_each_folder_is_whole_by_itself(folder, network):
    assert {path.name for path in (folder / network).iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "vocab.txt", "README.md",
    }  # fmt: skip
    read = checkpoints.open_model(str(folder / network))
    assert list(read.networks) == [network]
    assert read.params.keys() == {"embeddings", network, f"{network}_head"}


def test_config_says_architecture_sizes_and_padding(folder):
    found = {network: config_of(folder / network) for network in ("generator", "discriminator")}
    assert found["generator"]["architectures"] == ["ElectraForMaskedLM"]
    assert found["discriminator"]["architectures"] == ["ElectraForPreTraining"]
    assert (found["generator"]["hidden_size"], found["discriminator"]["hidden_size"]) == (16, 32)
    assert found["discriminator"]["pad_token_id"] == 0
    assert found["discriminator"]["initializer_range"] == 0.02


def test_the_tied_table_is_written_once(folder):
    names = tensor_files.read(str(folder / "generator" / "model.safetensors"))
    assert "generator_lm_head.weight" not in names
    assert "generator_lm_head.bias" in names


def test_the_card_says_what_is_known_and_leaves_the_licence_open(folder):
    card = (folder / "discriminator" / "README.md").read_text()
    for fact in ("ElectraForPreTraining", "| steps of training | 1000 |", "`corpus/*.txt`", "Licence: not stated"):
        assert fact in card
    assert "made for a test" in card


def test_an_encoder_without_head_is_a_bare_model(tmp_path):
    huggingface_folder.write(made.discriminator_alone(), str(tmp_path))
    names = tensor_files.read(str(tmp_path / "discriminator" / "model.safetensors"))
    assert config_of(tmp_path / "discriminator")["architectures"] == ["ElectraModel"]
    assert not any(name.startswith("electra.") for name in names)
    read = checkpoints.open_model(str(tmp_path))
    assert read.params.keys() == {"embeddings", "discriminator"}


def test_the_head_of_a_task_comes_and_goes_with_its_labels(tmp_path):
    head = made.task_head()
    huggingface_folder.write(made.discriminator_alone(task_head=head), str(tmp_path))
    assert not (tmp_path / "discriminator").exists()
    fields = config_of(tmp_path)
    assert fields["architectures"] == ["ElectraForSequenceClassification"]
    assert fields["id2label"] == head.fields["id2label"]
    read = checkpoints.open_model(str(tmp_path))
    assert read.task_head.fields == head.fields
    jax.tree.map(np.testing.assert_array_equal, read.task_head.tensors, dict(head.tensors))
    assert "discriminator_head" not in read.params


def test_bert_becomes_a_discriminator_without_head_and_the_rest_is_named(folder, tmp_path):
    bert, ours = as_bert(folder, tmp_path)
    read = checkpoints.open_model(str(bert))
    assert (read.discriminator, read.generator) == (ours.discriminator, None)
    jax.tree.map(np.testing.assert_array_equal, read.params, dict(ours.params))
    assert dict(read.skipped) == {
        "bert.pooler.dense.weight": "ELECTRA has no pooler",
        "cls.predictions.bias": "a head of BERT; only the encoder is read",
    }


def test_a_tensor_that_bert_does_not_have_is_refused(folder, tmp_path):
    bert, _ = as_bert(folder, tmp_path)
    rewrite(bert, lambda tensors: tensors.update({"bert.embeddings.rotary": np.ones(2, np.float32)}))
    with pytest.raises(InputError, match=r"electra\.embeddings\.rotary"):
        checkpoints.open_model(str(bert))


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_narrow_weights_are_read_as_float32(folder, dtype):
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    rewrite(folder / "generator", lambda tensors: tensors.update({n: a.astype(kind) for n, a in tensors.items()}))
    read = checkpoints.open_model(str(folder / "generator"))
    assert {leaf.dtype for leaf in jax.tree.leaves(read.params)} == {np.dtype(np.float32)}
    table = made.model().params["embeddings"]["word_embeddings"]
    np.testing.assert_array_equal(
        flatten(read.params)["embeddings/word_embeddings"], table.astype(kind).astype(np.float32)
    )


def test_shards_are_read(folder):
    path = folder / "discriminator"
    tensors = tensor_files.read(str(path / "model.safetensors"))
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:10], names[10:])):
        file = f"model-0000{number}-of-00002.safetensors"
        tensor_files.write(str(path / file), {name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    jax.tree.map(np.testing.assert_array_equal, checkpoints.open_model(str(folder)).params, dict(made.model().params))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"architectures": ["RobertaForMaskedLM"]},
            "found architecture RobertaForMaskedLM, expected one of ElectraForMaskedLM",
        ),
        ({"architectures": None, "model_type": "roberta"}, "model_type 'roberta'"),
        ({"hidden_act": "gelu_new"}, "hidden_act: found 'gelu_new', expected 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"type_vocab_size": 1}, "type_vocab_size: found 1, expected 2"),
        ({"num_attention_heads": None}, "found no 'num_attention_heads'"),
        ({"vocab_size": 65}, r"embeddings/word_embeddings: found shape \[64, 16\], expected \[65, 16\]"),
        ({"num_attention_heads": 5}, "heads that divide hidden_size, 32; found 5"),
        ({"num_hidden_layers": 3}, r"discriminator/layers/.*expected \[3, "),
    ],
)
def test_what_is_not_built_here_is_refused(folder, fields, message):
    made.rename(folder / "discriminator", **fields)
    with pytest.raises(InputError, match=message):
        checkpoints.open_model(str(folder / "discriminator"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_a_pickle_is_refused_with_the_way_out(folder, name):
    (folder / "generator" / "model.safetensors").rename(folder / "generator" / name)
    with pytest.raises(InputError, match=rf"{name} is a pickle, which can run arbitrary code.*save_pretrained"):
        checkpoints.open_model(str(folder))


def test_weights_that_were_cut_off_are_refused(folder):
    path = folder / "generator" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is truncated"):
        checkpoints.open_model(str(folder))


def test_a_tokenizer_of_more_pieces_than_rows_is_refused(folder):
    made.tokenizer(70).save(folder / "generator")
    with pytest.raises(InputError, match="found a tokenizer of 70 pieces, expected at most 64, the rows of the word"):
        checkpoints.open_model(str(folder / "generator"))


def test_networks_that_do_not_belong_together_are_refused(folder):
    other = folder.parent / "other"
    huggingface_folder.write(made.model(seed=1), str(other))
    shutil.rmtree(folder / "generator")
    shutil.copytree(other / "generator", folder / "generator")
    with pytest.raises(InputError, match=r"embeddings/.*: found two different copies"):
        checkpoints.open_model(str(folder))
    shutil.rmtree(folder / "generator")
    shutil.copytree(folder / "discriminator", folder / "generator")
    with pytest.raises(InputError, match="found architecture ElectraForPreTraining, expected a generator"):
        checkpoints.open_model(str(folder))


def test_two_tokenizers_are_refused(folder):
    made.tokenizer(lowercase=False, strip_accents=False).save(folder / "generator")
    with pytest.raises(InputError, match="have different tokenizers"):
        checkpoints.open_model(str(folder))


def test_an_attention_bias_cannot_be_written(tmp_path):
    model = made.model()
    biased = dataclasses.replace(model.discriminator, attention_bias="distance_decay")
    with pytest.raises(InputError, match="attention_bias"):
        huggingface_folder.write(dataclasses.replace(model, discriminator=biased), str(tmp_path))


def test_a_damaged_config_is_named(folder):
    (folder / "generator" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"generator/config\.json: cannot be read"):
        checkpoints.open_model(str(folder))


def test_the_mapping_of_a_bare_encoder_needs_no_head():
    state = huggingface.discriminator_state(made.discriminator_alone().params)
    assert not any("predictions" in name for name in state)
