"""JSON that others wrote is read within limits, and what is wrong with it is said in one line."""

import json
import os

import pydantic
import pytest

from electra_jax import foreign_json, storage
from electra_jax.errors import InputError, MismatchError
from electra_jax.foreign_json import Count, Record, Size


class Network(Record):
    heads: Size
    names: list[str] = pydantic.Field(default_factory=list)
    rate: float = 0.5


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" * 100_000, "nested more than 64 levels"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 levels"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested more than 64 levels"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"-Infinity", "-Infinity is not a JSON number"),
        (b'{"b": {"a": 1, "a": 2}}', 'the field "a" occurs twice'),
        (b"\xff\xfe", "can't decode byte 0xff"),
        (b'{"a": ', "Expecting value"),
        (b"9" * 5000, "limit .4300 digits"),
        (b"", "Expecting value"),
    ],
)
def test_text_that_is_no_plain_json_is_refused(content, problem):
    with pytest.raises(ValueError, match=problem):
        foreign_json.parse(content)


def test_plain_json_is_read():
    assert foreign_json.parse(b'\xef\xbb\xbf{"a": [1, 2.5, null, "\xc3\xa9"]}') == {"a": [1, 2.5, None, "é"]}
    assert foreign_json.parse("[" * 64 + "]" * 64)
    assert foreign_json.parse("[Infinity]", finite=False) == [float("inf")]


def test_half_a_character_becomes_a_replacement_character():
    assert foreign_json.parse(r'["a\ud83d", "\ud83d\ude00"]') == ["a\ufffd", "\U0001f600"]


def test_more_bytes_than_any_file_has_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(foreign_json, "MOST_BYTES", 10)
    (tmp_path / "a.json").write_text("[1, 2, 3, 4, 5]")
    with pytest.raises(InputError, match=r"a\.json: cannot be read .*more than 0 MiB.*; copy it again"):
        foreign_json.read(tmp_path / "a.json", "copy it again")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "heads: found nothing, expected this field"),
        ({"heads": 4.0}, "heads: found 4.0, expected a whole number"),
        ({"heads": True}, "heads: found true, expected a whole number"),
        ({"heads": "4"}, 'heads: found "4", expected a whole number'),
        ({"heads": 0}, "heads: found 0, expected 1 or more"),
        ({"heads": 2**31}, "heads: found 2147483648, expected at most"),
        ({"heads": 1, "names": ["a", 1]}, r"names\[1\]: found 1, expected a text"),
        ({"heads": 1, "names": {"a": 1}}, r'names: found {"a": 1}, expected a list'),
        ({"heads": 1, "rate": float("nan")}, "rate: found NaN, expected a finite number"),
        ([1], r"found \[1\], expected an object"),
    ],
)
def test_a_field_of_another_type_is_named_with_what_was_found(value, problem):
    with pytest.raises(MismatchError, match=rf"x\.json: {problem}.*; copy it again"):
        foreign_json.checked(Network, value, "x.json", "copy it again", MismatchError)


def test_a_checked_value_has_its_defaults_and_ignores_other_fields():
    found = foreign_json.checked(Network, {"heads": 2, "rate": 1, "other": [1]}, "x.json", "")
    assert (found.heads, found.names, found.rate) == (2, [], 1)
    assert foreign_json.checked(dict[str, Count], {"a": 0}, "x.json", "") == {"a": 0}


def test_a_file_that_is_missing_or_no_json_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: cannot be read \(No such file or directory\); copy it"):
        foreign_json.read(tmp_path / "none.json", "copy it")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: cannot be read \(it is not JSON: .*; copy it"):
        foreign_json.read_as(Network, tmp_path / "a.json", "copy it")
    storage.write_json("memory://foreign/a.json", {"heads": 3})
    try:
        assert foreign_json.read_as(Network, "memory://foreign/a.json", "copy it").heads == 3
    finally:
        storage.remove("memory://foreign")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_read(tmp_path, kind):
    path = {"pipe": tmp_path / "pipe", "device": "/dev/zero", "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    for read in (storage.read, storage.open_to_read):
        with pytest.raises(
            OSError, match=r"directory" if kind == "folder" else rf"is a (named )?{kind}, expected a regular"
        ):
            read(path)


def test_a_manifest_of_many_entries_is_read_quickly():
    value = {"shards": [{"file": f"train-{number:05d}.bin", "rows": number} for number in range(20_000)]}
    assert foreign_json.parse(json.dumps(value)) == value
