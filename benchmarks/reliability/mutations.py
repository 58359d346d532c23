"""Damaged variants of valid files: values of other types, other sizes, flipped bytes, truncation, bombs. Seeded."""

import gzip
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import zstandard

_NUMBERS = (0, -1, 1, 7, 2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63, 2**64, 10**400, 1.5, -0.0, 1e308, 1e-320)
_ODD = (float("nan"), float("inf"), True, False, None)
_TEXTS = ("", " ", "x", "x" * 3000, "../../../etc/passwd", "/dev/zero", "\0", "\ud83d", "\u2028", "9" * 5000, "\x1b[2J")
_INTERESTING = (0, 1, 127, 128, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_BOMB_BYTES = 1 << 28
_MOST_PLACES = 20_000


def mutate(draw: random.Random, content: bytes, kind: str) -> bytes:
    """A variant of a file; equal draws give equal variants.

    Args:
      draw: source of randomness.
      content: the valid file.
      kind: "json", "json_lines", "safetensors", "gz", "zst", "text" or "bytes".
    """
    structured = _STRUCTURED.get(kind)
    if structured and draw.random() < 0.7:
        return structured(draw, content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        content = draw.choice(_BYTE_CHANGES)(draw, content)
    return content


def _value(draw: random.Random) -> Any:
    match draw.randrange(8):
        case 0 | 1:
            return draw.choice(_NUMBERS)
        case 2:
            return draw.choice(_ODD)
        case 3:
            return draw.choice(_TEXTS)
        case 4:
            return [draw.choice(_NUMBERS) for _ in range(draw.randrange(4))]
        case 5:
            return {draw.choice(_TEXTS): draw.choice(_NUMBERS) for _ in range(draw.randrange(3))}
        case 6:
            return [[]] * draw.choice((1, 1000))
    nested: Any = 0
    for _ in range(draw.choice((3, 70, 500))):
        nested = [nested] if draw.random() < 0.5 else {"a": nested}
    return nested


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Containers and keys of all entries of a value."""
    found, left = [], [value]
    while left:
        container = left.pop()
        entries = container.items() if isinstance(container, dict) else enumerate(container)
        for key, entry in entries:
            found.append((container, key))
            if isinstance(entry, dict | list):
                left.append(entry)
    return found


def _json(draw: random.Random, content: bytes) -> bytes:
    value = [json.loads(content)]
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        places = _places(value)
        if len(places) > _MOST_PLACES:  # Lists were lengthened several times; the file is large enough.
            break
        # Of long lists of like entries, the rarer ones count as often.
        container, key = draw.choice(places[:: max(1, len(places) // 50)] if draw.random() < 0.5 else places)
        if isinstance(container, list) and container is value:
            key = 0
        match draw.randrange(8):
            case 0 if container is not value:
                del container[key]
            case 1 if isinstance(container, dict):
                container[draw.choice(_TEXTS)] = container.pop(key)
            case 2 if isinstance(container, list) and container is not value:
                container += [container[key]] * draw.choice((1, 1000))
            case 3:
                other, name = draw.choice(places)
                if name in other or (isinstance(other, list) and name < len(other)):
                    container[key] = json.loads(json.dumps(other[name]))
            case _:
                container[key] = _value(draw)
    text = json.dumps(value[0] if value else None)
    if draw.random() < 0.03:  # A field twice.
        text = text.replace("{", '{"a": 1, "a": 2, ', 1)
    if draw.random() < 0.03:
        depth = draw.choice((65, 1000, 100_000))
        text = draw.choice(("[" * depth, "[" * depth + "]" * depth, '{"a":' * depth, text[:-1] + ',"z":' + "[" * depth))
    return text.encode()


def _json_lines(draw: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    number = draw.randrange(len(lines))
    if lines[number]:
        lines[number] = _json(draw, lines[number])
    return b"\n".join(lines)


def _safetensors(draw: random.Random, content: bytes) -> bytes:
    length = struct.unpack("<Q", content[:8])[0]
    header = _json(draw, content[8 : 8 + length])
    stated = len(header) if draw.random() < 0.9 else draw.choice(_INTERESTING)
    return struct.pack("<Q", stated) + header + content[8 + length :]


def _packed(pack: Callable[[bytes], bytes], content: bytes, draw: random.Random) -> bytes:
    match draw.randrange(60):
        case 0:
            return pack(draw.choice((b"\n", b"a ", b"ab\n", b"\0")) * (_BOMB_BYTES >> draw.choice((2, 4, 8))))
        case 5:
            return pack(b"a\n\n" * 1_000_000)
        case 1:
            return pack(content) * draw.choice((2, 500))
        case 2:
            return pack(pack(content))
        case 3:
            return pack(content)[: draw.randrange(20)]
        case 4:
            return pack(content) + bytes(draw.randrange(300))
    return pack(mutate(draw, content, "text"))


def _gz(draw: random.Random, content: bytes) -> bytes:
    return _packed(lambda plain: gzip.compress(plain, 1), gzip.decompress(content), draw)


def _zst(draw: random.Random, content: bytes) -> bytes:
    return _packed(zstandard.compress, zstandard.decompress(content), draw)


_STRUCTURED: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "json": _json,
    "json_lines": _json_lines,
    "safetensors": _safetensors,
    "gz": _gz,
    "zst": _zst,
}


def _flipped(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 8))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _at(draw: random.Random, content: bytes) -> int:
    return draw.randrange(len(content) + 1)


def _truncated(draw: random.Random, content: bytes) -> bytes:
    return content[: _at(draw, content)]


def _without(draw: random.Random, content: bytes) -> bytes:
    start = _at(draw, content)
    return content[:start] + content[start + draw.choice((1, 4, 50)) :]


def _inserted(draw: random.Random, content: bytes) -> bytes:
    start = _at(draw, content)
    new = draw.choice(
        (
            b"\xff",
            b"\0",
            b"\n",
            b"\r",
            b"\t",
            b'"',
            b"\xef\xbb\xbf",
            b"\xed\xa0\xbd",
            b"9" * 5000,
            b"[" * 2000,
            b"\n" * 5000,
        )
    )
    return content[:start] + (new if draw.random() < 0.7 else draw.randbytes(draw.choice((1, 8, 64)))) + content[start:]


def _overwritten(draw: random.Random, content: bytes) -> bytes:
    start = _at(draw, content)
    size = draw.choice((1, 2, 4, 8))
    number = (draw.choice(_INTERESTING) & ((1 << 8 * size) - 1)).to_bytes(size, draw.choice(("little", "big")))
    return content[:start] + number + content[start + size :]


def _doubled(draw: random.Random, content: bytes) -> bytes:
    start = _at(draw, content)
    piece = content[start : start + draw.choice((1, 16, 200))]
    return content[:start] + piece * draw.choice((2, 100)) + content[start:]


def _random(draw: random.Random, content: bytes) -> bytes:
    return draw.randbytes(draw.choice((0, 1, 7, 100)))


_BYTE_CHANGES = (
    _flipped,
    _flipped,
    _flipped,
    _truncated,
    _without,
    _inserted,
    _overwritten,
    _overwritten,
    _doubled,
    _random,
)
