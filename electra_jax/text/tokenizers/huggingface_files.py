"""The tokenizer of a Hugging Face folder: its vocabulary, and what the other files say of it.

For BERT's and ELECTRA's tokenizers, transformers takes the vocabulary alone from vocab.txt or tokenizer.json, and all
rules from tokenizer_config.json; a rule that is not stated there has its default (`BertTokenizer` of transformers 5, as
`BertTokenizerFast` of 4). Any other tokenizer.json is used as it is. Added pieces come from every file that names some.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pydantic

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError
from electra_jax.foreign_json import Count, Record
from electra_jax.text.tokenizers import foreign_tokenizers, library_tokenizer, special_tokens, wordpiece
from electra_jax.text.tokenizers.library_tokenizer import LibraryTokenizer
from electra_jax.text.tokenizers.wordpiece import Rules

CONFIG = "tokenizer_config.json"
_ADDED, _SPECIAL, _WHOLE, _VOCABULARY = "added_tokens.json", "special_tokens_map.json", "tokenizer.json", "vocab.txt"
_MODEL = "config.json"  # Of the network.
_FIX = "copy the folder again"
# Classes, without "Fast", that are BERT's WordPiece.
_WORDPIECE = frozenset(
    {"BertTokenizer", "ConvBertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"}
)
_GENERAL = ("PreTrainedTokenizerFast", "TokenizersBackend")  # They take any tokenizer.json as it is.
_MODEL_TYPES = ("bert", "electra")  # Of config.json, where the class is not named.
_LONGEST_WORD = 100  # In transformers a longer word is unknown; Google's limit is 200.
_CONVERT = (
    "write a tokenizer.json with the library that the model was made with, or choose a model whose tokenizer does not "
    "need it"
)


class _Piece(Record):
    """A piece of `added_tokens_decoder`."""

    content: str
    special: bool = False
    normalized: bool = True
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False


class _Config(Record):
    """The part of tokenizer_config.json that decides about ids."""

    tokenizer_class: str | None = None
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool | None = None
    do_basic_tokenize: bool | None = None
    never_split: list[str] | None = None
    word_tokenizer_type: str | None = None
    subword_tokenizer_type: str | None = None
    added_tokens_decoder: dict[str, _Piece] = pydantic.Field(default_factory=dict)
    additional_special_tokens: list[str | _Piece] | None = None
    extra_special_tokens: list[str | _Piece] | dict[str, str | _Piece] | None = None  # Since transformers 5.


class _SpecialTokens(Record):
    """The part of special_tokens_map.json that decides about ids."""

    additional_special_tokens: list[str | _Piece] | None = None


class _Model(Record):
    """The type of a tokenizer.json's model, and its pieces if they have ids."""

    type: str | None = None
    vocab: dict[str, Count] | list[Any] = pydantic.Field(default_factory=dict)


class _Header(Record):
    """Which model a config.json describes."""

    model_type: str | None = None


def states_casing(directory: str) -> bool:
    """Whether the files of a folder say if text is lower-cased."""
    return _WHOLE in storage.names(directory) or _config(directory).do_lower_case is not None


def load(
    directory: str, *, lowercase: bool, strip_accents: bool, add_special_pieces: bool = False
) -> LibraryTokenizer | None:
    """The tokenizer of a folder, or None if no other file says how its tokenizer.json or vocab.txt is read.

    That is tokenizer_config.json or, for a tokenizer.json, the model's config.json, from which transformers finds the
    class; a class's defaults replace rules of tokenizer.json.

    Args:
      directory: folder, local or remote.
      lowercase, strip_accents: for a vocab.txt, where tokenizer_config.json does not state `do_lower_case`.
      add_special_pieces: appends the special tokens that are missing.

    Raises:
      InputError: a file is damaged, or states a rule that cannot be followed.
    """
    names = storage.names(directory)
    stating = {CONFIG, _MODEL} if _WHOLE in names else {CONFIG}
    if not stating & set(names) or not {_WHOLE, _VOCABULARY} & set(names):
        return None
    config, place = _config(directory), storage.join(directory, CONFIG)
    is_wordpiece = _is_wordpiece(directory, config, _WHOLE in names)
    whole = foreign_json.read(storage.join(directory, _WHOLE), _FIX) if _WHOLE in names else None
    if whole is None:
        _refuse_what_python_does(config, is_wordpiece, place)
    model = None
    if whole is not None:
        value = whole.get("model") if isinstance(whole, dict) else None
        model = foreign_json.checked(_Model, value, f"{storage.join(directory, _WHOLE)}: model", _FIX)
    if model is not None and not (is_wordpiece and model.type == "WordPiece" and isinstance(model.vocab, dict)):
        origin, described = storage.join(directory, _WHOLE), whole
    else:
        if model is None:
            origin = storage.join(directory, _VOCABULARY)
            vocabulary = wordpiece.read_vocabulary(_text(origin))
        else:
            assert isinstance(model.vocab, dict)
            origin, vocabulary = storage.join(directory, _WHOLE), dict(model.vocab)
        if add_special_pieces:
            wordpiece.append_special_pieces(vocabulary)
        rules = _rules(config, model is not None, lowercase, strip_accents)
        if model is None and config.do_lower_case is None:
            wordpiece.check_casing(vocabulary, origin, rules)
        described = {**wordpiece.described(vocabulary, rules, origin)}
        described["added_tokens"] = [*described["added_tokens"], *((whole or {}).get("added_tokens") or [])]
    added = [*_numbered(config), *_named(directory, config, names)]
    return library_tokenizer.from_json(
        json.dumps(_with_added(described, added, origin)), origin, add_special_pieces=add_special_pieces
    )


def from_whole(text: str, origin: str, *, add_special_pieces: bool = False) -> LibraryTokenizer:
    """The tokenizer of a tokenizer.json that another program wrote, with nothing next to it.

    Raises:
      InputError: as in `library_tokenizer.from_json`.
    """
    with contextlib.suppress(ValueError):  # `from_json` says what is wrong.
        text = json.dumps(_with_added(foreign_json.parse(text), [], origin))
    return library_tokenizer.from_json(text, origin, add_special_pieces=add_special_pieces)


def _config(directory: str) -> _Config:
    path = storage.join(directory, CONFIG)
    return foreign_json.read_as(_Config, path, _FIX) if storage.exists(path) else _Config()


def _is_wordpiece(directory: str, config: _Config, is_whole: bool) -> bool:
    """Whether transformers builds BERT's tokenizer from the vocabulary."""
    if config.tokenizer_class is not None and (is_whole or config.tokenizer_class not in _GENERAL):
        return config.tokenizer_class.removesuffix("Fast") in _WORDPIECE
    path = storage.join(directory, _MODEL)
    return storage.exists(path) and foreign_json.read_as(_Header, path, _FIX).model_type in _MODEL_TYPES


def _refuse_what_python_does(config: _Config, is_wordpiece: bool, place: str) -> None:
    """Raises InputError for a vocab.txt whose tokenizer is more than BERT's rules."""
    stated: dict[str, tuple[Any, Any]] = {
        "word_tokenizer_type": (config.word_tokenizer_type, "basic"),
        "subword_tokenizer_type": (config.subword_tokenizer_type, "wordpiece"),
        "do_basic_tokenize": (config.do_basic_tokenize, True),
        "never_split": (config.never_split or None, None),
    }
    for name, (found, expected) in stated.items():
        if found not in (None, expected):
            wanted = "none" if expected is None else json.dumps(expected)
            raise InputError(
                f"{place}: {name}: found {json.dumps(found, ensure_ascii=False)}, expected {wanted}: text would be "
                f"split by a program that is not here; {_CONVERT}"
            )
    if not is_wordpiece and config.tokenizer_class not in (None, *_GENERAL):
        raise InputError(
            f"{place}: tokenizer_class: found {config.tokenizer_class}, expected for a vocab.txt one of "
            f"{', '.join(sorted(_WORDPIECE))}; {_CONVERT}"
        )


def _rules(config: _Config, is_whole: bool, lowercase: bool, strip_accents: bool) -> Rules:
    """BERT's rules as transformers finds them."""
    if config.do_lower_case is not None:
        lowercase = strip_accents = config.do_lower_case
    elif is_whole:
        lowercase = strip_accents = True  # The class's default, whatever tokenizer.json says.
    if config.strip_accents is not None:
        strip_accents = config.strip_accents
    elif not lowercase:
        strip_accents = False
    return Rules(lowercase, strip_accents, config.tokenize_chinese_chars is not False, _LONGEST_WORD)


def _numbered(config: _Config) -> Iterator[dict[str, Any]]:
    for number, piece in config.added_tokens_decoder.items():
        if number.isascii() and number.isdigit():
            yield {"id": int(number), **piece.model_dump()}


def _named(directory: str, config: _Config, names: list[str]) -> Iterator[dict[str, Any]]:
    """Pieces of the other files: those of added_tokens.json have ids, additional special ones get the next."""
    if _ADDED in names:
        path = storage.join(directory, _ADDED)
        ids = foreign_json.read_as(dict[str, Count], path, _FIX)
        for content, number in sorted(ids.items(), key=lambda item: item[1]):
            yield {"id": number, **_Piece(content=content).model_dump()}
    extra = config.extra_special_tokens or []
    pieces = [*(config.additional_special_tokens or []), *(extra.values() if isinstance(extra, dict) else extra)]
    if _SPECIAL in names:
        path = storage.join(directory, _SPECIAL)
        pieces += foreign_json.read_as(_SpecialTokens, path, _FIX).additional_special_tokens or []
    for piece in pieces:
        content = piece if isinstance(piece, str) else piece.content
        yield _Piece(content=content, special=True, normalized=False).model_dump()


def _with_added(described: Any, added: list[dict[str, Any]], origin: str) -> Any:
    """A tokenizer.json's value with added pieces, each found in a text as one piece.

    Those that `special_tokens` knows, and spare rows, stay special, which a text cannot spell. Others are marked as
    ordinary ones, since a text is meant to have them.

    Raises:
      InputError: a piece has another id in another file.
    """
    if not isinstance(described, dict):
        return described  # `library_tokenizer.from_json` says what is wrong.
    model = described.get("model") or {}
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # Of unigram: pieces with scores, in the order of their ids.
        pieces = (entry[0] if isinstance(entry, list) and entry else None for entry in vocabulary)
        ids = {piece: number for number, piece in enumerate(pieces) if isinstance(piece, str)}
    else:
        ids = dict(vocabulary) if isinstance(vocabulary, dict) else {}
    listed: dict[str, dict[str, Any]] = {}
    first = [dict(piece) for piece in described.get("added_tokens") or [] if isinstance(piece, dict)]
    for piece in [*first, *added]:
        content = piece.get("content")
        if not isinstance(content, str) or content in listed:
            continue
        known = ids.get(content)
        number = piece.get("id", known)
        if number is None:
            number = max(ids.values(), default=-1) + 1
        if known is not None and number != known:
            raise InputError(f"{origin}: {content!r} has the id {known} there and {number} in a file beside it; {_FIX}")
        ids[content] = number
        listed[content] = {
            **{"single_word": False, "lstrip": False, "rstrip": False, "normalized": True},
            **piece,
            "id": number,
            "special": bool(piece.get("special"))
            and (content in special_tokens.KNOWN or special_tokens.is_spare(content)),
        }
    return {**described, "added_tokens": sorted(listed.values(), key=lambda piece: piece["id"])}


def _text(path: str) -> str:
    try:
        content = storage.read(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {_FIX}") from error
    if reason := foreign_tokenizers.problem(content, path):
        raise InputError(f"{path}: {reason}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8, which a vocab.txt must be") from error
