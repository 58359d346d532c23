"""Tokenizer files next to weights in external formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from electra_jax import storage
from electra_jax.config.schema import AUTO
from electra_jax.errors import InputError
from electra_jax.interop import sentencepiece_export
from electra_jax.text.tokenizers.casing import observed

if TYPE_CHECKING:
    from electra_jax.text.tokenizers.tokenizer import Tokenizer

VOCABULARY = "vocab.txt"
# Files that define a tokenizer completely, best first.
_WHOLE = ("tokenizer.json", "spiece.model")
_SAVED_SPECIAL = "special_pieces.json"
# Long words, whose rules differ, and texts that spell special tokens.
_MIXED = ("##ing [MASK] <mask>", "a" * 150 + " " + "the" * 80)


def load_saved(directory: str) -> Tokenizer | None:
    """The tokenizer that `Tokenizer.save` wrote, or None if there is no such directory.

    Raises:
      InputError: it is damaged.
    """
    from electra_jax.text.tokenizers import tokenizer

    return tokenizer.load(directory) if storage.is_directory(directory) else None


def load_beside(directory: str, casing: Mapping[str, bool] | None = None) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The tokenizer among the files of an external model, or None; and the assumptions made.

    Args:
      directory: directory of the model's files.
      casing: result of `casing.observed` for a vocab.txt, if known.

    Raises:
      InputError: the tokenizer is damaged, has no special tokens, or states a rule that cannot be followed.
    """
    from electra_jax.text.tokenizers import self_check, tokenizer

    present = storage.names(directory)
    if _SAVED_SPECIAL in present:
        # Written only by `Tokenizer.save`: tokenizer.json was made from the SentencePiece model next to it.
        loaded = tokenizer.load(directory)
        return loaded, self_check.contradictions(directory, loaded)
    if any(name in present for name in _WHOLE):
        loaded = tokenizer.load(directory)
        return loaded, self_check.contradictions(directory, loaded)
    if VOCABULARY not in present:
        return None, ()
    if casing:
        return tokenizer.load(storage.join(directory, VOCABULARY), **casing), ()
    made, note = tokenizer.load_with_casing(directory, lowercase=AUTO, strip_accents=AUTO)
    return made, (note,) if note else ()


def same_ids(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether two tokenizers have the same pieces and special tokens, and split texts in many scripts equally."""
    from electra_jax.text.tokenizers import self_check

    texts = [*self_check.sentences(), *_MIXED]
    every = range(one.vocabulary_size)
    parts = ("vocabulary_size", "pad_id", "unknown_id", "cls_id", "sep_id", "mask_id")
    return (
        all(getattr(one, part) == getattr(other, part) for part in parts)
        and one.pieces(every) == other.pieces(every)
        and self_check.ids_of(one, texts) == self_check.ids_of(other, texts)
    )


def write_vocabulary(tokenizer: Tokenizer, directory: str) -> tuple[str, ...]:
    """Writes vocab.txt for Google's code; returns notes for the user.

    Raises:
      OSError: the file cannot be written.
    """
    if tokenizer.kind != "wordpiece":
        return (f"{VOCABULARY}: not written, as Google's code reads only WordPiece, found {tokenizer.kind}",)
    path = storage.join(directory, VOCABULARY)
    content = "".join(f"{piece}\n" for piece in tokenizer.pieces(range(tokenizer.vocabulary_size)))
    storage.write(path, content.encode())
    if not _is_read_back(tokenizer, path):
        storage.remove(path)
        return (f"{VOCABULARY}: not written, as Google's rules split text differently from this tokenizer",)
    if not observed(tokenizer.normalize)["lowercase"]:
        return (f"{VOCABULARY}: the tokenizer is cased; run Google's code with do_lower_case=false",)
    return ()


def _is_read_back(tokenizer: Tokenizer, path: str) -> bool:
    from electra_jax.text.tokenizers import tokenizer as tokenizers

    try:
        return same_ids(tokenizer, tokenizers.load(path, **observed(tokenizer.normalize)))
    except InputError:
        return False


def write_huggingface(tokenizer: Tokenizer, directory: str, positions: int) -> tuple[str, ...]:
    """Writes the tokenizer's files for transformers; returns notes for the user.

    Args:
      tokenizer: a tokenizer of any kind.
      directory: folder of the network.
      positions: maximum length of a row in tokens.

    Raises:
      OSError: a file cannot be written.
    """
    from electra_jax.text.tokenizers import self_check

    tokenizer.save(directory)
    path = storage.join(directory, "tokenizer.json")
    if not storage.exists(path):
        backend = sentencepiece_export.to_library(storage.read(storage.join(directory, _WHOLE[1])), tokenizer)
        difference = None
        if backend is not None:
            texts = self_check.sentences()
            given = self_check.ids_of(tokenizer, texts)
            written = [backend.encode(text, add_special_tokens=False).ids for text in texts]
            names = (f"by {_WHOLE[1]}", f"by the best {_WHOLE[0]} for it")
            difference = self_check.first_difference(texts, given, written, names)
        if backend is None or difference:
            reason = f": {difference}" if difference else ""
            return (
                f"tokenizer: transformers has no equivalent{reason}; wrote only spiece.model, and AutoTokenizer will "
                "fail",
            )
        storage.write(path, backend.to_str().encode())
    _add_special_tokens(path, tokenizer)
    roles = ("pad", "unk", "cls", "sep", "mask")
    ids = (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    special = {f"{role}_token": piece for role, piece in zip(roles, tokenizer.pieces(ids), strict=True)}
    fields = {
        # Uses tokenizer.json unchanged; BertTokenizer would rebuild the rules and lose some.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "model_max_length": positions,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    storage.write_json(storage.join(directory, "tokenizer_config.json"), fields)
    storage.write_json(storage.join(directory, "special_tokens_map.json"), special)
    return ()


def _add_special_tokens(path: str, tokenizer: Tokenizer) -> None:
    """Makes a tokenizer.json add [CLS] and [SEP] to a text, unless it already does."""
    import tokenizers

    backend = tokenizers.Tokenizer.from_str(storage.read(path).decode())
    ids = backend.encode("a").ids
    if ids[:1] == [tokenizer.cls_id] and ids[-1:] == [tokenizer.sep_id]:
        return
    cls, sep = tokenizer.pieces([tokenizer.cls_id, tokenizer.sep_id])
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)],
    )
    storage.write(path, backend.to_str().encode())
