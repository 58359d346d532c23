"""Models of transformers with tokenizers of all kinds: in, 20 steps, and out again.

    python -m benchmarks.continued_training --sentences=FOLDER

FOLDER as in `benchmarks.tokenizer_ids`, whose tokenizers are used. Each is saved with an ELECTRA of random weights,
whose word table is padded to a multiple of 64. It is converted without training, where logits have to be equal, and
trained for 20 steps and exported; the ids of the sentences, the table's size and the special tokens have to stay.
Prints a Markdown table; exit code 1 if something changed.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from benchmarks import tokenizer_ids

_WHICH = (
    "BERT with added tokens", "BERT, Chinese characters off", "unigram with added tokens", "byte-level BPE",
    "byte-fallback BPE",
)  # fmt: skip
_MULTIPLE = 64
_COMMON = dict(embedding_size=48, num_hidden_layers=2, max_position_embeddings=64)
_TOLERANCE = 1e-5
_SPECIAL = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


def _run(*arguments: str) -> str:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def pair(rows: int) -> tuple[Any, Any]:
    """A discriminator and a generator of transformers with random weights, over one word table of so many rows."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = _COMMON | dict(vocab_size=rows)
    discriminator = transformers.ElectraForPreTraining(
        transformers.ElectraConfig(hidden_size=96, num_attention_heads=6, intermediate_size=192, **sizes)
    )
    generator = transformers.ElectraForMaskedLM(
        transformers.ElectraConfig(hidden_size=48, num_attention_heads=3, intermediate_size=96, **sizes)
    )
    generator.electra.embeddings.load_state_dict(discriminator.electra.embeddings.state_dict())
    generator.tie_weights()
    return discriminator, generator


def save(name: str, trained: Any, path: pathlib.Path) -> int:
    """Writes a pair of networks with the tokenizer; returns the rows of the word table."""
    import transformers

    folder = tokenizer_ids.FOLDERS[name]
    for network in ("discriminator", "generator"):
        tokenizer_ids.save(folder, trained, path / network)
    pieces = len(transformers.AutoTokenizer.from_pretrained(path / "discriminator"))
    rows = (pieces // _MULTIPLE + 1) * _MULTIPLE
    discriminator, generator = pair(rows)
    discriminator.save_pretrained(path / "discriminator")
    generator.save_pretrained(path / "generator")
    return rows


def compare(before: pathlib.Path, after: pathlib.Path, lines: Sequence[str]) -> dict[str, Any]:
    """What two folders have in common: lines with other ids, rows, special tokens, the logits' largest difference."""
    import torch
    import transformers

    tokenizers = [transformers.AutoTokenizer.from_pretrained(path) for path in (before, after)]
    models = [
        transformers.ElectraForPreTraining.from_pretrained(path) for path in (before, after)
    ]  # In evaluation mode.
    ids = [tokenizer(list(lines), truncation=True, max_length=64).input_ids for tokenizer in tokenizers]
    rows = torch.tensor([row for row in ids[0] if len(row) >= 16][:1])
    with torch.no_grad():
        one, other = (model(rows).logits for model in models)
    return {
        "ids": sum(a != b for a, b in zip(*ids, strict=True)),
        "rows": [model.config.vocab_size for model in models],
        "special": [[(getattr(t, role), getattr(t, f"{role}_id")) for role in _SPECIAL] for t in tokenizers],
        "logits": float((one - other).abs().max()),
    }


def main(_: list[str]) -> None:
    """Prints the table."""
    folder = pathlib.Path(flags.FLAGS.sentences)
    texts = [path.read_text("utf-8").rstrip("\n").split("\n") for path in sorted(folder.glob("*.txt"))]
    sample = [line for lines in texts for line in lines[::2]]
    lines = [line for lines in texts for line in lines[1::20]]
    lines += [f"x{piece} {piece}y" for piece in tokenizer_ids.ADDED]
    kinds = {tokenizer_ids.FOLDERS[name].trained for name in _WHICH}
    trained = {kind: tokenizer_ids.TRAINED[kind](sample) for kind in kinds}
    print("| model | rows | other ids of | special tokens | logits, not trained | logits, 20 steps |")
    print("|---|---|---|---|---|---|")
    wrong = False
    for name in _WHICH:
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch)
            rows = save(name, trained[tokenizer_ids.FOLDERS[name].trained], path / "theirs")
            _run("electra_jax.convert", f"--source={path}/theirs", f"--target={path}/copy", "--to=huggingface")
            said = _run(
                "electra_jax.main", "--config=configs/small.py:quicktest", f"--workdir={path}/run",
                f"--config.init_from={path}/theirs", f"--config.data.directory={path}/data",
            )  # fmt: skip
            _run("electra_jax.convert", f"--source={path}/run", f"--target={path}/back", "--to=huggingface")
            copied, back = (
                compare(path / "theirs/discriminator", path / f"{after}/discriminator", lines)
                for after in ("copy", "back")
            )
            same = all(one == other for one, other in (copied["special"], back["special"]))
            kept = copied["rows"] == back["rows"] == [rows, rows]
            others = copied["ids"] + back["ids"]
            print(
                f"| {name} | {rows}{'' if kept else ' changed'} | {others} of {2 * len(lines):,} | "
                f"{'same' if same else 'changed'} | {copied['logits']:.0e} | {back['logits']:.0e} |",
                flush=True,
            )
            for text in said.splitlines():
                if "tokenizer" in text or "learned other ids" in text:
                    print(f"  {text}", file=sys.stderr)
            wrong |= bool(others) or not (same and kept and copied["logits"] < _TOLERANCE and back["logits"] > 0)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    app.run(main)
