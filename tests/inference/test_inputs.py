import gzip
import json
import os

import pytest

from electra_jax.errors import InputError
from electra_jax.inference import inputs
from electra_jax.inference.inputs import Layout
from electra_jax.inference.results import Problem


@pytest.fixture
def read(tmp_path):
    """Writes a file and returns the ids and the values that are read from it, problems as "problem: …"."""

    def make(content, name="in.txt", task="detect", **layout):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = inputs.requests(str(path), task, Layout(**layout))
        return [
            (one.id, f"problem: {one.value.message}" if isinstance(one.value, Problem) else one.value) for one in found
        ]

    return make


def test_each_line_is_an_input(read):
    assert read("one\n\ntwo\r\n three ") == [(0, "one"), (1, ""), (2, "two"), (3, " three ")]


def test_an_empty_file_has_no_inputs(read):
    assert read("") == []


def test_a_line_that_is_not_utf8_costs_itself_only(read):
    assert read(b"one\nbad \xff\ntwo\n") == [(0, "one"), (1, "problem: byte 0xff at 4 is not UTF-8"), (2, "two")]


def test_a_byte_order_mark_is_no_text(read):
    assert read("\ufeffone\n\ufefftwo") == [(0, "one"), (1, "\ufefftwo")]


def test_other_line_ends_of_unicode_do_not_split(read):
    assert read("one\u2028still\x0bone\x85\n") == [(0, "one\u2028still\x0bone\x85")]


def test_a_line_that_is_too_long_costs_itself_only(read, monkeypatch):
    monkeypatch.setattr(inputs, "_LONGEST_LINE", 100)
    monkeypatch.setattr(inputs, "_BLOCK", 64)
    found = read("a" * 250 + "\nshort\n" + "b" * 300)
    assert [number for number, _ in found] == [0, 1, 2]
    assert found[1] == (1, "short")
    assert "has more than 100 bytes" in found[0][1]
    assert "has more than 100 bytes" in found[2][1]


def test_compressed_files_are_read(read):
    assert read(gzip.compress(b"one\ntwo\n"), "in.txt.gz") == [(0, "one"), (1, "two")]


def test_tables_have_columns_by_name(read):
    content = 'id\tnote\ttext\n7\tx\tone "1"\n8\ty\ttwo\n'
    assert read(content, "in.tsv") == [("7", 'one "1"'), ("8", "two")]
    assert read(content, "in.tsv", text_columns=("note",)) == [("7", "x"), ("8", "y")]


def test_a_table_of_pairs_gives_pairs(read):
    content = "sentence1,sentence2\none,two\n"
    assert read(content, "in.csv", task="classify") == [(0, ("one", "two"))]


def test_a_table_without_a_header_is_named(read):
    assert read("one\t1\ntwo\t2\n", "in.tsv", columns=("text", "label")) == [(0, "one"), (1, "two")]


def test_rows_of_another_width_cost_themselves_only(read):
    found = read("text\tlabel\none\nthree\t3\n\n", "in.tsv")
    assert [number for number, _ in found] == [0, 1, 2]
    assert "found 1 cells, expected 2" in found[0][1]
    assert found[1] == (1, "three")
    assert "is empty" in found[2][1]


def test_quoted_cells_hold_commas_quotes_and_line_ends(read):
    assert read('text,n\n"a, ""b""\nc",1\nd,2\n', "in.csv") == [(0, 'a, "b"\nc'), (1, "d")]


def test_a_quote_that_is_never_closed_costs_its_line_only(read):
    found = read('text,n\n"open,1\nb,2\nc,3\n', "in.csv")
    assert [value for _, value in found[1:]] == ["b", "c"]
    assert "never closed" in found[0][1]


def test_missing_columns_end_it_with_the_names(read):
    with pytest.raises(InputError, match=r"found 'a', 'b', expected 'text' or .*--text_columns"):
        read("a\tb\n1\t2\n", "in.tsv")


def test_json_lines_hold_objects_or_texts(read):
    content = '{"id": 5, "text": "one"}\n"two"\n\nnot json\n{"other": 1}\n[1]\n{"text": "\\ud800"}\n'
    found = read(content, "in.jsonl")
    assert found[:2] == [(5, "one"), (1, "two")]
    assert [number for number, _ in found] == [5, 1, 2, 3, 4, 5, 6]
    for (_, value), problem in zip(
        found[2:6], ["is empty", "is not JSON", "found 'other'", "found '\\[1\\]'"], strict=True
    ):
        assert value.startswith("problem: ")
        assert problem.replace("\\", "") in value
    assert found[6][1] == "\ufffd"


def test_words_of_json_lines_are_words(read):
    assert read('{"words": ["a", "b"]}\n{"text": "a b"}\n', "in.jsonl", task="tag") == [(0, ["a", "b"]), (1, "a b")]


def test_squads_questions_keep_their_ids(read):
    paragraph = {"context": "c", "qas": [{"id": "x", "question": "q"}, "odd"]}
    content = json.dumps({"data": [{"paragraphs": [paragraph, {"context": "d"}]}]})
    found = read(content, "in.json", task="answer")
    assert found[0] == ("x", ("q", "c"))
    assert [value[:8] for _, value in found[1:]] == ["problem:", "problem:"]


@pytest.mark.parametrize(
    ("name", "task", "problem"),
    [
        ("in.odd", "detect", "no suffix of"),
        ("in.txt", "answer", "expected questions with contexts"),
        ("in.json", "detect", "--format=jsonl"),
    ],
)
def test_an_input_that_cannot_be_read_says_how(read, name, task, problem):
    with pytest.raises(InputError, match=problem):
        read("{}\n", name, task=task)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: cannot be read \(No such file"):
        list(inputs.requests(str(tmp_path / "none.txt"), "detect", Layout()))


def test_a_pipe_says_when_nothing_is_there(monkeypatch):
    reading, writing = os.pipe()
    blocks = inputs._standard_input(reading)
    assert next(blocks) is None
    os.write(writing, b"one\n")
    assert next(blocks) == b"one\n"
    assert next(blocks) is None
    os.close(writing)
    assert list(blocks) == []
    os.close(reading)
