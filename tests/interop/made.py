"""Models and tokenizers for the tests: small, whole, and random."""

import dataclasses
import json
import pathlib
import string

import numpy as np

from electra_jax.interop import export_formats
from electra_jax.interop.model import Model, TaskHead
from electra_jax.text.tokenizers import wordpiece
from electra_jax.text.tokenizers.tokenizer import SPECIAL_PIECES
from tests.interop import peer

# Formats that are read back; others are programs.
WEIGHT_FORMATS = [name for name, form in export_formats.FORMATS.items() if not form.is_program]
LETTERS = string.ascii_lowercase


def vocabulary(size=64, letters=LETTERS):
    """Pieces that spell any word in these letters, and fill up to a size."""
    pieces = [*SPECIAL_PIECES, *letters, *(f"##{letter}" for letter in letters), *".,!?"]
    return [*pieces, *(f"w{n}" for n in range(size - len(pieces)))]


def tokenizer(size=64, **casing):
    """A WordPiece tokenizer of so many pieces."""
    options = {"lowercase": True, "strip_accents": True, "add_special_pieces": False} | casing
    return wordpiece.from_vocabulary("\n".join(vocabulary(size)), "made", **options)


def model(pair=peer.TINY_PAIR, seed=0, **changes):
    """An ELECTRA pair with weights of effect everywhere."""
    params = {name: {**part} for name, part in peer.random_params(pair, seed).items()}
    made = Model(
        discriminator=pair[0],
        generator=pair[1],
        params=params,
        tokenizer=tokenizer(pair[0].vocabulary_size),
        step=1000,
        origin="made for a test",
        sources=("corpus/*.txt",),
    )
    return dataclasses.replace(made, **changes)


def discriminator_alone(**changes):
    """What is left of a pair for fine-tuning: no generator, no heads."""
    whole = model()
    params = {part: whole.params[part] for part in ("embeddings", "discriminator")}
    return dataclasses.replace(whole, generator=None, params=params, **changes)


def masked_language_model():
    """A generator at full size, alone."""
    whole = model((peer.TINY, peer.TINY))
    params = {part: whole.params[part] for part in ("embeddings", "generator", "generator_head")}
    return dataclasses.replace(whole, discriminator=None, params=params)


def task_head(classes=3):
    """What a fine-tuned classifier of transformers carries."""
    draw = np.random.default_rng(5)
    width = peer.TINY.hidden_size
    shapes = {"dense.weight": (width, width), "dense.bias": (width,), "out_proj.weight": (classes, width)}
    tensors = {f"classifier.{name}": draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    tensors["classifier.out_proj.bias"] = draw.standard_normal(classes, np.float32)
    labels = {str(n): f"label {n}" for n in range(classes)}
    fields = {"id2label": labels, "label2id": {label: int(n) for n, label in labels.items()}}
    return TaskHead("ElectraForSequenceClassification", tensors, fields)


def rename(folder, **fields):
    """Changes fields of a folder's config.json; None takes one out."""
    path = pathlib.Path(folder) / "config.json"
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
