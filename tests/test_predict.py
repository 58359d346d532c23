"""The command electra_jax.predict: what it reads and writes, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from electra_jax.interop import export
from tests.interop import made
from tests.running import ENVIRONMENT, ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An ELECTRA pair with random weights, and a cache of compiled programs."""
    directory = tmp_path_factory.mktemp("predict")
    export.write(made.model(), str(directory / "model"), "electra_jax")
    return directory


def command(folder, *flags):
    cache = folder / "compiled"
    program = [sys.executable, "-m", "electra_jax.predict", f"--model={folder / 'model'}", f"--compile_cache={cache}"]
    return [*program, *map(str, flags)]


def predict(folder, *flags, given=b"", check=0):
    """The lines of the output as objects, and what was said on standard error."""
    environment = os.environ | ENVIRONMENT
    finished = subprocess.run(
        command(folder, *flags), cwd=ROOT, env=environment, input=given, capture_output=True, check=False
    )
    assert finished.returncode == check, finished.stderr.decode()
    return [json.loads(line) for line in finished.stdout.splitlines()], finished.stderr.decode()


BAD_LINES = [
    b"ab cd", b"", b"abc " * 25_000, b"bad \xff line", b"\x07\x08", "👍🏽 é".encode(), "שלום עולם".encode(), b"[MASK]", b"gh",
]  # fmt: skip


def test_each_line_gets_an_object_whatever_is_wrong(folder):
    found, said = predict(folder, "--task=detect", given=b"\n".join(BAD_LINES) + b"\n")
    assert [one["id"] for one in found] == list(range(len(BAD_LINES)))
    assert [one["id"] for one in found if "error" in one] == [1, 3, 4]
    assert found[2]["windows"] > 100
    assert len(found[2]["tokens"]) == 75_000
    assert said.splitlines()[-1] == '3 inputs could not be used: see "error" in the output'


@pytest.mark.slow
def test_strict_ends_at_the_first_bad_input(folder):
    found, said = predict(folder, "--task=detect", "--strict", given=b"ab\n\ncd\n", check=64)
    assert [one["id"] for one in found] == [0]
    assert "input 1: is empty, expected a text (--strict)" in said


@pytest.mark.slow
def test_mistakes_end_with_64_and_the_fix(folder, tmp_path):
    assert "choose one of detect, fill, embed, score" in predict(folder, given=b"ab\n", check=64)[1]
    assert "cannot tag" in predict(folder, "--task=tag", given=b"ab\n", check=64)[1]
    (tmp_path / "out.jsonl").write_text("mine")
    _, said = predict(folder, "--task=detect", f"--output={tmp_path / 'out.jsonl'}", check=64)
    assert "exists; give another path, or replace it with --overwrite" in said
    _, said = predict(
        folder,
        "--task=detect",
        *[f"--{name}={tmp_path / 'out.jsonl'}" for name in ("input", "output")],
        "--overwrite",
        check=64,
    )
    assert "is the input, expected another file" in said
    assert (tmp_path / "out.jsonl").read_text() == "mine"


@pytest.mark.slow
def test_a_file_is_answered_in_order_with_ids(folder, tmp_path):
    rows = [{"id": f"row {n}", "text": "ab cd [MASK] " * (1 + n % 7)} for n in range(300)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = (f"--input={tmp_path / 'in.jsonl'}", f"--output={tmp_path / 'out.jsonl'}", "--top_k=2")
    _, said = predict(folder, "--task=fill", *flags)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["id"] for one in found] == [row["id"] for row in rows]
    assert [len(one["masks"]) for one in found] == [1 + n % 7 for n in range(300)]
    assert "300 inputs, " in said
    assert predict(folder, "--task=embed", *flags, "--overwrite")[0] == []
    assert "embedding" in (tmp_path / "out.jsonl").read_text()


@pytest.mark.slow
def test_a_closed_pipe_ends_it_quietly(folder):
    words = " ".join(command(folder, "--task=detect"))
    shell = f"set -o pipefail; yes 'ab cd ef' | head -n 20000 | {words} | head -n 2; echo ${{PIPESTATUS[2]}}"
    finished = subprocess.run(
        ["bash", "-c", shell], cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, check=False
    )
    assert finished.stderr == b""
    assert len(finished.stdout.splitlines()) == 3
    assert finished.stdout.splitlines()[-1] == b"0"


@pytest.mark.slow
def test_an_interrupt_leaves_whole_lines(folder, tmp_path):
    output = tmp_path / "out.jsonl"
    program = command(folder, "--task=detect", f"--output={output}")
    with subprocess.Popen(
        program, cwd=ROOT, env=os.environ | ENVIRONMENT, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 120
        # Only after the first answers: earlier, the interrupt may come while a library starts.
        while not (output.exists() and output.stat().st_size):
            process.stdin.write(b"ab cd ef\n" * 10)
            process.stdin.flush()
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            said = process.communicate(timeout=60)[1].decode()
        finally:
            process.kill()
    assert process.returncode == 130
    assert "their lines are whole" in said
    content = output.read_text()
    assert content.endswith("\n")
    assert [json.loads(line)["id"] for line in content.splitlines()] == list(range(content.count("\n")))


@pytest.mark.slow
def test_answers_come_while_a_pipe_stays_open(folder):
    program = command(folder, "--task=detect")
    with subprocess.Popen(
        program, cwd=ROOT, env=os.environ | ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        for number in range(2):
            process.stdin.write(b"ab cd\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdin.close()
        assert process.stdout.read() == b""
