"""Files that are taken for a tokenizer's and are none, recognised by their content so that a message can name them."""

import json
import re
from typing import Any

from electra_jax import foreign_json

# How files begin that hold another file, or none.
_CONTAINERS = {
    b"\x1f\x8b": ("compressed with gzip", "gzip -d"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "zstd -d"),
    b"BZh": ("compressed with bzip2", "bzip2 -d"),
    b"\xfd7zXZ\0": ("compressed with xz", "xz -d"),
    b"PK\x03\x04": ("a zip archive", "unzip"),
}
_UTF_16 = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_POINTER = b"version https://git-lfs"
# A piece and its score, or its count.
_SCORED = re.compile(r"\S+[\t ]-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_LOOKED_AT = 1000  # Bytes, and lines.
_SHOWN_FIELDS = 6
_EXPECTED = "expected a vocab.txt with one piece a line, a tokenizer.json or a SentencePiece .model"


def problem(content: bytes, path: str) -> str:
    """Why a file cannot be the tokenizer that its name says, as far as its content tells; "" if it may be.

    Args:
      content: its bytes.
      path: its path; a suffix .json or .model says what it should be, any other is a vocab.txt.
    """
    for beginning, (what, command) in _CONTAINERS.items():
        if content.startswith(beginning):
            return f"is {what}; unpack it (`{command}`) and give the file that comes out."
    if content.startswith(_POINTER):
        return "is a pointer of Git LFS in place of the file; fetch the file itself (`git lfs pull`)."
    # A vocabulary of web pages may begin with such a piece, too.
    if content[:_LOOKED_AT].lstrip().lower().startswith((b"<!doctype", b"<html")) and b"\n[UNK]" not in content:
        return "is a web page; download the file itself, with the page's link to the raw file."
    if encoding := _utf_16(content):
        converted = f"iconv --from-code={encoding} --to-code=UTF-8 {path}"
        return f"is in {encoding}, expected UTF-8; convert it: {converted} > NEW, and give that."
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return ""
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = foreign_json.parse(text)
        except ValueError:
            return ""  # A piece may be "{"; and what is wrong with a damaged .json is reported where it is read.
        return _of_json(value, path)
    if path.endswith((".json", ".model")):
        return ""
    lines = text.split("\n", _LOOKED_AT)[:_LOOKED_AT]
    if len(lines) > 1 and all(_SCORED.fullmatch(line.removesuffix("\r")) for line in lines if line):
        if "<unk>" in (re.split("[\t ]", line)[0] for line in lines):
            return (
                "has a piece and a score in each line, as a .vocab of SentencePiece; give the .model that was written "
                "with it."
            )
        return (
            f"has a number after the piece in each line; {_EXPECTED}. To leave out the numbers: awk '{{print $1}}' "
            f"{path} > NEW"
        )
    return ""


def _utf_16(content: bytes) -> str:
    """The encoding, if it is one of two bytes a character; ""."""
    for mark, name in _UTF_16.items():
        if content.startswith(mark):
            return name
    start = content[:_LOOKED_AT]
    # Without a mark: of the letters of Latin alphabets one byte is 0.
    for first, name in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        zeros, others = start[first::2], start[1 - first :: 2]
        if zeros and zeros.count(0) > 0.9 * len(zeros) and 0 not in others:
            return name
    return ""


def _of_json(value: Any, path: str) -> str:
    if isinstance(value, dict) and isinstance(value.get("model"), dict):
        return "" if path.endswith(".json") else "is a tokenizer.json; give it under a name that ends in .json."
    if isinstance(value, dict) and value and all(type(index) is int for index in value.values()):
        return (
            f"is JSON, a table of {len(value):,} pieces and their ids, as vocab.json, which does not say how text is "
            "split; give the tokenizer.json that belongs to it, or, if it is WordPiece's, a vocab.txt: its pieces one "
            "a line, in the order of ids."
        )
    if isinstance(value, list) and value and all(isinstance(piece, str) for piece in value):
        return f"is a JSON list of {len(value):,} texts; {_EXPECTED}."
    if isinstance(value, dict):
        fields = ", ".join(json.dumps(name, ensure_ascii=False)[1:-1] for name in list(value)[:_SHOWN_FIELDS])
        if not value:
            return "" if path.endswith(".json") else f"is an empty JSON object; {_EXPECTED}."
        return f"is JSON that has the fields {fields} and no vocabulary; {_EXPECTED}, which may lie next to it."
    return f"is JSON, {foreign_json.shown(value)}; {_EXPECTED}."
