"""The commands of README.md work, and the quickstart's figures are the same wherever they are quoted."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from configs import quickstart
from tests.running import ENVIRONMENT, ROOT


def figures(text, *patterns):
    """The numbers that the patterns find in a text, each pattern once; line breaks count as blanks."""
    found = [re.findall(pattern, " ".join(text.split())) for pattern in patterns]
    assert [len(matches) for matches in found] == [1] * len(patterns), found
    return [float(number) for ((*numbers,),) in found for number in numbers]


def test_quoted_figures_of_the_quickstart_are_the_same_everywhere():
    docstring = figures(
        quickstart.__doc__,
        r"AUC is (0\.\d+) against its own generator and (0\.\d+) against",
        r"(\d+) % of the replaced words, and (\d+) % of what it flags",
        r"(\d+) of (128) directions",
    )
    readme_text = (ROOT / "README.md").read_text("utf-8")
    readme = figures(
        readme_text,
        r"(0\.\d+) against its own generator, (0\.\d+) against",
        r"(\d+) %, at a precision of (\d+) %",
        r"\| (\d+) of (128); plain ELECTRA",
    )
    assert docstring == readme
    steps, width = quickstart.get_config().steps, quickstart.get_config().model.hidden_size
    own, unigram, recall, precision, rank = figures(
        (ROOT / "docs" / "results.md").read_text("utf-8"),
        rf"\| {steps:,} \| [\d.]+ \| [\d.]+ \| (0\.\d+) / (0\.\d+) \| (0\.\d+) at (0\.\d+) \| [\d.]+ / (\d+) \|",
    )
    measured = [round(own, 2), round(unigram, 2), round(100 * recall), round(100 * precision), rank, width]
    assert docstring == measured
    printed = figures(readme_text, r"discriminator_auc (0\.\d+) discriminator_auc_unigram (0\.\d+)")
    assert printed == [own, unigram]


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "WORKSPACE.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_files_that_documents_name_are_there(path):
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)\b", path.read_text("utf-8")))
    assert [
        name for name in sorted(named) if not any((top / name).exists() for top in (ROOT, ROOT / "electra_jax"))
    ] == []


def test_tests_that_the_security_page_names_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text("utf-8"))
    assert len(named) > 20
    assert [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")] == []


@pytest.mark.slow
def test_the_commands_of_the_readme_work_one_after_the_other(tmp_path):
    block = re.search(r"## Use it\n```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL).group(1)
    commands = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert [shlex.split(command)[:3] for command in commands] == [
        ["./launch/local.sh", "--config=configs/small.py", "--workdir=runs/small"],
        ["python", "-m", "electra_jax.prepare"],
        ["python", "-m", "electra_jax.main"],
        ["python", "-m", "electra_jax.main"],
        ["python", "-m", "electra_jax.report"],
        ["python", "-m", "electra_jax.main"],
        ["python", "-m", "electra_jax.predict"],
        ["python", "-m", "electra_jax.convert"],
        ["python", "-m", "electra_jax.convert"],
        ["python", "-m", "electra_jax.main"],
    ]
    # The script sets the environment up and then does what the third command does.
    for command in commands[1:]:
        words = shlex.split(command)
        arguments = [
            re.sub(r"=(configs/\w+\.py)$", r"=\1:quicktest", word)
            .replace("text.py:small", "text.py:classification+small+quicktest")
            .replace("directory=reviews", "directory=tests/data/finetuning/classification")
            .replace("corpus/*.txt", "tests/data/shakes*.txt")
            .replace("=runs/", f"={tmp_path}/")
            .replace("=texts.txt", "=tests/data/scripts.txt")
            .replace("=detected.jsonl", f"={tmp_path}/detected.jsonl")
            .replace("=exported/", f"={tmp_path}/exported/")
            .replace("=data/", f"={tmp_path}/data/")
            for word in words[1:]
        ]
        if "--config" in command:
            arguments.append(f"--config.compile_cache={tmp_path}/compiled")
            if "--config.data.directory" not in command:
                arguments.append(f"--config.data.directory={tmp_path}/data/own")
        finished = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, f"{command}\n{finished.stdout}{finished.stderr}"
    assert (tmp_path / "small" / "report.html").exists()
    assert (tmp_path / "exported" / "small" / "discriminator" / "model.safetensors").exists()
    assert len(list((tmp_path / "exported" / "reviews").rglob("model.safetensors"))) == 1
    assert (tmp_path / "reviews" / "results.json").exists()
    assert (tmp_path / "continued" / "report.html").exists()
