"""The five pieces that ELECTRA needs in a vocabulary, whoever made it and however they are spelled there."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from electra_jax.errors import InputError

ROLES = ("pad", "unknown", "cls", "sep", "mask")
# How we spell them, in the order of ROLES, as BERT does.
SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# The first spelling found is taken: XLNet has <cls> beside <s>.
_SPELLINGS = MappingProxyType(
    {
        "pad": ("[PAD]", "<pad>"),
        "unknown": ("[UNK]", "<unk>"),
        "cls": ("[CLS]", "<cls>", "<s>"),
        "sep": ("[SEP]", "<sep>", "</s>"),
        "mask": ("[MASK]", "<mask>"),
    }
)


def find(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Ids of the roles that these pieces can play; a role that none of them plays is left out."""
    found = {}
    for role in ROLES:
        ids = [vocabulary[piece] for piece in _SPELLINGS[role] if piece in vocabulary]
        if ids:
            found[role] = ids[0]
    return found


def missing(roles: Collection[str]) -> list[str]:
    """Our spelling of the pieces whose roles are not among these."""
    return [piece for role, piece in zip(ROLES, SPECIAL_PIECES, strict=True) if role not in roles]


def missing_error(origin: str, pieces: Collection[str]) -> InputError:
    """What to say of a vocabulary that lacks these pieces; `origin` names it."""
    return InputError(
        f"{origin}: the vocabulary has no {', '.join(pieces)}; ELECTRA needs {', '.join(SPECIAL_PIECES)}, or <pad>, "
        "<unk>, <s>, </s>, <mask>. --config.data.tokenizer.add_special_pieces=True appends what is missing after the "
        "vocabulary."
    )
