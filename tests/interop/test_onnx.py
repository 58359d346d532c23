"""ONNX exports: onnxruntime says what we say, for both networks and every head, whatever the size of a batch."""

import dataclasses
import json
import os

import numpy as np
import pytest

from electra_jax.errors import InputError, MismatchError
from electra_jax.interop import export, huggingface, onnx_network, program_folder
from electra_jax.interop.model import outputs
from electra_jax.models.encoder import EncoderConfig
from tests.interop import made, peer
from tests.interop.made_finetuned import HEADS, with_head

pytestmark = pytest.mark.interop

ALL = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def onnx_graph():
    """The module, which needs the package onnx."""
    from electra_jax.interop import onnx_graph

    return onnx_graph


def test_both_networks_are_exported_in_all_precisions(tmp_path):
    written = export.write(made.model(), str(tmp_path / "pair"), "onnx", ALL)
    assert list(written.difference) == [
        f"{network} {precision}" for network in ("generator", "discriminator") for precision in ALL
    ]
    assert all(written.difference[f"{network} fp32"] < 1e-5 for network in ("generator", "discriminator"))
    assert 0 < written.difference["discriminator fp16"] < 0.05
    assert 0 < written.difference["discriminator int8"] < 0.5
    for network in ("generator", "discriminator"):
        assert {str(path.relative_to(tmp_path / "pair" / network)) for path in (tmp_path / "pair" / network).rglob("*.*")} == {
            "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "README.md",
            "onnx/model.onnx", "onnx/model_fp16.onnx", "onnx/model_quantized.onnx",
        }  # fmt: skip


@pytest.mark.parametrize(("rows", "length"), [(1, 7), (5, 7), (1, 128), (5, 128)])
def test_a_file_takes_batches_of_any_size(tmp_path_factory, rows, length, onnx_graph):
    config = dataclasses.replace(peer.TINY, positions=128)
    model = made.model((config, config.scaled(1 / 2)))
    draw = np.random.default_rng(length)
    tokens = draw.integers(5, 64, (rows, length), dtype=np.int32)
    mask = (np.arange(length) < draw.integers(3, length + 1, (rows, 1))).astype(np.int32)
    segments = mask * draw.integers(0, 2, (rows, length), dtype=np.int32)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    for network, ours in outputs(model, tokens, segments, mask).items():
        path.write_bytes(onnx_graph.build(model, network, "fp32"))
        compute = onnx_network.OnnxNetwork(str(path), threads=1)
        assert compute.inputs == ("input_ids", "attention_mask", "token_type_ids")
        (theirs,) = compute({"input_ids": tokens, "attention_mask": mask, "token_type_ids": segments}).values()
        np.testing.assert_allclose(theirs[mask == 1], ours[mask == 1], atol=1e-4)


@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_every_head_is_exported_with_its_labels(tmp_path, kind, head):
    model = with_head(kind, head)
    written = export.write(model, str(tmp_path / "head"), "onnx", ALL)
    assert written.difference["discriminator fp32"] < 1e-5
    fields = json.loads((tmp_path / "head" / "config.json").read_text())
    assert fields["architectures"] == [model.task_head.architecture]
    assert {name: fields[name] for name in model.task_head.fields} == dict(model.task_head.fields)
    network = onnx_network.OnnxNetwork(onnx_network.find(str(tmp_path / "head")), threads=1)
    expected = ("logits",)
    if kind == "answering":
        expected = ("start_logits", "end_logits")
        if head == "paper":
            expected = (
                "start_logits",
                "end_logits",
                "impossible_logits",
                "start_scores",
                "start_ids",
                "end_scores",
                "end_ids",
            )
            expected = tuple(name for name in expected if name != "end_logits")
            assert network.inputs[-1] == "allowed"
    assert sorted(network.outputs) == sorted(expected)


def test_the_joint_head_finds_the_beams_of_our_own_head(tmp_path, onnx_graph):
    model = with_head("answering", "paper")
    (program,) = program_folder.programs(model, str(tmp_path))
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_graph.build(program.model, "discriminator", "fp32"))
    rows = {name: np.ones((2, 24), np.int32) for name in ("attention_mask", "token_type_ids", "allowed")}
    rows = {"input_ids": np.random.default_rng(0).integers(5, 64, (2, 24), dtype=np.int32), **rows}
    ours = program_folder.function_of(program)(program_folder.weights(program.model, "discriminator"), *rows.values())
    theirs = onnx_network.OnnxNetwork(str(path), threads=1)(rows)
    np.testing.assert_array_equal(theirs["start_ids"], ours["start_ids"])
    np.testing.assert_array_equal(theirs["end_ids"], ours["end_ids"])


def test_hybrid_and_biased_models_are_exported_too(tmp_path):
    config = dataclasses.replace(peer.TINY, attention_bias="distance_decay")
    model = made.model((config, config.scaled(1 / 2)))
    draw = np.random.default_rng(1)
    corrective = {
        "dense": {"kernel": draw.standard_normal((32, 16), np.float32), "bias": draw.standard_normal(16, np.float32)},
        "layer_norm": {"scale": np.ones(16, np.float32), "bias": np.zeros(16, np.float32)},
        "bias": draw.standard_normal(64, np.float32),
    }
    model = dataclasses.replace(model, params={**model.params, "corrective_head": corrective})
    written = export.write(model, str(tmp_path / "copy"), "onnx")
    assert list(written.difference) == ["discriminator_mlm fp32", "generator fp32", "discriminator fp32"]
    assert max(written.difference.values()) < 1e-4


def test_int8_takes_a_third_of_the_space(tmp_path, onnx_graph):
    small = EncoderConfig(2000, 128, 256, 2, 4, 1024, 128)
    model = made.model((small, small.scaled(1 / 4)), tokenizer=None)
    sizes = {precision: len(onnx_graph.build(model, "discriminator", precision)) for precision in ALL}
    assert sizes["fp32"] / sizes["int8"] >= 3
    assert 1.95 < sizes["fp32"] / sizes["fp16"] < 2.05


def test_quantised_rows_have_scales_of_their_own(onnx_graph):
    weights = np.array([[1.2, -2, 0.5], [100, 40, -25], [0, 0, 0]], np.float32)
    bytes_, scales = onnx_graph.quantised(weights, axis=1)
    assert bytes_.dtype == np.int8
    assert bytes_.tolist() == [[38, -63, 16], [63, 25, -16], [0, 0, 0]]
    np.testing.assert_allclose(scales, [2 / 63, 100 / 63, 1 / 63], rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 20])
def test_the_papers_head_is_one_layer_again(classes):
    draw = np.random.default_rng(classes)
    kernel, bias = draw.standard_normal((32, classes), np.float32), draw.standard_normal(classes, np.float32)
    tensors = huggingface.classification_head_state(kernel, bias)
    found = huggingface.one_layer_of_head(tensors)
    np.testing.assert_array_equal(found[0], kernel)
    np.testing.assert_array_equal(found[1], bias)
    assert huggingface.one_layer_of_head(made.task_head().tensors) is None


def test_a_wrong_graph_is_found_and_leaves_nothing(tmp_path, monkeypatch, onnx_graph):
    other = made.model(seed=1)
    build = onnx_graph.build
    monkeypatch.setattr(onnx_graph, "build", lambda model, network, precision: build(other, network, precision))
    with pytest.raises(MismatchError, match=r"model\.onnx: found a difference of .* expected at most 0\.0001"):
        export.write(made.model(), str(tmp_path / "copy"), "onnx")
    assert os.listdir(tmp_path) == []


def test_optimizers_patterns_are_found_by_onnxruntime(tmp_path, onnx_graph):
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    for precision, fused in (("fp32", {"BiasGelu", "SkipLayerNormalization"}), ("int8", {"MatMulIntegerToFloat"})):
        content = onnx_graph.build(made.model(), "discriminator", precision)
        onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        assert fused <= {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}


def test_files_and_rows_that_cannot_be_computed_are_named(tmp_path, onnx_graph):
    path = tmp_path / "onnx" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"no protobuf")
    assert onnx_network.find(str(tmp_path)) == str(path)
    assert onnx_network.find(str(tmp_path), "int8") is None
    with pytest.raises(InputError, match=r"model\.onnx: onnxruntime cannot load it"):
        onnx_network.OnnxNetwork(str(path))
    with pytest.raises(InputError, match=r"none\.onnx: cannot be read"):
        onnx_network.OnnxNetwork(str(tmp_path / "none.onnx"))
    path.write_bytes(onnx_graph.build(made.model(), "discriminator", "fp32"))
    network = onnx_network.OnnxNetwork(str(path), threads=1)
    with pytest.raises(InputError, match="missing: attention_mask"):
        network({"input_ids": np.ones((1, 4), np.int32)})
    long = np.ones((1, peer.TINY.positions + 1), np.int32)
    with pytest.raises(InputError, match=r"failed on rows of shape \[1, 25\]"):
        network({"input_ids": long, "attention_mask": long})


def test_a_network_that_one_file_cannot_hold_is_refused(monkeypatch, onnx_graph):
    monkeypatch.setattr(onnx_graph, "_MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"expected at most 1,000, ONNX's limit"):
        onnx_graph.build(made.model(), "discriminator", "fp32")


def test_onnx_folders_say_that_they_hold_no_weights(tmp_path):
    from electra_jax.interop import onnx_folder

    onnx_folder.write(with_head("classification", "paper"), str(tmp_path), ("int8",))
    from electra_jax.interop import checkpoints

    with pytest.raises(InputError, match="onnx is a program for onnxruntime"):
        checkpoints.open_model(str(tmp_path))
