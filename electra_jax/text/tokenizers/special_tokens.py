"""The five special tokens that ELECTRA needs in a vocabulary, in any of their spellings."""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from electra_jax.errors import InputError

ROLES = ("pad", "unknown", "cls", "sep", "mask")
# How we spell them, in the order of ROLES, as BERT does.
SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# The first spelling found is used: XLNet has <cls> in addition to <s>.
_SPELLINGS = MappingProxyType(
    {
        "pad": ("[PAD]", "<pad>"),
        "unknown": ("[UNK]", "<unk>"),
        "cls": ("[CLS]", "<cls>", "<s>"),
        "sep": ("[SEP]", "<sep>", "</s>"),
        "mask": ("[MASK]", "<mask>"),
    }
)
_SPARE = re.compile(r"\[spare row [0-9]+\]", re.ASCII)
# Every spelling of every role.
KNOWN = frozenset(piece for spellings in _SPELLINGS.values() for piece in spellings)


def spare(row: int) -> str:
    """The name of a row of a word table that no piece of the tokenizer has; no text gives it."""
    return f"[spare row {row}]"


def is_spare(piece: str) -> bool:
    """Whether a piece is the name of a spare row."""
    return _SPARE.fullmatch(piece) is not None


def find(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Returns the ids of the special tokens that a vocabulary has, by role."""
    found = {}
    for role in ROLES:
        ids = [vocabulary[piece] for piece in _SPELLINGS[role] if piece in vocabulary]
        if ids:
            found[role] = ids[0]
    return found


def missing(roles: Collection[str]) -> list[str]:
    """Returns our spelling of the special tokens whose roles are not among these."""
    return [piece for role, piece in zip(ROLES, SPECIAL_PIECES, strict=True) if role not in roles]


def missing_error(origin: str, pieces: Collection[str]) -> InputError:
    """Returns the error for a vocabulary, named `origin`, that lacks these special tokens."""
    return InputError(
        f"{origin}: the vocabulary has no {', '.join(pieces)}; ELECTRA needs {', '.join(SPECIAL_PIECES)}, or <pad>, "
        "<unk>, <s>, </s>, <mask>. --config.data.tokenizer.add_special_pieces=True appends what is missing after the "
        "vocabulary."
    )
