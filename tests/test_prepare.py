"""`python -m electra_jax.prepare`, run as a user runs it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SHAKESPEARE = ROOT / "tests" / "data" / "shakespeare.txt"


def prepare(*flags):
    return subprocess.run(
        [sys.executable, "-m", "electra_jax.prepare", *flags],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


@pytest.fixture
def flags(tmp_path):
    """Flags for a small dataset."""
    return [
        "--config=configs/base.py",
        f'--config.data.sources=("{SHAKESPEARE}",)',
        f"--config.data.directory={tmp_path / 'dataset'}",
        "--config.data.tokenizer.vocabulary_size=600",
        "--config.data.heldout_fraction=0.2",
    ]


def test_text_becomes_a_dataset_and_another_config_exits_with_77(flags, tmp_path):
    outcome = prepare(*flags)
    assert outcome.returncode == 0, outcome.stderr
    assert "rows to train on" in outcome.stdout
    assert (tmp_path / "dataset" / "manifest.json").exists()
    outcome = prepare(*flags, "--config.data.sequence_length=64")
    assert outcome.returncode == 77
    assert "config.data.sequence_length: 512 there, 64 here" in outcome.stderr


def test_missing_text_exits_with_64_and_one_clear_message(tmp_path):
    outcome = prepare(
        "--config=configs/base.py",
        '--config.data.sources=("nothing/*.txt",)',
        f"--config.data.directory={tmp_path / 'dataset'}",
    )
    assert outcome.returncode == 64
    assert outcome.stderr.strip().startswith("config.data.sources: no file matches nothing/*.txt")
    assert "Traceback" not in outcome.stderr


def test_all_problems_of_the_data_are_reported_at_once():
    outcome = prepare(
        "--config=configs/base.py", "--config.data.heldout_fraction=1.5", "--config.data.directory=nonsense://data"
    )
    assert outcome.returncode == 64
    assert "config.data.sources: no text is named" in outcome.stderr
    assert "config.data.heldout_fraction: found 1.5" in outcome.stderr
    assert "config.data.directory: nonsense://data" in outcome.stderr
    assert not (ROOT / "nonsense:").exists()


def test_flags_without_effect_are_refused(tmp_path):
    flags = ["--config=configs/base.py", f"--config.data.directory={tmp_path}"]
    assert "needs --runner=" in prepare(*flags, "--beam_options=--project=x").stderr
    assert "counts local processes" in prepare(*flags, "--runner=DirectRunner", "--workers=2").stderr


def test_a_damaged_shard_is_found_and_named(flags, tmp_path):
    outcome = prepare(*flags, "--verify")
    assert outcome.returncode == 0, outcome.stderr
    assert "every shard matches its checksum" in outcome.stdout
    shard = tmp_path / "dataset" / "train-00000.bin"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    outcome = prepare(*flags, "--verify")
    assert outcome.returncode == 64
    assert "train-00000.bin" in outcome.stderr
    outcome = prepare(*flags, "--overwrite", "--verify")
    assert outcome.returncode == 0, outcome.stderr


def test_a_request_to_stop_ends_with_75_and_the_same_command_goes_on(flags, tmp_path):
    command = [sys.executable, "-m", "electra_jax.prepare", *flags]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (tmp_path / "dataset" / "work" / "lock").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        messages = process.communicate(timeout=60)[1]
    assert process.returncode == 75, messages
    assert "SIGTERM: stopped while preparing the text" in messages
    assert not (tmp_path / "dataset" / "work" / "lock").exists()
    assert prepare(*flags).returncode == 0
