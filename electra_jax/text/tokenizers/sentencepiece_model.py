"""Kind and pieces of a SentencePiece .model, a protocol buffer that is read here field by field.

The message classes inside the sentencepiece package need a newer protobuf than TensorFlow allows. Field numbers:
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

import dataclasses
from collections.abc import Collection, Iterator

# ModelProto.SentencePiece.Type
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
_NORMAL = 1
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
# Rules that come with SentencePiece; none has a blank on its left side.
_KNOWN_RULES = ("identity", "nfkc", "nfkc_cf", "nmt_nfkc", "nmt_nfkc_cf")
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_LENGTH_DELIMITED = 2

# Field number → value: a number, or the bytes of a text or a message.
Message = dict[int, int | bytes]


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A .model, apart from its scores.

    Attributes:
      kind: "unigram", "bpe", "word" or "char".
      pieces: every piece with its type (`CONTROL`, `USER_DEFINED`, …), in the order of ids.
      splits_at_blanks: whether no piece or rule crosses a blank, so that words can be encoded one by one.
    """

    kind: str
    pieces: tuple[tuple[str, int], ...]
    splits_at_blanks: bool


def read(content: bytes) -> ModelFile:
    """Reads the bytes of a .model that the sentencepiece library has accepted.

    Raises:
      ValueError: a field has another type, or ends early.
    """
    pieces = []
    trainer: Message = {}
    normalizer: Message = {}
    for number, value, _ in fields(content):
        if number == _PIECES:
            piece = message(value)
            pieces.append((_text(piece, 1), _integer(piece, 3, _NORMAL)))
        elif number == _TRAINER:
            trainer = message(value)
        elif number == _NORMALIZER:
            normalizer = message(value)
    splits_at_blanks = (
        _text(normalizer, 1) in _KNOWN_RULES
        # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces.
        and all(normalizer.get(field, 1) for field in (3, 4, 5))
        # Pieces write a blank as "▁"; user-defined symbols may hold it as it is.
        and not any("▁" in piece[1:] or " " in piece for piece, _ in pieces)
    )
    return ModelFile(_KINDS.get(_integer(trainer, 3, 1), "unknown"), tuple(pieces), splits_at_blanks)


def with_control_pieces(content: bytes, ids: Collection[int]) -> bytes:
    """Returns the .model with the pieces of these ids typed `CONTROL`, so that text never yields them."""
    changed = []
    piece_id = 0
    for number, value, field in fields(content):
        if number == _PIECES:
            if piece_id in ids:
                piece = b"".join(inner for name, _, inner in fields(_bytes(value)) if name != 3) + bytes(
                    [3 << 3, CONTROL]
                )
                field = bytes([_PIECES << 3 | _LENGTH_DELIMITED]) + _varint(len(piece)) + piece
            piece_id += 1
        changed.append(field)
    return b"".join(changed)


def message(value: int | bytes) -> Message:
    """Decodes the value of a field that holds a message; of a repeated field the last value counts."""
    return {number: inner for number, inner, _ in fields(_bytes(value))}


def fields(message: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Yields number, value and encoded bytes of each field of a message."""
    position = 0
    value: int | bytes
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        match tag & 7:
            case 0:
                value, position = _read_varint(message, position)
            case 1:
                value, position = message[position : position + 8], position + 8
            case 5:
                value, position = message[position : position + 4], position + 4
            case _:
                length, position = _read_varint(message, position)
                value, position = message[position : position + length], position + length
        yield tag >> 3, value, message[start:position]


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"found the number {value}, expected a length-delimited field")
    return value


def _text(fields_of: Message, number: int) -> str:
    return _bytes(fields_of.get(number, b"")).decode()


def _integer(fields_of: Message, number: int, default: int) -> int:
    value = fields_of.get(number, default)
    if isinstance(value, bytes):
        raise ValueError(f"found {len(value)} bytes in field {number}, expected a number")
    return value


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    # Ten bytes hold 64 bits.
    for byte in message[position : position + 10]:
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise ValueError(f"the number before byte {position} does not end")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
