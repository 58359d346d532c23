"""`electra_jax.convert`, run as a user runs it."""

import functools

import pytest

from electra_jax.interop import native_format
from electra_jax.interop.checkpoints import open_model
from tests.interop import made, made_finetuned, peer
from tests.interop.made_run import pair_of, quicktest, write_run
from tests.running import main

convert = functools.partial(main, program=("-m", "electra_jax.convert"))


@pytest.fixture
def source(tmp_path):
    native_format.write(made.model(), str(tmp_path / "source"))
    return tmp_path / "source"


@pytest.mark.release
@pytest.mark.slow
def test_a_round_trip_of_formats_on_another_number_of_devices(tmp_path):
    write_run(tmp_path / "run", quicktest(), peer.random_params(pair_of(quicktest())))
    four = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    printed = convert(f"--source={tmp_path}/run", f"--target={tmp_path}/hf", "--to=huggingface", **four)
    assert "read       electra_jax run run, step 20" in printed
    assert "exported   generator: " in printed
    assert "weights equal bit for bit" in printed
    printed = convert(f"--source={tmp_path}/hf", f"--target={tmp_path}/google", "--to=google")
    assert "model_hparam_overrides={'num_attention_heads': 6" in printed
    printed = convert(f"--source={tmp_path}/google", f"--target={tmp_path}/home", "--to=electra_jax")
    assert open_model(f"{tmp_path}/home").step == 20
    assert open_model(f"{tmp_path}/home").origin == "electra_jax run run"


def test_missing_parts_are_reported(tmp_path):
    native_format.write(made.discriminator_alone(tokenizer=None), str(tmp_path / "source"))
    printed = convert(f"--source={tmp_path}/source", f"--target={tmp_path}/out", "--to=huggingface")
    assert "missing    tokenizer" in printed
    assert "missing    generator: training that needs it starts from initial values" in printed
    assert "missing    discriminator_head" in printed


def test_tensorflow_is_imported_for_google_s_format_alone(tmp_path, source):
    program = ("-m", "tests.programs.convert_and_list_imports")
    arguments = [f"--source={source}", f"--target={tmp_path}/out"]
    assert "imported: []" in convert(*arguments, "--to=huggingface", program=program)
    arguments = [f"--source={tmp_path}/out", f"--target={tmp_path}/google"]
    assert "imported: ['tensorflow']" in convert(*arguments, "--to=google", program=program)


def test_mistakes_end_with_64_and_one_message(tmp_path, source):
    assert "Three flags are needed" in convert(f"--source={source}", check=64)
    wrong = convert(f"--source={source}", f"--target={tmp_path}/x", "--to=onxx", check=64)
    assert "huggingface|google|electra_jax|onnx|stablehlo" in wrong
    precise = convert(f"--source={source}", f"--target={tmp_path}/x", "--to=huggingface", "--precision=int8", check=64)
    assert "--precision=int8: found int8, expected fp32 for --to=huggingface" in precise
    there = convert(f"--source={source}", f"--target={source}", "--to=google", check=64)
    assert f"--target={source}: exists" in there
    early = convert(f"--source={tmp_path}/none", f"--target={source}", "--to=google", check=64)
    assert f"--target={source}: exists" in early
    nothing = convert(f"--source={tmp_path}/none", f"--target={tmp_path}/x", "--to=google", check=64)
    assert "found nothing; expected a workdir" in nothing
    assert not (tmp_path / "x").exists()


def test_a_damaged_checkpoint_ends_with_77(tmp_path):
    write_run(tmp_path / "run", quicktest(), peer.random_params(pair_of(quicktest())), steps=(10,))
    for path in (tmp_path / "run" / "checkpoints" / "10" / "state").rglob("d/*"):
        path.write_bytes(b"")
    printed = convert(f"--source={tmp_path}/run", f"--target={tmp_path}/x", "--to=huggingface", check=77)
    # Threads of Orbax may also complain that their event loop is closed.
    assert f"{tmp_path}/run/checkpoints/10: is damaged" in printed


@pytest.mark.slow
def test_a_fine_tuned_run_is_exported_with_the_named_head(tmp_path):
    job = made_finetuned.job(made_finetuned.task("rte", "classification"), made_finetuned.task("chunk", "tagging"))
    made_finetuned.write_run(tmp_path / "run", job, made_finetuned.params_of(job), steps=(10,), reported=10)
    flags = (f"--source={tmp_path}/run", f"--target={tmp_path}/hf", "--to=huggingface")
    assert "--head: the run was trained on several tasks; choose one of rte, chunk" in convert(*flags, check=64)
    printed = convert(*flags, "--head=rte")
    assert "read       electra_jax run run, fine-tuned from exported/small, step 10" in printed
    assert "exported   head of ElectraForSequenceClassification: 3 labels" in printed
    assert "to truncate texts at 24 tokens, as the run did" in printed
    assert "missing  " not in printed
    assert open_model(f"{tmp_path}/hf").task_head.architecture == "ElectraForSequenceClassification"
