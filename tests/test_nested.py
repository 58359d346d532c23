"""Nested mappings have flat names and back, and a hash that the order of names does not change."""

import hashlib

import ml_collections
import pytest

from electra_jax import nested

TREE = {"a": {"b": 1, "c": {"d": (2, 3)}}, "e": None}


@pytest.mark.parametrize(("separator", "names"), [(".", ["a.b", "a.c.d", "e"]), ("/", ["a/b", "a/c/d", "e"])])
def test_leaves_are_named_by_their_levels_and_back(separator, names):
    flat = nested.flatten(TREE, separator)
    assert list(flat.items()) == list(zip(names, (1, (2, 3), None), strict=True))
    assert nested.unflatten(flat, separator) == TREE


def test_a_config_counts_as_a_mapping_and_a_prefix_stands_first():
    assert nested.flatten(ml_collections.ConfigDict({"a": {"b": 1}}), prefix="config.") == {"config.a.b": 1}


def test_fingerprint_is_the_hash_of_sorted_json():
    assert nested.fingerprint({"b": [1], "a": "é"}) == hashlib.sha256(b'{"a": "\\u00e9", "b": [1]}').hexdigest()
    assert nested.fingerprint({"a": 1, "b": 2}) == nested.fingerprint({"b": 2, "a": 1}) != nested.fingerprint({"a": 1})


def test_numbers_that_are_not_finite_become_none_at_every_level():
    value = {"a": float("nan"), "b": [1.5, float("inf"), ("x", -float("inf"))], "c": {"d": 2, "e": True}}
    assert nested.json_ready(value) == {"a": None, "b": [1.5, None, ["x", None]], "c": {"d": 2, "e": True}}
